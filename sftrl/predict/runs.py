"""From the study's two tables to one row per run: what was measured before RL beside what RL made of it.

`results.csv` holds one row per (family, run, RL seed, phase, benchmark), `predictors.csv` one per (family, run). Here
they become the frame that every judgement reads. Scores that were measured in different ways (sampling temperature,
token limit, verifier version, ...) are not comparable, so runs that mix them are refused, or marked, by name.
"""

import re

import pandas as pd

from sftrl.errors import InputError
from sftrl.tables import BASE, DESCRIPTION, POST_RL, POST_SFT, RL_PROBLEMS, RUN, SETTINGS, need

MEASURED = re.compile(r"^((pass|majority|extrapolated_pass)@\d+|signal_share|truncated|unparseable|empty|mean_tokens)$")


def runs_table(
    results: pd.DataFrame,
    predictors: pd.DataFrame | None = None,
    *,
    benchmark: str = "average",
    base: bool = False,
    mixed: str = "refuse",
) -> pd.DataFrame:
    """Join results and predictors to one row per (family, run).

    Args:
        results: rows of `results.csv`; only `family, run, phase, benchmark, pass@1` are needed.
        predictors: rows of `predictors.csv`, or None.
        benchmark: which benchmark's rows to use, for the predictors and for the outcome.
        base: keep the run `base` (the model without SFT).
        mixed: "refuse" raises if runs were evaluated in different settings; "mark" keeps them, and the column
            `marked` says in words how each differs from most.

    Returns:
        `family, run`, the run's description, every predictor measured after SFT (`pass@k`, `majority@k`,
        `signal_share`, ...) or given in `predictors`, Pass@1, Pass@k at the largest k and the signal share on RL
        problems where those were sampled (`pass@1_rl`, ..., `signal_share_rl`), and `post_sft` (Pass@1 after SFT),
        `post_rl` (Pass@1 after RL, the mean over RL seeds), `post_rl_sd` (standard deviation over seeds), `n_seeds`,
        `gain` (post_rl - post_sft). A run that has not been through RL has `n_seeds` 0 and no `post_rl`. Scores are
        fractions.
    """
    if mixed not in ("refuse", "mark"):
        raise InputError(f"mixed: {mixed!r} is neither 'refuse' nor 'mark'")
    need(results, [*RUN, "phase", "benchmark", "pass@1"], "results")
    unknown = sorted(set(results["phase"]) - {POST_SFT, POST_RL})
    if unknown:
        raise InputError(f"results: phase {unknown[0]!r} is neither 'post_sft' nor 'post_rl'")
    if benchmark not in set(results["benchmark"]):
        raise InputError(f"results: no benchmark {benchmark!r}; there are {sorted(set(results['benchmark']))}")
    results = results.astype({"family": str, "run": str})
    wanted = results if base else results[results["run"] != BASE]
    marks = differing_settings(wanted, benchmark)
    if marks and mixed == "refuse":
        raise InputError("results: runs from different evaluation settings: " + "; ".join(sorted(marks.values())))

    rows = wanted[wanted["benchmark"] == benchmark]
    before, after = rows[rows["phase"] == POST_SFT], rows[rows["phase"] == POST_RL]
    _one_row_each(before, RUN, "results, phase post_sft")
    _one_row_each(after, [*RUN, "rl_seed"] if "rl_seed" in after else RUN, "results, phase post_rl")
    if before.empty:
        raise InputError(f"results: no post_sft row of benchmark {benchmark!r}")
    measured = [c for c in results if MEASURED.match(c)]
    runs = before[[*RUN, *[c for c in DESCRIPTION if c in before], *measured]].reset_index(drop=True)
    runs = runs.dropna(axis="columns", how="all")
    on_rl = _on_rl_problems(wanted)
    runs = runs if on_rl.empty else runs.merge(on_rl, on=RUN, how="left")
    if predictors is not None:
        need(predictors, RUN, "predictors")
        predictors = predictors.astype({"family": str, "run": str})
        _one_row_each(predictors, RUN, "predictors")
        new = [c for c in predictors if c in RUN or c not in runs]
        runs = runs.merge(predictors[new], on=RUN, how="left")
    outcome = after.groupby(RUN)["pass@1"].agg(post_rl="mean", post_rl_sd="std", n_seeds="count").reset_index()
    runs = runs.merge(outcome, on=RUN, how="left").fillna({"n_seeds": 0}).astype({"n_seeds": int})
    runs.insert(runs.columns.get_loc(POST_RL), POST_SFT, runs["pass@1"])
    runs["gain"] = runs[POST_RL] - runs[POST_SFT]
    if mixed == "mark":
        runs["marked"] = [marks.get((f, r), "") for f, r in zip(runs["family"], runs["run"], strict=True)]
    return runs


