"""What more epochs on the same examples change, before RL and after it."""

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from sftrl.figures.style import BEST_RED, FAMILY_MARKERS, RL_BLUE, styled
from sftrl.tables import POST_RL, need


@styled
def ladders(pairs: pd.DataFrame) -> Figure:
    """Draw each pair of runs that differ in epochs: the change of Pass@1 before RL across, after RL upwards.

    On the dotted line RL keeps what SFT gained; on the horizontal one nothing is left of it; below, the run that looked
    better ends lower: a quagmire. Pairs in which Pass@k fell as Pass@1 rose are filled.

    Args:
        pairs: rows of `pairs.csv`, as `sftrl.predict.overtraining` gives them.
    """
    need(pairs, ["family", "fewer", "more", "pass@1_change", "sharpened", f"{POST_RL}_change"], "pairs")
    rows = pairs[pairs[f"{POST_RL}_change"].notna()]
    figure = Figure(figsize=(4.6, 3.6), layout="constrained")
    axes = figure.subplots()
    markers = dict(zip(pd.unique(rows["family"]), FAMILY_MARKERS, strict=False))
    for row in rows.to_dict("records"):
        x, y = 100 * row["pass@1_change"], 100 * row[f"{POST_RL}_change"]
        ends = [100 * row[f"{POST_RL}_change_{end}"] for end in ("low", "high")]
        colour = BEST_RED if row["sharpened"] else RL_BLUE
        axes.plot([x, x], ends, color=colour, lw=0.9, alpha=0.6)
        axes.plot(x, y, markers[row["family"]], color=colour, mfc=colour if row["sharpened"] else "white", ms=5)
    axes.axhline(0, color="#888888", lw=0.8)
    axes.axvline(0, color="#888888", lw=0.8)
    axes.axline((0, 0), slope=1, color="#888888", lw=0.8, ls=":")
    axes.set_xlabel("change of Pass@1 before RL, points")
    axes.set_ylabel("change of Pass@1 after RL, points")
    looks = [
        Line2D([], [], color=BEST_RED, marker="o", ls="", ms=5, label="Pass@1 up, Pass@k down before RL"),
        Line2D([], [], color=RL_BLUE, marker="o", mfc="white", ls="", ms=5, label="other pairs"),
    ]
    if len(markers) > 1:
        looks += [Line2D([], [], color="black", marker=m, ls="", ms=5, label=name) for name, m in markers.items()]
    figure.legend(handles=looks, loc="outside upper center", ncols=2)
    return figure
