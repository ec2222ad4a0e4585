"""Correlations and least squares on whole arrays of resamples: the arithmetic below every protocol.

Everything works along the last axis, so that one call measures one study or ten thousand resamples of it. A measure
of values that do not vary is undefined and comes back as NaN, never as 0.
"""

from collections.abc import Callable

import numpy as np
from scipy import stats

TOLERANCE = 1e-12  # of the scale of the data: a spread below it is rounding, not variation
TIE = 1e-8  # of the scale: scores that differ by less, as tables with ten digits may make them, are equal


def leaving_one_out(measure: Callable[[np.ndarray, np.ndarray], np.ndarray], groups: np.ndarray) -> np.ndarray:
    """Measure (n,) with each row left out in turn.

    Args:
        measure: from rows (m, n - 1) and their groups (n - 1,) to values (m,).
        groups: the group of each row, 0, 1, 2, ...; all rows of a group are left out in one call.
    """
    order, values = np.argsort(groups, kind="stable"), np.empty(len(groups))
    for group in np.unique(groups):
        members = np.flatnonzero(groups == group)
        rows = np.array([order[order != i] for i in members])
        values[members] = measure(rows, groups[rows[0]])
    return values


def centred(values: np.ndarray, groups: np.ndarray | None = None) -> np.ndarray:
    """Subtract the mean along the last axis, or each group's own mean, where `groups` (n,) holds 0, 1, 2, ..."""
    values = np.asarray(values, float)
    if not values.size:
        return values
    if groups is None:
        rest = values - values.mean(axis=-1, keepdims=True)
    else:
        member = np.eye(groups.max() + 1)[groups]  # (n, groups)
        rest = values - values @ (member / member.sum(axis=0)) @ member.T
    # The mean of equal numbers may differ from them in the last digit, on some machines: that is not variation.
    equal = np.abs(rest).max(axis=-1, keepdims=True) <= TOLERANCE * np.abs(values).max(axis=-1, keepdims=True)
    return np.where(equal, 0.0, rest)


def pearson(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Pearson's correlation along the last axis; `x` and `y` broadcast."""
    x, y = np.asarray(x, float), np.asarray(y, float)
    constant = flat(x) | flat(y)
    x, y = centred(x), centred(y)
    with np.errstate(divide="ignore", invalid="ignore"):
        r = (x * y).sum(axis=-1) / np.sqrt((x * x).sum(axis=-1) * (y * y).sum(axis=-1))
    return np.where(constant, np.nan, np.clip(r, -1, 1))


def ranks(values: np.ndarray, groups: np.ndarray | None = None) -> np.ndarray:
    """Rank along the last axis, ties sharing their mean rank: centred, and within each group as a share of its size."""
    values = tied(values)
    if groups is None or not groups.any():
        return centred(stats.rankdata(values, axis=-1))
    ranked = np.empty(np.shape(values))
    for group in np.unique(groups):
        members = np.flatnonzero(groups == group)
        ranked[..., members] = centred(stats.rankdata(np.take(values, members, axis=-1), axis=-1)) / (len(members) + 1)
    return ranked


def spearman(x: np.ndarray, y: np.ndarray, groups: np.ndarray | None = None) -> np.ndarray:
    """Spearman's rank correlation along the last axis; with groups, of the ranks within each."""
    return pearson(ranks(x, groups), ranks(y, groups))


def kendall(x: np.ndarray, y: np.ndarray, groups: np.ndarray | None = None) -> np.ndarray:
    """Kendall's tau-b along the last axis: concordant less discordant pairs, ties corrected; pairs within groups."""
    x, y = tied(x), tied(y)
    first, second = np.triu_indices(x.shape[-1], k=1)
    if groups is not None:
        same = groups[first] == groups[second]
        first, second = first[same], second[same]
    x, y = np.sign(x[..., first] - x[..., second]), np.sign(y[..., first] - y[..., second])
    with np.errstate(divide="ignore", invalid="ignore"):
        return (x * y).sum(axis=-1) / np.sqrt((x * x).sum(axis=-1) * (y * y).sum(axis=-1))


def tied(values: np.ndarray) -> np.ndarray:
    """Round to steps of TIE: equal scores stay equal after arithmetic, on every machine."""
    scale = np.abs(np.asarray(values, float)).max(axis=-1, keepdims=True)
    return np.round(values / np.where(scale > 0, scale * TIE, 1))


def explained(predicted: np.ndarray, y: np.ndarray, around: np.ndarray | None = None) -> np.ndarray:
    """Coefficient of determination along the last axis: 1 - squared errors / squares around the mean (or `around`).

    Unlike the squared correlation it falls below 0 where the prediction is worse than the mean.
    """
    y = np.asarray(y, float)
    around = y.mean(axis=-1, keepdims=True) if around is None else around
    total = ((y - around) ** 2).sum(axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(flat(y), np.nan, 1 - ((y - predicted) ** 2).sum(axis=-1) / total)


def flat(values: np.ndarray) -> np.ndarray:
    """Whether values along the last axis do not vary, but for rounding."""
    return np.ptp(values, axis=-1) <= TOLERANCE * np.abs(values).max(axis=-1)
