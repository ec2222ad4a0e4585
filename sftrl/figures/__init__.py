"""Every figure, from tables alone. `redraw(folder)` draws all that a folder's committed CSV files allow."""

from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from sftrl.errors import InputError
from sftrl.figures.bars import bars
from sftrl.figures.curves import one_run, passk_curves, rl_curves, sft_curves, step_curves
from sftrl.figures.decision import decision
from sftrl.figures.frontier import frontier, racing
from sftrl.figures.ladders import ladders
from sftrl.figures.overview import summary
from sftrl.figures.paper import claims, loss_of_llama, published
from sftrl.figures.scatter import scatter
from sftrl.figures.strength import k_sweep, regrets, strength
from sftrl.figures.style import save
from sftrl.files import read_tables
from sftrl.predict import pools, runs_table
from sftrl.tables import DESCRIPTION, RUN, headline

__all__ = [
    "bars",
    "claims",
    "decision",
    "frontier",
    "k_sweep",
    "ladders",
    "one_run",
    "passk_curves",
    "published",
    "racing",
    "redraw",
    "regrets",
    "rl_curves",
    "save",
    "scatter",
    "sft_curves",
    "step_curves",
    "strength",
    "summary",
]


def redraw(folder: str | Path) -> list[str]:
    """Draw every figure that the tables in `folder` allow, beside them, as PNG and PDF; return the figures' names.

    `results.csv` gives `bars` and `passk_curves`, with `predictors.csv` also `bars_loss`; `rl_curves.csv`,
    `sft_curves.csv` and `step_curves.csv` give their own; `judged.csv`, `regret.csv` and `ceiling.csv` (as `analyse`
    returns them) give `scatter`, `k_sweep`, `strength`, `regrets` and `summary`; `decision.csv` gives `decision`;
    `pairs.csv`, with `sharpened.csv`, gives `ladders`; `choose.csv`, with `measuring.csv` and `by_predictor.csv`, gives
    `frontier`; `points.csv` (the paper's) gives its six figures, with `judged.csv` and `claims.csv` what they show too.
    A table that is absent leaves its figures out.
    """
    folder = Path(folder)
    tables = read_tables(folder)
    if not tables:
        raise InputError(f"{folder}: no table to draw from")
    tables = {name: t.astype({c: str for c in RUN if c in t}) for name, t in tables.items()}
    figures = {}
    if "results" in tables:
        figures |= _of_results(tables)
    if "points" in tables:
        figures |= _of_paper(tables)
    if "decision" in tables:
        figures["decision"] = decision(tables["decision"])
    if "pairs" in tables and tables["pairs"]["post_rl_change"].notna().any():
        figures["ladders"] = ladders(tables["pairs"], tables.get("sharpened"))
    if "choose" in tables:
        figures["frontier"] = frontier(tables["choose"], tables.get("measuring"), tables.get("by_predictor"))
    for name, draw in (("rl_curves", rl_curves), ("sft_curves", sft_curves), ("step_curves", step_curves)):
        if name in tables:
            figures[name] = draw(_described(tables[name], tables.get("results")))
    for name, figure in figures.items():
        save(figure, folder, name)
    return list(figures)


def _of_results(tables: dict[str, pd.DataFrame]) -> dict[str, Figure]:
    results, predictors = tables["results"], tables.get("predictors")
    judged, regret, ceiling = (tables.get(name) for name in ("judged", "regret", "ceiling"))
    figures = {"bars": bars(results)}
    if predictors is not None and "generalization_loss" in predictors:
        figures["bars_loss"] = bars(results, predictors, loss=True)
    if "pass@2" in results:
        figures["passk_curves"] = passk_curves(results)
    if judged is not None:
        judged = judged.fillna({"note": ""})
        pool = judged["pool"].iloc[0]
        runs = pools(runs_table(results, predictors))[pool]
        of_rl = judged[(judged["target"] == "post_rl") & (judged["pool"] == pool)]
        if of_rl["r2"].isna().all():  # too few runs for any of the rest
            return figures
        figures["scatter"] = scatter(runs, of_rl, headline(list(of_rl["predictor"])))
        figures["strength"] = strength(judged, ceiling)
        if (of_rl["predictor"].str.fullmatch(r"pass@\d+") & of_rl["r2"].notna()).sum() > 1:
            figures["k_sweep"] = k_sweep(judged, ceiling)
        if regret is not None:
            figures["regrets"] = regrets(regret)
            if ceiling is not None:
                figures["summary"] = summary(runs, judged, regret, ceiling)
    return figures


def _of_paper(tables: dict[str, pd.DataFrame]) -> dict[str, Figure]:
    points = tables["points"]
    figures = published(points)
    if "judged" in tables:
        judged = tables["judged"].fillna({"note": ""})
        figures["loss-and-score"] = loss_of_llama(points, judged, "post_rl")
        figures["loss-and-gain"] = loss_of_llama(points, judged, "gain")
    if "claims" in tables:
        figures["claims"] = claims(tables["claims"])
    return figures


def _described(curves: pd.DataFrame, results: pd.DataFrame | None) -> pd.DataFrame:
    """Add the runs' descriptions, so that curves stand in the order of the bars."""
    if results is None:
        return curves
    columns = [c for c in DESCRIPTION if c in results and c not in curves]
    return curves.merge(results[[*RUN, *columns]].drop_duplicates(RUN), on=RUN, how="left")
