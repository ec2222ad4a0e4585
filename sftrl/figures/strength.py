"""How good each predictor is: over k, side by side, and in the regret of choosing by it."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, NullLocator

from sftrl.errors import InputError
from sftrl.figures.style import LOSS_PINK, PALE, RL_BLUE, styled, wrapped
from sftrl.tables import direction, headline, label

MEASURES = {"r2": "r²", "spearman": "Spearman"}
ROWS = 6  # pools that a page holds


@styled
def k_sweep(judged: pd.DataFrame, ceiling: pd.DataFrame | None = None, *, pools: list[str] | None = None) -> Figure:
    """Draw how Pass@k's r² and Spearman correlation with the RL result depend on k, one row of panels per pool.

    Bands are 95 % intervals over runs, hollow points forecasts beyond the samples. The grey line and band are the noise
    ceiling; the dashed line is the generalization loss, for comparison (its Spearman correlation with the sign
    flipped). Pools in which nothing could be judged are left out.
    """
    judged = judged[judged["target"] == "post_rl"]
    if pools is None:
        of_ks = judged[judged["predictor"].str.fullmatch(r"pass@\d+") & judged["r2"].notna()]
        pools = [p for p in pd.unique(of_ks["pool"]) if not p.startswith("benchmark:")][:ROWS]
    if not len(pools):
        raise InputError("judged: no pool in which Pass@k could be judged")
    figure = Figure(figsize=(6.4, 1.9 * len(pools) + 0.5), layout="constrained")
    axes = figure.subplots(len(pools), 2, squeeze=False)
    for pool, row in zip(pools, axes, strict=True):
        for measure, panel in zip(MEASURES, row, strict=True):
            draw_k_sweep(panel, judged[judged["pool"] == pool], ceiling, pool, measure)
            panel.set_ylabel(f"{MEASURES[measure]} with post-RL")
        row[0].set_title(f"{pool}, n = {judged.loc[judged['pool'] == pool, 'n'].max()}{unknown(ceiling, pool)}")
    for panel in axes[-1]:
        panel.set_xlabel("k of Pass@k after SFT")
    figure.legend(handles=k_sweep_handles(judged, ceiling), loc="outside upper center", ncols=3)
    return figure


def k_sweep_handles(judged: pd.DataFrame, ceiling: pd.DataFrame | None) -> list[Line2D]:
    """Legend entries for what a k sweep shows."""
    handles = [Line2D([], [], color=RL_BLUE, marker="o", ms=4, label="Pass@k, 95 % band")]
    if judged["predictor"].str.startswith("extrapolated").any():
        handles.append(
            Line2D([], [], color=RL_BLUE, ls=":", marker="o", ms=4, mfc="white", label="forecast of larger k")
        )
    if judged.loc[judged["predictor"] == "generalization_loss", "r2"].notna().any():
        handles.append(Line2D([], [], color=LOSS_PINK, ls="--", label="loss (sign flipped)"))
    if ceiling is not None and ceiling["r2"].notna().any():
        handles.append(Line2D([], [], color=PALE, label="noise ceiling"))
    return handles


def draw_k_sweep(axes: Axes, rows: pd.DataFrame, ceiling: pd.DataFrame | None, pool: str, measure: str) -> None:
    """Draw one panel of the k sweep."""
    if ceiling is not None:
        draw_ceiling(axes, ceiling, pool, measure, vertical=False)
    loss = rows.loc[rows["predictor"] == "generalization_loss", measure]
    if loss.notna().any():
        axes.axhline(loss.iloc[0] if measure == "r2" else -loss.iloc[0], color=LOSS_PINK, ls="--", lw=1.2)
    rows = rows.assign(k=pd.to_numeric(rows["predictor"].str.extract(r"^(?:extrapolated_)?pass@(\d+)$")[0]))
    rows = rows.dropna(subset=["k", measure]).sort_values("k")
    forecast = rows["predictor"].str.startswith("extrapolated")
    drawn, beyond = rows[~forecast], rows[forecast]
    low, high = f"{measure}_low", f"{measure}_high"
    axes.plot(drawn["k"], drawn[measure], color=RL_BLUE, marker="o", ms=4)
    axes.fill_between(drawn["k"], drawn[low], drawn[high], color=RL_BLUE, alpha=0.2, lw=0)
    at, value, ends = (beyond[c].to_numpy() for c in ("k", measure, [low, high]))
    axes.errorbar(at, value, np.abs(ends.T - value), fmt="o", ms=4, mfc="white", color=RL_BLUE, lw=1, ls=":")
    ks = drawn["k"].astype(int).tolist()
    shown = ks[:: -(-len(ks) // 6)] + beyond["k"].astype(int).tolist()
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_locator(FixedLocator(shown))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks(shown, [str(k) for k in shown])
    lowest = rows[low].min()
    axes.set_ylim(min(0, lowest - 0.05) if measure == "spearman" else 0, 1.03)


def draw_ceiling(axes: Axes, ceiling: pd.DataFrame, pool: str, measure: str, *, vertical: bool) -> None:
    """Draw the noise ceiling of a pool, where it is known."""
    row = ceiling[(ceiling["pool"] == pool) & ceiling["r2"].notna()]
    if row.empty:
        return
    row = row.iloc[0]
    line, span = (axes.axvline, axes.axvspan) if vertical else (axes.axhline, axes.axhspan)
    line(row[measure], color=PALE, lw=1.2)
    span(row[f"{measure}_low"], row[f"{measure}_high"], color=PALE, alpha=0.18, lw=0)


def unknown(ceiling: pd.DataFrame | None, pool: str) -> str:
    """What a title adds where a pool's noise ceiling is not known."""
    rows = ceiling[(ceiling["pool"] == pool) & ceiling["r2"].isna()] if ceiling is not None else []
    return f"; {rows['note'].iloc[0].split(';')[0]}" if len(rows) else ""


