"""Curves: Pass@k before and after RL, and training logs, one small panel per run or quantity."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, NullLocator

from sftrl.figures.bars import ordered
from sftrl.figures.style import BEST_RED, COLOURS, LOSS_PINK, PALE, RL_BLUE, SFT_GREEN, grid, styled, wrapped
from sftrl.tables import need

COLUMNS = 5  # panels a row: what a page holds


@styled
def passk_curves(results: pd.DataFrame, *, benchmark: str = "average") -> Figure:
    """Draw Pass@k after SFT and after RL over k, with 95 % bands, and mark the k where RL stops being ahead.

    Bands are over samples and problems; several RL seeds are averaged, curve and band alike.
    """
    need(results, ["family", "run", "phase", "benchmark", "pass@1"], "results")
    rows = results[results["benchmark"] == benchmark]
    ks = ks_of(rows)
    runs = ordered(rows)
    figure, panels = grid(len(runs), columns=COLUMNS, width=1.75, height=1.7, sharex=True, sharey=True)
    for axes, (family, run) in zip(panels, runs, strict=True):
        part = rows[(rows["family"] == family) & (rows["run"] == run)]
        curves = {}
        for phase, colour, dash in (("post_sft", SFT_GREEN, "-"), ("post_rl", RL_BLUE, "--")):
            at = part[part["phase"] == phase]
            if at.empty:
                continue
            mean = {end: 100 * at[[f"pass@{k}{end}" for k in ks if f"pass@{k}{end}" in at]].mean() for end in ENDS}
            curves[phase] = mean[""].to_numpy()
            axes.plot(ks, curves[phase], color=colour, ls=dash, lw=1.5)
            if len(mean["_low"]) == len(ks):
                axes.fill_between(ks, mean["_low"], mean["_high"], color=colour, alpha=0.2, lw=0)
        crossing = crossing_k(ks, curves["post_sft"], curves["post_rl"]) if len(curves) == 2 else None
        if crossing:
            axes.axvline(crossing, color=BEST_RED, lw=1, ls=":")
            height = 3 if np.interp(crossing, ks, curves["post_sft"]) > 20 else 88  # out of the curves' way
            side = "right" if crossing > ks[-1] / 4 else "left"
            axes.text(crossing, height, f" k≈{crossing:.0f} ", color=BEST_RED, ha=side)
        _panel_title(axes, family, run, results["family"].nunique() > 1)
    shown = ks[:: -(-len(ks) // 5)]
    first = panels[0]  # all panels share its axes
    first.set_xscale("log", base=2)
    first.set_ylim(0, 100)
    first.xaxis.set_minor_locator(NullLocator())
    first.set_xticks(shown, [str(k) for k in shown])
    figure.supxlabel(f"k ({'mean over benchmarks' if benchmark == 'average' else benchmark})", fontsize=9)
    figure.supylabel("Pass@k, %", fontsize=9)
    handles = [
        Line2D([], [], color=SFT_GREEN, lw=1.5, label="after SFT"),
        Line2D([], [], color=RL_BLUE, lw=1.5, ls="--", label="after RL"),
        Line2D([], [], color=BEST_RED, lw=1, ls=":", label="curves cross"),
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=3)
    return figure


ENDS = ("", "_low", "_high")


def ks_of(results: pd.DataFrame) -> list[int]:
    """List the k that have Pass@k columns with values, ascending."""
    names = [c for c in results if c.startswith("pass@") and c[5:].isdigit() and results[c].notna().any()]
    return sorted(int(name[5:]) for name in names)


def crossing_k(ks: list[int], before: np.ndarray, after: np.ndarray) -> float | None:
    """Find the k at which `after`, ahead at first, falls to `before`; between two k on the log scale. None if never."""
    lead = np.asarray(after) - np.asarray(before)
    behind = np.flatnonzero((lead[:-1] > 0) & (lead[1:] <= 0))
    if not len(behind):
        return None
    i = behind[0]
    share = lead[i] / (lead[i] - lead[i + 1])
    return float(np.exp(np.log(ks[i]) + share * (np.log(ks[i + 1]) - np.log(ks[i]))))


@styled
def rl_curves(curves: pd.DataFrame) -> Figure:
    """Draw RL training: reward, shares of truncated responses and of groups without signal, the means over RL seeds.

    Where there are several seeds, the reward of each is drawn too, paler.

    Args:
        curves: rows of `rl_curves.csv`: `family, run, rl_seed, step, reward` and whichever of `clipped_ratio` and
            `frac_reward_zero_std` were logged; all are shares between 0 and 1.
    """
    need(curves, ["family", "run", "rl_seed", "step", "reward"], "rl_curves")
    shown = [(c, *look) for c, *look in SHARES if c in curves and curves[c].notna().any()]
    runs = ordered(curves)
    figure, panels = grid(len(runs), columns=COLUMNS, width=1.75, height=1.6, sharex=True, sharey=True)
    for axes, (family, run) in zip(panels, runs, strict=True):
        part = curves[(curves["family"] == family) & (curves["run"] == run)]
        for column, _, colour, dash in shown:
            _plot(axes, part.groupby("step")[column].mean(), color=colour, ls=dash, lw=1)
        seeds = [seed.set_index("step")["reward"].sort_index() for _, seed in part.groupby("rl_seed", dropna=False)]
        for seed in seeds if len(seeds) > 1 else []:
            _plot(axes, seed, color=RL_BLUE, lw=0.6, alpha=0.45)
        _panel_title(axes, family, run, curves["family"].nunique() > 1)
    panels[0].set_ylim(0, 1)
    panels[0].xaxis.set_major_locator(MaxNLocator(nbins=4, integer=True))
    figure.supxlabel("RL step", fontsize=9)
    figure.supylabel("share, smoothed", fontsize=9)
    handles = [Line2D([], [], color=colour, ls=dash, label=label) for _, label, colour, dash in shown]
    if curves.groupby(["family", "run"])["rl_seed"].nunique().max() > 1:
        handles.append(Line2D([], [], color=RL_BLUE, lw=0.6, alpha=0.45, label="of each RL seed"))
    figure.legend(handles=handles, loc="outside upper center", ncols=4 if len(runs) >= COLUMNS else 2)
    return figure


SHARES = (
    ("reward", "mean reward", RL_BLUE, "-"),
    ("frac_reward_zero_std", "groups without signal", PALE, "--"),
    ("clipped_ratio", "responses cut off", COLOURS[1], ":"),
)


@styled
def sft_curves(curves: pd.DataFrame) -> Figure:
    """Draw the SFT loss over epochs, one panel per run. `curves` holds rows of `sft_curves.csv`."""
    need(curves, ["family", "run", "epoch", "loss"], "sft_curves")
    runs = ordered(curves)
    figure, panels = grid(len(runs), columns=COLUMNS, width=1.75, height=1.6, sharey=True)
    for axes, (family, run) in zip(panels, runs, strict=True):
        part = curves[(curves["family"] == family) & (curves["run"] == run)].sort_values("epoch")
        axes.plot(part["epoch"], part["loss"], color=LOSS_PINK, lw=0.5, alpha=0.5)
        axes.plot(part["epoch"], smooth(part["loss"]), color=LOSS_PINK, lw=1.3)
        _panel_title(axes, family, run, curves["family"].nunique() > 1)
    panels[0].set_ylim(0, max(panels[0].get_ylim()[1], 1.03 * curves["loss"].max()))  # flat curves have no margin
    figure.supxlabel("epoch", fontsize=9)
    figure.supylabel("loss, nats/token", fontsize=9)
    return figure


QUANTITIES = {  # of a training's log, in the order of its panels
    "loss": "loss, nats/token",
    "held_out_loss": "held-out loss, nats/token",
    "reward": "mean reward",
    "frac_reward_zero_std": "groups without signal",
    "clipped_ratio": "responses cut off",
    "entropy": "entropy, nats/token",
    "mean_length": "response length, tokens",
    "learning_rate": "learning rate",
    "grad_norm": "gradient norm",
}


@styled
def one_run(log: pd.DataFrame) -> Figure:
    """Draw the log of one training over steps, one panel for each quantity of `QUANTITIES` in it."""
    need(log, ["step"], "log")
    shown = [name for name in QUANTITIES if name in log and log[name].notna().any()]
    figure, panels = grid(len(shown), columns=4, width=2.1, height=1.6, sharex=True)
    for axes, name in zip(panels, shown, strict=True):
        part = log[["step", name]].dropna()  # the held-out loss is measured at some steps alone
        colour = LOSS_PINK if name.endswith("loss") else RL_BLUE
        noisy = len(part) >= FEW and name not in ("learning_rate", "held_out_loss")
        axes.plot(part["step"], part[name], color=colour, lw=0.6 if noisy else 1.2, alpha=0.5 if noisy else 1)
        if noisy:
            axes.plot(part["step"], smooth(part[name]), color=colour, lw=1.4)
        axes.set_title(QUANTITIES[name], fontsize=8)
        axes.yaxis.set_major_locator(MaxNLocator(nbins=4))
    panels[0].xaxis.set_major_locator(MaxNLocator(nbins=4, integer=True))
    figure.supxlabel("step", fontsize=9)
    return figure


FEW = 30  # steps, fewer than which are not smoothed


@styled
def step_curves(curves: pd.DataFrame) -> Figure:
    """Draw held-out loss (left) and Pass@k (right) over the steps of a training, and the step that is marked.

    Args:
        curves: rows of `step_curves.csv`: `family, run, measured, step, pass@1`, larger k, and, where known,
            `generalization_loss` and `marked`, the step from which the loss has risen and Pass@k has not.
    """
    need(curves, ["family", "run", "measured", "step", "pass@1"], "step_curves")
    known = curves.reindex(columns=[*dict.fromkeys([*curves, "generalization_loss", "marked"])])
    trainings = list(known.groupby(["family", "run", "measured"], sort=False))
    figure, panels = grid(len(trainings), columns=3, width=2.9, height=2.3)
    for axes, ((family, run, measured), part) in zip(panels, trainings, strict=True):
        part = part.sort_values("step")
        axes.plot(part["step"], part["generalization_loss"], color=LOSS_PINK, marker="o", ms=3, lw=1.3)
        right = axes.twinx()
        right.grid(visible=False)
        right.set_ylim(0, 100)
        for k, dash in {1: "-", max(ks_of(part)): "--"}.items():
            right.plot(part["step"], 100 * part[f"pass@{k}"], color=SFT_GREEN, ls=dash, lw=1.3)
        for step in part.loc[part["marked"] == True, "step"]:  # noqa: E712, as it may be missing
            axes.axvline(step, color=BEST_RED, lw=1, ls=":")
        _panel_title(axes, family, f"{run}, {measured}", curves["family"].nunique() > 1)
    figure.supxlabel("step", fontsize=9)
    figure.supylabel("held-out loss, nats/token", fontsize=9)
    handles = [
        Line2D([], [], color=LOSS_PINK, marker="o", ms=3, label="loss"),
        Line2D([], [], color=SFT_GREEN, label="Pass@1, % (right)"),
        Line2D([], [], color=SFT_GREEN, ls="--", label="Pass@k, largest k"),
        Line2D([], [], color=BEST_RED, lw=1, ls=":", label="since then only the loss has risen"),
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=2)
    return figure


def _plot(axes: Axes, values: pd.Series, **looks) -> None:
    """Plot values over their index, smoothed; of a long curve some fifty points, as a page holds hundreds of curves."""
    last = len(values) - 1
    thin = sorted({*range(0, last, max(1, len(values) // 50)), last})
    axes.plot(values.index[thin], smooth(values)[thin], **looks)


def smooth(values: pd.Series) -> np.ndarray:
    """Take a running mean over a twentieth of the curve, at least three steps."""
    return values.rolling(max(3, len(values) // 20), min_periods=1, center=True).mean().to_numpy()


def _panel_title(axes: Axes, family: str, run: str, with_family: bool) -> None:
    name = wrapped(f"{family} {run}" if with_family else str(run), 22)
    axes.set_title(name, fontsize=7.5)
