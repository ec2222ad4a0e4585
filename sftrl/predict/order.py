"""Which predictor is the best, and does that hang on one benchmark or run? The order, with each left out in turn.

The strength of a predictor is its Spearman correlation with the result of RL, in the direction that is better by its
meaning; where no one knows a direction beforehand, its size. Regressions on several columns are left out: their fit
over the runs at hand flatters.
"""

import numpy as np
import pandas as pd

from sftrl.predict import measures
from sftrl.predict.features import predictor_names, singles
from sftrl.tables import AVERAGE, POST_RL, direction, rounded

ENDS = ("low", "high")
COLUMNS = (
    *("pool", "target", "predictor", "n", "strength", "place", "benchmarks"),
    *(f"{what}_{end}" for what in ("strength_without_run", "place_without_run") for end in ENDS),
    *(f"{what}_{end}" for what in ("strength_without_benchmark", "place_without_benchmark") for end in ENDS),
)


def order(
    runs: pd.DataFrame,
    without_benchmark: list[pd.DataFrame],
    predictors: list[str] | None = None,
    *,
    pool: str = "all",
    target: str = "post_rl",
) -> pd.DataFrame:
    """Rank predictors by strength, and say how far the order moves without one run, and without one benchmark.

    Args:
        runs: `runs_table`'s frame, or one of its `pools`.
        without_benchmark: the same runs, predictor and outcome averaged over all benchmarks but one; each in turn.
        predictors: as in `judge`.
        pool: the pool's name, for the table.
        target: the column to predict.

    Returns:
        One row per predictor that can be judged, the strongest first: `pool, target, predictor, n, strength, place` (1
        is the strongest), `benchmarks` (how many were left out in turn), and the lowest and highest of `strength` and
        `place` without one run (`strength_without_run_low`, ...) and without one benchmark (empty where there are none
        to leave out).
    """
    names = predictor_names(runs) if predictors is None else list(predictors)
    everyone, columns = singles(runs, names, target)
    if not columns:
        return pd.DataFrame(columns=list(COLUMNS))
    whole = _strengths(columns, everyone.y, everyone.groups)
    less = []
    for i in range(len(everyone.y)):
        keep = np.arange(len(everyone.y)) != i
        rest = {name: values[keep] for name, values in columns.items()}
        less.append(_strengths(rest, everyone.y[keep], everyone.groups[keep]))
    other = []
    for table in without_benchmark:
        everyone_there, there = singles(table, [name for name in columns if name in predictor_names(table)], target)
        found = dict(zip(there, _strengths(there, everyone_there.y, everyone_there.groups), strict=True))
        other.append([found.get(name, np.nan) for name in columns])
    table = pd.DataFrame({"predictor": list(columns), "strength": whole, "place": _places(whole)})
    table["n"] = [int(np.isfinite(values).sum()) for values in columns.values()]
    for kind, values in (("run", np.array(less)), ("benchmark", np.array(other))):
        if len(values):
            for what, found in (("strength", values), ("place", _places(values))):
                table[f"{what}_without_{kind}_low"] = np.fmin.reduce(found, axis=0)
                table[f"{what}_without_{kind}_high"] = np.fmax.reduce(found, axis=0)
    table = table.assign(pool=pool, target=target, benchmarks=len(without_benchmark)).reindex(columns=list(COLUMNS))
    return rounded(table.sort_values("place", kind="stable", ignore_index=True))


def benchmarks_of(results: pd.DataFrame, left_out: tuple[str, ...] = ()) -> list[str]:
    """List the benchmarks that the average is over: those sampled after RL, less those left out of it."""
    after = pd.unique(results.loc[results["phase"] == POST_RL, "benchmark"])
    return [name for name in after if name not in (AVERAGE, *left_out)]


def _strengths(columns: dict[str, np.ndarray], y: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Strength of each predictor (p,), over the runs that have it; NaN where that is undefined."""
    found = []
    for name, values in columns.items():
        whole = np.isfinite(values)
        of = np.unique(groups[whole], return_inverse=True)[1]
        value = float(measures.spearman(values[whole], y[whole], of)) if whole.sum() > 1 else np.nan
        found.append(direction(name) * value if direction(name) else abs(value))
    return np.array(found)


def _places(strength: np.ndarray) -> np.ndarray:
    """Places along the last axis, 1 the strongest; those as strong share the better one, and NaN has none."""
    known = np.where(np.isnan(strength), -np.inf, np.round(strength, 8))
    places = 1 + (known[..., None, :] > known[..., :, None]).sum(axis=-1)
    return np.where(np.isnan(strength), np.nan, places)
