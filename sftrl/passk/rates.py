"""Distributions of the problems' success rates, fitted to counts: what every forecast of Pass@k reads it off.

Schaeffer et al. 2025 (arXiv 2502.17578): how Pass@k nears 1 is decided by the rates near 0. Kazdan et al. 2025
(arXiv 2510.05197) fit a beta distribution to the counts. Rates that are not beta distributed then leave a large bias,
so the family here is wider and is not trusted to the end (chosen here, by the errors in docs/passk-and-loss.md):

1. On a grid of t = logit(p), log-density linear in log(p), log(1-p) and t^2: the beta distributions, the
   logit-normal ones and what lies between (the g-modelling of Efron 2016, Biometrika 103:1). Fitted by maximum
   likelihood with a normal prior.
2. A few steps of the EM algorithm for an unrestricted distribution on the grid. They move mass where the counts
   contradict the family; many would fit noise.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import optimize

LOGIT = np.linspace(-27.6, 13.8, 321)  # success rates from 1e-12 to 1 - 1e-6
LOG_P, LOG_Q = -np.logaddexp(0, -LOGIT), -np.logaddexp(0, LOGIT)
TERMS = np.stack([LOG_P, LOG_Q, LOGIT**2 / 100], axis=1)


@dataclass(frozen=True)
class Prior:
    """What is believed of a family's three parameters, and the log-density (grid,) that they bend."""

    mean: NDArray[np.float64]
    precision: NDArray[np.float64]
    base: NDArray[np.float64]


VAGUE = Prior(np.array([0.3, 0.8, 0.0]), 0.1 * np.eye(3), np.zeros(len(LOGIT)))


class Counts:
    """The likelihood of counts on the grid: work once for each distinct (n, c)."""

    def __init__(self, n: NDArray, c: NDArray):
        pairs, times = np.unique(np.stack([n, c]), axis=1, return_counts=True)
        likelihood = pairs[1][:, None] * LOG_P + (pairs[0] - pairs[1])[:, None] * LOG_Q
        self.likelihood = np.exp(likelihood - likelihood.max(axis=1, keepdims=True))  # (pairs, grid)
        self.times = times.astype(float)
        self.problems = float(len(c))

    def posterior(self, density: NDArray) -> tuple[NDArray[np.float64], float]:
        """Return where the problems lie, given their counts, (grid,) summing to their number; and log-likelihood."""
        marginal = np.maximum(self.likelihood @ density, 1e-300)  # a line search may leave where counts are possible
        return density * ((self.times / marginal) @ self.likelihood), float(self.times @ np.log(marginal))

    def fit(self, prior: Prior, start: NDArray | None = None) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the family's parameters (3,) and what the counts tell of them, the information (3, 3)."""

        def loss(parameters):
            density = family(parameters, prior.base)
            posterior, log_likelihood = self.posterior(density)
            away = parameters - prior.mean
            pull = prior.precision @ away
            return away @ pull / 2 - log_likelihood, TERMS.T @ (self.problems * density - posterior) + pull

        parameters = optimize.minimize(loss, prior.mean if start is None else start, jac=True, method="L-BFGS-B").x
        density = family(parameters, prior.base)
        each = self.likelihood * density
        scores = (each / np.maximum(each.sum(axis=1), 1e-300)[:, None]) @ TERMS - density @ TERMS
        return parameters, (scores.T * self.times) @ scores

    def sharpened(self, density: NDArray, steps: int) -> NDArray[np.float64]:
        """Return a density after steps of the EM algorithm."""
        for _ in range(steps):
            density = self.posterior(density)[0] / self.problems
        return density


def family(parameters: NDArray, base: NDArray) -> NDArray[np.float64]:
    """Return the family's density on the grid."""
    log = TERMS @ parameters + base
    density = np.exp(log - log.max())
    return density / density.sum()


def solved(ks: NDArray) -> NDArray[np.float64]:
    """Return Pass@k at every rate of the grid, (grid, len(ks)): 1 - (1-p)^k."""
    return -np.expm1(ks * LOG_Q[:, None])


def slope(density: NDArray, values: NDArray) -> NDArray[np.float64]:
    """Return how the mean of values (grid, len(ks)) moves with the family's parameters, (3, len(ks))."""
    return TERMS.T @ (density[:, None] * (values - density @ values))
