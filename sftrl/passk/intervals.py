"""How far to trust a mean Pass@k: intervals over samples, over problems or over both, and for paired differences.

What varies is in the name. `samples`: these problems, other responses. `problems`: other problems of the same kind,
the responses' noise taken out. `both`: other problems and other responses, which is what a benchmark score claims.

Variances (chosen here; docs/passk-and-loss.md derives them and measures the coverage):

* both: the variance of the problems' estimates over their number. Each estimate already carries its own sampling
  noise, so this holds both parts; resampling responses on top, as a two-level bootstrap does, counts noise twice.
* samples: with F_k = C(n-c, k) / C(n, k), one problem's estimate has a sampling variance that F_k^2 - F_2k estimates
  without bias, as long as 2k <= n.
* problems: both less samples.

A few problems decide these sums where nearly all are solved, or nearly none, and they may be missing from the data. A
beta distribution with the first two moments of the problems' success rates stands in for them, weighing as much as two
problems beside those that contribute: in `samples` (alone where 2k > n), and in the other two where it says more than
the data. A difference has the sampling noise of its two sides to stand in.

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
    standard_error: float | NDArray[np.float64]
    degrees_of_freedom: float | NDArray[np.float64]
    trials: float | NDArray[np.float64]  # that the data amount to at least: makes the interval where all counts agree
    level: float
    over: Over
    lowest: float  # the smallest possible value: 0 for Pass@k, -1 for a difference


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
    check_kind(level, over)
    n, c, names = check_counts(n, c)
    ks, one = check_k(k, n, names)
    values = 1.0 - fail_ratio(n[:, None], c[:, None], ks)
    samples, between = _variances(n, c, ks)
    return _interval(values, samples, between, n, ks, one, level, over, lowest=0.0)


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

    Raises:
        InputError: as `pass_at_k_interval`; or problems that do not match, by number or by pandas index.
    """
    check_kind(level, over)
    n_first, c_first, names = check_counts(n[0], c[0])
    n_second, c_second, names_second = check_counts(n[1], c[1])
    if len(names) != len(names_second):
        raise InputError(f"a paired difference needs the same problems: {len(names)} and {len(names_second)} given")
    for first, second in zip(names, names_second, strict=True):
        if first != second:
            raise InputError(f"a paired difference needs the same problems in one order: {first} meets {second}")
    ks, one = check_k(k, n_first, names)
    check_k(k, n_second, names)
    values = fail_ratio(n_first[:, None], c_first[:, None], ks) - fail_ratio(n_second[:, None], c_second[:, None], ks)
    samples = _variances(n_first, c_first, ks)[0] + _variances(n_second, c_second, ks)[0]
    fewest = np.minimum(n_first, n_second)
    return _interval(values, samples, np.zeros(len(ks)), fewest, ks, one, level, over, lowest=-1.0)


def average_intervals(intervals: Sequence[Interval]) -> Interval:
    """Return the unweighted mean over benchmarks, from one interval each: of `pass_at_k_interval` or of differences.

    The benchmarks are fixed, not drawn: only what varies within each is in the interval.

    Raises:
        InputError: no interval; or intervals that differ in level, in `over`, in the number of ks, or in kind.
    """
    intervals = list(intervals)
    if not intervals:
        raise InputError("no benchmarks to average")
    if len({(i.level, i.over, i.lowest, np.shape(i.estimate)) for i in intervals}) > 1:
        raise InputError("intervals to average must agree in level, in over, in the number of ks, and be of one kind")
    first, many = intervals[0], len(intervals)
    variances = np.stack([np.square(i.standard_error) for i in intervals]) / many**2
    freedom, trials = (np.stack([getattr(i, x) for i in intervals]) for x in ("degrees_of_freedom", "trials"))
    variance = variances.sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):  # infinite over samples; 0 / 0 where nothing varies
        welch = variance**2 / (variances**2 / freedom).sum(axis=0)  # Welch and Satterthwaite
    freedom = np.where(np.isnan(welch), freedom.min(axis=0), welch)
    estimate = np.mean([i.estimate for i in intervals], axis=0)
    trials = many**2 / (1 / trials).sum(axis=0)
    return wilson(estimate, variance, freedom, trials, first.level, first.over, first.lowest)


def check_kind(level: float, over: str) -> None:
    """Raise `InputError` for a level or a kind of interval that does not exist."""
    if over not in ("samples", "problems", "both"):
        raise InputError(f'over = {over!r}: an interval is over "samples", "problems" or "both"')
    if not 0 < level < 1:
        raise InputError(f"level = {level}: a level lies between 0 and 1")


def wilson(estimate, variance, freedom, trials, level: float, over: Over, lowest: float) -> Interval:
    """Return Wilson's interval on [lowest, 1], with as many trials as would give this variance."""
    width = 1.0 - lowest
    share = (estimate - lowest) / width
    spread, scaled = share * (1 - share), variance / width**2
    with np.errstate(divide="ignore", invalid="ignore"):
        effective = np.where((scaled > 0) & (spread > 0), spread / scaled, trials)
    quantile = stats.t.ppf(0.5 + level / 2, freedom)
    shrink = 1 / (1 + quantile**2 / effective)
    centre = shrink * (share + quantile**2 / (2 * effective))
    reach = shrink * quantile * np.sqrt(spread / effective + quantile**2 / (4 * effective**2))
    low, high = (lowest + width * np.clip(centre + side * reach, 0, 1) for side in (-1, 1))
    low, high = np.minimum(low, estimate), np.maximum(high, estimate)  # against rounding
    shape = np.shape(estimate)
    fields = (np.broadcast_to(x, shape) for x in (estimate, low, high, np.sqrt(variance), freedom, trials))
    fields = (x.copy() if shape else float(x) for x in fields)
    return Interval(*fields, level=level, over=over, lowest=lowest)


def _interval(values, samples, between, n, ks, one: bool, level: float, over: Over, lowest: float) -> Interval:
    """Combine the variances of one problem, each (len(ks),), into the interval of the mean of values."""
    problems = len(values)
    freedom, trials = np.inf, float(problems)
    if over == "samples":
        variance, trials = samples, (n[:, None] / ks).sum(axis=0)
    elif problems < 2:
        raise InputError(f'over = "{over}" needs two problems or more: one says nothing of how problems differ')
    else:
        variance, least = values.var(axis=0, ddof=1), between
        if over == "problems":
            variance = np.maximum(variance - samples, 0)
        else:
            least = least + samples
        count = _count(np.square(values - values.mean(axis=0)))
        freedom = _freedom(count, problems)
        variance = (count * variance + STAND_IN * np.maximum(variance, least)) / (count + STAND_IN)
    estimate, variance = values.mean(axis=0), variance / problems
    freedom, trials = (np.broadcast_to(x, estimate.shape) for x in (freedom, trials))
    if one:
        estimate, variance, freedom, trials = estimate[0], variance[0], freedom[0], trials[0]
    return wilson(estimate, variance, freedom, trials, level, over, lowest)


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
