"""How well does a number measured before RL tell the score after it? One row per predictor, uncertainty beside it all.

Three kinds of protocol, each under its own name in the table:

* over the runs at hand: squared Pearson correlation (`r2`), Spearman's and Kendall's rank correlations, each with an
  interval over runs (`uncertainty.py` says which and why) and a permutation p-value;
* out of sample: the paper's random halves (`halves_*`: one half fits a line, the other is predicted; mean and standard
  deviation over many splits) and leave-one-out (`loo_*`);
* how much hangs on one run: `influential_run` is the one whose removal moves `r2` most, to `r2_without_it`.

Where the pool spans several model families, each family has its own mean (an intercept of its own in every fit), so
that a difference between families is never credited to a predictor, and permutations stay within a family.
"""

from collections.abc import Callable
from typing import get_args

import numpy as np
import pandas as pd

from sftrl.errors import InputError
from sftrl.predict import measures
from sftrl.predict.features import Sample, fitted, predictor_names, sample_of, singles, unfit, without
from sftrl.predict.uncertainty import bootstrap_interval, correlation_interval, multiple_r2_interval
from sftrl.recipes import Intervals
from sftrl.tables import DECIMALS, need, rounded


def judge(
    runs: pd.DataFrame,
    predictors: list[str] | None = None,
    *,
    target: str = "post_rl",
    pool: str = "all",
    level: float = 0.95,
    splits: int = 1000,
    resamples: int = 10_000,
    intervals: Intervals = "jackknife-normal",
    seed: int = 0,
) -> pd.DataFrame:
    """Judge predictors of `target` over one pool of runs.

    Args:
        runs: `runs_table`'s frame, or one of its `pools`.
        predictors: column names; `"a + b"` for a regression on two or more columns; `"average(a, b)"` for the mean of
            standardised columns, losses with their sign flipped. Default: every predictor that the frame holds.
        target: the column to predict: `post_rl`, or `gain`.
        pool: the pool's name, for the table.
        level: of the intervals.
        splits: number of random halves.
        resamples: number of permutations, and of bootstrap resamples.
        intervals: over runs: "jackknife-normal", which covers at 8 to 40 runs; "normal-theory", the textbooks'; or
            "bootstrap" (BCa). A regression on several columns has that of normal theory in any case.
        seed: of the splits, permutations and resamples. The same seed gives every predictor the same ones.

    Returns:
        One row per predictor. `p_max_t` is `max_t_p`'s, over all predictors judged here. `note` says in words what
        could not be measured and why (too few runs, a predictor that is missing or the same for all), and the numbers
        are then empty. `left_out` names the runs that lack a value.
    """
    predictors = predictor_names(runs) if predictors is None else list(predictors)
    if not predictors:
        raise InputError("judge: no predictor to judge")
    if intervals not in get_args(Intervals):
        raise InputError(f"intervals: {intervals!r} is not one of {', '.join(get_args(Intervals))}")
    need(runs, ["family", "run", target], "runs")
    rows = []
    for name in predictors:
        sample = sample_of(runs, name, target)
        row = {"pool": pool, "target": target, "predictor": name, "features": sample.x.shape[1], "n": len(sample.y)}
        note = unfit(sample, name, target)
        if note is None:
            row |= (
                _within(sample, level, resamples, intervals, seed)
                | _halves(sample, splits, seed)
                | _leave_one_out(sample)
            )
        row["left_out"] = ", ".join(sample.left_out)
        rows.append(row | {"note": note or ""})
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    adjusted = max_t_p(*singles(runs, predictors, target), resamples, seed)
    return rounded(table.assign(p_max_t=table["predictor"].map(adjusted).astype(float)))


COLUMNS = (
    *("pool", "target", "predictor", "features", "n"),
    *(f"{m}{end}" for m in ("r2", "pearson", "spearman", "kendall") for end in ("", "_low", "_high")),
    *("p_r2", "p_spearman", "p_max_t", "halves_r2", "halves_r2_sd", "halves_cod", "halves_cod_sd", "halves_cod_median"),
    *("loo_cod", "loo_spearman", "influential_run", "r2_without_it", "left_out", "note"),
)


def _correlations(sample: Sample) -> dict[str, float]:
    score, y = fitted(sample), measures.centred(sample.y, sample.groups)
    return {kind: float(value) for kind, value in _measured(score, y, sample.groups).items()}


MEASURES = {
    "pearson": lambda x, y, groups: measures.pearson(x, y),  # of values relative to their group's mean
    "spearman": measures.spearman,
    "kendall": measures.kendall,
}


def _measured(score: np.ndarray, y: np.ndarray, groups: np.ndarray) -> dict[str, np.ndarray]:
    """Measure along the last axis. Both are relative to their group's mean."""
    return {kind: measure(score, y, groups) for kind, measure in MEASURES.items()}


