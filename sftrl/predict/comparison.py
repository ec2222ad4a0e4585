"""Is one predictor better than another, and what does it cost to choose by it? Both asked of the same runs.

Both use the number one would choose by, higher being better: scores as they are, losses with their sign flipped. A
predictor whose direction no one knows beforehand (entropy, epochs, a regression on several columns) stands here with
its leave-one-out predictions, so that it is not paid for looking at the answer.
"""

import numpy as np
import pandas as pd
from scipy import special, stats

from sftrl.predict import measures
from sftrl.predict.features import Sample, columns_of, predictor_names, sample_of, unfit
from sftrl.predict.judge import left_out_predictions, resampled
from sftrl.predict.uncertainty import fisher_z
from sftrl.tables import DECIMALS, FREE, direction, need, predictor, rounded


def compare(
    runs: pd.DataFrame,
    predictors: list[str] | None = None,
    *,
    baseline: str = "pass@1",
    target: str = "post_rl",
    pool: str = "all",
    level: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> pd.DataFrame:
    """Compare predictors with a baseline, each pair on the runs that have both and on the same resamples of them.

    Returns:
        One row per predictor: Spearman's correlation of its choice with the target, and the baseline's; the difference
        of the two as Fisher's z (`z_difference`: 0.5 lifts a correlation of 0.5 to 0.78, or of 0.8 to 0.92) with an
        interval over runs and a two-sided `p_value`, both from the jackknife of the difference with Student's t; and
        `share_better`, the share of bootstrap resamples of the runs in which the predictor is the stronger.
    """
    predictors = predictor_names(runs) if predictors is None else list(predictors)
    rows, draws = [], {}
    for name in predictors:
        if name == baseline:
            continue
        columns = [*columns_of(name), *columns_of(baseline), target]
        need(runs, columns, f"runs, comparing {name!r} with {baseline!r}")
        whole = runs[columns].notna().all(axis=1)
        both = runs[whole].reset_index(drop=True)
        first, second = sample_of(both, name, target), sample_of(both, baseline, target)
        row = {"pool": pool, "target": target, "predictor": name, "baseline": baseline, "n": len(first.y)}
        note = unfit(first, name, target) or unfit(second, baseline, target)
        if note is None:
            key = whole.to_numpy().tobytes()
            if key not in draws:
                draws[key] = _Draws(second, score_of(second, baseline), resamples, seed)
            row |= draws[key].against(score_of(first, name), level)
        rows.append(row | {"note": note or ""})
    return rounded(pd.DataFrame(rows, columns=list(COMPARED)))


COMPARED = (
    *("pool", "target", "predictor", "baseline", "n", "spearman", "baseline_spearman"),
    *("z_difference", "z_low", "z_high", "p_value", "share_better", "note"),
)


def score_of(sample: Sample, name: str) -> np.ndarray:
    """Give the one number per run (n,) to choose by, higher being better, relative to the family's mean."""
    if direction(name):
        return direction(name) * measures.centred(sample.x[:, 0], sample.groups)
    predicted, mean = left_out_predictions(sample)
    return predicted - mean


class _Draws:
    """What every comparison with one baseline over one set of runs shares: the resamples and the baseline on them."""

    def __init__(self, sample: Sample, baseline: np.ndarray, resamples: int, seed: int):
        self.sample, self.baseline = sample, baseline
        self.drawn = resampled(sample.groups, resamples, np.random.default_rng(seed))
        self.y_drawn = measures.ranks(sample.y[self.drawn], sample.groups)
        self.baseline_drawn = self._on_draws(baseline)

    def _on_draws(self, score: np.ndarray) -> np.ndarray:
        return measures.pearson(measures.ranks(score[self.drawn], self.sample.groups), self.y_drawn)

    def _correlations(self, score: np.ndarray) -> tuple[float, float, np.ndarray]:
        """Spearman's correlation with the target, its z, and z with each run left out in turn."""
        y, groups, n = self.sample.y, self.sample.groups, self.sample.size
        less = measures.leaving_one_out(lambda rows, g: measures.spearman(score[rows], y[rows], g), groups)
        whole = float(measures.spearman(score, y, groups))
        return whole, float(fisher_z("spearman", whole, n)), fisher_z("spearman", less, n - 1)

    def against(self, score: np.ndarray, level: float) -> dict[str, float]:
        own, z, less = self._correlations(score)
        base, z_base, less_base = self._correlations(self.baseline)
        free = self.sample.size - 2
        error = np.sqrt((len(less) - 1) * np.nanvar(less - less_base))
        reach = stats.t.ppf(0.5 + level / 2, free) * error
        gap = np.round(self._on_draws(score) - self.baseline_drawn, DECIMALS)  # ties are ties on every machine
        return {
            "spearman": own,
            "baseline_spearman": base,
            "z_difference": z - z_base,
            "z_low": z - z_base - reach,
            "z_high": z - z_base + reach,
            "p_value": float(2 * stats.t.sf(abs(z - z_base) / error, free)) if error > 1e-9 else 1.0,
            "share_better": float(np.mean((gap > 0) + 0.5 * (gap == 0))),
        }


def regret(
    runs: pd.DataFrame,
    predictors: list[str] | None = None,
    *,
    candidates: int = 5,
    target: str = "post_rl",
    pool: str = "all",
    level: float = 0.95,
) -> pd.DataFrame:
    """What choosing by a predictor costs: the best run's score less the chosen run's, on average.

    Imagine that `candidates` checkpoints of a family, drawn from this pool, are up for RL, and the one with the best
    value of the predictor goes. The mean over all such draws has a closed form; its interval over runs is a jackknife
    with Student's t. The first row is choice at random.

    Returns:
        `pool, target, predictor, n, candidates, regret, regret_low, regret_high, regret_of_all` (choosing from the
        whole pool), `difference` (less the regret of Pass@1, with an interval from the jackknife of the difference),
        `tokens`, `note`. Regret has the target's unit. Even a perfect predictor shows some: part of the
        best run's lead is RL noise. `tokens` is what measuring the predictor cost a run, on average: response tokens
        sampled or read; empty where the tables do not tell.
    """
    predictors = predictor_names(runs) if predictors is None else list(predictors)
    rows, replicates, baseline = [], {}, None
    for name in [None, *predictors]:
        sample = sample_of(runs, name or target, target)
        row = {"pool": pool, "target": target, "predictor": name or "random choice", "n": len(sample.y)}
        note = unfit(sample, name or target, target)
        if note is None:
            score = np.zeros(len(sample.y)) if name is None else score_of(sample, name)
            found, less = _regret(sample, score, candidates, level)
            row |= found | {"tokens": tokens_of(runs, name)}
            baseline = (found["regret"], less) if name == "pass@1" else baseline
            replicates[len(rows)] = less, sample.size
        rows.append(row | {"note": note or ""})
    for place, (less, size) in replicates.items():
        if baseline and len(less) == len(baseline[1]):  # of the same runs
            difference = rows[place]["regret"] - baseline[0]
            reach = _reach(less - baseline[1], level, size)
            ends = {"difference_low": difference - reach, "difference_high": difference + reach}
            rows[place] |= {"difference": difference} | ends
    return rounded(pd.DataFrame(rows, columns=list(REGRETS)))


REGRETS = (
    *("pool", "target", "predictor", "n", "candidates"),
    *("regret", "regret_low", "regret_high", "regret_of_all"),
    *("difference", "difference_low", "difference_high", "tokens", "note"),
)


def _reach(less: np.ndarray, level: float, size: int) -> float:
    """Return half an interval from the jackknife's values, each with one run left out."""
    n = len(less)
    return float(stats.t.ppf(0.5 + level / 2, size - 1) * np.sqrt((n - 1) * less.var()))


def tokens_of(runs: pd.DataFrame, name: str | None) -> float:
    """Return the tokens that measuring a predictor cost a run, on average: 0 for none, NaN where nobody knows."""
    known = [predictor(column) for column in (columns_of(name) if name else [])]
    columns = {one.cost if one else None for one in known} - {FREE}  # what several share is paid once
    if not columns <= set(runs):
        return float("nan")
    return float(runs[sorted(columns)].sum(axis=1, skipna=False).mean())


def _regret(sample: Sample, score: np.ndarray, candidates: int, level: float) -> tuple[dict[str, float], np.ndarray]:
    """Return the regret with its interval, and its values with one run left out (n,)."""
    count = min(candidates, int(np.bincount(sample.groups).min()) - 1)

    def over_groups(keep: np.ndarray, m: int | None) -> float:
        groups = sample.groups[keep]
        parts = [(groups == g) for g in np.unique(groups)]
        costs = [expected_regret(score[keep][p], sample.y[keep][p], m or int(p.sum())) for p in parts]
        return float(np.average(costs, weights=[p.sum() for p in parts]))

    n = len(sample.y)
    everything = np.ones(n, bool)
    value = over_groups(everything, count)
    less = np.array([over_groups(np.arange(n) != i, count) for i in range(n)])
    reach = _reach(less, level, sample.size)
    found = {
        "candidates": count,
        "regret": value,
        "regret_low": max(0.0, value - reach),
        "regret_high": value + reach,
        "regret_of_all": over_groups(everything, None),
    }
    return found, less


def expected_regret(score: np.ndarray, y: np.ndarray, candidates: int) -> float:
    """Mean over all subsets of `candidates` runs of (best y) - (y of the run with the best score); exact.

    The j-th best of n is the best of a subset of m with probability C(n - j, m - 1) / C(n, m). Tied scores share.
    """
    n, score = len(y), measures.tied(score)
    weight = special.comb(n - np.arange(1, n + 1), candidates - 1) / special.comb(n, candidates)
    order = np.argsort(-score, kind="stable")
    _, tie = np.unique(-score, return_inverse=True)
    shared = (np.bincount(tie[order], weight) / np.bincount(tie))[tie]
    return float(np.sort(y)[::-1] @ weight - shared @ y)
