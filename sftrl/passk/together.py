"""Forecasts of Pass@k for several checkpoints on the same problems: each is told from its own counts and the others'.

A dozen samples say little of how rarely the hardest problems are solved. The checkpoints of a study resemble each
other, though, and a checkpoint that does better on one benchmark tends to do so on the next. So the parameters of
`rates.py` are a benchmark's, plus a checkpoint's, plus what is particular to the two:

    theta[benchmark, checkpoint] = a[benchmark] + d[checkpoint] + e[benchmark, checkpoint]

with d and e normal, their spreads estimated from the fits themselves (empirical Bayes, by EM on normal approximations
of the likelihoods). The shape that the family bends is common to all and sharpened by EM on all counts; few steps are
then left for each alone. Chosen here, by the errors and rankings in docs/passk-and-loss.md.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sftrl.errors import InputError
from sftrl.passk.estimator import check_counts
from sftrl.passk.extrapolation import FEWEST, STEPS, check_reach, reach
from sftrl.passk.intervals import Interval, check_kind, wilson
from sftrl.passk.rates import TERMS, VAGUE, Counts, Prior, family, slope, solved

ROUNDS = 3  # of fits and the belief that follows from them
BELIEF_STEPS = 100  # of EM for that belief
OWN_STEPS = 3  # of EM for a single checkpoint's distribution
SPREAD = 0.1  # variance of d and e that is believed beforehand, with the weight of one checkpoint


def extrapolate_together(
    n: ArrayLike, c: ArrayLike, k: int | Sequence[int], level: float = 0.95, *, benchmarks: Sequence | None = None
) -> dict[str, list[Interval]]:
    """Return forecasts of each checkpoint's mean Pass@k, also for k beyond n, over samples and problems.

    Args:
        n: samples, (checkpoints, problems), or one number for all.
        c: right samples, (checkpoints, problems): column i is the same problem for all.
        k: draws, up to 16 times the median n.
        level: the chance that such intervals hold the truth, as far as the model holds.
        benchmarks: the benchmark of each problem, (problems,); without it, all are of one.

    Returns:
        An interval for each checkpoint, for each benchmark by its name, and for "average", their unweighted mean.

    Raises:
        InputError: bad counts, by checkpoint and problem; k beyond 16 times the median n; a single checkpoint; or fewer
            than 10 problems a checkpoint with 0 < c < n, on average.
    """
    check_kind(level, "both")
    n, c = _check(n, c)
    ks = check_reach(k, n)
    labels = np.full(c.shape[1], "average") if benchmarks is None else np.asarray(benchmarks)
    if labels.shape != c.shape[1:]:
        raise InputError(f"benchmarks: one for each of the {c.shape[1]} problems is needed, not {len(labels)}")
    between = ((c > 0) & (c < n)).sum(axis=1).mean()
    if between < FEWEST:
        raise InputError(
            f"only {between:.1f} of {c.shape[1]} problems a checkpoint were solved by some samples and not by others; "
            f"with fewer than {FEWEST}, what more samples would solve is a guess"
        )
    names = list(dict.fromkeys(labels.tolist()))
    if len(names) > 1 and "average" in names:
        raise InputError('benchmarks: "average" is the name of their mean, and cannot be one of them')
    counts = [[Counts(*row) for row in zip(n[:, labels == x], c[:, labels == x], strict=True)] for x in names]
    belief = _believe(counts)
    shares = dict(zip(names, np.eye(len(names)), strict=True)) | {"average": np.full(len(names), 1 / len(names))}
    forecasts: dict[str, list[Interval]] = {name: [] for name in shares}
    for checkpoint, own in enumerate(zip(*counts, strict=True)):
        seen = _look(own, checkpoint, belief, ks, n[checkpoint])
        for name, share in shares.items():
            problems = np.full(len(ks), sum(x.problems for x, part in zip(own, share, strict=True) if part))
            estimate, variance = seen.mean(share)
            found = (estimate, variance, np.maximum(problems - 1, 1), problems)
            found = (x[0] for x in found) if np.ndim(k) == 0 else found
            forecasts[name].append(wilson(*found, level, "both", lowest=0.0))
    return forecasts


@dataclass
class _Belief:
    """What the checkpoints tell of one another, by (benchmark, checkpoint)."""

    parameters: NDArray[np.float64]  # (benchmarks, checkpoints, 3)
    alone: NDArray[np.float64]  # the same, each from its own counts only
    information: NDArray[np.float64]  # that the counts hold of them, (benchmarks, checkpoints, 3, 3)
    mean: NDArray[np.float64]  # what is believed of them without the particular, (benchmarks, checkpoints, 3)
    base: NDArray[np.float64]  # the shape that they bend, a log-density (grid,)
    common: NDArray[np.float64]  # the variance of d, (3, 3)
    particular: NDArray[np.float64]  # the variance of e, (3, 3)

    def prior(self, benchmark: int, checkpoint: int) -> Prior:
        precision = np.linalg.inv(self.particular)
        return Prior(self.mean[benchmark, checkpoint], precision, self.base)


def _believe(counts: list[list[Counts]]) -> _Belief:
    cells = len(counts), len(counts[0])
    belief = _Belief(
        parameters=np.tile(VAGUE.mean, (*cells, 1)),
        alone=np.empty((*cells, 3)),
        information=np.zeros((*cells, 3, 3)),
        mean=np.tile(VAGUE.mean, (*cells, 1)),
        base=VAGUE.base,
        common=np.eye(3),
        particular=np.linalg.inv(VAGUE.precision),
    )
    _fit(belief, counts)
    belief.alone = belief.parameters.copy()
    for _ in range(ROUNDS):
        _update(belief)
        belief.base = _sharpened(counts, belief.parameters, belief.base)
        _fit(belief, counts)
    return belief


def _fit(belief: _Belief, counts: list[list[Counts]]) -> None:
    for at in np.ndindex(belief.parameters.shape[:2]):
        found = counts[at[0]][at[1]].fit(belief.prior(*at), start=belief.parameters[at])
        belief.parameters[at], belief.information[at] = found


def _update(belief: _Belief) -> None:
    """Estimate a, d, e and their spreads: EM on a normal approximation of every cell's likelihood at its fit."""
    benchmarks, checkpoints = belief.parameters.shape[:2]
    precision = np.linalg.inv(belief.particular)
    # At the fit, the likelihood's slope is the prior's pull: so the information times the likelihood's own maximum is
    told = np.einsum("bmij,bmj->bmi", belief.information, belief.parameters)
    told += (belief.parameters - belief.mean) @ precision
    a, d = belief.parameters.mean(axis=1), np.zeros((checkpoints, 3))
    common, particular = np.eye(3), np.eye(3)
    for _ in range(BELIEF_STEPS):
        precision = np.linalg.inv(particular)
        left = np.linalg.inv(belief.information + precision)
        theta = np.einsum("bmij,bmj->bmi", left, told + (a[:, None] + d) @ precision)
        left_d = np.linalg.inv(np.linalg.inv(common) + benchmarks * precision)
        d = (theta - a[:, None]).sum(axis=0) @ precision @ left_d
        a = (theta - d).mean(axis=1)
        e = theta - a[:, None] - d
        squares = np.einsum("bmi,bmj->ij", e, e) + left.sum(axis=(0, 1)) + SPREAD * np.eye(3)
        particular = squares / (benchmarks * checkpoints + 1) + left_d
        common = (d.T @ d + SPREAD * np.eye(3)) / (checkpoints + 1) + left_d
    belief.mean, belief.common, belief.particular = a[:, None] + d, common, particular


