"""Predictors against the outcome of the runs: points and fitted line. The fit is `predict`'s; here it is drawn."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter

from sftrl.errors import InputError
from sftrl.figures.style import COLOURS, FAMILY_MARKERS, grid, styled, units, wrapped
from sftrl.predict import fit_line
from sftrl.tables import label

NAMES = {"post_rl": "Pass@1 after RL, %", "gain": "gain by RL, points"}


@styled
def scatter(
    runs: pd.DataFrame, judged: pd.DataFrame, predictors: list[str] | None = None, *, pool: str | None = None
) -> Figure:
    """Draw predicted against measured, one panel per predictor, with the fit, its 95 % band, r², Spearman and n.

    Args:
        runs: the frame that was judged (of that pool). `post_rl_sd` and `n_seeds` give the points their error bars.
        judged: `judge`'s table; what the panels say is read from it, so that figure and table cannot differ.
        predictors: which to draw; default: all that could be judged.
        pool: which pool of the table; default: its first.

    With one feature, the horizontal axis is the predictor itself; with several, their in-sample fit. Families have
    parallel lines.
    """
    rows = judged[judged["pool"] == (judged["pool"].iloc[0] if pool is None else pool)]
    rows = rows[rows["predictor"].isin(predictors)] if predictors is not None else rows
    rows = rows[rows["r2"].notna()]
    if rows.empty:
        raise InputError("judged: no predictor could be judged")
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
    scale, unit = units(name) if row["features"] == 1 else (100.0, ", fitted, %")
    axes.set_xlabel(wrapped(label(name) + unit, 36))
    axes.set_ylabel(NAMES.get(target, target))
    fit = fit_line(runs, name, target)
    for family, points in fit.points.groupby("family"):
        i = families.index(family)
        colour, marker = COLOURS[i % 10], FAMILY_MARKERS[i % 8]
        line = fit.lines[fit.lines["family"] == family]
        axes.plot(scale * line["x"], 100 * line["y"], color=colour, lw=1.3)
        axes.fill_between(scale * line["x"], 100 * line["low"], 100 * line["high"], color=colour, alpha=0.15, lw=0)
        x, y, error = scale * points["x"], 100 * points["y"], 100 * points["error"]
        axes.errorbar(x, y, yerr=error, fmt=marker, color=colour, ms=4, lw=0.8, mec="white", mew=0.4)
    y = 100 * fit.points["y"]
    axes.set_ylim(y.min() - 0.12 * np.ptp(y), y.max() + 0.45 * np.ptp(y))  # room for the words above the points
    if scale * fit.points["x"].abs().max() >= 10_000:
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    words = (
        f"r² {row['r2']:.2f} [{row['r2_low']:.2f}, {row['r2_high']:.2f}]\nSpearman {row['spearman']:.2f}   n {row['n']}"
    )
    axes.text(0.03, 0.97, words, transform=axes.transAxes, va="top", fontsize=7.5)
