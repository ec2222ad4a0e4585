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
    beside it. Without: what each metric says, with its interval. In a replay: what each run was predicted, and what RL
    made of it.

    Args:
        table: rows of `decide`, `replay` or `answer`.
    """
    need(table, ["predictor", "family", "run", "predicted"], "decision")
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
    replayed = [_replayed(rows) for rows in families.values()]
    looks = {}
    if not all(replayed):
        looks |= {"take this one": BEST_RED, "cannot be told apart from it": RL_BLUE, "can be": PALE}
    else:
        looks["predicted from the others"] = RL_BLUE
    handles = [Line2D([], [], color=colour, marker="o", ms=4.5, label=words) for words, colour in looks.items()]
    if any(replayed):
        handles.append(
            Line2D([], [], color="black", marker="D", mfc="white", ls="", ms=4, label="after RL, as measured")
        )
    figure.legend(handles=handles, loc="outside upper center", ncols=4)
    return figure


def _replayed(rows: pd.DataFrame) -> bool:
    return POST_RL in rows and bool(rows[POST_RL].notna().all())


def _title(family: str, rows: pd.DataFrame) -> str:
    runs = rows["calibration"].iloc[0]
    if not runs:
        return f"{family}: a ranking only, too few runs have been through RL"
    if _replayed(rows):
        return f"{family}: all through RL, each predicted from the {runs} others"
    return f"{family}: each predicted from {runs} that went through RL"


def _colours(rows: pd.DataFrame) -> list[str]:
    if _replayed(rows):
        return [RL_BLUE] * len(rows)
    return [BEST_RED, *(PALE if apart else RL_BLUE for apart in rows["apart"].iloc[1:])]


def _draw_predicted(axes: Axes, rows: pd.DataFrame) -> None:
    for y, (row, colour) in enumerate(zip(rows.to_dict("records"), _colours(rows), strict=True)):
        axes.plot([100 * row["low"], 100 * row["high"]], [y, y], color=colour, lw=1.3)
        axes.plot(100 * row["predicted"], y, "o", color=colour, ms=4.5)
    axes.set_xlabel("Pass@1 after RL, %, predicted, 95 % interval")
    if _replayed(rows):
        axes.plot(100 * rows[POST_RL], range(len(rows)), "D", mfc="white", mec="black", ms=4, zorder=3)
        return
    right = axes.get_yaxis_transform()
    for x, title, values in (
        (1.06, "chance\nbest", [f"{p:.0%}" for p in rows["p_best"]]),
        (1.17, "expected\nregret", [f"{100 * r:.1f}" for r in rows["expected_regret"]]),
    ):
        axes.text(x, -0.7, title, transform=right, ha="center", va="bottom", color="#444444", fontsize=7)
        for y, words in enumerate(values):
            axes.text(x, y, words, transform=right, ha="center", va="center")


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
