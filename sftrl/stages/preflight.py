"""Checks before any compute: files, models, settings, lengths; in seconds, before the first job starts."""

import importlib.util
from pathlib import Path

import pandas as pd

from sftrl import curate
from sftrl.errors import InputError
from sftrl.files import is_path, read_json
from sftrl.problems import load_examples, load_problems
from sftrl.recipes import Checkpoint
from sftrl.stages import base, curation, evaluation
from sftrl.study import Study

CHARACTERS = 10_000_000  # of a table's texts, at most, whose tokens are counted before the first job


def preflight(study: Study) -> list[str]:
    """Check a study's files and sizes; return what it consists of, one line per item.

    Raises:
        InputError: every fault found, one per line.
    """
    faults: list[str] = []
    checks = (("families", _models), ("compute", _trainings), ("evaluation", _engine))
    for where, fault in (*checks, ("data", _files), ("data", _imports), ("data", _lengths)):
        if fault is _lengths and faults:
            continue  # it reads what the others found wrong
        try:
            fault(study)
        except InputError as error:
            faults.append(f"{where}: {error}")
    if faults:
        raise InputError("\n".join(faults))
    rl = sum(len(study.rl_seeds(run)) for run in study.runs if study.params.grpo)
    evaluations = len(evaluation.all_of(study, study.families[0]))
    shards = study.params.evaluation.shards
    families = len(study.families)
    return [
        f"study {study.name}: {families} {'family' if families == 1 else 'families'}, each with {len(study.sft_runs)} "
        f"SFT runs, {rl} RL runs and {evaluations} evaluations"
        + (f" in {shards} shards, {families * evaluations * (1 + shards)} notebooks" if shards > 1 else "")
    ]


def _models(study: Study) -> None:
    """Check that every model that is named as a folder is there; with imported samples only the loss needs them."""
    if study.imported and study.params.data.sft is None:
        return
    for name, family in study.params.families.items():
        _folder(family.model, f"{name}.model")
        _base(study, name, family.model, family)
    for name, run in study.runs.items():  # patterns of folders are resolved in these
        if run is not None:
            for key, model in (("model", run.model), ("post_rl", run.post_rl)):
                _folder(model, f"runs: {name}.{key}")
                _base(study, study.families[0], model, run)


def _folder(model: str | None, key: str) -> None:
    """Refuse a folder that is not there; what may be a name on the hub is not looked up."""
    if model is not None and is_path(model) and not Path(model).is_dir():
        raise InputError(f"{key}: there is no folder {model}")


def _base(study: Study, family: str, model: str | None, given: Checkpoint) -> None:
    """Refuse an adapter's folder without the model under it; a base that may be a name on the hub is not looked up."""
    described = Path(model or "") / "adapter_config.json"
    if model is not None and described.is_file():
        base = given.base or read_json(described).get("base_model_name_or_path")
        if not base or is_path(base):
            from sftrl.models.locate import locate  # torch takes seconds to import

            locate(study.loading(family, model, given))


def _trainings(study: Study) -> None:
    """Check batches and TRL's arguments, those of RL too, which is hours away; imports only what they need."""
    recipes = {"SFTConfig": study.params.sft if study.sft_runs else None, "GRPOConfig": study.params.grpo}
    processes = study.params.compute.processes
    for name, recipe in recipes.items():
        if recipe and (recipe.trl or recipe.micro_batch or processes > 1):
            from sftrl.train import arguments

            arguments.layout(recipe, processes)
            if recipe.trl:
                import trl

                arguments.check_types(getattr(trl, name), "sft" if name == "SFTConfig" else "grpo", recipe.trl)


def _engine(study: Study) -> None:
    """Check the arguments of vLLM's engine, where vLLM is at hand to say which it has."""
    if study.params.evaluation.vllm and importlib.util.find_spec("vllm"):
        from sftrl.sample import vllm_engine

        vllm_engine.version(evaluation.sampling(study))


def _files(study: Study) -> None:
    """Read every data file on this machine that the params name: its columns, its rows, its gold answers."""
    data = study.params.data
    for section, load in (("benchmarks", load_problems), ("sft", load_examples), ("rl", load_problems)):
        sources = getattr(data, section)
        for source in sources if isinstance(sources, list) else []:
            if isinstance(source, dict) and "path" in source:
                load(source)


def _imports(study: Study) -> None:
    """Read the files that hold imported samples: what each run was sampled on, and how often."""
    if study.imported:
        curation.benchmarks(study)


def _lengths(study: Study) -> None:
    """Count the tokens of local data by local models: what does not fit into training or into the context.

    Seconds at most: of data that is on the hub, or larger than `CHARACTERS`, 01_curate counts the tokens.
    """
    here = curation.local_tables(study)
    here = {name: table for name, table in here.items() if _characters(table) <= CHARACTERS}
    if not here:
        return
    for name, family in study.params.families.items():
        if family.scratch:
            tokenizer, context = base.scratch_tokenizer(study, name), family.scratch.context
        elif Path(family.model).is_dir() and not study.imported:
            from sftrl.models import context_length, load_tokenizer

            checkpoint, _ = base.checkpoint(study, name)
            tokenizer, context = load_tokenizer(checkpoint), context_length(checkpoint)
        else:
            continue
        tables = here.copy()
        if "sft" in here:  # what curation drops need not fit
            count, most = curate.token_counter(tokenizer), study.params.data.max_response_tokens
            tables["sft"], _ = curate.clean(here["sft"], count_tokens=count, max_tokens=most)
        curation.check_fit(study, name, tables, tokenizer, context)


def _characters(table: pd.DataFrame) -> int:
    return sum(int(table[name].str.len().sum()) for name in ("problem", "prompt", "response") if name in table)
