"""How far to trust a mean Pass@k: intervals over samples, over problems or over both.

What varies is in the name. `samples`: these problems, other responses. `problems`: other problems of the same kind,
the responses' noise taken out. `both`: other problems and other responses, which is what a benchmark score claims.

Variances (chosen here; docs/passk-and-loss.md derives them and measures the coverage):

* both: the variance of the problems' estimates over their number. Each estimate already carries its own sampling
  noise, so this holds both parts; resampling responses on top, as a two-level bootstrap does, counts noise twice.
* samples: with F_k = C(n-c, k) / C(n, k), one problem's estimate has a sampling variance that F_k^2 - F_2k estimates
  without bias, as long as 2k <= n.
* problems: both less samples, as far as the two can be told apart. Where samples are the share r of both, r (1 - r) of
  both is taken out: all of the noise where there is little, none where there is nothing else.

A few problems decide these sums where nearly all are solved, or nearly none, and they may be missing from the data. A
beta distribution with the first two moments of the problems' success rates stands in for them, weighing as much as two
problems beside those that contribute: in `samples` (alone where 2k > n), and in `both` where it says more than the
data.

From variance to interval: Wilson's interval with the number of trials that would have this variance (as survey
statistics does; Korn and Graubard 1998), with Student's t for the normal quantile, of fewer degrees of freedom where a
few problems make the variance. It stays within the possible values, is lopsided near their ends, and has a width where
all counts are 0.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special, stats

from sftrl.errors import InputError
from sftrl.passk.estimator import check_counts, check_k, fail_ratio

Over = Literal["samples", "problems", "both"]
STAND_IN = 2.0  # the weight of the beta distribution, in problems


@dataclass(frozen=True)
class Interval:
    """A mean over problems with its interval: floats for one k, arrays (len(k),) for several."""

    estimate: float | NDArray[np.float64]
    low: float | NDArray[np.float64]
    high: float | NDArray[np.float64]
    level: float
    over: Over


def pass_at_k_interval(
    n: ArrayLike, c: ArrayLike, k: int | Sequence[int], level: float = 0.95, over: Over = "both"
) -> Interval:
    """Return the mean Pass@k over problems with its interval.

    Args:
        n, c, k: as in `pass_at_k`.
        level: the chance that such intervals hold the truth.
        over: what would be resampled: "samples", "problems" or "both".

    Raises:
        InputError: as `pass_at_k`; fewer than two problems where the spread over problems is requested; or
            over="problems" where all responses are wrong, or all right, so that nothing is told of the problems alone.
    """
    check_kind(level, over)
    n, c, names = check_counts(n, c)
    ks, one = check_k(k, n, names)
    values = 1.0 - fail_ratio(n[:, None], c[:, None], ks)
    problems, estimate = len(values), values.mean(axis=0)
    variance, between = _variances(n, c, ks)
    freedom, trials = np.inf, (n[:, None] / ks).sum(axis=0)  # that the data amount to at least, where all counts agree
    if over != "samples":
        if problems < 2:
            raise InputError(f'over = "{over}" needs two problems or more: one says nothing of how problems differ')
        apart = values - estimate
        apart[np.abs(apart) < 1e-12] = 0  # rounding is no spread
        count = _count(np.square(apart))
        freedom, trials = _freedom(count, problems), float(problems)
        spread = values.var(axis=0, ddof=1)
        both = (count * spread + STAND_IN * np.maximum(spread, between + variance)) / (count + STAND_IN)
        if over == "problems":
            if not 0 < c.sum() < n.sum():
                raise InputError('over = "problems": all responses are alike, so problems cannot be told apart')
            noise = np.divide(variance, both, out=np.ones_like(both), where=variance < both)
            both = both * (1 - noise * (1 - noise))
        variance = both
    once, variance = estimate * (1 - estimate), variance / problems  # of one trial, of all that there were
    with np.errstate(divide="ignore", invalid="ignore"):
        trials = np.where((variance > 0) & (once > 0), once / variance, trials)
    low, high = wilson(estimate, trials, stats.t.ppf(0.5 + level / 2, freedom))
    return interval(estimate, low, high, level, over, one)


def average_intervals(intervals: Sequence[Interval]) -> Interval:
    """Return the unweighted mean over benchmarks, from one interval each.

    The benchmarks are fixed, not drawn: only what varies within each is in the interval. Its two sides are the root of
    the sum of squares of theirs (Newcombe 1998; Zou and Donner 2008, doi 10.1002/sim.3095), so that it is lopsided as
    they are, stays where they are, and rises with k where they do.

    Raises:
        InputError: no interval; or intervals that differ in level, in `over`, or in the number of ks.
    """
    intervals = list(intervals)
    if not intervals:
        raise InputError("no benchmarks to average")
    if len({(i.level, i.over, np.shape(i.estimate)) for i in intervals}) > 1:
        raise InputError("intervals to average must agree in level, in over, and in the number of ks")
    estimates, lows, highs = (np.array([getattr(i, end) for i in intervals]) for end in ("estimate", "low", "high"))
    estimate = estimates.mean(axis=0)
    down, up = (np.sqrt(np.square(side).sum(axis=0)) / len(intervals) for side in (estimates - lows, highs - estimates))
    first = intervals[0]
    return interval(estimate, estimate - down, estimate + up, first.level, first.over, np.ndim(estimate) == 0)


def check_kind(level: float, over: str) -> None:
    """Raise `InputError` for a level or a kind of interval that does not exist."""
    if over not in ("samples", "problems", "both"):
        raise InputError(f'over = {over!r}: an interval is over "samples", "problems" or "both"')
    if not 0 < level < 1:
        raise InputError(f"level = {level}: a level lies between 0 and 1")


def wilson(share: NDArray, trials: NDArray, quantile: NDArray) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the ends of Wilson's interval for a share of so many trials."""
    shrink = 1 / (1 + quantile**2 / trials)
    centre = shrink * (share + quantile**2 / (2 * trials))
    reach = shrink * quantile * np.sqrt(share * (1 - share) / trials + quantile**2 / (4 * trials**2))
    return centre - reach, centre + reach