def named(predictor: str) -> str:
    """Name a predictor on an axis where the right direction is to the right: a loss with its sign flipped."""
    return wrapped(("−" if direction(predictor) < 0 else "") + label(predictor), 30)


@styled
def strength(
    judged: pd.DataFrame,
    ceiling: pd.DataFrame | None = None,
    predictors: list[str] | None = None,
    *,
    pool: str | None = None,
    target: str = "post_rl",
) -> Figure:
    """Draw every predictor's r² and Spearman correlation with their 95 % intervals, and leave-one-out beside them.

    Hollow diamonds are out of sample (leave-one-out: coefficient of determination, Spearman), an arrow at the edge
    where that is below 0. The grey line and band are the noise ceiling, where it is known.
    """
    rows = _pool(judged[judged["target"] == target], pool)
    rows = rows[rows["predictor"].isin(headline(list(rows["predictor"])) if predictors is None else predictors)]
    rows = rows[rows["r2"].notna()]
    figure = Figure(figsize=(6.6, 0.3 * len(rows) + 1.2), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    for measure, panel in zip(MEASURES, axes, strict=True):
        draw_strength(panel, rows, ceiling, measure)
    pool = rows["pool"].iloc[0]
    figure.suptitle(f"{pool}, n = {rows['n'].max()}{unknown(ceiling, pool)}", fontsize=9, weight="bold")
    handles = [
        Line2D([], [], color=RL_BLUE, marker="o", ms=4, label="over these runs, 95 % interval"),
        Line2D([], [], color="black", marker="D", mfc="white", ls="", ms=4, label="leave-one-out"),
    ]
    if (rows["loo_cod"] < 0).any():
        handles.append(Line2D([], [], color="black", marker="<", mfc="white", ls="", ms=6, label="below 0"))
    if ceiling is not None and ceiling.loc[ceiling["pool"] == pool, "r2"].notna().any():
        handles.append(Patch(facecolor=PALE, alpha=0.4, label="noise ceiling"))
    figure.legend(handles=handles, loc="outside lower center", ncols=4)
    return figure


def draw_strength(axes: Axes, rows: pd.DataFrame, ceiling: pd.DataFrame | None, measure: str) -> None:
    """Draw one measure for each predictor, from top to bottom; Spearman with a loss's sign flipped."""
    if ceiling is not None:
        draw_ceiling(axes, ceiling, rows["pool"].iloc[0], measure, vertical=True)
    place = np.arange(len(rows))
    value, below, above = (rows[f"{measure}{end}"].to_numpy(float) for end in ("", "_low", "_high"))
    reach = np.nan_to_num([value - below, above - value])
    if measure == "spearman":  # higher is better
        flipped = np.array([direction(name) < 0 for name in rows["predictor"]])
        value, reach = np.where(flipped, -value, value), np.where(flipped, reach[::-1], reach)
    axes.errorbar(value, place, xerr=reach, fmt="o", color=RL_BLUE, ms=4.5, lw=1.3)
    outside = rows["loo_cod" if measure == "r2" else "loo_spearman"].to_numpy(float)
    low = 0.0 if measure == "r2" else -1.0
    look = {"mfc": "white", "mec": "black", "clip_on": False, "zorder": 3, "ls": ""}
    axes.plot(np.where(outside < low, np.nan, outside), place, marker="D", ms=4, **look)
    axes.plot(np.where(outside < low, low - 0.03, np.nan), place, marker="<", ms=6, **look)
    axes.set_yticks(place, [named(name) for name in rows["predictor"]])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlim(low - 0.03, 1.03)
    axes.set_xlabel(MEASURES[measure])
    if measure == "spearman":
        axes.axvline(0, color="black", lw=0.8)


@styled
def regrets(regret: pd.DataFrame, predictors: list[str] | None = None, *, pool: str | None = None) -> Figure:
    """Draw what choosing by each predictor costs in Pass@1 after RL, in points, with 95 % intervals over runs."""
    rows = _pool(regret, pool)
    names = headline(list(rows["predictor"])) if predictors is None else predictors
    rows = rows[rows["predictor"].isin(["random choice", *names]) & rows["regret"].notna()]
    if rows.empty:
        raise InputError("regret: nothing to draw")
    figure = Figure(figsize=(4.6, 0.3 * len(rows) + 1.0), layout="constrained")
    draw_regrets(figure.subplots(), rows)
    return figure


def draw_regrets(axes: Axes, rows: pd.DataFrame) -> None:
    """Draw regret by predictor, the smallest on top."""
    rows = rows.sort_values("regret", kind="stable")
    place, value = np.arange(len(rows)), 100 * rows["regret"].to_numpy()
    reach = np.array([value - 100 * rows["regret_low"], 100 * rows["regret_high"] - value])
    chance = (rows["predictor"] == "random choice").to_numpy()
    for at, colour, marker in ((~chance, RL_BLUE, "o"), (chance, PALE, "s")):
        axes.errorbar(value[at], place[at], xerr=reach[:, at], fmt=marker, color=colour, ms=4.5, lw=1.3)
    if chance.any():
        axes.axvline(value[chance][0], color=PALE, lw=1, ls="--", zorder=0.9)
    axes.set_yticks(place, [wrapped(label(name), 30) for name in rows["predictor"]])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlim(-0.03 * axes.get_xlim()[1], axes.get_xlim()[1])
    axes.set_xlabel(f"points lost, choosing 1 of {int(rows['candidates'].iloc[0])} checkpoints")


def _pool(table: pd.DataFrame, pool: str | None) -> pd.DataFrame:
    if table.empty:
        raise InputError("nothing to draw: the table has no rows")
    pool = table["pool"].iloc[0] if pool is None else pool
    rows = table[table["pool"] == pool]
    if rows.empty:
        raise InputError(f"no pool {pool!r}; there are {list(pd.unique(table['pool']))}")
    return rows
