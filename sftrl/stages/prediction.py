"""`05_predict`: the tables of the whole study, what they say, and the figures drawn from them."""

import re
import shutil
from pathlib import Path

import pandas as pd

from sftrl.errors import InputError
from sftrl.files import cut, read_tables, table_name, whole_file, write_table
from sftrl.predict import advice, advice_on_pairs, analyse, overtraining, runs_table
from sftrl.stages import evaluation, grpo, manifest, measured, sft, watched
from sftrl.stages.job import Job, Work
from sftrl.study import Study
from sftrl.tables import RL_PROBLEMS, RUN

# The tables that hold no judgement.
MEASURED = (
    "results", "predictors", "sft_curves", "rl_curves", "step_curves", "rl_probes", "problem_counts",
)  # fmt: skip
SMALL = 300_000  # bytes of a table that is kept with the code
DIGITS = 6  # significant ones, of the numbers of a table that would be larger
NAMED = 5  # changed files named in a line
PRINTED = 6  # decimals of a judgement as it is written: enough for any figure, and a small file


def job(study: Study) -> Job:
    """Return the job that judges the study: it waits for all others."""
    return Job(
        "05_predict",
        study.folder / "predict",
        study.settings("predict", "runs", "evaluation", curves=watched.hashes(study)),
        inputs(study),
        {"resamples": study.seed("resamples")},
    )


def inputs(study: Study) -> tuple[Job, ...]:
    """Return every job whose result a table holds."""
    jobs = []
    for family in study.families:
        for run, phase, rl_seed in evaluation.all_of(study, family):
            jobs.append(evaluation.job(study, family, phase, run, rl_seed))
            jobs += evaluation.checkpoint(study, family, run, rl_seed)[1]
    return tuple(jobs)


def every_job(study: Study) -> list[Job]:
    """List all jobs of a study, each after those that it reads."""
    found: dict[str, Job] = {}

    def add(one: Job) -> None:
        for earlier in one.inputs:
            add(earlier)
        found.setdefault(one.key, one)

    add(job(study))
    return list(found.values())


def out_of_date(study: Study) -> dict[str, list[str]]:
    """Return the finished jobs that were made by other code than the present, each with the changed files."""
    found = {}
    for one in every_job(study):
        made = manifest.read(one.folder)
        if made and (changed := manifest.changed_code(made)):
            found[str(one.folder)] = changed
    return found


def code_changes(stale: dict[str, list[str]]) -> str:
    """Summarize `out_of_date` in one line: the changed files, or their folders where they are many."""
    if not stale:
        return "every finished job was made by the present code"
    files = sorted({file for changed in stale.values() for file in changed})
    if len(files) > NAMED:
        files = sorted({str(Path(file).parent) for file in files})
    return (
        f"{len(stale)} finished jobs were made by another version of {', '.join(files)}; they are kept "
        "(--fresh stale reruns them)"
    )


def tables(study: Study, work: Work) -> dict[str, pd.DataFrame]:
    """Return the tables that all analyses and figures are made from, written and read back."""
    if not work.done:
        made = {"results": evaluation.results(study), "predictors": measured.predictors(study)}
        made |= {"sft_curves": sft.curves(study)}
        made["rl_curves"] = _stacked(grpo.curves(study), watched.rl_curves(study))
        made["step_curves"] = watched.curves(study, made["results"], made["predictors"])
        made["rl_probes"] = grpo.probe_counts(study)
        made["problem_counts"] = evaluation.problem_counts(study)
        for name, table in made.items():
            if table is not None:
                write_table(table, work.folder / f"{name}.csv")
    return read_tables(work.folder)


def _stacked(*tables: pd.DataFrame | None) -> pd.DataFrame | None:
    there = [table for table in tables if table is not None]
    return pd.concat(there, ignore_index=True) if there else None


def analysis(study: Study, found: dict[str, pd.DataFrame], work: Work) -> dict[str, pd.DataFrame]:
    """Return the analysis as tables by name: how well predictors did, if runs have been through RL, and a decision."""
    if work.done:
        return {name: table for name, table in finished(study).items() if name not in MEASURED}
    left_out = tuple(study.params.evaluation.left_out_of_average)
    said = analyse(
        found["results"],
        found["predictors"],
        judging=study.params.predict,
        left_out_of_average=left_out,
        seed=work.seeds["resamples"],
    )
    if "problem_counts" in found:
        pairs = overtraining(
            found["results"], found["problem_counts"], found.get("rl_probes"), left_out=(*left_out, RL_PROBLEMS)
        )
        said |= {name: table for name, table in pairs.items() if len(table)}
    return said


