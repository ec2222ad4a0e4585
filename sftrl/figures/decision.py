"""The decision as a figure: the prediction for each checkpoint, its uncertainty, and which are indistinguishable."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from sftrl.figures.style import BEST_RED, PALE, RL_BLUE, log_scale, styled, units, wrapped
from sftrl.tables import POST_RL, label, need

ROW = 0.27  # inches a run


@styled
def decision(table: pd.DataFrame) -> Figure:
    """Draw a decision, one row of panels per family, its runs from best to worst.

    With calibration runs: the predicted score after RL with its 95 % interval, chance to be best and expected regret
    beside it, and, in a replay, what RL made of the run. Without: what each metric says, with its interval.

    Args:
        table: rows of `decide`, `replay` or `answer`.
    """
    need(table, ["predictor", "family", "run", "rank", "predicted", "p_best", "apart"], "decision")
    families = dict(tuple(table.groupby("family", sort=False)))
    heights = [ROW * rows["run"].nunique() + 0.8 for rows in families.values()]
    figure = Figure(figsize=(6.6, sum(heights) + 0.4), layout="constrained")
    for part, (family, rows) in zip(
        figure.subfigures(len(families), 1, squeeze=False, height_ratios=heights).flat, families.items(), strict=True
    ):
        overall = rows[rows["predictor"] == rows["predictor"].iloc[-1]].reset_index(drop=True)
        if overall["predicted"].notna().any():
            panels = [part.subplots()]
            _draw_predicted(panels[0], overall)
        else:
            metrics = {name: m for name, m in rows.groupby("predictor", sort=False) if m["value"].notna().any()}
            panels = list(part.subplots(1, len(metrics), sharey=True, squeeze=False).flat)
            for axes, (name, metric) in zip(panels, metrics.items(), strict=True):
                _draw_measured(axes, name, metric.set_index("run").loc[overall["run"]].reset_index(), overall)
        panels[0].set_yticks(range(len(overall)), [wrapped(str(run)) for run in overall["run"]])
        panels[0].set_ylim(len(overall) - 0.4, -0.6)
        part.suptitle(_title(family, overall), fontsize=9, weight="bold", x=0.01, ha="left")
    looks = [
        Line2D([], [], color=BEST_RED, marker="o", ms=4.5, label="take this one"),
        Line2D([], [], color=RL_BLUE, marker="o", ms=4.5, label="cannot be told apart from it"),
        Line2D([], [], color=PALE, marker="o", ms=4.5, label="can be"),
    ]
    if POST_RL in table and table[POST_RL].notna().any():
        looks.append(Line2D([], [], color="black", marker="D", mfc="white", ls="", ms=4, label="after RL, as measured"))
    figure.legend(handles=looks, loc="outside upper center", ncols=4)
    return figure


def _title(family: str, rows: pd.DataFrame) -> str:
    runs = rows["calibration"].iloc[0]
    if not runs:
        return f"{family}: a ranking only, too few runs have been through RL"
    replayed = POST_RL in rows and rows[POST_RL].notna().all()
    return f"{family}: {'replayed, each run' if replayed else 'each'} predicted from {runs} that went through RL"


def _colours(rows: pd.DataFrame) -> list[str]:
    return [BEST_RED, *(PALE if apart else RL_BLUE for apart in rows["apart"].iloc[1:])]


def _draw_predicted(axes: Axes, rows: pd.DataFrame) -> None:
    for y, (row, colour) in enumerate(zip(rows.to_dict("records"), _colours(rows), strict=True)):
        axes.plot([100 * row["low"], 100 * row["high"]], [y, y], color=colour, lw=1.3)
        axes.plot(100 * row["predicted"], y, "o", color=colour, ms=4.5)
    if POST_RL in rows:
        axes.plot(100 * rows[POST_RL], range(len(rows)), "D", mfc="white", mec="black", ms=4, zorder=3)
    right = axes.get_yaxis_transform()
    for x, title, values in (
        (1.06, "chance\nbest", [f"{p:.0%}" for p in rows["p_best"]]),
        (1.17, "expected\nregret", [f"{100 * r:.1f}" for r in rows["expected_regret"]]),
    ):
        axes.text(x, -0.7, title, transform=right, ha="center", va="bottom", color="#444444", fontsize=7)
        for y, words in enumerate(values):
            axes.text(x, y, words, transform=right, ha="center", va="center")
    axes.set_xlabel("Pass@1 after RL, %, predicted, 95 % interval")


def _draw_measured(axes: Axes, name: str, metric: pd.DataFrame, overall: pd.DataFrame) -> None:
    scale, unit = units(name)
    for y, (row, colour) in enumerate(zip(metric.to_dict("records"), _colours(overall), strict=True)):
        if pd.notna(row["value_low"]):
            axes.plot([scale * row["value_low"], scale * row["value_high"]], [y, y], color=colour, lw=1.3)
        axes.plot(scale * row["value"], y, "o", color=colour, ms=4.5)
    axes.set_xlabel(label(name) + unit)
    low, high = metric["value"].min(), metric["value"].max()
    if unit == ", nats/token" and high > 10 * low > 0:  # a run that never learned the notation dwarfs the others
        log_scale(axes)
