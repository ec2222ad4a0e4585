"""How far to trust a mean Pass@k: intervals over samples, over problems or over both, and for paired differences.

What varies is in the name. `samples`: these problems, other responses. `problems`: other problems of the same kind,
the responses' noise taken out. `both`: other problems and other responses, which is what a benchmark score claims.

The variances are unbiased, so no model of the problems is needed (chosen here; derived in docs/passk-and-loss.md):

* both: the variance of the problems' estimates over their number, S^2 / P. Each estimate already carries its own
  sampling noise, so S^2 holds both parts; resampling responses on top, as a two-level bootstrap does, counts it twice.
* samples: with F_k = C(n-c, k) / C(n, k), the sampling variance of one problem's estimate has the unbiased estimate
  F_k^2 - F_2k, as long as 2k <= n. Beyond, F_2k is taken from a fitted distribution of the problems' success rates.
* problems: both less samples, or 0 where noise makes that negative.

From variance to interval: Wilson's interval with the effective number of trials that would give this variance (as
survey statistics does; Korn and Graubard 1998), with Student's t for the normal quantile. It stays within [0, 1], is
lopsided near the ends as it should be, and has a width where all counts are 0.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from sftrl.errors import InputError
from sftrl.passk.estimator import check_counts, check_k, fail_ratio

Over = Literal["samples", "problems", "both"]


@dataclass(frozen=True)
class Interval:
    """A mean over problems with its interval: floats for one k, arrays (len(k),) for several."""

    estimate: float | NDArray[np.float64]
    low: float | NDArray[np.float64]
    high: float | NDArray[np.float64]
    standard_error: float | NDArray[np.float64]
    degrees_of_freedom: float | NDArray[np.float64]
    trials: float | NDArray[np.float64]  # the least number of trials the data amount to: holds where the variance is 0
    level: float
    over: Over
    lowest: float = 0.0  # the smallest possible value: 0 for Pass@k, -1 for a difference


def pass_at_k_interval(
    n: ArrayLike, c: ArrayLike, k: int | Sequence[int], level: float = 0.95, over: Over = "both"
) -> Interval:
    """Return the mean Pass@k over problems with its interval.

    Args:
        n, c, k: as in `pass_at_k`.
        level: the chance that such intervals hold the truth.
        over: what would be drawn anew: "samples", "problems" or "both".

    Raises:
        InputError: as `pass_at_k`; or fewer than two problems where the spread over problems is asked for.
    """
    n, c, names = check_counts(n, c)
    ks, one = check_k(k, n, names)
    values = 1.0 - fail_ratio(n[:, None], c[:, None], ks)
    return _interval(values, _sampling_variance(n, c, ks), n, ks, one, level, over, lowest=0.0)


def pass_at_k_difference(
    n: tuple[ArrayLike, ArrayLike],
    c: tuple[ArrayLike, ArrayLike],
    k: int | Sequence[int],
    level: float = 0.95,
    over: Over = "both",
) -> Interval:
    """Return how much higher the second checkpoint's mean Pass@k is than the first's, on the same problems.

    Problem i of the first must be problem i of the second: what makes a problem hard for both cancels, so that the
    interval is narrower than the two apart suggest.

    Args:
        n, c: a pair each, (first, second), of what `pass_at_k` takes.
        k, level, over: as in `pass_at_k_interval`.
    """
    n_first, c_first, names = check_counts(n[0], c[0])
    n_second, c_second, names_second = check_counts(n[1], c[1])
    if len(n_first) != len(n_second):
        raise InputError(f"a paired difference needs the same problems: {len(n_first)} and {len(n_second)} given")
    if list(names) != list(names_second):
        at = next(i for i, pair in enumerate(zip(names, names_second, strict=True)) if pair[0] != pair[1])
        raise InputError(f"a paired difference needs the same problems: {names[at]} meets {names_second[at]}")
    ks, one = check_k(k, n_first, names)
    check_k(k, n_second, names)
    values = fail_ratio(n_first[:, None], c_first[:, None], ks) - fail_ratio(n_second[:, None], c_second[:, None], ks)
    sampling = _sampling_variance(n_first, c_first, ks) + _sampling_variance(n_second, c_second, ks)
    return _interval(values, sampling, np.minimum(n_first, n_second), ks, one, level, over, lowest=-1.0)


def average_intervals(intervals: Sequence[Interval]) -> Interval:
    """Return the unweighted mean over benchmarks, from one interval each: of `pass_at_k_interval` or of differences.

    Benchmarks are fixed, not drawn: only what varies within each is in the interval.

    Raises:
        InputError: no interval, or intervals of different kinds, levels or numbers of k.
    """
    if not intervals:
        raise InputError("no benchmarks to average")
    kinds = {(i.level, i.over, i.lowest, np.shape(i.estimate)) for i in intervals}
    if len(kinds) > 1:
        raise InputError("intervals to average must agree in level, in over, in the ks, and all be of one kind")
    first, many = intervals[0], len(intervals)
    variances = np.stack([np.square(i.standard_error) for i in intervals]) / many**2
    freedom = np.stack([np.broadcast_to(i.degrees_of_freedom, variances[0].shape) for i in intervals])
    trials = np.stack([np.broadcast_to(i.trials, variances[0].shape) for i in intervals])
    variance = variances.sum(axis=0)
    with np.errstate(invalid="ignore"):  # 0 / 0 where no benchmark varies: then any will do
        welch = variance**2 / (variances**2 / freedom).sum(axis=0)  # Welch-Satterthwaite
    freedom = np.where(np.isnan(welch), freedom.sum(axis=0), welch)
    estimate = np.mean([i.estimate for i in intervals], axis=0)
    return _bounds(estimate, variance, freedom, trials.sum(axis=0), first.level, first.over, first.lowest)


def _sampling_variance(n: NDArray, c: NDArray, ks: NDArray) -> NDArray[np.float64]:
    """Estimate the variance that finite n gives each problem's Pass@k: shape (problems, len(ks))."""
    fails = fail_ratio(n[:, None], c[:, None], ks)
    twice = np.minimum(2 * ks, n[:, None])
    return np.maximum(fails**2 - fail_ratio(n[:, None], c[:, None], twice), 0.0)


