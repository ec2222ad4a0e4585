"""What more epochs on the same examples change, before RL and after it."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from sftrl.figures.style import BEST_RED, FAMILY_MARKERS, RL_BLUE, styled
from sftrl.tables import BASE, POST_RL, need

ALL = "all"  # the rows of `sharpened.csv` over all families


@styled
def ladders(pairs: pd.DataFrame, sharpened: pd.DataFrame | None = None) -> Figure:
    """Draw each pair of runs that differ in epochs: the change of Pass@1 before RL across, after RL upwards.

    On the dotted line RL keeps what SFT gained; on the horizontal one nothing is left of it; below, the run that looked
    better ends lower: a quagmire. Pairs in which Pass@k fell as Pass@1 rose are filled, those of the base with a run on
    its own responses have a black edge; where pairs were probed during RL, a second panel shows what becomes of their
    mean change, a line a family. More families than there are markers are not told apart: of them the second panel has
    the mean, with its interval over pairs.

    Args:
        pairs, sharpened: rows of `pairs.csv` and `sharpened.csv`, as `sftrl.predict.overtraining` gives them.
    """
    need(pairs, ["family", "fewer", "more", "pass@1_change", "sharpened", f"{POST_RL}_change"], "pairs")
    rows = pairs[pairs[f"{POST_RL}_change"].notna()]
    families = list(pd.unique(rows["family"]))
    many = len(families) > len(FAMILY_MARKERS)
    markers = dict.fromkeys(families, "o") if many else dict(zip(families, FAMILY_MARKERS, strict=False))
    probed = _probed(sharpened)
    figure = Figure(figsize=(7.2 if len(probed) else 4.6, 3.6), layout="constrained")
    panels = figure.subplots(1, 2 if len(probed) else 1, squeeze=False)[0]
    _draw_pairs(panels[0], rows, markers)
    if len(probed):
        _draw_probed(panels[1], probed, markers, many)
    looks = [Line2D([], [], color=BEST_RED, marker="o", ls="", ms=5, label="Pass@1 up, Pass@k down before RL")]
    if not rows["sharpened"].all():
        looks.append(Line2D([], [], color=RL_BLUE, marker="o", mfc="white", ls="", ms=5, label="other pairs"))
    if (rows["fewer"] == BASE).any():
        looks.append(Line2D([], [], color="white", mec="black", marker="o", ls="", ms=5, label="base, own responses"))
    if many and len(probed):
        looks.append(Line2D([], [], color="black", marker="o", ms=4, lw=1.3, label="mean, interval over pairs"))
    elif len(markers) > 1 and not many:
        looks += [Line2D([], [], color="black", marker=m, ls="", ms=5, label=name) for name, m in markers.items()]
    figure.legend(handles=looks, loc="outside upper center", ncols=4 if len(probed) else 2)
    return figure


def _probed(sharpened: pd.DataFrame | None) -> pd.DataFrame:
    """Return each family's rows of probes and `all`'s, with their `step`; none where there are fewer than two steps."""
    if sharpened is None:
        return pd.DataFrame()
    need(sharpened, ["family", "kind", "outcome", "pairs", "change", "low", "high"], "sharpened")
    step = pd.to_numeric(sharpened["outcome"].str.extract(r"^probe@(\d+)$")[0])
    rows = sharpened.assign(step=step)[step.notna() & (sharpened["kind"] == "all")]
    return rows if rows["step"].nunique() > 1 else rows.iloc[:0]


def _draw_pairs(axes: Axes, rows: pd.DataFrame, markers: dict[str, str]) -> None:
    for row in rows.to_dict("records"):
        x, y = 100 * row["pass@1_change"], 100 * row[f"{POST_RL}_change"]
        ends = [100 * row[f"{POST_RL}_change_{end}"] for end in ("low", "high")]
        colour = BEST_RED if row["sharpened"] else RL_BLUE
        axes.plot([x, x], ends, color=colour, lw=0.9, alpha=0.6)
        looks = {"mfc": colour if row["sharpened"] else "white", "mec": "black" if row["fewer"] == BASE else colour}
        axes.plot(x, y, markers[row["family"]], color=colour, ms=5, **looks)
    axes.axhline(0, color="#888888", lw=0.8)
    axes.axvline(0, color="#888888", lw=0.8)
    axes.axline((0, 0), slope=1, color="#888888", lw=0.8, ls=":")
    axes.set_xlabel("change of Pass@1 before RL, points")
    axes.set_ylabel("change of Pass@1 after RL, points")


def _draw_probed(axes: Axes, rows: pd.DataFrame, markers: dict[str, str], many: bool) -> None:
    for family, line in rows[rows["family"] != ALL].groupby("family", sort=False):
        if many:
            axes.plot(line["step"], 100 * line["change"], color=BEST_RED, lw=0.7, alpha=0.5)
        else:
            _errorbar(axes, line, "", color=BEST_RED, marker=markers[family], lw=1, elinewidth=0.7, alpha=0.8)
    if many:
        _errorbar(axes, rows[rows["family"] == ALL], "pairs_", color="black", marker="o", lw=1.3)
    axes.axhline(0, color="#888888", lw=0.8)
    axes.set_xlabel("step of RL")
    axes.set_ylabel("change on held-out RL problems, points")


def _errorbar(axes: Axes, line: pd.DataFrame, ends: str, **looks) -> None:
    change, low, high = (100 * line[name] for name in ("change", f"{ends}low", f"{ends}high"))
    axes.errorbar(line["step"], change, [change - low, high - change], ms=4, **looks)