def _without_each(sample: Sample) -> dict[str, np.ndarray]:
    """The correlations with each run left out in turn, (n,) each; several features are refitted each time."""
    if sample.x.shape[1] > 1:
        found = [_correlations(without(sample, i)) for i in range(len(sample.y))]
        return {kind: np.array([one[kind] for one in found]) for kind in found[0]}

    columns = sample.x[:, 0], sample.y

    def without_rows(measure: Callable) -> np.ndarray:
        def on(rows: np.ndarray, groups: np.ndarray) -> np.ndarray:
            return measure(*(measures.centred(values[rows], groups) for values in columns), groups)

        return measures.leaving_one_out(on, sample.groups)

    return {kind: without_rows(measure) for kind, measure in MEASURES.items()}


def _on_resamples(sample: Sample, resamples: int, seed: int) -> dict[str, np.ndarray]:
    drawn = resampled(sample.groups, resamples, np.random.default_rng(seed))
    score, y = (measures.centred(values[drawn], sample.groups) for values in (sample.x[:, 0], sample.y))
    return _measured(score, y, sample.groups)


def _within(sample: Sample, level: float, resamples: int, intervals: Intervals, seed: int) -> dict:
    features = sample.x.shape[1]
    whole = _correlations(sample)
    less = _without_each(sample)
    row: dict = {"r2": whole["pearson"] ** 2}
    drawn = _on_resamples(sample, resamples, seed) if intervals == "bootstrap" and features == 1 else None
    for kind, value in whole.items():
        row[kind] = value
        if features == 1:
            if drawn is None:
                low, high = correlation_interval(kind, value, less[kind], sample.size, level, intervals)
            else:
                low, high = bootstrap_interval(value, drawn[kind], less[kind], level)
            row |= {f"{kind}_low": low, f"{kind}_high": high}
    if features == 1:
        ends = sorted((row["pearson_low"] ** 2, row["pearson_high"] ** 2))
        row["r2_low"] = 0.0 if row["pearson_low"] <= 0 <= row["pearson_high"] else ends[0]
        row["r2_high"] = ends[1]
    else:
        row["r2_low"], row["r2_high"] = multiple_r2_interval(row["r2"], sample.size, features, level)
    change = np.round(np.abs(less["pearson"] ** 2 - row["r2"]), DECIMALS)  # of runs that matter alike, the first
    if np.isfinite(change).any():
        most = int(np.nanargmax(change))
        row["influential_run"] = " ".join(sample.runs.loc[most, ["family", "run"]].astype(str))
        row["r2_without_it"] = float(less["pearson"][most] ** 2)
    return row | permutation_p(sample, resamples, seed)


def permutation_p(sample: Sample, resamples: int, seed: int) -> dict[str, float]:
    """Two-sided p-values: the share of relabellings, the true one included, that correlate as much as was seen."""
    x = measures.centred(sample.x.T, sample.groups).T
    y = measures.centred(sample.y, sample.groups)
    order = permutations(sample.groups, resamples, np.random.default_rng(seed))
    order = np.vstack([np.arange(len(y)), order])
    basis = np.linalg.qr(x)[0]
    share = ((y[order] @ basis) ** 2).sum(axis=1)  # of the squares of y, what the features explain
    score = x[:, 0] if x.shape[1] == 1 else y[order] @ basis @ basis.T  # several features are fitted anew each time
    rank = np.abs(measures.pearson(measures.ranks(score, sample.groups), measures.ranks(y, sample.groups)[order]))
    return {
        f"p_{name}": float(np.mean(s >= s[0] - 1e-9 * abs(s[0]))) for name, s in (("r2", share), ("spearman", rank))
    }


def max_t_p(everyone: Sample, columns: dict[str, np.ndarray], resamples: int, seed: int) -> dict[str, float]:
    """Two-sided p-values of Spearman correlations, for the best of many predictors looked at (Westfall and Young 1993).

    The share of relabellings, the true one included, in which any of the predictors correlates as much as this one was
    seen to. Each correlation is weighed by the root of its runs less one, where some runs lack a value.

    Args:
        everyone: all runs, as `singles` gives them.
        columns: predictors by name, (n,) each, NaN where a run lacks it.
    """
    if not columns:
        return {}
    y, groups = everyone.y, everyone.groups
    order = permutations(groups, resamples, np.random.default_rng(seed))
    order = np.vstack([np.arange(len(y)), order])
    by_runs: dict[bytes, list[str]] = {}
    for name, values in columns.items():
        by_runs.setdefault(np.isfinite(values).tobytes(), []).append(name)
    names, strengths = [], []
    for key, alike in by_runs.items():
        whole = np.frombuffer(key, bool)
        of = np.unique(groups[whole], return_inverse=True)[1]
        x = measures.ranks(np.array([columns[name][whole] for name in alike]), of)
        drawn = measures.ranks(y[order][:, whole], of)
        with np.errstate(invalid="ignore"):  # a relabelling may give all runs that have a value equal results
            x, drawn = (values / np.sqrt((values**2).sum(axis=-1, keepdims=True)) for values in (x, drawn))
        strengths.append(np.abs(x @ drawn.T) * np.sqrt(whole.sum() - 1))
        names += alike
    strength = np.vstack(strengths)  # (predictors, relabellings)
    best = np.fmax.reduce(strength, axis=0)
    return {name: float(np.mean(best >= row[0] - 1e-9 * row[0])) for name, row in zip(names, strength, strict=True)}


