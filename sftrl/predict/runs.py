"""From the study's two tables to one row per run: what was measured before RL beside what RL made of it.

`results.csv` holds one row per (family, run, RL seed, phase, benchmark), `predictors.csv` one per (family, run). Here
they become the frame that every judgement reads. Scores that were measured in different ways (sampling temperature,
token limit, verifier version, ...) are not comparable, so runs that mix them are refused by name.
"""

import pandas as pd

from sftrl.errors import InputError
from sftrl.tables import (
    BASE,
    DESCRIPTION,
    POST_RL,
    POST_SFT,
    RL_PROBLEMS,
    RUN,
    SAMPLED,
    SAMPLED_RL,
    SETTINGS,
    need,
    predictor,
)


def runs_table(
    results: pd.DataFrame,
    predictors: pd.DataFrame | None = None,
    *,
    benchmark: str = "average",
    base: bool = False,
) -> pd.DataFrame:
    """Join results and predictors to one row per (family, run).

    Args:
        results: rows of `results.csv`; only `family, run, phase, benchmark, pass@1` are needed.
        predictors: rows of `predictors.csv`, or None.
        benchmark: which benchmark's rows to use, for the predictors and for the outcome.
        base: keep the run `base` (the model without SFT).

    Returns:
        `family, run`, the run's description (`data_seed` from the name's end `-dN` where no column says it),
        `samples`, every predictor measured after SFT or given in `predictors` (`sftrl.tables.PREDICTORS`) and its
        interval (`pass@k_low`, ...) where there is one, those on RL problems with `_rl` after their names, what the
        samples cost (`sampled_tokens`, `sampled_tokens_rl`) where the table tells, and
        `post_sft` (Pass@1 after SFT), `post_rl` (Pass@1 after RL, the mean over RL seeds), `post_rl_sd` (standard
        deviation over seeds), `n_seeds`, `gain` (post_rl - post_sft). A run that has not been through RL has
        `n_seeds` 0 and no `post_rl`. Scores are fractions.

    Raises:
        InputError: a column is missing, a run has two rows, or runs were evaluated in different settings.
    """
    need(results, [*RUN, "phase", "benchmark", "pass@1"], "results")
    unknown = sorted(set(results["phase"]) - {POST_SFT, POST_RL})
    if unknown:
        raise InputError(f"results: phase {unknown[0]!r} is neither 'post_sft' nor 'post_rl'")
    if benchmark not in set(results["benchmark"]):
        raise InputError(f"results: no benchmark {benchmark!r}; there are {sorted(set(results['benchmark']))}")
    results = results.astype({"family": str, "run": str})
    wanted = results if base else results[results["run"] != BASE]
    differing = differing_settings(wanted, benchmark)
    if differing:
        raise InputError("results: runs from different evaluation settings: " + "; ".join(sorted(differing)))

    rows = wanted[wanted["benchmark"] == benchmark]
    before, after = rows[rows["phase"] == POST_SFT], rows[rows["phase"] == POST_RL]
    _one_row_each(before, RUN, "results, phase post_sft")
    _one_row_each(after, [*RUN, "rl_seed"] if "rl_seed" in after else RUN, "results, phase post_rl")
    if before.empty:
        raise InputError(f"results: no post_sft row of benchmark {benchmark!r}")
    measured = [c for c in results if c not in DESCRIPTION and _is_predictor(c)]
    described = [c for c in (*DESCRIPTION, "samples", SAMPLED) if c in before]
    runs = before[[*RUN, *described, *measured]].reset_index(drop=True)
    runs = runs.dropna(axis="columns", how="all")
    if "selection" in runs and "data_seed" not in runs:
        draw = runs["run"].str.extract(r"-d(\d+)$")[0].fillna("0").astype(int)
        runs.insert(runs.columns.get_loc("selection"), "data_seed", draw)
    on_rl = wanted[(wanted["benchmark"] == RL_PROBLEMS) & (wanted["phase"] == POST_SFT)]
    kept = [c for c in measured if predictor(f"{c}_rl") and on_rl[c].notna().any()]
    named = {c: f"{c}_rl" for c in kept} | ({SAMPLED: SAMPLED_RL} if SAMPLED in on_rl and len(on_rl) else {})
    runs = runs.merge(on_rl[[*RUN, *named]].rename(columns=named), on=RUN, how="left")
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
    return runs


