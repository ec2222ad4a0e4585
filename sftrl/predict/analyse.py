"""The whole analysis of a study in one call: the tables that its figures are drawn from."""

import pandas as pd

from sftrl.errors import InputError
from sftrl.predict.ceiling import noise_ceiling
from sftrl.predict.comparison import compare, regret
from sftrl.predict.decide import answer
from sftrl.predict.judge import judge
from sftrl.predict.order import COLUMNS, benchmarks_of, order
from sftrl.predict.runs import core_results, pools, runs_table
from sftrl.recipes import Judging
from sftrl.tables import AVERAGE, POST_RL, RUN


def analyse(
    results: pd.DataFrame,
    predictors: pd.DataFrame | None = None,
    *,
    judging: Judging | None = None,
    names: list[str] | None = None,
    only: tuple[str, ...] | None = None,
    per_benchmark: bool = True,
    left_out_of_average: tuple[str, ...] = (),
    level: float = 0.95,
    splits: int = 1000,
    seed: int = 0,
) -> dict[str, pd.DataFrame]:
    """Judge every predictor in every pool, compare with Pass@1, price the choice, and decide.

    Args:
        results: rows of `results.csv`.
        predictors: rows of `predictors.csv`, or None.
        judging: resamples, kind of intervals, runs left out, pools; default: the recipe's own defaults.
        names: predictors to judge; default: all that the tables hold.
        only: pools to use, by name; default: all.
        per_benchmark: also judge each benchmark on its own (predictor and outcome both of that benchmark), as pool
            `benchmark:NAME`, over all runs.
        left_out_of_average: benchmarks that are no part of the average, and so of no order with one left out.
        level, splits, seed: as in `judge`.

    Returns:
        Tables by name: `runs`; where runs have been through RL, `judged` (targets `post_rl` and, but for single
        benchmarks and families, `gain`), `compared`, `regret`, `ceiling` and `order` (of the pools `all` and `live`),
        over those runs; `decision`, as `answer` gives it, where there is something to decide.
    """
    judging = judging or Judging()
    results = results.astype(dict.fromkeys(RUN, str))
    results = results[~results["run"].isin(judging.leave_out)]
    runs = runs_table(results, predictors)
    tables = {"runs": runs}
    done = results.merge(runs.loc[runs[POST_RL].notna(), RUN])
    if len(done):
        how = {"level": level, "seed": seed}
        found = _pools(done, predictors, judging, only, per_benchmark)
        tables |= _judgements(found, names, judging, splits, how)
        tables["order"] = _order(done, predictors, found, names, left_out_of_average)
    decision = answer(runs, seed=seed)
    return tables | ({} if decision.empty else {"decision": decision})


def _pools(
    results: pd.DataFrame,
    predictors: pd.DataFrame | None,
    judging: Judging,
    only: tuple[str, ...] | None,
    per_benchmark: bool,
) -> dict[str, pd.DataFrame]:
    """Every pool by name: the levels, `core` and its live runs, each benchmark."""
    runs = runs_table(results, predictors)
    found = pools(runs, live=judging.live)
    if judging.core:
        core = runs_table(core_results(results, judging.core), predictors, benchmark="core")
        found["core"] = core
        if "live" in found:  # the same runs
            same = core.set_index(RUN).index.isin(found["live"].set_index(RUN).index)
            found["core/live"] = core[same].reset_index(drop=True)
    after = results.loc[results["phase"] == POST_RL, "benchmark"]  # RL problems are not sampled again after RL
    several = [b for b in pd.unique(after) if b != AVERAGE]
    for name in several if per_benchmark and len(several) > 1 else []:
        found[f"benchmark:{name}"] = runs_table(results, predictors, benchmark=name)
    absent = [name for name in only or () if name not in found]
    if absent:
        raise InputError(f"pools: no pool {absent[0]!r}; there are {list(found)}")
    return {name: found[name] for name in only or found}


def _order(
    results: pd.DataFrame,
    predictors: pd.DataFrame | None,
    found: dict[str, pd.DataFrame],
    names: list[str] | None,
    left_out: tuple[str, ...],
) -> pd.DataFrame:
    benchmarks = benchmarks_of(results, left_out)
    less = [
        runs_table(core_results(results, [b for b in benchmarks if b != one]), predictors, benchmark="core")
        for one in (benchmarks if len(benchmarks) > 1 else [])
    ]
    tables = []
    for name in ("all", "live"):
        runs = found.get(name, pd.DataFrame(columns=RUN))
        if len(runs):
            tables.append(order(runs, [runs[RUN].merge(table, on=RUN) for table in less], names, pool=name))
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=list(COLUMNS))


def _judgements(
    found: dict[str, pd.DataFrame], names: list[str] | None, judging: Judging, splits: int, how: dict
) -> dict[str, pd.DataFrame]:
    tables: dict[str, list[pd.DataFrame]] = {"judged": [], "compared": [], "regret": [], "ceiling": []}
    drawn = how | {"resamples": judging.resamples}
    for name, pool in found.items():
        part = name.startswith("benchmark:") or "/" in name  # of a pool that is judged as a whole
        for target in (POST_RL,) if part else (POST_RL, "gain"):
            judged = judge(pool, names, target=target, pool=name, splits=splits, intervals=judging.intervals, **drawn)
            tables["judged"].append(judged)
        tables["compared"].append(compare(pool, names, pool=name, **drawn))
        tables["regret"].append(regret(pool, names, pool=name, level=how["level"]))
        tables["ceiling"].append(noise_ceiling(pool, pool=name, level=how["level"]))
    return {name: pd.concat(parts, ignore_index=True) for name, parts in tables.items()}