def permutations(groups: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Draw `count` permutations (count, n) of row numbers that keep every row within its group."""
    order = np.argsort(rng.random((count, len(groups))) + groups, axis=1)
    drawn = np.empty_like(order)
    drawn[:, np.argsort(groups, kind="stable")] = order
    return drawn


def resampled(groups: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Draw `count` bootstrap resamples (count, n) of row numbers, with replacement, each row from its own group."""
    drawn = np.empty((count, len(groups)), int)
    for group in np.unique(groups):
        members = np.flatnonzero(groups == group)
        drawn[:, members] = rng.choice(members, (count, len(members)))
    return drawn


def halves(groups: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Draw `count` random halves (count, n): True for the runs that fit, half of each group, rounded down."""
    chosen = np.zeros((count, len(groups)), bool)
    keys = rng.random(chosen.shape)
    for group in np.unique(groups):
        members = np.flatnonzero(groups == group)
        ranks = keys[:, members].argsort(axis=1).argsort(axis=1)
        chosen[:, members] = ranks < len(members) // 2
    return chosen


def _halves(sample: Sample, splits: int, seed: int) -> dict[str, float]:
    """Fit on random halves, predict the rest. Empty with fewer than 3 runs to predict, where any line is perfect."""
    if np.bincount(sample.groups).min() < 2 or len(sample.y) - len(sample.y) // 2 < 3:
        return {}
    fit = halves(sample.groups, splits, np.random.default_rng(seed)).astype(float)
    member = np.eye(sample.groups.max() + 1)[sample.groups]
    x = sample.x - sample.x.mean(axis=0)
    design = np.hstack([member, x / np.abs(x).max(axis=0)])
    normal = np.einsum("bn,ni,nj->bij", fit, design, design)
    # Halves whose runs agree in a feature to 5 digits have no slope: rounding would make one, another on each machine.
    slopes = np.linalg.pinv(normal, rcond=1e-10, hermitian=True) @ ((fit * sample.y) @ design)[..., None]
    predicted = (design @ slopes)[..., 0]
    rest = 1 - fit

    def around_means(values: np.ndarray) -> np.ndarray:
        means = ((rest * values) @ member) / np.maximum(rest @ member, 1)
        return rest * (values - means @ member.T)

    p, y = around_means(predicted), around_means(np.broadcast_to(sample.y, fit.shape))
    with np.errstate(divide="ignore", invalid="ignore"):
        flat = (p**2).sum(axis=1) <= measures.TOLERANCE * (predicted**2).sum(axis=1)
        r2 = np.where(flat, np.nan, (p * y).sum(axis=1) ** 2 / ((p * p).sum(axis=1) * (y * y).sum(axis=1)))
        cod = 1 - (rest * (predicted - sample.y) ** 2).sum(axis=1) / (y * y).sum(axis=1)
        cod = np.where(np.isfinite(cod), cod, np.nan)  # a half whose results are all the same explains nothing
    if np.isnan(r2).all():
        return {}
    return {
        "halves_r2": float(np.nanmean(r2)),
        "halves_r2_sd": float(np.nanstd(r2)),
        "halves_cod": float(np.nanmean(cod)),
        "halves_cod_sd": float(np.nanstd(cod)),
        "halves_cod_median": float(np.nanmedian(cod)),
    }


def left_out_predictions(sample: Sample) -> tuple[np.ndarray, np.ndarray]:
    """Predict each run from a fit to the others: by the features, and by the others' mean alone; both (n,)."""
    member = np.eye(sample.groups.max() + 1)[sample.groups]
    x = sample.x - sample.x.mean(axis=0)
    predictions = []
    for design in (np.hstack([member, x / np.abs(x).max(axis=0)]), member):
        hat = design @ np.linalg.pinv(design)
        leverage = np.diag(hat)
        with np.errstate(divide="ignore", invalid="ignore"):
            error = np.where(leverage > 1 - 1e-9, np.nan, (sample.y - hat @ sample.y) / (1 - leverage))
        predictions.append(sample.y - error)
    return predictions[0], predictions[1]


def _leave_one_out(sample: Sample) -> dict[str, float]:
    predicted, mean = left_out_predictions(sample)
    if np.isnan(predicted).any():
        return {}
    y = measures.centred(sample.y, sample.groups)
    ranked = measures.spearman(predicted - (sample.y - y), y, sample.groups)
    return {"loo_cod": float(measures.explained(predicted, sample.y, mean)), "loo_spearman": float(ranked)}