def interval(estimate: NDArray, low: NDArray, high: NDArray, level: float, over: Over, one: bool) -> Interval:
    """Return an interval that rounding cannot make lose its estimate, or leave [0, 1]; of floats for one k."""
    ends = estimate, np.clip(low, 0, estimate), np.clip(high, estimate, 1)
    return Interval(*(float(np.squeeze(x)) if one else x for x in ends), level=level, over=over)


def _variances(n: NDArray, c: NDArray, ks: NDArray) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the mean sampling variance of a problem's Pass@k, and the stand-in's variance between problems."""
    fails = fail_ratio(n[:, None], c[:, None], ks)
    twice = np.minimum(2 * ks, n[:, None])
    each = fails**2 - fail_ratio(n[:, None], c[:, None], twice)
    count = _count(each)
    count[2 * ks > n.min()] = 0
    sampling, between = _stand_in(n, c, ks)
    return (count * each.mean(axis=0) + STAND_IN * sampling) / (count + STAND_IN), between


def _count(parts: NDArray) -> NDArray[np.float64]:
    """Return how many problems the sum over them amounts to, as Kish counts unequal weights: 0 where all are 0."""
    squares = np.square(parts).sum(axis=0)
    return np.divide(np.square(parts.sum(axis=0)), squares, out=np.zeros_like(squares), where=squares > 0)


def _freedom(count: NDArray, problems: int) -> NDArray[np.float64]:
    """Return the degrees of freedom of a variance to which so many problems contribute.

    A chi-squared variable with 2P / (kurtosis - 1) of them varies as much as the variance of P values; the kurtosis is
    P / count. At least 3, since the kurtosis itself is guessed; P - 1 at most, and where nothing varies.
    """
    most = problems - 1.0
    with np.errstate(divide="ignore"):
        freedom = 2 * problems * count / np.maximum(problems - count, 0)
    return np.where(count > 0, np.clip(freedom, min(3.0, most), most), most)


def _stand_in(n: NDArray, c: NDArray, ks: NDArray) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return both variances of Pass@k if success rates had a beta distribution with their first two moments."""
    rates = c / n
    mean = np.clip(rates.mean(), 1e-6, 1 - 1e-6)
    many = n > 1  # a single sample tells nothing of the second moment
    # The rates' variance without sampling noise; at most what rates of 0 and 1 alone would have.
    square = (c[many] * (c[many] - 1) / (n[many] * (n[many] - 1))).mean() if many.any() else 0.0
    variance = np.clip(square - rates.mean() ** 2, 1e-4 * mean * (1 - mean), 0.99 * mean * (1 - mean))
    size = mean * (1 - mean) / variance - 1
    a, b = mean * size, (1 - mean) * size

    def all_fail(draws):
        return np.exp(special.betaln(a, b + draws) - special.betaln(a, b))

    # Two sets of k out of n samples share some; E[F_k^2] is the chance that their union fails.
    sizes, weights = np.unique(np.quantile(n, np.linspace(0, 1, 17), method="nearest"), return_counts=True)
    sampling = np.empty(len(ks))
    for i, k in enumerate(ks):
        shared = sum(weight * _shared(int(size), int(k)) for size, weight in zip(sizes, weights, strict=True))
        sampling[i] = shared @ all_fail(2 * k - np.arange(k + 1)) / weights.sum() - all_fail(2 * k)
    return np.maximum(sampling, 0), np.maximum(all_fail(2 * ks) - all_fail(ks) ** 2, 0)


@lru_cache(maxsize=1024)
def _shared(n: int, k: int) -> NDArray[np.float64]:
    """Return the chances that two sets of k out of n have 0 to k elements in common."""
    return stats.hypergeom.pmf(np.arange(k + 1), n, k, k)