def pools(runs: pd.DataFrame, names: tuple[str, ...] | None = None) -> dict[str, pd.DataFrame]:
    """Split runs into the pools they may be judged in, by name; small pools are there too, and their n says so.

    `all`; `dataset` (the paper's dataset level: one SFT distribution, so only random selection, with varying
    examples, epochs and learning rate); `instance` (the paper's instance level: one recipe, so every run of an
    (epochs, learning rate) at which several selections were trained); and each of them within one family, as
    `all/llama`. The two levels are given only where the table describes the runs (`selection`, `epochs`).
    """
    found = {"all": runs}
    if {"selection", "epochs"} <= set(runs):
        found["dataset"] = runs[runs["selection"] == "random"]
        recipe = [c for c in ("epochs", "learning_rate") if c in runs and runs[c].notna().any()]
        several = runs.groupby(["family", *recipe], dropna=False)["selection"].transform("nunique") > 1
        found["instance"] = runs[several]
    if runs["family"].nunique() > 1:
        for name, pool in list(found.items()):
            found |= {f"{name}/{family}": rows for family, rows in pool.groupby("family")}
    found = {name: pool.reset_index(drop=True) for name, pool in found.items() if len(pool)}
    if names is None:
        return found
    absent = [name for name in names if name not in found]
    if absent:
        raise InputError(f"pools: no pool {absent[0]!r}; there are {list(found)}")
    return {name: found[name] for name in names}


def differing_settings(results: pd.DataFrame, benchmark: str = "average") -> dict[tuple[str, str], str]:
    """Say in words, by (family, run), how a run's evaluation differs from that of most runs of the same phase."""
    rows = results if benchmark == "average" else results[results["benchmark"] == benchmark]
    marks: dict[tuple[str, str], list[str]] = {}
    columns = [c for c in SETTINGS if c in rows]
    for (phase, name), part in rows.groupby(["phase", "benchmark"], sort=True):
        for column in columns:
            common = part[column].mode(dropna=False).iloc[0]
            odd = part[(part[column] != common) & ~(part[column].isna() & pd.isna(common))]
            for family, run, value in zip(odd["family"], odd["run"], odd[column], strict=True):
                words = f"{family} {run}: {column} {value}, most have {common} ({phase}, {name})"
                marks.setdefault((family, run), []).append(words)
    if "verifier_version" in columns and rows["verifier_version"].nunique() > 1 and not marks:
        versions = rows.groupby("phase")["verifier_version"].first().to_dict()  # one version before RL, another after
        marks = {key: [f"{key[0]} {key[1]}: verifier_version {versions}"] for key, _ in rows.groupby(RUN)}
    for phase, part in rows.groupby("phase"):
        benchmarks = part.groupby(RUN)["benchmark"].agg(lambda names: tuple(sorted(set(names))))
        common = benchmarks.mode().iloc[0]
        for (family, run), names in benchmarks[benchmarks != common].items():
            words = f"{family} {run}: benchmarks {list(names)}, most have {list(common)} ({phase})"
            marks.setdefault((family, run), []).append(words)
    return {key: words[0] + (f", and {len(words) - 1} more" if len(words) > 1 else "") for key, words in marks.items()}


def _on_rl_problems(results: pd.DataFrame) -> pd.DataFrame:
    rows = results[(results["benchmark"] == RL_PROBLEMS) & (results["phase"] == POST_SFT)]
    measured = [c for c in results if rows[c].notna().any()]
    scores = [c for c in measured if c.startswith("pass@") and c[5:].isdigit()]
    kept = [c for c in dict.fromkeys([*scores[:1], *scores[-1:], "signal_share"]) if c in measured]
    return rows[[*RUN, *kept]].rename(columns={c: f"{c}_rl" for c in kept})


def _one_row_each(table: pd.DataFrame, keys: list[str], name: str) -> None:
    twice = table[table.duplicated(keys)]
    if len(twice):
        row = ", ".join(f"{k} {v}" for k, v in twice.iloc[0][keys].items())
        raise InputError(f"{name}: more than one row for {row}")
