"""A made-up study through all of `predict`, held against the numbers that were there when they were last read."""

import golden
import numpy as np
import pandas as pd
from simulated import study

from sftrl.predict import (
    advice,
    analyse,
    decide,
    fit_line,
    judge,
    order,
    overtraining,
    pools,
    regret,
    replay,
    runs_table,
)
from sftrl.predict.runs import core_results
from sftrl.recipes import Judging

STEPS = (0, 4, 8, 12)
SPARING = {"splits": 9, "level": 0.9}


def tables(runs: int, seed: int, **how) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Two families, the second with fewer runs; repeated draws of examples, RL problems, a run without a loss."""
    parts = [study(n, (name,), seed=seed + i, **how) for i, (name, n) in enumerate((("llama", runs), ("qwen", 6)))]
    results, predictors = (pd.concat(tables, ignore_index=True) for tables in zip(*parts, strict=True))
    results["data_seed"] = 0
    three = "random-500-1ep-1", "random-1000-1ep-2", "random-100-1ep-0"  # from here on draws of 500 examples
    for data_seed, run in enumerate(three):
        results.loc[results["run"] == run, ["data_seed", "examples"]] = [data_seed, 500]
    results["sampled_tokens"] = 1000.0 + 10 * results["epochs"]
    on_rl = results[(results["benchmark"] == "chains") & (results["phase"] == "post_sft")].copy()
    on_rl[["pass@1", "pass@8"]] *= 0.9
    results = pd.concat([results, on_rl.assign(benchmark="rl_problems")], ignore_index=True)
    predictors.loc[3, "generalization_loss"] = np.nan
    return results, predictors


def probes(results: pd.DataFrame, phase: str) -> pd.DataFrame:
    """Counts of correct samples by problem, whose share grows with the run's Pass@1 and, of probes, with the step."""
    rng = np.random.default_rng(3)
    rows = []
    average = results[(results["phase"] == "post_rl") & (results["benchmark"] == "average")]
    for _, run in average.iterrows():
        for step in STEPS if phase == "probe" else (max(STEPS),):
            share = np.clip(run["pass@1"] * (0.5 + step / 2 / max(STEPS)) + rng.normal(0, 0.1, 9), 0, 1)
            row = {name: run[name] for name in ("family", "run", "rl_seed")}
            row |= {"phase": "post_rl", "samples": 16} | ({"step": step} if phase == "probe" else {})
            names = [f"{b}/{i}" for b in ("chains", "equations", "long") for i in range(3)]
            rows.append(row | dict(zip(names, rng.binomial(16, share), strict=True)))
    return pd.DataFrame(rows)


def made() -> dict:
    """Everything that `predict` gives for them, in a few seconds."""
    results, predictors = tables(11, 5)
    found: dict = {}
    judging = Judging(resamples=30, live=0.25, core=["chains", "equations"])
    names = ["pass@1", "pass@64", "generalization_loss", "entropy", "epochs", "pass@1 + generalization_loss"]
    found["analysed"] = analyse(results, predictors, judging=judging, names=names, **SPARING)
    runs = runs_table(results, predictors)
    for how in ("normal-theory", "bootstrap"):
        found[how] = judge(runs, ["pass@1", "generalization_loss"], intervals=how, resamples=30, splits=3)
    each = ("chains", "equations")
    without = [runs_table(core_results(results, [one]), predictors, benchmark="core") for one in each]
    found["order"] = order(runs, without)
    found["regret"] = regret(runs)
    with_loss = runs[runs["generalization_loss"].notna()]
    found["pools"] = {name: list(pool["run"]) for name, pool in pools(runs, live=0.2).items()}
    llama = with_loss[with_loss["family"] == "llama"].drop(columns=["post_rl"])
    calibration = with_loss[with_loss["run"].isin(with_loss["run"].iloc[:6])]
    decisions = {
        "ranked": decide(llama, predictors=("pass@1", "generalization_loss")),
        "assumed": decide(llama, correlation=0.6, draws=300, confidence=0.8),
        "predicted": decide(llama.iloc[6:], calibration[calibration["family"] == "llama"], draws=300),
        "replayed": replay(with_loss[with_loss["family"] == "llama"], draws=300),
    }
    found["decisions"] = decisions | {"words": {name: advice(table) for name, table in decisions.items()}}
    for name, x in (("one", "pass@1"), ("two", "pass@1 + generalization_loss")):
        fit = fit_line(runs, x, "post_rl", 0.8)
        found[f"line of {name}"] = {"points": fit.points, "lines": fit.lines.iloc[::9]}
    before = results[results["phase"] == "post_sft"]
    of_one_draw = before["run"].str.startswith("random") | (before["run"] == "base")
    epochs = before[of_one_draw].assign(examples=lambda t: t["examples"].where(t["run"] == "base", 100), data_seed=0)
    epochs["epochs"] = epochs.groupby(["family", "benchmark"]).cumcount()
    epochs["pass@64"] = 0.9 - epochs["pass@1"]
    own = epochs["run"].str.endswith("-6")
    epochs.loc[own, "selection"] = "self"
    counts, probed = probes(results, "post_rl"), probes(results, "probe")
    found["overtraining"] = overtraining(epochs, counts, probed, left_out=("long",), level=0.8)
    found["gain"] = judge(pools(runs)["dataset"], ["pass@4", "average(pass@1, generalization_loss)"], target="gain",
                          resamples=20, splits=7)  # fmt: skip
    return found


def test_no_number_of_the_made_up_study_has_changed():
    now = golden.plain(made())
    pairs = now["overtraining"]["pairs"]
    assert 0 < sum(pairs["sharpened"]) < len(pairs["sharpened"])  # else a part of it is asked of nothing
    assert any(n > 1 for n in now["analysed"]["ceiling"]["draws"])
    assert not golden.changed("predict", now)
