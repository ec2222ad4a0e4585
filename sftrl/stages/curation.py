"""`01_curate`: one folder of data for all runs: benchmarks, SFT examples, held-out examples, RL problems."""

import functools
from pathlib import Path

import pandas as pd

from sftrl import curate, procedural
from sftrl.errors import InputError
from sftrl.files import hash_path, read_table, write_table
from sftrl.generations import read_problems, require_same_problems
from sftrl.problems import check_examples, check_problems, load_examples, load_problems
from sftrl.stages import base
from sftrl.stages.job import Job, Work
from sftrl.study import Study
from sftrl.study.params import Generated

Tables = dict[str, pd.DataFrame]


def job(study: Study) -> Job:
    """Return the job that makes the data of all runs."""
    # Lengths are counted in the first family's tokens; a family made from scratch has none before it is made.
    _, made_by = base.checkpoint(study, study.families[0])
    return Job(
        "01_curate",
        study.folder / "data",
        study.settings("data", imported=files(study)),
        made_by,
        {use: study.seed(use) for use in ("benchmarks", "sft", "rl", "split")},
    )


def files(study: Study) -> dict[str, list[str]] | None:
    """Return the hashes of the files that hold each run's samples; None where the study samples by itself."""
    return study.imported and {run: [_hash(path) for path in paths] for run, paths in study.imported.items()}


@functools.cache
def _hash(path: Path) -> str:
    return hash_path(path)


def read(study: Study, name: str) -> pd.DataFrame | None:
    """Return a curated table (`benchmarks`, `sft`, `held_out`, `rl`), or None where the study has none of it."""
    path = job(study).folder / f"{name}.parquet"
    return read_table(path) if path.is_file() else None


def benchmarks(study: Study) -> pd.DataFrame:
    """Return the benchmark problems, checked; where samples are imported, those that all runs were sampled on.

    Raises:
        InputError: imported runs that differ in problems or golds, or have fewer than `evaluation.samples` of one.
    """
    table = _table(study, "benchmarks")
    return table if study.imported is None else _imported(study, table)


MAKERS = {
    "benchmarks": (procedural.benchmark_problems, load_problems, check_problems),
    "sft": (procedural.sft_examples, load_examples, check_examples),
    "rl": (procedural.rl_problems, load_problems, check_problems),
}


def _table(study: Study, name: str) -> pd.DataFrame | None:
    generate, load, check = MAKERS[name]
    source = getattr(study.params.data, name)
    if isinstance(source, Generated):
        return check(generate(study.seed_sequence(name), source.procedural, **source.options))
    return None if source is None else check(pd.concat([load(spec) for spec in source], ignore_index=True))


def local_tables(study: Study) -> Tables:
    """Return those of `MAKERS` that are generated or read from files on this machine alone."""
    found = {}
    for name in MAKERS:
        source = getattr(study.params.data, name)
        files = isinstance(source, list) and all(isinstance(spec, dict) and "path" in spec for spec in source)
        if isinstance(source, Generated) or files:
            found[name] = _table(study, name)
    return found


def _imported(study: Study, golds: pd.DataFrame | None) -> pd.DataFrame:
    found = {}
    for run, paths in study.imported.items():
        try:
            found[run] = read_problems(paths, problems=golds, samples=study.params.evaluation.samples)
        except InputError as error:
            raise InputError(f"evaluation.import.{run}: {error}") from None
    require_same_problems(found)
    table = next(iter(found.values())).reset_index(drop=True)
    return table if golds is not None else table.assign(answer_type=None, choices=None, tolerance=None)


def training(study: Study) -> Tables:
    """Return the SFT examples, `sft`, and the RL problems, `rl`, checked; those that the params name."""
    tables = {name: _table(study, name) for name in ("sft", "rl")}
    return {name: table for name, table in tables.items() if table is not None}


def clean(study: Study, tables: Tables) -> tuple[Tables, pd.DataFrame]:
    """Return training tables without what teaches nothing and without repeats; and how much was dropped, and why."""
    from sftrl.models import load_tokenizer  # imports torch, which most readers of a study never need

    kept, reports = {}, []
    for name, table in tables.items():
        if name == "sft":
            count = curate.token_counter(load_tokenizer(base.checkpoint(study, study.families[0])[0]))
            limit = study.params.data.max_response_tokens
            verified = study.params.data.verified
            table, report = curate.clean(table, count_tokens=count, max_tokens=limit, verified=verified)
            reports.append(report.assign(table=name))
        if name == "rl":
            table, report = curate.drop_unreadable(table)
            reports.append(report.assign(table=name))
        kept[name], report = curate.deduplicate(table)
        reports.append(report.assign(table=name))
    columns = ["table", "step", "reason", "dropped"]
    return kept, pd.concat(reports, ignore_index=True)[columns] if reports else pd.DataFrame(columns=columns)


