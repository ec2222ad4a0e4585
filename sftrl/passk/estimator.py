"""Pass@k of single problems: the chance that at least one of k responses is right, unbiased, from n sampled responses.

With c of n samples right, Pass@k = 1 - C(n-c, k) / C(n, k) (Chen et al. 2021, arXiv 2107.03374, equation 1). The ratio
is the chance that k draws without replacement all fail. It is symmetric in c and k, so it is the product of only
min(c, k) factors below one, cut where it no longer shows in a double: at most about 6 sqrt(n) vector steps, without a
binomial coefficient that could overflow or a difference of log-gammas that would lose digits.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from sftrl.errors import InputError


def pass_at_k(n: ArrayLike, c: ArrayLike, k: int | Sequence[int]) -> NDArray[np.float64]:
    """Return the unbiased Pass@k of each problem.

    Args:
        n: samples of each problem, shape (problems,), or one number for all. May differ between problems.
        c: right samples of each problem, shape (problems,). Where it is a pandas Series, its index names the problems
            in errors.
        k: a number of draws, or several.

    Returns:
        Shape (problems,) for one k, (problems, len(k)) for several.

    Raises:
        InputError: no problem; lengths that do not match; counts that are not whole, negative, or with c > n; n = 0;
            k < 1 or k > n. It names the first such problem.
    """
    n, c, names = check_counts(n, c)
    ks, one = check_k(k, n, names)
    # Counts repeat from problem to problem: work once for each distinct pair.
    pairs, inverse = np.unique(np.stack([n, c]), axis=1, return_inverse=True)
    values = 1.0 - fail_ratio(pairs[0][:, None], pairs[1][:, None], ks[None, :])[inverse.reshape(-1)]
    return values[:, 0] if one else values


def fail_ratio(n: NDArray, c: NDArray, k: NDArray) -> NDArray[np.float64]:
    """Return C(n-c, k) / C(n, k), broadcast: the chance that k draws without replacement from n hold none of c.

    No check of its input: 0 <= c <= n and 0 <= k <= n are the caller's care.
    """
    n, c, k = np.broadcast_arrays(n, c, k)
    few, many = np.minimum(c, k).ravel(), np.maximum(c, k).ravel()
    total = n.ravel()
    ratio = np.ones(total.shape)
    # Factors are at most 1 - many / n: beyond 40 n / many of them the product is below exp(-40), nothing in 1 - ratio.
    steps = np.minimum(few, np.ceil(40 * total / np.maximum(many, 1)))
    order = np.argsort(-steps, kind="stable")  # longest first: step i then works on a leading slice
    few, many, total, steps = few[order], many[order], total[order], steps[order]
    alive = np.searchsorted(-steps, -np.arange(steps[0] if steps.size else 0), side="left")
    for i, upto in enumerate(alive):
        left = total[:upto] - i
        ratio[:upto] *= (left - many[:upto]) / left  # reaches exactly 0 where c + k > n
    result = np.empty_like(ratio)
    result[order] = ratio
    return result.reshape(n.shape)


def check_counts(n: ArrayLike, c: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.int64], Sequence]:
    """Return n and c as whole numbers of one shape (problems,), and the problems' names; raise `InputError` if bad."""
    source = next((x for x in (c, n) if isinstance(x, pd.Series)), None)
    n, c = _numbers("n", n), _numbers("c", c)
    if n.ndim == 0:
        n = np.broadcast_to(n, c.shape)
    if n.ndim != 1 or c.ndim != 1:
        raise InputError(f"n and c have one number a problem, but their shapes are {n.shape} and {c.shape}")
    if len(n) != len(c):
        raise InputError(f"n counts {len(n)} problems and c counts {len(c)}: they must be the same problems")
    if not len(c):
        raise InputError("no problems: n and c are empty")
    names = range(len(c)) if source is None else list(source.index)
    for what, bad in (
        ("n is not a whole number", n != np.floor(n)),
        ("c is not a whole number", c != np.floor(c)),
        ("n < 1: a problem without samples has no Pass@k", n < 1),
        ("c < 0", c < 0),
        ("c > n", c > n),
    ):
        if bad.any():
            at = int(bad.argmax())
            raise InputError(f"problem {names[at]}: {what} (n = {n[at]:g}, c = {c[at]:g})")
    return n.astype(np.int64), c.astype(np.int64), names


def check_k(k: int | Sequence[int], n: NDArray, names: Sequence) -> tuple[NDArray[np.int64], bool]:
    """Return k as an array, and whether it was a single number; raise `InputError` unless 1 <= k <= n everywhere."""
    ks = whole_k(k)
    at = int(n.argmin())
    if ks.max() > n[at]:
        raise InputError(f"problem {names[at]}: k = {ks.max()} draws cannot be taken from its n = {n[at]} samples")
    return ks, np.ndim(k) == 0


def whole_k(k: int | Sequence[int]) -> NDArray[np.int64]:
    """Return k as an array of whole numbers of at least 1, or raise `InputError`."""
    ks = np.atleast_1d(_numbers("k", k))
    if ks.ndim != 1 or not ks.size:
        raise InputError(f"k is a whole number or a non-empty sequence of them, not {k!r}")
    bad = ~((ks >= 1) & (ks == np.floor(ks)))
    if bad.any():
        raise InputError(f"k = {ks[bad][0]:g}: k must be a whole number of at least 1")
    return ks.astype(np.int64)


def _numbers(name: str, values: ArrayLike) -> NDArray[np.float64]:
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError(f"{name} holds something that is not a number, or lists of different lengths") from None
