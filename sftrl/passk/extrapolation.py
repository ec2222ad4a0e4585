"""Pass@k for k > n: what more samples would give, from a fitted distribution of the problems' success rates.

If a problem is solved at rate p, it is solved within k draws with chance 1 - (1-p)^k, so Pass@k at any k follows from
the distribution of p over problems. How it nears 1 is decided by the rates near 0 (Schaeffer et al. 2025,
arXiv 2502.17578). Kazdan et al. 2025 (arXiv 2510.05197) fit a beta distribution to the counts. Rates that are not beta
distributed then leave a large bias, so the family here is wider and is not trusted to the end (chosen here, by the
errors in docs/passk-and-loss.md):

1. On a grid of t = logit(p), log-density linear in log(p), log(1-p) and t^2: the beta distributions, the
   logit-normal ones and what lies between (the g-modelling of Efron 2016, Biometrika 103:1). Fitted by maximum
   likelihood with a weak normal prior.
2. Ten steps of the EM algorithm for an unrestricted distribution on the grid. They move mass where the counts
   contradict the family; more would fit noise.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize

from sftrl.errors import InputError
from sftrl.passk.estimator import check_counts, whole_k
from sftrl.passk.intervals import Interval, check_kind, wilson

MOST = 16  # times the samples of a problem: as far as the error was measured
FEWEST = 10  # problems solved at some times and not at others: others say little of small rates

LOGIT = np.linspace(-27.6, 13.8, 321)  # success rates from 1e-12 to 1 - 1e-6
LOG_P, LOG_Q = -np.logaddexp(0, -LOGIT), -np.logaddexp(0, LOGIT)
TERMS = np.stack([LOG_P, LOG_Q, LOGIT**2 / 100], axis=1)
PRIOR_MEAN, PRIOR_PRECISION = np.array([0.3, 0.8, 0.0]), 0.1
EM_STEPS = 10


def extrapolate_pass_at_k(
    n: ArrayLike, c: ArrayLike, k: int | Sequence[int], level: float = 0.95, *, weights: ArrayLike | None = None
) -> Interval:
    """Return the mean Pass@k over problems, also for k beyond n, with an interval over samples and problems.

    For k up to n, `pass_at_k` is unbiased and needs no model. Beyond, this is a forecast: docs/passk-and-loss.md has
    its measured error and coverage.

    Args:
        n, c: as in `pass_at_k`.
        k: draws, up to 16 times the median n.
        level: the chance that such intervals hold the truth, as far as the fitted family holds.
        weights: each problem's part in the mean, shape (problems,), for example so that benchmarks of different sizes
            count alike; equal by default. The interval is then a little too narrow.

    Raises:
        InputError: bad counts or weights; k beyond 16 times the median n; or fewer than 10 problems with 0 < c < n,
            from which no distribution of rates can be told.
    """
    check_kind(level, "both")
    n, c, _ = check_counts(n, c)
    ks = whole_k(k)
    if ks.max() > MOST * np.median(n):
        raise InputError(f"k = {ks.max()} is more than {MOST} times the {np.median(n):g} samples of a problem")
    between = int(((c > 0) & (c < n)).sum())
    if between < FEWEST:
        raise InputError(
            f"only {between} of {len(c)} problems were solved by some samples and not by others; "
            f"with fewer than {FEWEST}, what more samples would solve is a guess"
        )
    weights = np.ones(len(c)) if weights is None else np.asarray(weights, float)
    if weights.shape != c.shape or not (np.isfinite(weights) & (weights > 0)).all():
        raise InputError(f"weights: one positive number for each of the {len(c)} problems is needed")
    rates = _fit(n, c, weights / weights.mean())
    solved = -np.expm1(ks * LOG_Q[:, None])  # (grid, len(ks)): 1 - (1-p)^k
    parametric, estimate = rates.family @ solved, rates.density @ solved
    # Delta method for the fit. Then for what the family gets wrong: what the second step moved the forecast by, twice
    # that at 16 times the samples, where the counts say less of it.
    slope = TERMS.T @ (rates.family[:, None] * (solved - parametric))
    moved = (estimate - parametric) * np.maximum(1, np.log(ks / np.median(n)) / np.log(4))
    variance = (slope * np.linalg.solve(rates.information, slope)).sum(axis=0) + moved**2
    freedom, trials = np.full(len(ks), len(c) - 1.0), np.full(len(ks), float(len(c)))
    if np.ndim(k) == 0:
        estimate, variance, freedom, trials = estimate[0], variance[0], freedom[0], trials[0]
    return wilson(estimate, variance, freedom, trials, level, "both", lowest=0.0)


@dataclass(frozen=True)
class _Rates:
    """Distributions of success rates on the grid: of the family, and after the EM steps."""

    family: NDArray[np.float64]
    density: NDArray[np.float64]
    information: NDArray[np.float64]  # of the family's three parameters


def _fit(n: NDArray, c: NDArray, weights: NDArray) -> _Rates:
    pairs, pair = np.unique(np.stack([n, c]), axis=1, return_inverse=True)
    weights = np.bincount(pair.ravel(), weights)
    likelihood = pairs[1][:, None] * LOG_P + (pairs[0] - pairs[1])[:, None] * LOG_Q
    likelihood = np.exp(likelihood - likelihood.max(axis=1, keepdims=True))

    def loss(parameters):
        density = _density(parameters)
        marginal = np.maximum(likelihood @ density, 1e-300)  # a line search may leave where the counts are possible
        away = parameters - PRIOR_MEAN
        posterior = density * ((weights / marginal) @ likelihood)
        value = -weights @ np.log(marginal) + PRIOR_PRECISION * away @ away / 2
        return value, TERMS.T @ (weights.sum() * density - posterior) + PRIOR_PRECISION * away

    parameters = optimize.minimize(loss, PRIOR_MEAN, jac=True, method="L-BFGS-B").x
    family = _density(parameters)
    scores = (likelihood * family / (likelihood @ family)[:, None]) @ TERMS - family @ TERMS
    information = (scores.T * weights) @ scores + PRIOR_PRECISION * np.eye(3)
    density = family
    for _ in range(EM_STEPS):
        density = density * ((weights / (likelihood @ density)) @ likelihood) / weights.sum()
    return _Rates(family, density, information)


def _density(parameters: NDArray) -> NDArray[np.float64]:
    log = TERMS @ parameters
    density = np.exp(log - log.max())
    return density / density.sum()
