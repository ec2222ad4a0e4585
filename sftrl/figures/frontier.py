"""What a way of choosing costs and what it brings: regret against tokens spent, as a replay found them."""

import pandas as pd
from matplotlib.figure import Figure

from sftrl.figures.style import BEST_RED, COLOURS, FAMILY_MARKERS, PALE, grid, log_scale, styled
from sftrl.tables import label, need


@styled
def frontier(
    table: pd.DataFrame, measured: pd.DataFrame | None = None, predictors: pd.DataFrame | None = None
) -> Figure:
    """Draw regret against the share of tokens spent, a panel a family; the race in red, random choice as a line.

    Args:
        table: as `sftrl.choose.replay` returns it; a policy is a line over its budgets, with 95 % intervals.
        measured: as `sftrl.choose.measuring` returns it: Pass@1 with more and more samples of all problems.
        predictors: as `sftrl.choose.by_predictor` returns it.
    """
    need(table, ["family", "policy", "budget", "regret", "regret_low", "regret_high", "spent"], "choose")
    families = list(dict.fromkeys(table["family"]))
    figure, panels = grid(len(families), columns=4, width=2.6, height=3.2, sharey=True)
    left_out = {"random"} | (set() if measured is None else {"Pass@1"})
    policies = [name for name in dict.fromkeys(table["policy"]) if name not in left_out]
    for axes, family in zip(panels, families, strict=True):
        for number, name in enumerate(policies):
            rows = table[(table["family"] == family) & (table["policy"] == name)].sort_values("spent")
            rows = rows.drop_duplicates(["spent", "regret"])
            look = (
                {"color": BEST_RED, "lw": 2, "zorder": 4} if name == "race" else {"color": _colour(number), "lw": 1.2}
            )
            _line(axes, rows, name, look | {"marker": FAMILY_MARKERS[number % len(FAMILY_MARKERS)]})
        if measured is not None:
            rows = measured[measured["family"] == family]
            rows = rows[rows["problems"] == rows["problems"].max()].sort_values("spent")
            words = f"Pass@1 of the probe, {rows['samples'].min()} to {rows['samples'].max()} samples"
            _line(axes, rows, words, {"color": PALE})
        if predictors is not None:
            rows = predictors[predictors["family"] == family]
            for number, (name, row) in enumerate(rows.groupby("predictor", sort=False)):
                look = {"color": "black", "mfc": "white", "ls": "none", "zorder": 5}
                _line(axes, row, label(name), look | {"marker": FAMILY_MARKERS[number % len(FAMILY_MARKERS)]})
        chance = table[(table["family"] == family) & (table["policy"] == "random")]["regret"]
        if len(chance):
            axes.axhline(100 * chance.iloc[0], color=PALE, ls="--", lw=1, label="random choice")
        axes.set_title(str(family))
        axes.set_xlabel("tokens spent, % of RL on all")
        log_scale(axes)
    panels[0].set_ylim(bottom=-0.2)
    panels[0].set_ylabel("regret, points")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4 if len(families) > 1 else 2)
    return figure


def _colour(number: int) -> str:
    return [colour for colour in COLOURS if colour not in (BEST_RED, PALE)][number % (len(COLOURS) - 2)]


def _line(axes, rows: pd.DataFrame, name: str, look: dict) -> None:
    below, above = rows["regret"] - rows["regret_low"].clip(lower=0), rows["regret_high"] - rows["regret"]
    axes.errorbar(
        100 * rows["spent"], 100 * rows["regret"], 100 * pd.concat([below, above], axis=1).T.to_numpy(),
        label=name, ms=4, elinewidth=0.7, **{"marker": "."} | look,
    )  # fmt: skip


@styled
def racing(seen: pd.DataFrame, candidates: pd.DataFrame, horizon: int) -> Figure:
    """Draw what a race has seen, a line a candidate, and the score predicted at the horizon with its 95 % interval.

    Args:
        seen: `run, step, score`, a row a probe.
        candidates: as `Race.table` returns it, best first: the first is drawn in red.
        horizon: the last step.
    """
    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    axes = figure.subplots()
    for number, row in enumerate(candidates.to_dict("records")):
        colour = BEST_RED if number == 0 else _colour(number)
        probes = seen[seen["run"] == row["run"]].sort_values("step")
        axes.plot(probes["step"], 100 * probes["score"], color=colour, marker=".", label=str(row["run"]))
        at = horizon * (1.02 + 0.02 * number)
        axes.plot([at, at], [100 * row["low"], 100 * row["high"]], color=colour, lw=1)
        axes.plot(at, 100 * row["predicted"], "o", color=colour, ms=3)
    axes.set_xlabel("step of RL")
    axes.set_ylabel("held-out RL problems solved, %")
    figure.legend(loc="outside right upper")
    return figure
