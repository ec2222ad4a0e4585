"""The paper's six figures in this study's style, and its reported values beside what its visible points give."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from sftrl.figures.bars import bars
from sftrl.figures.scatter import scatter
from sftrl.figures.style import COLOURS, RL_BLUE, styled
from sftrl.predict.published import FIGURES, published_figure, published_pools, published_tables
from sftrl.tables import label


def published(points: pd.DataFrame) -> dict[str, Figure]:
    """Redraw the six published figures, by name. They carry no intervals, since none were published."""
    results, losses = published_tables(points)
    figures = {}
    for name in FIGURES:
        rows = published_figure(results, name)
        has_loss = rows["family"].isin(losses["family"]).all()
        figures[name] = bars(rows, losses if has_loss else None, loss=has_loss)
    return figures


def loss_of_llama(points: pd.DataFrame, judged: pd.DataFrame, target: str) -> Figure:
    """Draw score, loss, and both against the RL result or the gain, on the nine points that show a loss."""
    pool = "Llama3 dataset"
    names = ["pass@1", "generalization_loss", "pass@1 + generalization_loss"]
    return scatter(published_pools(points)[pool], judged[judged["target"] == target], names, pool=pool)


@styled
def claims(held: pd.DataFrame) -> Figure:
    """Draw each reported value that the visible points can speak to: reported (diamond), visible with 95 % interval.

    For r², the paper's own protocol on the visible points (mean over random halves) is the hollow circle.
    """
    rows = held[held["finding"] != "not visible"].sort_values(["statistic", "pool"], kind="stable")
    place = np.arange(len(rows))
    figure = Figure(figsize=(6.6, 0.42 * len(rows) + 1.1), layout="constrained")
    axes = figure.subplots()
    reach = [rows["visible"] - rows["low"], rows["high"] - rows["visible"]]
    axes.errorbar(rows["visible"], place, xerr=reach, fmt="o", color=RL_BLUE, ms=5, lw=1.3)
    axes.errorbar(
        rows["halves"], place + 0.17, xerr=rows["halves_sd"], fmt="o", mfc="white", color="#777777", ms=4, lw=0.8
    )
    axes.errorbar(rows["value"], place - 0.17, xerr=rows["std"], fmt="D", color=COLOURS[3], ms=5, lw=1)
    statistic = rows["statistic"].map({"r2": "r²", "spearman": "Spearman"})
    names = [
        f"{s}, {label(p)}\n{pool}, n = {n:.0f}"
        for s, p, pool, n in zip(statistic, rows["predictor"], rows["pool"], rows["n"], strict=True)
    ]
    axes.set_yticks(place, names)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlim(-1.03, 1.03)
    axes.axvline(0, color="black", lw=0.8)
    axes.set_xlabel("agreement with the score after RL (loss: sign flipped)")
    handles = [
        Line2D([], [], color=COLOURS[3], marker="D", ls="-", ms=5, label="reported ± its spread"),
        Line2D([], [], color=RL_BLUE, marker="o", ms=5, label="visible points, 95 %"),
        Line2D([], [], color="#777777", marker="o", mfc="white", ms=4, label="visible, random halves ± sd"),
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=3)
    return figure
