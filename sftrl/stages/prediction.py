"""`05_predict`: the tables of the whole study, what they say, and the figures drawn from them."""

import shutil
from pathlib import Path

import pandas as pd

from sftrl.files import read_table, whole_file, write_table
from sftrl.predict import analyse, decide, runs_table
from sftrl.stages import evaluation, grpo, held_out, manifest, sft
from sftrl.stages.job import Job, Work
from sftrl.stages.scores import powers_of_two
from sftrl.study import Study


def job(study: Study) -> Job:
    """Return the job that judges the study: it waits for all others."""
    return Job(
        "05_predict",
        study.folder / "predict",
        study.settings("predict", "runs", "evaluation"),
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


def out_of_date(study: Study) -> dict[str, list[str]]:
    """Name the finished jobs that other code made than is here now, each with the files that have changed."""
    found = {}
    for one in {one.folder: one for one in (*inputs(study), job(study))}.values():
        made = manifest.read(one.folder)
        if made and (changed := manifest.changed_code(made)):
            found[str(one.folder)] = changed
    return found


def tables(study: Study, work: Work) -> dict[str, pd.DataFrame]:
    """Return the tables that every judgement and figure is made from, as they are written and read again."""
    if not work.done:
        made = {"results": evaluation.results(study), "predictors": held_out.predictors(study)}
        made |= {"sft_curves": sft.curves(study), "rl_curves": grpo.curves(study)}
        for name, table in made.items():
            if table is not None:
                write_table(table, work.folder / f"{name}.csv")
    return {path.stem: read_table(path) for path in sorted(work.folder.glob("*.csv"))}


def analysis(study: Study, found: dict[str, pd.DataFrame], work: Work) -> dict[str, pd.DataFrame]:
    """Return what the tables say, by name: how predictors did, where runs have been through RL; a decision, where not.

    A decision ranks the runs of a family that have not been through RL, by generalization loss, if it was measured,
    and by Pass@k at the largest k that has four samples or more for each draw. Runs that have been through RL
    calibrate it.
    """
    given = study.params.predict
    results = found["results"][~found["results"]["run"].isin(given.leave_out)]
    runs = runs_table(results, found["predictors"])
    said = {"runs": runs}
    done = runs["post_rl"].notna()
    if done.any():
        seed = work.seeds["resamples"]
        how = {"resamples": given.resamples, "intervals": given.intervals, "seed": seed}
        said |= analyse(results, found["predictors"], **how)
    k = max([k for k in powers_of_two(int(results["samples"].min())) if 4 * k <= results["samples"].min()] or [1])
    named = tuple(name for name in (f"pass@{k}", "generalization_loss") if name in runs and runs[name].notna().all())
    decisions = [
        decide(waiting, runs[done] if done.any() else None, predictors=named, seed=work.seeds["resamples"])
        for _, waiting in runs[~done].groupby("family", sort=False)
        if len(waiting) > 1
    ]
    return said | ({"decision": pd.concat(decisions, ignore_index=True)} if decisions else {})


def publish(study: Study, said: dict[str, pd.DataFrame], work: Work) -> Path:
    """Write judgements and figures, finish the job, and copy what is small to `figures/<study>`; return the folder.

    A study whose params are not those of its file keeps its figures in the job's own folder.
    """
    from sftrl.figures import redraw

    if not work.done:
        for name, table in said.items():
            if name != "runs":  # the runs are in results and predictors
                write_table(table, work.folder / f"{name}.csv")
        work.finish(figures=redraw(work.folder))
    if not study.is_committed:
        return work.folder
    for path in sorted(work.folder.iterdir()):
        if path.suffix in (".csv", ".png", ".pdf"):
            with whole_file(study.figures / path.name) as temporary:
                shutil.copyfile(path, temporary)
    return study.figures