def decontaminate(study: Study, tables: Tables, problems: pd.DataFrame) -> tuple[Tables, pd.DataFrame, pd.DataFrame]:
    """Return training tables without what overlaps with a benchmark problem, the counts, and the pairs that overlap.

    Counted always; dropped unless `data.decontaminate` is false.
    """
    if not tables:
        return tables, pd.DataFrame(), pd.DataFrame()
    counts, pairs = curate.contamination_table(tables, problems)
    if study.params.data.decontaminate:
        # The pairs hold the overlaps of the training sets with each other too; those are only reported.
        found = pairs[pairs["benchmark"].isin(set(problems["benchmark"]))]
        touched = {name: set(rows["training_id"]) for name, rows in found.groupby("training")}
        tables = {n: t[~t["id"].isin(touched.get(n, set()))].reset_index(drop=True) for n, t in tables.items()}
    return tables, counts, pairs


def hold_out(study: Study, tables: Tables, seed: int) -> Tables:
    """Return the training tables with the held-out SFT examples split off, as `held_out`.

    Raises:
        InputError: a run of the grid asks for more examples or tokens than are left; before anything is trained.
    """
    if "sft" not in tables:
        return tables
    pool, aside = curate.split(tables["sft"], study.params.data.held_out, seed)
    there = {"examples": len(pool), "tokens": int(pool["n_tokens"].sum())}
    for name in study.sft_runs:
        for unit, left in there.items():
            if (getattr(study.run(name), unit) or 0) > left:
                raise InputError(
                    f"runs: {name} asks for {getattr(study.run(name), unit)} {unit}; {left} are left after curation "
                    "and the held-out split"
                )
    return tables | {"sft": pool, "held_out": aside}


def check_lengths(study: Study, tables: Tables) -> None:
    """Check that every example fits into training, and every prompt with its response into the model.

    In the tokens of each family; one that is made from scratch and is not the first has none yet.

    Raises:
        InputError: how many do not fit, which is the longest, and the setting to change; before anything is trained.
    """
    from sftrl.models import context_length, load_tokenizer

    if study.imported and "sft" not in tables:
        return  # no model reads anything
    for family in study.families:
        checkpoint, made_by = base.checkpoint(study, family)
        if made_by and family != study.families[0]:
            continue
        # The first family's tokens were counted by `clean`.
        known = tables if family == study.families[0] else {n: _uncounted(t) for n, t in tables.items()}
        check_fit(study, family, known, load_tokenizer(checkpoint), context_length(checkpoint))


def _uncounted(table: pd.DataFrame) -> pd.DataFrame:
    return table.drop(columns="n_tokens", errors="ignore")


def check_fit(study: Study, family: str, tables: Tables, tokenizer, context: int) -> None:
    """Check the lengths of tables in one family's tokens, as `check_lengths`; `context` is the model's, in tokens."""
    params = study.params
    room = {} if study.imported else {"benchmarks": ("evaluation.max_tokens", params.evaluation.max_tokens)}
    if params.grpo:
        room["rl"] = ("grpo.max_tokens", params.grpo.max_tokens)
    for name, (key, tokens) in room.items():
        if name in tables:
            problems = study.prompts(tables[name])
            lengths = curate.prompt_lengths(tokenizer, problems["problem"]) + tokens
            ids = problems["benchmark"].str.cat(problems["id"].astype(str), sep=" ")
            curate.check_lengths(lengths, context, ids, f"{family}: {name}, prompt and {key}", "the model's context")
    for name in ("sft", "held_out"):
        if name in tables:
            lengths = curate.example_lengths(tokenizer, tables[name])
            limits = [(context, "the model's context")]
            if study.sft_runs:  # without training only the loss reads them
                limits.append((params.sft.max_length, "sft.max_length"))
            limit, key = min(limits)
            key += "; data.max_response_tokens drops the longest"
            curate.check_lengths(lengths, limit, tables[name]["id"], f"{family}: {name}", key)


def save(work: Work, tables: Tables, pairs: pd.DataFrame) -> pd.DataFrame:
    """Write the tables and finish the job; return how many rows each has."""
    if not work.done:
        for name, table in tables.items():
            write_table(table, work.folder / f"{name}.parquet")
        write_table(pairs, work.folder / "contaminated_pairs.parquet")
    rows = {name: len(table) for name, table in tables.items()}
    work.finish(rows=rows)
    return pd.Series(rows, name="rows").to_frame()
