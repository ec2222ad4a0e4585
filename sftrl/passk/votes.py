"""More readings of the same samples: the majority vote at k, how much signal GRPO would find, how rewards vary."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from sftrl.errors import InputError
from sftrl.passk.estimator import check_counts, check_k, fail_ratio, whole_k


def majority_at_k(
    counts: Sequence[ArrayLike],
    correct: Sequence[ArrayLike],
    k: int | Sequence[int],
    n: ArrayLike | None = None,
) -> NDArray[np.float64]:
    """Return, of each problem, the chance that the most common answer among k of its n samples is right.

    The k samples are drawn without replacement, so this is unbiased, as `pass_at_k` is; ties go to any of the first
    answers with equal chance. It is computed, not simulated.

    Args:
        counts: for each problem, how often each distinct answer was given.
        correct: for each problem, whether each of these answers is right.
        k: a number of votes, or several.
        n: samples of each problem, where some gave no answer: those have no vote. Default: the sum of the counts.

    Returns:
        Shape (problems,) for one k, (problems, len(k)) for several. A draw without any answer counts as wrong.

    Raises:
        InputError: lists that do not match, counts that are not whole or negative, n below their sum, or k > n. It
            names the problem by its place.
    """
    if len(counts) != len(correct):
        raise InputError(f"counts has {len(counts)} problems and correct has {len(correct)}")
    votes = [np.asarray(count, dtype=float).reshape(-1) for count in counts]
    right = [np.asarray(flags, dtype=bool).reshape(-1) for flags in correct]
    for at, (count, flags) in enumerate(zip(votes, right, strict=True)):
        if len(count) != len(flags):
            raise InputError(f"problem {at}: {len(count)} answers are counted and {len(flags)} judged")
        if not np.all((count >= 0) & (count == np.floor(count))):
            raise InputError(f"problem {at}: an answer's count is not a whole number of at least 0")
    total = np.array([count.sum() for count in votes])
    n, _, names = check_counts(total if n is None else n, total)
    ks, one = check_k(k, n, names)
    values = np.zeros((len(votes), len(ks)))
    for at, (count, flags) in enumerate(zip(votes, right, strict=True)):
        for column, draws in enumerate(ks):
            values[at, column] = _majority(count.astype(int), flags, int(n[at]), int(draws))
    return values[:, 0] if one else values


def _majority(count: NDArray, right: NDArray, n: int, k: int) -> float:
    """Sum, over right answers and the votes m each may get, the chance to win with m votes.

    The votes of all answers, given that they add up to k, are independent binomials given their sum. So the chance is
    a coefficient of a product of polynomials. A rival that cannot exceed m gives its whole binomial, and so do samples
    without an answer: together, one binomial. Another gives its chances of fewer than m votes, plus y times that of m.
    Integrated over y from 0 to 1, a tie with t rivals counts 1 / (t + 1), as it should.
    """
    share = k / n
    chance = 0.0
    for own in np.flatnonzero(right & (count > 0)):
        others = np.delete(count, own)
        for m in range(1, min(count[own], k) + 1):
            left = k - m
            rivals = others[others >= m]
            harmless = n - count[own] - rivals.sum()
            ties = min(len(rivals), left // m)
            y, weight = np.polynomial.legendre.leggauss(ties // 2 + 1)  # exact for a polynomial of this degree
            product = np.tile(stats.binom.pmf(np.arange(left + 1), harmless, share), (len(y), 1))
            for rival in rivals:
                before, product = product, np.zeros_like(product)
                for votes, part in enumerate(stats.binom.pmf(np.arange(min(m, left) + 1), rival, share)):
                    scale = (y[:, None] + 1) / 2 if votes == m else 1.0
                    product[:, votes:] += part * scale * before[:, : left + 1 - votes]
            chance += stats.binom.pmf(m, count[own], share) * (weight / 2 @ product[:, left])
    return float(chance / stats.binom.pmf(k, n, share))


def signal_share(n: ArrayLike, c: ArrayLike, group_size: int) -> float:
    """Return the expected share of GRPO groups that carry any signal: right and wrong responses in one group.

    With success rate p, a group of size G has it with chance 1 - p^G - (1-p)^G. Estimated without bias from c right of
    n samples, and averaged over problems.

    Raises:
        InputError: as `pass_at_k`, with the group size for k.
    """
    n, c, names = check_counts(n, c)
    if np.ndim(group_size):
        raise InputError(f"group_size = {group_size!r}: one group size at a time")
    size, _ = check_k(whole_k(group_size), n, names)
    return float(np.mean(1.0 - fail_ratio(n, c, size) - fail_ratio(n, n - c, size)))


def reward_variance(n: ArrayLike, c: ArrayLike) -> float:
    """Return the variance of a problem's 0/1 reward, p (1 - p), averaged over problems: Pass@2 less Pass@1. Unbiased.

    NaN where a problem has a single sample, which says nothing of it.

    Raises:
        InputError: as `pass_at_k`.
    """
    n, c, _ = check_counts(n, c)
    return float(np.mean(c * (n - c) / (n * (n - 1.0)))) if n.min() > 1 else float("nan")


def success_variance(n: ArrayLike, c: ArrayLike) -> float:
    """Return the variance between problems of their success rates p, the samples' noise taken out. Unbiased.

    E[p²] from pairs of samples of a problem, less (E[p])² from pairs of problems: it may so fall below 0 by chance. At
    equal Pass@1, the larger it is the smaller is Pass@k (arXiv 2504.10478). NaN for one problem, or a single sample.

    Raises:
        InputError: as `pass_at_k`.
    """
    n, c, _ = check_counts(n, c)
    if n.min() < 2 or len(n) < 2:
        return float("nan")
    rate = c / n
    between = (rate.sum() ** 2 - (rate**2).sum()) / (len(n) * (len(n) - 1))
    return float(np.mean(c * (c - 1) / (n * (n - 1.0))) - between)