def finished(study: Study) -> dict[str, pd.DataFrame]:
    """Return the tables of a study that has been judged, and `runs`, which is put together from them.

    Raises:
        InputError: the study has not been judged yet.
    """
    folder = job(study).folder
    if manifest.read(folder) is None:
        raise InputError(f"{folder}: the study has not been judged yet: python -m sftrl study first")
    tables = {name: table.astype({c: str for c in RUN if c in table}) for name, table in read_tables(folder).items()}
    kept = tables["results"][~tables["results"]["run"].isin(study.params.predict.leave_out)]
    return {"runs": runs_table(kept, tables["predictors"])} | tables


def answer(said: dict[str, pd.DataFrame]) -> str:
    """Return the answer in a sentence for each family: which checkpoint to take to RL, and how sure that is.

    Where there are too few runs for one, what RL made of those that SFT sharpened, if any were.
    """
    if "decision" in said:
        return advice(said["decision"])
    few = "Too few runs to decide among."
    return f"{few} {advice_on_pairs(said['sharpened'])}" if "sharpened" in said else few


def key_table(said: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Return the table to read first, one row per run, best first: scores in percent, loss, rank."""
    runs = said["runs"].copy()
    largest = max((c for c in runs if re.fullmatch(r"pass@\d+", c)), key=lambda c: int(c[5:]))
    if "decision" in said:
        last = said["decision"].groupby("family")["predictor"].last()
        ranked = said["decision"].merge(last.reset_index()).filter([*RUN, "rank", "p_best"])  # no ranks in a replay
        runs = runs.merge(ranked, on=RUN, how="left")
    if "pass@1_low" in runs:
        ends = zip(100 * runs["pass@1_low"], 100 * runs["pass@1_high"], strict=True)
        runs["interval"] = [f"{low:.1f} to {high:.1f}" for low, high in ends]
    names = {
        "family": "family", "run": "run", "pass@1": "Pass@1", "interval": "95 %",
        largest: f"Pass@{largest[5:]}", "generalization_loss": "loss",
        "entropy": "entropy", "post_rl": "Pass@1 after RL", "post_rl_sd": "sd of RL seeds", "n_seeds": "RL seeds",
        "rank": "rank by the advice", "p_best": "chance to be best, %",
    }  # fmt: skip
    several = runs["family"].nunique() > 1
    table = runs[[c for c in names if c in runs and (several or c != "family")]].dropna(axis="columns", how="all")
    table = table.sort_values("post_rl" if runs["post_rl"].notna().any() else "pass@1", ascending=False)
    shares = [c for c in ("pass@1", largest, "post_rl", "post_rl_sd", "p_best") if c in table]
    return table.assign(**{c: (100 * table[c]).round(1) for c in shares}).round(3).rename(columns=names)


def publish(study: Study, said: dict[str, pd.DataFrame], work: Work) -> Path:
    """Write judgements and figures, finish the job, and copy what is small to `figures/<study>`; return the folder.

    A study whose params are not those of its file keeps its figures in the job's own folder. Where a finished job's
    tables are there already, its figures are left alone: `make figures` may have drawn them anew since.
    """
    from sftrl.figures import redraw

    if not work.done:
        for name, table in said.items():
            if name != "runs":  # the runs are in results and predictors
                write_table(table.round(PRINTED), work.folder / f"{name}.csv")
        for path in list(work.folder.glob("*.csv")):
            _shorten(path)
        drawn = redraw(work.folder)
        with whole_file(work.folder / "README.md") as temporary:
            temporary.write_text(f"# Study {study.name}\n\n{answer(said)}\n")
        work.finish(figures=drawn)
    if not study.is_committed:
        return work.folder
    made = sorted(path for path in work.folder.iterdir() if path.suffix in (".csv", ".png", ".pdf", ".md"))
    if work.done and all(_is_there(path, study.figures / path.name) for path in made):
        return study.figures
    for path in made:
        with whole_file(study.figures / path.name) as temporary:
            shutil.copyfile(path, temporary)
    tables = {table_name(path) for path in made if path.suffix == ".csv"}
    for path in study.figures.glob("*.csv"):
        if table_name(path) in tables and not (work.folder / path.name).exists():
            path.unlink()  # the same table in other parts
    return study.figures


def _is_there(made: Path, published: Path) -> bool:
    drawn = made.suffix in (".png", ".pdf")
    return published.is_file() and (drawn or published.read_bytes() == made.read_bytes())


def _shorten(path: Path) -> None:
    """Take digits off a large table's numbers, and cut into parts what is still large."""
    if path.stat().st_size <= SMALL:
        return
    write_table(pd.read_csv(path), path, DIGITS)
    if path.stat().st_size > SMALL:
        cut(path, SMALL)
