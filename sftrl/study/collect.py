"""From the jobs of a study to its small tables: all that figures and judgements read; and what they say."""

import re

import pandas as pd

from sftrl.files import read_json, read_table
from sftrl.predict import analyse, decide, runs_table
from sftrl.score import forecast_table, powers_of_two
from sftrl.study import jobs
from sftrl.study.manifest import require
from sftrl.study.study import Study
from sftrl.tables import RL_PROBLEMS as RL
from sftrl.verify import VERIFIER_VERSION


def results(study: Study) -> pd.DataFrame:
    """Return a row for every (family, run, rl_seed, stage, benchmark): what was run, how it was sampled, its scores.

    Checkpoints after SFT also have a forecast of Pass@k beyond their samples, made from all of a family together.
    """
    given = study.params.evaluation
    how = {"temperature": given.temperature, "top_p": given.top_p, "max_tokens": given.max_tokens}
    tables = []
    for family in study.families:
        for run in study.runs:
            for stage, rl_seed in [("post_sft", None), *(("post_rl", seed) for seed in study.rl_seeds(run))]:
                scores = read_table(jobs.evaluation_folder(study, family, stage, run, rl_seed) / "scores.csv")
                row = {"family": family, "run": run} | _description(study, run)
                row |= {"rl_seed": rl_seed, "stage": stage}
                scores = scores.assign(**row, **how, verifier_version=VERIFIER_VERSION)
                if given.adaptive:  # what every problem has at least; how many more differs by chance
                    scores["samples"] = given.adaptive.fewest
                first = [*row, "benchmark", "problems", "samples", *how, "verifier_version"]
                tables.append(scores[[*first, *scores.columns.drop(first)]])
    # Stages may differ in samples, and so in the k that they have. Joined by rows, as empty columns join badly.
    rows = [row for table in tables for row in table.to_dict("records")]
    table = pd.DataFrame(rows).astype({"rl_seed": "Int64"})
    widest = max(tables, key=lambda t: len(t.columns))
    return _with_forecasts(study, table[widest.columns])


def _with_forecasts(study: Study, results: pd.DataFrame) -> pd.DataFrame:
    largest = max(int(name.removeprefix("pass@")) for name in results if re.fullmatch(r"pass@\d+", name))
    forecasts = []
    for family in study.families:
        folders = {run: jobs.evaluation_folder(study, family, "post_sft", run, None) for run in study.runs}
        counts = {run: read_table(folder / "counts.csv") for run, folder in folders.items()}
        apart = [*study.params.evaluation.left_out_of_average, RL]
        table = forecast_table(counts, largest=largest, left_out_of_average=apart)
        forecasts.append(table.assign(family=family, stage="post_sft"))
    return results.merge(pd.concat(forecasts), on=["family", "run", "stage", "benchmark"], how="left")


def predictors(study: Study) -> pd.DataFrame:
    """Return a row for every (family, run): its losses on held-out examples, and how much SFT it saw."""
    rows = []
    for family in study.families:
        for run in study.runs:
            losses = read_json(jobs.evaluation_folder(study, family, "post_sft", run, None) / "losses.json")
            trained = run in study.sft_runs
            tokens = require(jobs.sft(study, family, run).folder)["tokens"] if trained else 0
            rows.append({"family": family, "run": run} | losses | {"sft_tokens": tokens})
    return pd.DataFrame(rows)


def sft_curves(study: Study) -> pd.DataFrame | None:
    """Return every SFT run's log: `family, run, step, epoch, loss`; None where nothing was trained."""
    logs = [
        read_table(jobs.sft(study, family, run).folder / "log.csv").assign(family=family, run=run)
        for family in study.families
        for run in study.sft_runs
    ]
    return _joined(logs, ["family", "run", "step", "epoch", "loss"])


def rl_curves(study: Study) -> pd.DataFrame | None:
    """Return every RL run's log: `family, run, rl_seed, step, reward, ...`; None where the study has no RL."""
    logs = [
        read_table(jobs.grpo(study, family, run, seed).folder / "log.csv").assign(family=family, run=run, rl_seed=seed)
        for family in study.families
        for run in study.runs
        for seed in study.rl_seeds(run)
    ]
    columns = ["reward", "entropy", "clipped_ratio", "frac_reward_zero_std", "mean_length"]
    return _joined(logs, ["family", "run", "rl_seed", "step", *columns])


def analysis(study: Study, results: pd.DataFrame, predictors: pd.DataFrame, seed: int) -> dict[str, pd.DataFrame]:
    """Return what the tables say, by name: how predictors did, where runs have been through RL; a decision, where not.

    A decision ranks the runs of a family that have not been through RL, by generalization loss, if it was measured,
    and by Pass@k at the largest k that has four samples or more for each draw. Runs that have been through RL
    calibrate it.
    """
    given = study.params.predict
    results = results[~results["run"].isin(given.leave_out)]
    runs = runs_table(results, predictors)
    tables = {"runs": runs}
    done = runs["post_rl"].notna()
    if done.any():
        tables |= analyse(results, predictors, resamples=given.resamples, intervals=given.intervals, seed=seed)
    k = max([k for k in powers_of_two(int(results["samples"].min())) if 4 * k <= results["samples"].min()] or [1])
    named = tuple(name for name in (f"pass@{k}", "generalization_loss") if name in runs and runs[name].notna().all())
    decisions = [
        decide(waiting, runs[done] if done.any() else None, predictors=named, seed=seed)
        for _, waiting in runs[~done].groupby("family", sort=False)
        if len(waiting) > 1
    ]
    return tables | ({"decision": pd.concat(decisions, ignore_index=True)} if decisions else {})


def _joined(logs: list[pd.DataFrame], columns: list[str]) -> pd.DataFrame | None:
    return pd.concat(logs, ignore_index=True)[columns] if logs else None


def _description(study: Study, run: str) -> dict:
    settings = study.run(run)
    if run not in study.sft_runs:
        return {"selection": "none", "examples": 0, "epochs": 0, "learning_rate": None}
    rate = settings.learning_rate or study.params.sft.learning_rate
    return {
        "selection": settings.selection,
        "examples": settings.examples,
        "epochs": settings.epochs,
        "learning_rate": rate,
    }
