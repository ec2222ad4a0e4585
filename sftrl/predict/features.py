"""What one judgement sees: a predictor's features, the target, and the runs that have both.

A predictor is named by what it is made of: a column; `"a + b"`, a regression on several columns; `"average(a, b)"`, the
mean of standardised columns, losses with their sign flipped.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from sftrl.errors import InputError
from sftrl.predict import measures
from sftrl.tables import COMBINATIONS, DESCRIPTION, RUN, direction, need, predictor

OF_SEEDS = ("post_rl_sd", "n_seeds")
LEAST = 4  # runs; with fewer, a line fits almost anything
NAMED = 3  # runs that a note names; the column `left_out` has all
TOGETHER = "_"  # a column of zeros, which every run has


@dataclass(frozen=True)
class Sample:
    """What one fit sees: features (n, p), target (n,), family number (n,), and which runs could not take part."""

    x: np.ndarray
    y: np.ndarray
    groups: np.ndarray
    runs: pd.DataFrame
    left_out: list[str]

    @property
    def size(self) -> int:
        """Number of runs, less the means that further families use up."""
        return len(self.y) - int(self.groups.max(initial=0))


def sample_of(runs: pd.DataFrame, name: str, target: str | None) -> Sample:
    """Take a predictor's features and the target from the runs that have both; without a target, from those that
    have the features."""
    columns = columns_of(name)
    need(runs, columns, f"runs, predictor {name!r}")
    values = runs[columns + ([target] if target else [])]
    runs = runs[[c for c in dict.fromkeys([*RUN, *columns, target, *OF_SEEDS]) if c in runs]]  # wide frames are slow
    try:
        values = values.astype(float)
    except (TypeError, ValueError):
        raise InputError(f"runs, predictor {name!r}: {columns} must be numbers") from None
    whole = np.isfinite(values.to_numpy()).all(axis=1)
    alone = runs[whole].groupby("family")["run"].transform("size") < 2
    keep = whole.copy()
    keep[whole] = ~alone.to_numpy() if runs[whole]["family"].nunique() > 1 else True
    kept, lost = runs[keep].reset_index(drop=True), runs[~keep]
    x = kept[columns].to_numpy(float)
    groups = pd.factorize(kept["family"], sort=True)[0]
    if name.startswith("average("):
        x = _standardised(x, groups) @ [[-1.0 if direction(c) < 0 else 1.0] for c in columns] / len(columns)
    y = kept[target].to_numpy(float) if target else np.full(len(kept), np.nan)
    left_out = [f"{f} {r}" for f, r in zip(lost["family"], lost["run"], strict=True)]
    return Sample(x, y, groups, kept, left_out)


def predictor_names(runs: pd.DataFrame) -> list[str]:
    """List the predictors that a runs frame can be judged by: its columns that are one, and their combinations."""
    known = [c for c in runs if predictor(c)]
    combined = [name for name in COMBINATIONS if set(columns_of(name)) <= set(known)]
    recipe = [c for c in known if c in DESCRIPTION]
    return [c for c in known if c not in recipe] + combined + recipe


def columns_of(name: str) -> list[str]:
    """Split a predictor's name into the columns that it needs."""
    if name.startswith("average(") and name.endswith(")"):
        return [c.strip() for c in name[len("average(") : -1].split(",")]
    return [c.strip() for c in name.split(" + ")]


def unfit(sample: Sample, name: str, target: str) -> str | None:
    """Say why a sample cannot be judged, or None."""
    least = LEAST + sample.x.shape[1] - 1
    if sample.size < least:
        first, more = sample.left_out[:NAMED], len(sample.left_out) - NAMED
        missing = f"; missing for {', '.join(first)}" + (f" and {more} more" if more > 0 else "") if first else ""
        both = target if name == target else f"{name} and {target}"
        return f"runs with {both}: {len(sample.y)}; at least {least} are needed{missing}"
    if measures.flat(measures.centred(sample.y, sample.groups)):
        return f"{target} is the same for all runs"
    if measures.flat(measures.centred(sample.x.T, sample.groups)).any():
        return f"{name} is the same for all runs"
    return None


def fitted(sample: Sample) -> np.ndarray:
    """Give the predictor's score (n,) for rank statistics: the feature itself, or for several, their in-sample fit."""
    x = measures.centred(sample.x.T, sample.groups).T
    if x.shape[1] == 1:
        return x[:, 0]
    return x @ np.linalg.lstsq(x, measures.centred(sample.y, sample.groups), rcond=None)[0]


def singles(runs: pd.DataFrame, names: list[str], target: str) -> tuple[Sample, dict[str, np.ndarray]]:
    """Take all predictors that are one number a run side by side, for what compares them on the same runs.

    Returns:
        A sample of all runs with the target, without features, and by name the numbers of each predictor that can be
        judged, (n,), NaN where a run lacks it. A regression on several columns is none of them.
    """
    runs = runs.assign(**{TOGETHER: 0.0})
    everyone = sample_of(runs, TOGETHER, target)
    index = pd.MultiIndex.from_frame(everyone.runs[RUN])
    found = {}
    for name in names:
        sample = sample_of(runs, name, target)
        if sample.x.shape[1] == 1 and unfit(sample, name, target) is None:
            values = np.full(len(index), np.nan)
            values[index.get_indexer(pd.MultiIndex.from_frame(sample.runs[RUN]))] = sample.x[:, 0]
            found[name] = values
    return everyone, found


def without(sample: Sample, i: int) -> Sample:
    """Leave run `i` out."""
    keep = np.arange(len(sample.y)) != i
    return Sample(sample.x[keep], sample.y[keep], sample.groups[keep], sample.runs[keep], sample.left_out)


def _standardised(x: np.ndarray, groups: np.ndarray) -> np.ndarray:
    x = measures.centred(x.T, groups).T
    scale = np.sqrt((x**2).sum(axis=0) / max(len(x) - groups.max(initial=0) - 1, 1))
    return x / np.where(scale > 0, scale, 1)
