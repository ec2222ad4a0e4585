"""Every figure, from tables alone. `redraw(folder)` draws all that a folder's committed CSV files allow."""

from pathlib import Path

from sftrl.errors import InputError
from sftrl.figures.bars import bars
from sftrl.figures.curves import passk_curves, rl_curves, sft_curves
from sftrl.figures.fits import scatter
from sftrl.figures.style import save
from sftrl.files import read_table
from sftrl.predict.table import pools, runs_table

__all__ = ["bars", "passk_curves", "redraw", "rl_curves", "save", "scatter", "sft_curves"]


def redraw(folder: str | Path) -> list[str]:
    """Draw every figure that the tables in `folder` allow, beside them, as PNG and PDF; return the figures' names.

    `results.csv` gives `bars`, `passk_curves`, and with `predictors.csv` `bars_loss`; `judged.csv` gives `scatter`;
    `rl_curves.csv` and `sft_curves.csv` give their own. A table that is absent leaves its figures out.
    """
    folder = Path(folder)
    tables = {path.stem: read_table(path) for path in sorted(folder.glob("*.csv"))}
    for table in tables.values():
        table[[c for c in ("family", "run") if c in table]] = table[
            [c for c in ("family", "run") if c in table]
        ].astype(str)
    if not tables:
        raise InputError(f"{folder}: no table to draw from")
    figures = {}
    results, predictors, judged = (tables.get(name) for name in ("results", "predictors", "judged"))
    if results is not None:
        figures["bars"] = bars(results)
        if predictors is not None and "generalization_loss" in predictors:
            figures["bars_loss"] = bars(results, predictors, loss=True)
        if "pass@2" in results:
            figures["passk_curves"] = passk_curves(results)
        if judged is not None:
            runs = runs_table(results, predictors)
            pool = judged["pool"].iloc[0]
            figures["scatter"] = scatter(pools(runs)[pool], judged[judged["target"] == "post_rl"], pool=pool)
    if "rl_curves" in tables:
        figures["rl_curves"] = rl_curves(tables["rl_curves"])
    if "sft_curves" in tables:
        figures["sft_curves"] = sft_curves(tables["sft_curves"])
    for name, figure in figures.items():
        save(figure, folder, name)
    return list(figures)
