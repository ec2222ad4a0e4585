"""Scores before and after RL by run: a filled bar after SFT, an outlined bar after RL."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from sftrl.errors import InputError
from sftrl.figures.style import BEST_RED, LOSS_PINK, PALE, RL_BLUE, SFT_GREEN, log_scale, styled, wrapped
from sftrl.tables import BASE, need

ROW = 0.36  # inches a run
WIDE = 5  # times the smallest loss, beyond which they need a logarithmic axis


@styled
def bars(
    results: pd.DataFrame, predictors: pd.DataFrame | None = None, *, benchmark: str = "average", loss: bool = False
) -> Figure:
    """Draw Pass@1 after SFT and after RL with 95 % intervals, one panel per family, optionally beside the loss.

    Args:
        results: rows of `results.csv`. Intervals (`pass@1_low`, `pass@1_high`) are drawn where they are given: they
            are over samples and problems. Each RL seed is a dot; the bar is their mean, its interval their mean one.
        predictors: rows of `predictors.csv`; its `generalization_loss` makes the loss panel.
        benchmark: which benchmark's rows to draw.
        loss: draw the loss panel.
    """
    need(results, ["family", "run", "phase", "benchmark", "pass@1"], "results")
    rows = results[results["benchmark"] == benchmark]
    if rows.empty:
        raise InputError(f"results: no benchmark {benchmark!r}")
    if loss:
        need(pd.DataFrame() if predictors is None else predictors, ["generalization_loss"], "predictors")
    families = {family: scores(part) for family, part in rows.groupby("family", sort=True)}
    heights = [len(table) * ROW + 0.75 for table in families.values()]
    figure = Figure(figsize=(8.2 if loss else 6.4, sum(heights) + 0.35), layout="constrained")
    axes = figure.subplots(
        len(families), 1 + loss, squeeze=False, height_ratios=heights, width_ratios=[2.6, 1][: 1 + loss]
    )
    for (family, table), row in zip(families.items(), axes, strict=True):
        _draw_scores(row[0], table)
        row[0].set_title(str(family), pad=14)
        if loss:
            losses = predictors[predictors["family"].astype(str) == str(family)].astype({"run": str})
            _draw_losses(row[1], table["run"].map(losses.set_index("run")["generalization_loss"]))
    if loss:
        _scale_losses([row[1] for row in axes])
    axes[-1][0].set_xlabel(f"Pass@1 ({'mean over benchmarks' if benchmark == 'average' else benchmark}), %")
    handles = [
        Patch(facecolor=SFT_GREEN, label="after SFT"),
        Patch(facecolor="none", edgecolor="black", label="after RL"),
    ]
    if rows.groupby(["family", "run", "phase"]).size().max() > 1:
        handles.append(Line2D([], [], marker="o", ls="", mfc="white", mec=RL_BLUE, ms=4, label="one RL seed"))
    if (rows["run"] == BASE).any():
        handles.append(Line2D([], [], color=PALE, ls="--", label="RL without SFT"))
    figure.legend(handles=handles, loc="outside upper center", ncols=4)
    return figure


def scores(rows: pd.DataFrame) -> pd.DataFrame:
    """One row per run, in drawing order: the base first, then by selection, examples and epochs; scores in percent."""
    rows = rows.astype({"run": str})
    found = []
    for run, part in rows.groupby("run", sort=False):
        row: dict = {"run": run}
        row |= {c: part[c].iloc[0] for c in ("selection", "examples", "epochs", "learning_rate") if c in part}
        for phase in ("post_sft", "post_rl"):
            at = part[part["phase"] == phase]
            row[phase] = 100 * at["pass@1"].mean()
            for end in ("low", "high"):
                row[f"{phase}_{end}"] = 100 * at[f"pass@1_{end}"].mean() if f"pass@1_{end}" in at else np.nan
            row[f"{phase}_all"] = tuple(100 * at["pass@1"])
        found.append(row)
    table = pd.DataFrame(found)
    return table.iloc[_order(table)].reset_index(drop=True)


def ordered(rows: pd.DataFrame) -> list[tuple[str, str]]:
    """List the (family, run) of a table in drawing order."""
    runs = rows.drop_duplicates(["family", "run"])
    return [(f, r) for _, part in runs.groupby("family") for f, r in part.iloc[_order(part)][["family", "run"]].values]


def _order(runs: pd.DataFrame) -> np.ndarray:
    """Drawing order: the base, then by selection, examples, epochs and rate where these are known, then as it comes."""
    selection = (
        runs["selection"].map({"none": 0, "random": 1, "longest": 2, "shortest": 3}) if "selection" in runs else 0
    )
    keys = pd.DataFrame({"base": runs["run"] != BASE, "selection": selection}, index=runs.index)
    for column in ("examples", "epochs", "learning_rate"):
        if column in runs:
            keys[column] = runs[column]
    keys["place"] = np.arange(len(runs))
    return keys.sort_values(list(keys), kind="stable", na_position="last")["place"].to_numpy()


def _draw_scores(axes: Axes, table: pd.DataFrame) -> None:
    place = np.arange(len(table))
    axes.barh(place, table["post_sft"], height=0.5, color=SFT_GREEN, lw=0)
    axes.barh(place, table["post_rl"], height=0.8, fill=False, edgecolor="black", lw=1.1)
    for phase, offset, colour in (("post_sft", 0.13, "black"), ("post_rl", -0.13, RL_BLUE)):
        reach = [table[phase] - table[f"{phase}_low"], table[f"{phase}_high"] - table[phase]]
        if not table[f"{phase}_low"].isna().all():
            axes.errorbar(table[phase], place + offset, xerr=np.clip(reach, 0, None), fmt="none", ecolor=colour, lw=1.2)
    for y, seeds in zip(place, table["post_rl_all"], strict=True):
        if len(seeds) > 1:
            axes.plot(seeds, [y - 0.13] * len(seeds), "o", mfc="white", mec=RL_BLUE, ms=3.5, mew=0.8)
    base = table.loc[table["run"] == BASE, "post_rl"]
    if base.notna().any():
        axes.axvline(base.iloc[0], color=PALE, ls="--", lw=1.1, zorder=0.9)

    right = axes.get_yaxis_transform()
    marks: dict[int, list[str]] = {}
    for x, phase, title in ((1.05, "post_sft", "SFT"), (1.14, "post_rl", "RL")):
        of_sft = table.loc[table["run"] != BASE, phase]  # the base is a reference, not one of the choices
        best = of_sft.index[np.isclose(of_sft, of_sft.max())] if of_sft.nunique() > 1 else []
        for tied in best:
            marks.setdefault(tied, []).append(f"best {title}")
        axes.text(x, -0.7, title, transform=right, ha="center", va="bottom", color="#444444")
        for y, value in zip(place, table[phase], strict=True):
            look = {"weight": "bold", "color": BEST_RED} if y in best else {}
            text = "–" if np.isnan(value) else f"{value:.1f}"
            axes.text(x, y, text, transform=right, ha="center", va="center", **look)
    ends = table[["post_sft", "post_rl", "post_sft_high", "post_rl_high"]].max(axis=1)
    for y, words in marks.items():
        look = {"color": BEST_RED, "weight": "bold", "va": "center", "bbox": {"fc": "white", "ec": "none", "pad": 0.8}}
        axes.annotate(", ".join(words), (ends[y], y), xytext=(5, 0), textcoords="offset points", **look)
    axes.set_yticks(place, [wrapped(name) for name in table["run"]])
    axes.set_ylim(len(table) - 0.4, -0.6)
    axes.set_xlim(0, (1.5 if any(len(words) > 1 for words in marks.values()) else 1.3) * max(ends.max(), 1))
    axes.set_xticks([tick for tick in axes.get_xticks() if 0 <= tick <= 100])  # the rest is room for words
    axes.grid(axis="y", visible=False)
    axes.tick_params(axis="y", length=0)


def _draw_losses(axes: Axes, losses: pd.Series) -> None:
    place = np.arange(len(losses))
    axes.plot(losses, place, "D", color=LOSS_PINK, ms=5)
    left = axes.get_yaxis_transform()
    for y, value in zip(place, losses, strict=True):
        if np.isnan(value):
            axes.text(0.03, y, "not measured", transform=left, va="center")
        else:
            axes.annotate(f"{value:.3f}", (value, y), xytext=(6, 0), textcoords="offset points", va="center")
    axes.set_yticks(place, [])
    axes.set_ylim(len(losses) - 0.4, -0.6)
    axes.grid(axis="y", visible=False)
    axes.tick_params(axis="y", length=0)


def _scale_losses(panels: list[Axes]) -> None:
    """Give the loss panels one axis, logarithmic where a base that never saw the notation would dwarf the others."""
    drawn = np.concatenate([line.get_xdata() for axes in panels for line in axes.lines])
    drawn = drawn[np.isfinite(drawn)]
    low, high = (drawn.min(), drawn.max()) if len(drawn) else (0.1, 1.0)
    wide = 0 < WIDE * low < high
    for axes in panels:
        if wide:
            log_scale(axes)
            axes.set_xlim(low / (high / low) ** 0.08, high * (high / low) ** 0.45)  # room for the numbers
        else:
            axes.locator_params(axis="x", nbins=4)
            axes.set_xlim(0, 1.4 * high)
    panels[-1].set_xlabel("loss, nats/token" + (" (log)" if wide else ""))
