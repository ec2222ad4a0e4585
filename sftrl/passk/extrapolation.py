"""Pass@k for k > n: what more samples would give, from a fitted distribution of the problems' success rates.

If a problem is solved at rate p, it is solved within k draws with chance 1 - (1-p)^k, so Pass@k at any k follows from
the distribution of p over problems. `rates.py` says what is fitted.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sftrl.errors import InputError
from sftrl.passk.estimator import check_counts, whole_k
from sftrl.passk.intervals import Interval, check_kind, wilson
from sftrl.passk.rates import VAGUE, Counts, family, slope, solved

MOST = 16  # times the samples of a problem: as far as the error was measured
FEWEST = 10  # problems solved at some times and not at others: others say little of small rates
STEPS = 10  # of EM


def extrapolate_pass_at_k(n: ArrayLike, c: ArrayLike, k: int | Sequence[int], level: float = 0.95) -> Interval:
    """Return the mean Pass@k over problems, also for k beyond n, with an interval over samples and problems.

    For k up to n, `pass_at_k` is unbiased and needs no model. Beyond, this is a forecast: docs/passk-and-loss.md has
    its measured error and coverage. For several checkpoints with the same problems, `extrapolate_together` errs less.

    Args:
        n, c: as in `pass_at_k`.
        k: draws, up to 16 times the median n.
        level: the chance that such intervals hold the truth, as far as the fitted family holds.

    Raises:
        InputError: bad counts; k beyond 16 times the median n; or fewer than 10 problems with 0 < c < n, from which no
            distribution of rates can be told.
    """
    check_kind(level, "both")
    n, c, _ = check_counts(n, c)
    ks = check_reach(k, n)
    between = int(((c > 0) & (c < n)).sum())
    if between < FEWEST:
        raise InputError(
            f"only {between} of {len(c)} problems were solved by some samples and not by others; "
            f"with fewer than {FEWEST}, what more samples would solve is a guess"
        )
    counts = Counts(n, c)
    parameters, information = counts.fit(VAGUE)
    density = family(parameters, VAGUE.base)
    values, sharpened = solved(ks), counts.sharpened(density, STEPS)
    estimate = sharpened @ values
    # Delta method for the fit; then for what the family gets wrong, as much as the EM steps moved the forecast by.
    gradient = slope(density, values)
    variance = (gradient * np.linalg.solve(information + VAGUE.precision, gradient)).sum(axis=0)
    variance += np.square((estimate - density @ values) * reach(ks, n))
    freedom, trials = np.full(len(ks), len(c) - 1.0), np.full(len(ks), float(len(c)))
    if np.ndim(k) == 0:
        estimate, variance, freedom, trials = estimate[0], variance[0], freedom[0], trials[0]
    return wilson(estimate, variance, freedom, trials, level, "both", lowest=0.0)


def check_reach(k: int | Sequence[int], n: NDArray) -> NDArray[np.int64]:
    """Return k as an array; raise `InputError` where it reaches further than the error was measured."""
    ks = whole_k(k)
    if ks.max() > MOST * np.median(n):
        raise InputError(f"k = {ks.max()} is more than {MOST} times the {np.median(n):g} samples of a problem")
    return ks


def reach(ks: NDArray, n: NDArray) -> NDArray[np.float64]:
    """Return by how much more a change of model may matter at k: twice that at 16 times the samples as at 4 times."""
    return np.maximum(1, np.log(ks / np.median(n)) / np.log(4))
