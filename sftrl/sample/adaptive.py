"""Adaptive sampling, optional: spend samples on the problems where they narrow the interval of a benchmark's Pass@k.

Two stages (Stein 1945, doi 10.1214/aoms/1177731088). A pilot of a few samples per problem shows where Pass@k is still
uncertain, and alone determines how many fresh samples each problem gets. **Only the fresh samples count.** Given the
pilot, their numbers are constants, so each problem's estimate is unbiased, and so is the mean; intervals hold as for
sample sizes fixed in advance. Counting the pilot would bias the mean: the sample sizes would depend on the counted
outcomes.

The pilot's samples are the first in the store, so the plan can be recomputed from the store at any time.
"""

import functools
import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special, stats

from sftrl.passk import pass_at_k
from sftrl.recipes import Adaptive


def allocate(correct: ArrayLike, problems: int, adaptive: Adaptive, most: int) -> NDArray[np.int64]:
    """Return the number of fresh samples for each problem of one benchmark.

    The smallest total for which the expected variance of the mean Pass@k is small enough. The expectation is over each
    problem's success rate given its pilot (Jeffreys prior; chosen here).

    Args:
        correct: correct answers in the pilot, shape (problems of this shard,).
        problems: the number of problems in the whole benchmark; a shard gets its share of the allowed variance.
        most: the largest number for a problem, at least 2k; if it does not suffice, every problem gets it.

    Returns:
        Shape (problems of this shard,), each from 2k to `most`.
    """
    kinds, kind, counts = np.unique(np.asarray(correct), return_inverse=True, return_counts=True)
    sizes = np.unique(np.geomspace(adaptive.fewest, most, 24).round().astype(int))
    variance = np.array([[expected_variance(int(c), adaptive.pilot, adaptive.k, int(n)) for n in sizes] for c in kinds])
    allowed = (adaptive.half_width / stats.norm.ppf(0.5 + adaptive.level / 2)) ** 2 * problems * counts.sum()

    def best(price: float) -> NDArray[np.int64]:
        """Return each kind's best size if a sample costs 1 and a unit of variance costs `price`."""
        return np.argmin(sizes + price * variance, axis=1)

    cheap, dear = 1e-6, 1e12
    for _ in range(60):
        middle = math.sqrt(cheap * dear)
        enough = counts @ variance[np.arange(len(kinds)), best(middle)] <= allowed
        cheap, dear = (cheap, middle) if enough else (middle, dear)
    return sizes[best(dear)][kind]


@functools.cache
def expected_variance(c: int, pilot: int, k: int, n: int) -> float:
    """Return the expected sampling variance of Pass@k from n fresh samples, given c correct ones in the pilot.

    With success rate p, the estimate is 1 - F, where F is unbiased for (1 - p)^k: its variance is E[F^2] - (1 - p)^2k.
    Under the Beta posterior of p, the number of correct answers is beta-binomial, and (1 - p)^2k has a closed mean.
    """
    a, b = c + 0.5, pilot - c + 0.5
    right = np.arange(n + 1)
    fail = 1 - pass_at_k(n, right, k)
    mean = math.exp(special.betaln(a, b + 2 * k) - special.betaln(a, b))
    return max(0.0, float(stats.betabinom.pmf(right, n, a, b) @ fail**2) - mean)