def core_results(results: pd.DataFrame, core: list[str]) -> pd.DataFrame:
    """Average the rows of these benchmarks (predictors and scores, no intervals), as rows of a benchmark `core`.

    What sampling them cost is summed; the rows of the RL problems stay as they are.
    """
    absent = [name for name in core if name not in set(results["benchmark"])]
    if absent:
        raise InputError(f"core: no benchmark {absent[0]!r}; there are {sorted(set(results['benchmark']))}")
    rows = results[results["benchmark"].isin(core)]
    keys = [c for c in [*RUN, "rl_seed", "phase", *DESCRIPTION, *SETTINGS] if c in rows and c != "problems"]
    scores = [c for c in rows if c not in keys and predictor(c)]
    by_run = rows.groupby(keys, dropna=False, sort=False)
    averaged = by_run[scores].mean()
    if SAMPLED in rows:
        averaged[SAMPLED] = by_run[SAMPLED].sum()
    on_rl = results.loc[results["benchmark"] == RL_PROBLEMS, ["benchmark", *keys, *averaged]]
    return pd.concat([averaged.reset_index().assign(benchmark="core"), on_rl], ignore_index=True)


def pools(runs: pd.DataFrame, *, live: float | None = None) -> dict[str, pd.DataFrame]:
    """Split runs into the pools they may be judged in, by name; small pools are there too, and their n says so.

    `all`; `live` (Pass@1 after SFT of at least `live`, if some run has less: RL can reward something); `dataset` (the
    paper's dataset level: one SFT distribution, so only random selection, with varying examples, epochs and learning
    rate); `instance` (the paper's instance level: one recipe, so every run of an (epochs, learning rate) at which
    several selections were trained); and each of them within one family that has two or more of its runs, as
    `all/llama`. The two levels are given only where the table describes the runs (`selection`, `epochs`).
    """
    found = {"all": runs}
    if live is not None and (runs[POST_SFT] < live).any():
        found["live"] = runs[runs[POST_SFT] >= live]
    if {"selection", "epochs"} <= set(runs):
        found["dataset"] = runs[runs["selection"] == "random"]
        recipe = [c for c in ("epochs", "learning_rate") if c in runs and runs[c].notna().any()]
        several = runs.groupby(["family", *recipe], dropna=False)["selection"].transform("nunique") > 1
        found["instance"] = runs[several]
    if runs["family"].nunique() > 1:
        for name, pool in list(found.items()):
            found |= {f"{name}/{family}": rows for family, rows in pool.groupby("family") if len(rows) > 1}
    return {name: pool.reset_index(drop=True) for name, pool in found.items() if len(pool)}


def differing_settings(results: pd.DataFrame, benchmark: str = "average") -> list[str]:
    """Say in words, for each run that differs, how its evaluation differs from that of most runs of the same phase."""
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
    return [words[0] + (f", and {len(words) - 1} more" if len(words) > 1 else "") for words in marks.values()]


def _is_predictor(column: str) -> bool:
    """Whether a column is a predictor, or an end of one's interval."""
    return predictor(column.removesuffix("_low").removesuffix("_high")) is not None


def _one_row_each(table: pd.DataFrame, keys: list[str], name: str) -> None:
    twice = table[table.duplicated(keys)]
    if len(twice):
        row = ", ".join(f"{k} {v}" for k, v in twice.iloc[0][keys].items())
        raise InputError(f"{name}: more than one row for {row}")
