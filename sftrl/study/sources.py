"""A study's data: from the sources its params name to the tables that its jobs read."""

import pandas as pd

from sftrl import curate, procedural
from sftrl.errors import InputError
from sftrl.files import read_table
from sftrl.problems import check_examples, check_problems, load_examples, load_problems
from sftrl.recipes import Checkpoint
from sftrl.study import jobs
from sftrl.study.schema import Generated
from sftrl.study.study import Study
from sftrl.tables import RL_PROBLEMS as RL

Tables = dict[str, pd.DataFrame]


def benchmarks(study: Study) -> pd.DataFrame:
    """Return the benchmark problems, checked."""
    source = study.params.data.benchmarks
    if isinstance(source, Generated):
        return check_problems(procedural.benchmark_problems(study.seed_sequence("benchmarks"), source.procedural))
    return check_problems(pd.concat([load_problems(spec) for spec in source], ignore_index=True))


def evaluated(study: Study, rl_problems: int) -> pd.DataFrame:
    """Return what a checkpoint is sampled on, with its prompts: the benchmarks, some RL problems as one named `rl`.

    Raises:
        InputError: fewer RL problems than that are left after curation.
    """
    folder = jobs.data_folder(study)
    problems = read_table(folder / "benchmarks.parquet")
    if rl_problems:
        rl = read_table(folder / "rl.parquet")
        if len(rl) < rl_problems:
            raise InputError(f"evaluation.rl_problems: {rl_problems} asked for, and {len(rl)} are left after curation")
        problems = pd.concat([problems, rl.head(rl_problems).assign(benchmark=RL)], ignore_index=True)
    return study.prompts(problems)


def training(study: Study) -> Tables:
    """Return the SFT examples, `sft`, and the RL problems, `rl`, checked; those that the params name."""
    makers = {
        "sft": (procedural.sft_examples, load_examples, check_examples),
        "rl": (procedural.rl_problems, load_problems, check_problems),
    }
    tables = {}
    for name, (generate, load, check) in makers.items():
        source = getattr(study.params.data, name)
        if isinstance(source, Generated):
            tables[name] = check(generate(study.seed_sequence(name), source.procedural))
        elif source is not None:
            tables[name] = check(pd.concat([load(spec) for spec in source], ignore_index=True))
    return tables


def cleaned(study: Study, tables: Tables) -> tuple[Tables, pd.DataFrame]:
    """Return training tables without what teaches nothing and without repeats; and how much was dropped, and why."""
    from sftrl.models import load_tokenizer  # imports torch, which most readers of a study never need

    kept, reports = {}, []
    for name, table in tables.items():
        if name == "sft":
            count = curate.token_counter(
                load_tokenizer(Checkpoint(model=jobs.checkpoint(study, study.families[0], "base")))
            )
            limit = study.params.data.max_response_tokens
            table, report = curate.clean(table, count_tokens=count, max_tokens=limit)
            reports.append(report.assign(table=name))
        kept[name], report = curate.deduplicate(table)
        reports.append(report.assign(table=name))
    columns = ["table", "step", "reason", "dropped"]
    return kept, pd.concat(reports, ignore_index=True)[columns] if reports else pd.DataFrame(columns=columns)


def decontaminated(study: Study, tables: Tables, problems: pd.DataFrame) -> tuple[Tables, pd.DataFrame, pd.DataFrame]:
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


def held_out(study: Study, tables: Tables, seed: int) -> Tables:
    """Return the training tables with the held-out SFT examples split off, as `held_out`.

    Raises:
        InputError: a run of the grid asks for more examples than are left; before anything is trained.
    """
    if "sft" not in tables:
        return tables
    pool, aside = curate.split(tables["sft"], study.params.data.held_out, seed)
    for name in study.sft_runs:
        if study.run(name).examples > len(pool):
            raise InputError(
                f"runs: {name} asks for {study.run(name).examples} examples; {len(pool)} are left after curation and "
                "the held-out split"
            )
    return tables | {"sft": pool, "held_out": aside}
