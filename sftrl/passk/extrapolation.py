"""Pass@k for k > n: what more samples would give, from a fitted distribution of the problems' success rates.

Of the problems that n draws left unsolved, a share stays unsolved after k. If success rates are Beta(a, b), it is

    B(a, b + k) / B(a, b + n),        so that        1 - Pass@k = (1 - Pass@n) B(a, b + k) / B(a, b + n)

where Pass@n is measured, not fitted: a forecast never lies below what was measured, and never falls as k grows. Beta
distributions are what the literature found to work (Kazdan et al. 2025, arXiv 2510.05197; Schaeffer et al. 2025, arXiv
2502.17578, on why the rates near 0 decide). Chosen here, by the errors in docs/passk-and-loss.md:

* How often easy problems are solved says little of the hard ones: counts of 8 and more are all taken as "at least 8".
* A weak prior: a, the power of k with which the unsolved share falls, is log-normal about 0.7, and the logit of the
  mean rate uniform. Quantiles of the posterior are read off a grid. So there is a forecast for any counts, without an
  optimiser that wanders where the likelihood is flat.
* The family is wrong to some degree: for the ends, more than 50 problems narrow the posterior no further, and both
  factors stand at their ends at once.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special, stats

from sftrl.errors import InputError
from sftrl.passk.estimator import check_counts, fail_ratio, whole_k
from sftrl.passk.intervals import Interval, check_kind, interval, wilson

MOST = 16  # times the samples of a problem: as far as the error was measured
OFTEN = 8
TRUSTED = 50  # problems
_log_a, _logit = np.meshgrid(np.linspace(-4.6, 3.4, 81), np.linspace(-14, 12, 131))
A, B = np.exp(_log_a).ravel(), np.exp(_log_a - _logit).ravel()
LOG_PRIOR = -np.square(_log_a - np.log(0.7)).ravel() / 2


def extrapolate_pass_at_k(n: ArrayLike, c: ArrayLike, k: int | Sequence[int], level: float = 0.95) -> Interval:
    """Return the mean Pass@k over problems, also for k beyond n, with an interval over samples and problems.

    Up to the smallest n, the estimate is that of `pass_at_k`. Beyond, it is a forecast: docs/passk-and-loss.md has its
    measured error and coverage. The estimate and both ends never fall as k grows.

    Args:
        n, c: as in `pass_at_k`.
        k: draws, up to 16 times the smallest n.
        level: the chance that such intervals hold the truth, as far as success rates near 0 are beta distributed.

    Raises:
        InputError: bad counts or level, or k beyond 16 times the smallest n.
    """
    check_kind(level, "both")
    n, c, names = check_counts(n, c)
    ks, at = whole_k(k), int(n.argmin())
    if ks.max() > MOST * n[at]:
        raise InputError(f"problem {names[at]}: k = {ks.max()} is more than {MOST} times its n = {n[at]} samples")
    unsolved = fail_ratio(n[:, None], c[:, None], np.minimum(ks, n[at])).mean(axis=0)
    least, most = wilson(unsolved, len(c), stats.norm.ppf(0.5 + level / 2))
    likelihood = _likelihood(n, c)
    stay = np.exp(special.betaln(A, B + np.maximum(ks, n[at])[:, None]) - special.betaln(A, B + n[at]))
    middle = _quantiles(stay, LOG_PRIOR + likelihood, 0.5)
    ends = LOG_PRIOR + min(1, TRUSTED / len(c)) * likelihood
    low, high = (_quantiles(stay, ends, at) for at in (0.5 - level / 2, 0.5 + level / 2))
    return interval(1 - unsolved * middle, 1 - most * high, 1 - least * low, level, "both", np.ndim(k) == 0)


def _likelihood(n: NDArray, c: NDArray) -> NDArray[np.float64]:
    """Return the counts' log-likelihood on the grid."""
    likelihood = np.zeros(len(A))
    for size in np.unique(n):
        often = min(OFTEN, size)
        times = np.bincount(np.minimum(c[n == size], often), minlength=often + 1)
        likelihood += times @ _chances(int(size), int(often))
    return likelihood


@lru_cache(maxsize=64)
def _chances(n: int, often: int) -> NDArray[np.float64]:
    """Return the log-chances on the grid of 0, 1, ... right of n, and of `often` or more: (often + 1, grid)."""
    right = np.arange(often)[:, None]
    ways = special.gammaln(n + 1) - special.gammaln(right + 1) - special.gammaln(n - right + 1)
    few = ways + special.betaln(A + right, B + n - right) - special.betaln(A, B)
    return np.vstack([few, np.log(np.maximum(1 - np.exp(few).sum(axis=0), 1e-12))])


def _quantiles(values: NDArray, log_weights: NDArray, at: float) -> NDArray[np.float64]:
    """Return the weighted quantile of each row of values, (rows, grid): the mean of those about it.

    The mean, between half its distance from the nearer end to either side, changes smoothly with the weights; and rows
    that lie below others throughout stay below them, which interpolation would not promise.
    """
    weights = np.exp(log_weights - log_weights.max())
    order = np.argsort(values, axis=1)
    total = np.cumsum(weights[order], axis=1) / weights.sum()
    near = min(at, 1 - at) / 2
    parts = np.diff(np.clip(total, at - near, at + near), axis=1, prepend=at - near)
    return (parts * np.take_along_axis(values, order, axis=1)).sum(axis=1) / (2 * near)
