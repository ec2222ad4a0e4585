"""The line through a predictor and what came of the runs, with its band: what a scatter plot draws."""

from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from sftrl.predict.features import fitted, sample_of, unfit
from sftrl.predict.measures import centred
from sftrl.tables import RUN

STEPS = 50  # points on a line


class Fit(NamedTuple):
    """Points and lines of one predictor, families with parallel lines.

    Attributes:
        points: `family, run, x, y`, and `error`, the standard error of `y` over RL seeds (0 where there is one).
        lines: `family, x, y, low, high` at evenly spaced x, the band at the requested level.
    """

    points: pd.DataFrame
    lines: pd.DataFrame


def fit_line(runs: pd.DataFrame, predictor: str, target: str, level: float = 0.95) -> Fit | None:
    """Fit a line of `target` on a predictor over the runs that have both; None where that cannot be judged.

    With one feature, x is the predictor itself; with several, their in-sample fit of the target.
    """
    sample = sample_of(runs, predictor, target)
    if unfit(sample, predictor, target):
        return None
    y, groups = sample.y, sample.groups
    rest = centred(y, groups)
    x = sample.x[:, 0] if sample.x.shape[1] == 1 else fitted(sample) + y - rest
    within = centred(x, groups)
    spread = within @ within
    slope = within @ rest / spread
    free = max(len(y) - groups.max() - 2, 1)
    residual = rest - slope * within
    reach = stats.t.ppf(0.5 + level / 2, free) * np.sqrt(residual @ residual / free)
    lines = []
    for group in np.unique(groups):
        at = groups == group
        along = np.linspace(x[at].min(), x[at].max(), STEPS)
        middle = y[at].mean() + slope * (along - x[at].mean())
        band = reach * np.sqrt(1 / at.sum() + (along - x[at].mean()) ** 2 / spread)
        family = sample.runs["family"][at].iloc[0]
        lines.append(
            pd.DataFrame({"family": family, "x": along, "y": middle, "low": middle - band, "high": middle + band})
        )
    points = sample.runs[RUN].assign(x=x, y=y, error=0.0)
    if target == "post_rl" and "post_rl_sd" in sample.runs:
        points["error"] = sample.runs["post_rl_sd"].fillna(0) / np.sqrt(sample.runs["n_seeds"].clip(lower=1))
    return Fit(points, pd.concat(lines, ignore_index=True))
