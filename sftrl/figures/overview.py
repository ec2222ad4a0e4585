"""A one-page summary: the scores, which metric predicts them, and the cost of choosing by it."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sftrl.figures.strength import draw_k_sweep, draw_regrets, draw_strength, k_sweep_handles, unknown
from sftrl.figures.style import BEST_RED, COLOURS, FAMILY_MARKERS, styled
from sftrl.tables import direction, headline

INSIDE = 4  # families that a legend within its panel can name


@styled
def summary(
    runs: pd.DataFrame, judged: pd.DataFrame, regret: pd.DataFrame, ceiling: pd.DataFrame, *, pool: str | None = None
) -> Figure:
    """Draw four panels: scores before and after RL, the k sweep, the predictors side by side, and their regret.

    Args:
        runs: the frame of the pool that is shown.
        judged, regret, ceiling: tables as `analyse` gives them.
        pool: default: the first of `judged`.
    """
    pool = judged["pool"].iloc[0] if pool is None else pool
    rows = judged[(judged["pool"] == pool) & (judged["target"] == "post_rl")]
    names = headline(list(rows["predictor"]))
    figure = Figure(figsize=(10.5 if runs["family"].nunique() > INSIDE else 9, 6.6), layout="constrained")
    first, second, third, fourth = figure.subplots(2, 2).ravel()
    _draw_scores(first, runs)
    first.set_title("a  Best after SFT, best after RL?")
    draw_k_sweep(second, rows, ceiling, pool, "spearman")
    second.set_xlabel("k of Pass@k after SFT")
    second.set_ylabel("Spearman with post-RL")
    second.set_title("b  Which k tells?")
    look = {"loc": "lower left", "frameon": True, "framealpha": 0.9, "edgecolor": "none"}  # legible on the band
    second.legend(handles=k_sweep_handles(rows, ceiling[ceiling["pool"] == pool]), **look)
    shown = rows[rows["predictor"].isin(names) & rows["r2"].notna()]
    draw_strength(third, shown, ceiling, "r2")
    third.set_xlabel("r² with post-RL (diamond: leave-one-out, arrow: below 0)")
    right = third.get_yaxis_transform()
    third.text(1.08, -0.75, "Spearman", transform=right, ha="center", color="#444444", fontsize=7)
    for y, (name, value) in enumerate(zip(shown["predictor"], shown["spearman"], strict=True)):
        third.text(1.08, y, f"{value * (direction(name) or 1):+.2f}", transform=right, ha="center", va="center")
    third.set_title("c  Which predictor?")
    cost = regret[(regret["pool"] == pool) & regret["predictor"].isin(["random choice", *names])]
    draw_regrets(fourth, cost[cost["regret"].notna()])
    fourth.set_title("d  What does choosing by it cost?")
    figure.suptitle(
        f"pool {pool}: {rows['n'].max()} SFT runs, 95 % intervals over runs{unknown(ceiling, pool)}", fontsize=9
    )
    return figure


def _draw_scores(axes: Axes, runs: pd.DataFrame) -> None:
    families = list(runs.groupby("family", sort=True))
    for i, (family, part) in enumerate(families):
        x, y = 100 * part["post_sft"], 100 * part["post_rl"]
        error = 100 * part["post_rl_sd"].fillna(0) / np.sqrt(part["n_seeds"].clip(lower=1))
        name = family if len(families) > 1 else None  # of one family, the key would look like one more run
        axes.errorbar(x, y, yerr=error, fmt=FAMILY_MARKERS[i % 8], color=COLOURS[i % 10], ms=5, lw=0.8, label=name)
        if y.notna().any():
            best = (("best after SFT", x[y.notna()].idxmax(), "s", 12), ("best after RL", y.idxmax(), "o", 9))
            for word, at, marker, size in best:
                look = {"ls": "none", "mfc": "none", "mec": BEST_RED, "mew": 1.3, "label": None if i else word}
                axes.plot(x[at], y[at], marker, ms=size, **look)
    axes.margins(0.15)
    axes.set_xlabel("Pass@1 after SFT, %")
    axes.set_ylabel("Pass@1 after RL, %")
    outside = {"loc": "upper left", "bbox_to_anchor": (1.0, 1.0)}  # more names than a panel has room for
    axes.legend(**(outside if len(families) > INSIDE else {"loc": "best"}))