def _interval(
    values: NDArray, sampling: NDArray, n: NDArray, ks: NDArray, one: bool, level: float, over: Over, lowest: float
) -> Interval:
    if over not in ("samples", "problems", "both"):
        raise InputError(f'over = {over!r}: an interval is over "samples", "problems" or "both"')
    if not 0 < level < 1:
        raise InputError(f"level = {level}: a level lies between 0 and 1")
    problems = len(values)
    within = sampling.mean(axis=0) / problems
    trials, freedom = np.full(len(ks), float(problems)), np.full(len(ks), problems - 1.0)
    if over == "samples":
        variance, trials, freedom = within, (n[:, None] / ks).sum(axis=0), np.full(len(ks), np.inf)
    elif problems < 2:
        raise InputError(f'over = "{over}" needs two problems or more: one says nothing of how problems differ')
    else:
        variance = values.var(axis=0, ddof=1) / problems
        if over == "problems":
            variance = np.maximum(variance - within, 0.0)
    estimate = values.mean(axis=0)
    if one:
        estimate, variance, freedom, trials = estimate[0], variance[0], freedom[0], trials[0]
    return _bounds(estimate, variance, freedom, trials, level, over, lowest)


def _bounds(estimate, variance, freedom, trials, level: float, over: Over, lowest: float) -> Interval:
    """Wilson's interval on [lowest, 1], with as many trials as would give this variance."""
    width = 1.0 - lowest
    share = (estimate - lowest) / width
    spread, scaled = share * (1 - share), variance / width**2
    with np.errstate(divide="ignore", invalid="ignore"):
        effective = np.where(scaled > 0, spread / scaled, trials)
    effective = np.maximum(effective, trials)
    quantile = stats.t.ppf(0.5 + level / 2, freedom)
    shrink = 1 / (1 + quantile**2 / effective)
    centre = shrink * (share + quantile**2 / (2 * effective))
    reach = shrink * quantile * np.sqrt(spread / effective + quantile**2 / (4 * effective**2))
    low, high = (lowest + width * np.clip(centre + side * reach, 0, 1) for side in (-1, 1))
    # Rounding must not push the estimate out of its own interval.
    low, high = np.minimum(low, estimate), np.maximum(high, estimate)
    fields = (estimate, low, high, np.sqrt(variance), freedom, trials)
    if np.ndim(estimate) == 0:
        fields = tuple(float(x) for x in fields)
    return Interval(*fields, level=level, over=over, lowest=lowest)
