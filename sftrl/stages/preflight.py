"""What can be known to be wrong before any compute: checked in seconds, before the first job starts."""

from pathlib import Path

from sftrl.errors import InputError
from sftrl.files import is_path
from sftrl.problems import load_examples, load_problems
from sftrl.stages import curation, evaluation
from sftrl.study import Study
from sftrl.study.params import Generated


def preflight(study: Study) -> list[str]:
    """Check a study's files and sizes; return what it consists of, a line each.

    Raises:
        InputError: every fault that was found, a line each.
    """
    faults: list[str] = []
    for where, fault in (("families", _models), ("data", _files), ("data", _lengths), ("data", _imports)):
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
    for run in study.params.runs:
        _folder(run.model, f"runs: {run.label}.model")
        _folder(run.post_rl, f"runs: {run.label}.post_rl")


def _folder(model: str | None, key: str) -> None:
    """Refuse a folder that is not there; what may be a name on the hub is not looked up."""
    if model is not None and is_path(model) and not Path(model).is_dir():
        raise InputError(f"{key}: {model} is no folder")


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
    """Check that prompt and response fit where sizes are known without data: generated maths in a scratch model."""
    data, evaluated = study.params.data, study.params.evaluation
    if not isinstance(data.benchmarks, Generated):
        return
    for name, family in study.params.families.items():
        if family.scratch and evaluated.max_tokens >= family.scratch.context:
            raise InputError(
                f"evaluation.max_tokens: {evaluated.max_tokens} leaves no room for a prompt in the context of {name}, "
                f"{family.scratch.context}"
            )
