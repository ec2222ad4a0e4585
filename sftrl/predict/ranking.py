"""The table of a decision: how each metric ranks the candidates, how sure that is, and which cannot be distinguished.

Two intervals stand behind it. Where RL results are drawn, how far a candidate is behind the chosen one has an interval
from their joint draws. Where there is only a ranking, it is the interval of the difference of what was measured.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from sftrl.predict import measures
from sftrl.predict.forecast import COMBINED, NO_METRIC, View
from sftrl.tables import DECIMALS, RUN, direction, rounded

ENDS = ("", "_low", "_high")
QUANTILES = (0.025, 0.975)  # of every interval in the table


def ranking(candidates: pd.DataFrame, views: list[View], confidence: float, *, calibration: int) -> pd.DataFrame:
    """Set the views under one another, each sorted best first: the table that `decide` describes."""
    measured = {view.predictor: differences(candidates, view.predictor) for view in views}
    asked = [view for view in views if view.predictor not in (COMBINED, NO_METRIC)]
    parts = []
    for view in views:
        alike = measured[view.predictor].alike
        if view.predictor == COMBINED and view.outcome is None:  # told apart are those that every metric tells apart
            alike = np.any([measured[v.predictor].alike for v in asked], axis=0)
        elif view.predictor == COMBINED and asked:  # by the metric that counts most
            alike = measured[max(asked, key=lambda v: v.weight).predictor].alike
        parts.append(_rows(candidates, view, measured[view.predictor], alike, confidence, scored=calibration > 0))
    table = pd.concat(parts, ignore_index=True)
    table.insert(2, "calibration", calibration)
    return rounded(table)


class Differences(NamedTuple):
    """Of a metric, over pairs of candidates (n, n): how far the first is ahead of the second, with its interval."""

    ahead: np.ndarray
    low: np.ndarray
    high: np.ndarray

    @property
    def alike(self) -> np.ndarray:
        """Pairs that the measurement cannot tell apart."""
        return (self.low <= 0) & (self.high >= 0)


def differences(candidates: pd.DataFrame, name: str) -> Differences:
    """Intervals of differences from the two runs' own (MOVER: Zou and Donner 2008), as if these were independent.

    Candidates are measured on the same problems, so the true intervals are shorter: what is apart here is apart. A
    metric without intervals is taken as exact. Of several metrics, or none, nothing is measured: all are alike.
    """
    if name not in candidates:
        unknown = np.full((len(candidates), len(candidates)), np.inf)
        return Differences(np.nan * unknown, -unknown, unknown)
    sign = -1 if direction(name) < 0 else 1
    value = candidates[name].to_numpy(float)
    ends = [candidates.get(f"{name}{end}", candidates[name]).fillna(candidates[name]) for end in ENDS[1:]]
    below, above = [np.abs(end.to_numpy(float) - value) for end in ends][::sign]
    ahead = np.round(sign * (value[:, None] - value), DECIMALS)
    return Differences(ahead, ahead - np.hypot(below[:, None], above), ahead + np.hypot(above[:, None], below))


def _rows(
    candidates: pd.DataFrame, view: View, measured: Differences, alike: np.ndarray, confidence: float, *, scored: bool
) -> pd.DataFrame:
    name = view.predictor
    table = candidates[RUN].reset_index(drop=True)
    table.insert(0, "predictor", name)
    table.insert(1, "weight", view.weight)
    for end in ENDS:
        table[f"value{end}"] = candidates[f"{name}{end}"].to_numpy(float) if f"{name}{end}" in candidates else np.nan
    table["rank"] = stats.rankdata(-measures.tied(view.score), method="min").astype(int)
    table[["predicted", "low", "high", "p_best", "expected_regret"]] = np.nan
    chosen = int(table["rank"].idxmin())
    behind = Differences(*(part[chosen] for part in measured))
    kept = (table["rank"] == 1).to_numpy()
    if view.outcome is not None:
        table["p_best"] = np.bincount(view.outcome.argmax(axis=1), minlength=len(table)) / len(view.outcome)
        table["expected_regret"] = (view.outcome.max(axis=1, keepdims=True) - view.outcome).mean(axis=0)
        gaps = view.outcome[:, [chosen]] - view.outcome
        behind = Differences(view.score[chosen] - view.score, *np.quantile(gaps, QUANTILES, axis=0))
        kept |= _likeliest(table["p_best"].to_numpy(), confidence)
        if scored:
            table["predicted"] = view.score
            table["low"], table["high"] = np.quantile(view.outcome, QUANTILES, axis=0)
    for end, part in zip(ENDS, behind, strict=True):
        table[f"behind{end}"] = np.where(np.isfinite(part), part, np.nan)
    table["apart"] = behind.low > 0 if view.outcome is not None else ~alike[chosen]
    table["shortlist"] = with_the_alike(kept, alike)
    return table.sort_values("rank", kind="stable", ignore_index=True)


def _likeliest(chance: np.ndarray, confidence: float) -> np.ndarray:
    """The smallest set (n,) that holds the best with the wanted chance."""
    order = np.argsort(-chance, kind="stable")
    kept = np.zeros(len(chance), bool)
    kept[order[: int(np.searchsorted(np.cumsum(chance[order]), confidence)) + 1]] = True
    return kept


def with_the_alike(kept: np.ndarray, alike: np.ndarray) -> np.ndarray:
    """Add to a shortlist (n,) whoever is alike (n, n) to one on it, and so on: no cut falls between equals."""
    while True:
        more = kept | alike[kept].any(axis=0)
        if (more == kept).all():
            return kept
        kept = more
