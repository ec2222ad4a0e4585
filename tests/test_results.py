"""docs/results.md says what the committed tables say: every row of its tables is made again from them."""

import re
from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "docs" / "results.md").read_text()


def rows(head: str) -> list[list[str]]:
    """Return the cells of the rows under every table of this head."""
    found = []
    for table in re.findall(rf"^{re.escape(head)}\n\|[-| ]+\n((?:\|.*\n)+)", TEXT, re.M):
        found += [[cell.strip() for cell in line.strip("|\n").split("|")] for line in table.splitlines()]
    return found


def interval(row: pd.Series, name: str) -> str:
    return f"{row[name]:.2f} [{row[f'{name}_low']:.2f}, {row[f'{name}_high']:.2f}]"


JUDGED = rows("| study | pool | predictor | n | r² | Spearman |")
SCORES = rows("| study | run | Pass@1 | Pass@64 | loss | Pass@1 after RL |")
REGRET = rows("| study | pool | chosen by | regret, points |")
CHANGES = rows("| study | outcome | pairs | change, points |")
FOUND = dict(cells[:2] for cells in rows("| | what was found | verdict |"))


@pytest.mark.parametrize("cells", JUDGED, ids=["-".join(cells[:3]) for cells in JUDGED])
def test_a_correlation_is_the_tables(cells):
    study, pool, predictor = cells[:3]
    table = pd.read_csv(ROOT / "figures" / study / "judged.csv")
    (row,) = table[
        (table["pool"] == pool) & (table["predictor"] == predictor) & (table["target"] == "post_rl")
    ].to_dict("records")
    row = pd.Series(row)
    assert cells[3:] == [str(row["n"]), interval(row, "r2"), interval(row, "spearman")]


@pytest.mark.parametrize("cells", SCORES, ids=["-".join(cells[:2]) for cells in SCORES])
def test_a_score_is_the_tables(cells):
    study, run = cells[:2]
    results = pd.read_csv(ROOT / "figures" / study / "results.csv")
    losses = pd.read_csv(ROOT / "figures" / study / "predictors.csv").set_index("run")["generalization_loss"]
    rows = results[(results["run"] == run) & (results["benchmark"] == "average")]
    before, after = rows[rows["phase"] == "post_sft"].iloc[0], rows[rows["phase"] == "post_rl"]["pass@1"]
    scores = [100 * before["pass@1"], 100 * before["pass@64"], 100 * after.mean()]
    assert cells[2:] == [f"{scores[0]:.1f}", f"{scores[1]:.1f}", f"{losses[run]:.2f}", f"{scores[2]:.1f}"]


@pytest.mark.parametrize("cells", REGRET, ids=["-".join(cells[:3]) for cells in REGRET])
def test_a_regret_is_the_tables(cells):
    study, pool, predictor, shown = cells
    table = pd.read_csv(ROOT / "figures" / study / "regret.csv")
    row = table[(table["pool"] == pool) & (table["predictor"] == predictor)].iloc[0]
    assert shown == f"{100 * row['regret']:.1f} [{100 * row['regret_low']:.1f}, {100 * row['regret_high']:.1f}]"


@pytest.mark.parametrize("cells", CHANGES, ids=["-".join(cells[:2]) for cells in CHANGES])
def test_a_change_is_the_tables(cells):
    study, outcome, pairs, shown = cells
    row = pd.read_csv(ROOT / "figures" / study / "sharpened.csv").set_index("outcome").loc[outcome]
    assert pairs == str(row["pairs"])
    assert shown == f"{100 * row['change']:+.1f} [{100 * row['low']:+.1f}, {100 * row['high']:+.1f}]"


def test_the_hypotheses_numbers_are_the_tables():
    folder = ROOT / "figures" / "cpu"
    pairs, sharpened = (pd.read_csv(folder / f"{name}.csv") for name in ("pairs", "sharpened"))
    after = sharpened.set_index("outcome")[["change", "low", "high"]] * 100
    assert (len(pairs), int(pairs["sharpened"].sum())) == (11, 2)
    assert "mean change after RL {:+.1f} points, {:+.1f} to {:+.1f}".format(*after.loc["post_rl"]) in FOUND["H1"]
    steps = [after.loc[f"probe@{step}", "change"] for step in (24, 60, 100)]
    assert "{:+.1f}, {:+.1f}, {:+.1f} points".format(*steps) in FOUND["H5"]
    compared, regret = (
        pd.read_csv(folder / f"{name}.csv").set_index(["pool", "predictor"]) for name in ("compared", "regret")
    )
    for hypothesis, key in (("H2", ("live", "pass@32")), ("H3", ("dataset", "generalization_loss"))):
        found = compared.loc[key, ["z_difference", "z_low", "z_high"]]
        assert "{:+.2f}, {:+.2f} to {:+.2f}".format(*found) in FOUND[hypothesis]
    found = 100 * regret.loc[("live", "pass@32"), ["difference", "difference_low", "difference_high"]]
    assert "{:+.1f} points, {:+.1f} to {:+.1f}".format(*found) in FOUND["H4"]


def test_every_table_is_there():
    assert len(JUDGED) >= 10
    assert len(SCORES) >= 10
    assert len(REGRET) >= 6


def test_the_readmes_numbers_are_those_of_the_results():
    readme = (ROOT / "README.md").read_text()
    best = [cells for cells in SCORES if cells[0] == "quick" and cells[1] != "base"]
    best = max(best, key=lambda cells: float(cells[2]))
    assert f"({best[2]} % to {best[5]} %)" in readme