def _sharpened(counts: list[list[Counts]], parameters: NDArray, base: NDArray) -> NDArray[np.float64]:
    """Return the common shape after EM steps towards what all counts say."""
    for _ in range(STEPS):
        seen, expected = np.zeros(len(base)), np.zeros(len(base))
        for at in np.ndindex(parameters.shape[:2]):
            cell, density = counts[at[0]][at[1]], family(parameters[at], base)
            seen += cell.posterior(density)[0]
            expected += cell.problems * density
        base = np.clip(base + np.log(np.maximum(seen, 1e-300)) - np.log(np.maximum(expected, 1e-300)), -30, 30)
    return base


@dataclass
class _Forecast:
    """One checkpoint's forecasts by benchmark, (benchmarks, len(ks)), and what moves them."""

    estimate: NDArray[np.float64]
    changed: NDArray[np.float64]  # by the model, from a forecast from these counts alone
    gradient: NDArray[np.float64]  # along the family's parameters, (benchmarks, 3, len(ks))
    covariance: NDArray[np.float64]  # of the parameters of all benchmarks, (benchmarks * 3, benchmarks * 3)

    def mean(self, share: NDArray) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return a weighted mean over benchmarks and its variance, each (len(ks),).

        What is not known of d is not known in all benchmarks at once, so their errors do not average out. What the
        model gets wrong is taken to be as large as what it changed.
        """
        gradient = (share[:, None, None] * self.gradient).reshape(len(self.covariance), -1)
        variance = (gradient * (self.covariance @ gradient)).sum(axis=0)
        return share @ self.estimate, variance + np.square(share @ self.changed)


def _look(own: Sequence[Counts], checkpoint: int, belief: _Belief, ks: NDArray, n: NDArray) -> _Forecast:
    values, many, size = solved(ks), len(own), TERMS.shape[1]
    estimates, alone, gradients = [], [], []
    for benchmark, counts in enumerate(own):
        density = family(belief.parameters[benchmark, checkpoint], belief.base)
        estimates.append(counts.sharpened(density, OWN_STEPS) @ values)
        alone.append(family(belief.alone[benchmark, checkpoint], VAGUE.base) @ values)
        gradients.append(slope(density, values))
    precision = np.linalg.inv(np.kron(np.ones((many, many)), belief.common) + np.kron(np.eye(many), belief.particular))
    for benchmark in range(many):
        part = slice(size * benchmark, size * (benchmark + 1))
        precision[part, part] += belief.information[benchmark, checkpoint]
    estimate = np.array(estimates)
    return _Forecast(estimate, (estimate - alone) * reach(ks, n), np.array(gradients), np.linalg.inv(precision))


def _check(n: ArrayLike, c: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    rows = list(c)
    if len(rows) < 2:
        raise InputError(f"checkpoints: {len(rows)} given; one alone is a case for extrapolate_pass_at_k")
    given = [n] * len(rows) if np.ndim(n) == 0 else list(n)
    if len(given) != len(rows):
        raise InputError(f"n holds {len(given)} checkpoints and c {len(rows)}: they must be the same")
    checked = []
    for checkpoint, pair in enumerate(zip(given, rows, strict=True)):
        try:
            checked.append(check_counts(*pair)[:2])
        except InputError as error:
            raise InputError(f"checkpoint {checkpoint}: {error}") from None
    sizes = [len(row) for _, row in checked]
    if len(set(sizes)) > 1:
        raise InputError(f"checkpoints must have the same problems: they have {sizes}")
    return np.stack([row[0] for row in checked]), np.stack([row[1] for row in checked])
