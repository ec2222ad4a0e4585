"""Predictors against what came of the runs: the points and their line, and how good each predictor is."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter
from scipy import stats

from sftrl.figures.style import COLOURS, FAMILY_MARKERS, PALE, grid, label, styled, wrapped
from sftrl.predict.measures import centred
from sftrl.predict.sample import fitted, sample_of, unfit

NAMES = {"post_rl": "Pass@1 after RL, %", "gain": "gain by RL, points"}


@styled
def scatter(
    runs: pd.DataFrame, judged: pd.DataFrame, predictors: list[str] | None = None, *, pool: str | None = None
) -> Figure:
    """Draw predicted against measured: a panel a predictor, with the fit, its 95 % band, r², Spearman and n.

    Args:
        runs: the frame that was judged (of that pool). `post_rl_sd` and `n_seeds` give the points their error bars.
        judged: `judge`'s table; what the panels say is read from it, so that figure and table cannot differ.
        predictors: which to draw; default: all that were judged.
        pool: which pool of the table; default: its first.

    With one feature, the horizontal axis is the predictor itself; with several, their in-sample fit. Families have
    parallel lines.
    """
    rows = judged[judged["pool"] == (judged["pool"].iloc[0] if pool is None else pool)]
    rows = rows[rows["predictor"].isin(predictors)] if predictors is not None else rows
    figure, panels = grid(len(rows), columns=3, width=2.5, height=2.45)
    families = sorted(runs["family"].unique())
    for axes, (_, row) in zip(panels, rows.iterrows(), strict=True):
        _draw_fit(axes, runs, row, families)
    handles = [
        Line2D([], [], ls="", marker=FAMILY_MARKERS[i % 8], color=COLOURS[i % 10], label=f)
        for i, f in enumerate(families)
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=min(4, len(handles)))
    return figure


def _draw_fit(axes: Axes, runs: pd.DataFrame, row: pd.Series, families: list[str]) -> None:
    name, target = row["predictor"], row["target"]
    sample = sample_of(runs, name, target)
    axes.set_xlabel(wrapped(label(name), 30) + ("" if row["features"] == 1 else ", fitted, %"))
    axes.set_ylabel(NAMES.get(target, target))
    if unfit(sample, name, target):
        axes.text(0.5, 0.5, "cannot be judged", transform=axes.transAxes, ha="center", color=PALE)
        return
    score, y = fitted(sample), 100 * sample.y
    level = y - centred(y, sample.groups)
    x = sample.x[:, 0] if sample.x.shape[1] == 1 else 100 * score + level
    slope = (centred(x, sample.groups) @ y) / (centred(x, sample.groups) @ x)
    rest = len(y) - sample.groups.max() - 2
    residual = centred(y, sample.groups) - slope * centred(x, sample.groups)
    noise = np.sqrt(residual @ residual / max(rest, 1))
    spread = (centred(x, sample.groups) ** 2).sum()
    for group in np.unique(sample.groups):
        at = sample.groups == group
        family = sample.runs["family"][at].iloc[0]
        colour = COLOURS[families.index(family) % 10]
        line = np.linspace(x[at].min(), x[at].max(), 50)
        middle = y[at].mean() + slope * (line - x[at].mean())
        reach = stats.t.ppf(0.975, max(rest, 1)) * noise * np.sqrt(1 / at.sum() + (line - x[at].mean()) ** 2 / spread)
        # In single precision, so that last digits, which differ between builds of Python, do not reach a pixel.
        line, middle, reach = np.float32([line, middle, reach])
        axes.plot(line, middle, color=colour, lw=1.3)
        axes.fill_between(line, middle - reach, middle + reach, color=colour, alpha=0.15, lw=0)
        error = None
        if "post_rl_sd" in sample.runs and target == "post_rl":
            error = 100 * sample.runs["post_rl_sd"][at].fillna(0) / np.sqrt(sample.runs["n_seeds"][at].clip(lower=1))
        marker = FAMILY_MARKERS[families.index(family) % 8]
        axes.errorbar(x[at], y[at], yerr=error, fmt=marker, color=colour, ms=4, lw=0.8, mec="white", mew=0.4)
    axes.set_ylim(y.min() - 0.12 * np.ptp(y), y.max() + 0.45 * np.ptp(y))  # room for the words above the points
    if np.abs(x).max() >= 10_000:
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    words = (
        f"r² {row['r2']:.2f} [{row['r2_low']:.2f}, {row['r2_high']:.2f}]\nSpearman {row['spearman']:.2f}   n {row['n']}"
    )
    axes.text(0.03, 0.97, words, transform=axes.transAxes, va="top", fontsize=7.5)
