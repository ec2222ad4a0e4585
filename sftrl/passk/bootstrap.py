"""Replicates of a mean Pass@k, for what has no formula: a rank correlation, the best of several checkpoints."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sftrl.errors import InputError
from sftrl.passk.estimator import pass_at_k

BLOCK = 2**22  # weights held at once


def bootstrap_pass_at_k(
    n: ArrayLike, c: ArrayLike, k: int | Sequence[int], *, replicates: int = 1000, seed: int
) -> NDArray[np.float64]:
    """Return mean Pass@k over problems drawn with replacement, again and again.

    The replicates spread over samples and problems both: each problem's estimate brings its sampling noise along. One
    seed draws the same problems whatever the counts, so that replicates of checkpoints on the same problems are paired.

    Returns:
        Shape (replicates,) for one k, (replicates, len(k)) for several.

    Raises:
        InputError: as `pass_at_k`; or no replicates.
    """
    if replicates < 1:
        raise InputError(f"replicates = {replicates}: at least one is needed")
    values = pass_at_k(n, c, k)
    problems = len(values)
    random = np.random.default_rng(seed)
    means = []
    for start in range(0, replicates, max(1, BLOCK // problems)):
        rows = min(max(1, BLOCK // problems), replicates - start)
        drawn = random.integers(problems, size=(rows, problems)) + problems * np.arange(rows)[:, None]
        weights = np.bincount(drawn.ravel(), minlength=rows * problems).reshape(rows, problems)
        means.append(weights @ values / problems)
    return np.concatenate(means)
