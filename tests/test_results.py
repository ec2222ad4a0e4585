"""docs/results.md and results-tables.md say what the committed tables say: every row of a table is made again."""

import functools
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from sftrl.files import read_table
from sftrl.predict import compare, overtraining, pools, regret, runs_table

ROOT = Path(__file__).resolve().parent.parent
TEXT = "\n".join((ROOT / "docs" / f"{name}.md").read_text() for name in ("results", "results-tables"))


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
FOUND = rows("| | family | what was found | verdict |")
OF_REPEATS, OF_CHOICES = (rows(f"| | of `{study}` | what was found | verdict |") for study in ("repeats", "choices"))
IN_SHORT = rows("| | claim | `cpu` | `repeats` | `choices` | together | verdict |")
OF_PAIRS = rows("| | claim | Llama | Qwen3 | Mistral | second Qwen3 | all | verdict |")
OVER_BASES = rows("| | claim | Llama | Qwen3 | Mistral | all fifteen | verdict |")
BASES = rows("| base | Pass@1 | Pass@64 | Pass@1 after RL | control: Pass@1 | Pass@64 | after RL | less base, points |")
ORDER = rows("| study | pool | predictor | Spearman | place of 49 | without one run | without one benchmark |")
STUDIES = ["cpu", "repeats", "choices"]
NOT_ASKED = [("H5", "choices")]
REPEATS = ["llama-6", "qwen3-6", "mistral-6", "qwen3-7", "all"]


def table(study: str, name: str) -> pd.DataFrame:
    """Read a committed table; of `study/family` the rows of that family."""
    study, _, family = study.partition("/")
    found = read_table(ROOT / "figures" / study / f"{name}.csv")
    return found[found["family"] == family] if family else found


@pytest.mark.parametrize("cells", JUDGED, ids=["-".join(cells[:3]) for cells in JUDGED])
def test_a_correlation_is_the_tables(cells):
    study, pool, predictor = cells[:3]
    judged = table(study, "judged").set_index(["pool", "predictor", "target"], verify_integrity=True)
    row = judged.loc[(pool, predictor, "post_rl")]
    assert cells[3:] == [str(row["n"]), interval(row, "r2"), interval(row, "spearman")]


@pytest.mark.parametrize("cells", SCORES, ids=["-".join(cells[:2]) for cells in SCORES])
def test_a_score_is_the_tables(cells):
    study, run = cells[:2]
    results = table(study, "results")
    losses = table(study, "predictors").set_index("run")["generalization_loss"]
    rows = results[(results["run"] == run) & (results["benchmark"] == "average")]
    before, after = rows[rows["phase"] == "post_sft"].iloc[0], rows[rows["phase"] == "post_rl"]["pass@1"]
    scores = [100 * before["pass@1"], 100 * before["pass@64"], 100 * after.mean()]
    assert cells[2:] == [f"{scores[0]:.1f}", f"{scores[1]:.1f}", f"{losses[run]:.2f}", f"{scores[2]:.1f}"]


@pytest.mark.parametrize("cells", REGRET, ids=["-".join(cells[:3]) for cells in REGRET])
def test_a_regret_is_the_tables(cells):
    study, pool, predictor, shown = cells
    row = table(study, "regret").set_index(["pool", "predictor"], verify_integrity=True).loc[(pool, predictor)]
    assert shown == f"{100 * row['regret']:.1f} [{100 * row['regret_low']:.1f}, {100 * row['regret_high']:.1f}]"


@pytest.mark.parametrize("cells", CHANGES, ids=["-".join(cells[:2]) for cells in CHANGES])
def test_a_change_is_the_tables(cells):
    study, outcome, pairs, shown = cells
    row = table(study, "sharpened").set_index(["kind", "outcome"]).loc[("all", outcome)]
    assert pairs == str(row["pairs"])
    assert shown == f"{100 * row['change']:+.1f} [{100 * row['low']:+.1f}, {100 * row['high']:+.1f}]"


@pytest.mark.parametrize(
    ("study", "cells"),
    [("cpu", cells) for cells in FOUND]
    + [("repeats", cells) for cells in OF_REPEATS]
    + [("choices", cells) for cells in OF_CHOICES],
    ids=["-".join(cells[:2]) for cells in [*FOUND, *OF_REPEATS, *OF_CHOICES]],
)
def test_what_was_found_is_the_tables(study, cells):
    hypothesis, family, found, judged = cells
    numbers = measured(hypothesis, family, study)
    assert said(hypothesis, numbers) in found
    assert judged == verdict(hypothesis, numbers)


@pytest.mark.parametrize("cells", IN_SHORT, ids=[cells[0] for cells in IN_SHORT])
def test_a_hypothesis_in_short_is_what_was_found(cells):
    """The verdict is of all studies together on H2 to H4, on H1 and H5 that of `cpu`."""
    hypothesis, _, *shown, of_all, judged = cells
    found = [measured(hypothesis, "all", study) for study in STUDIES if (hypothesis, study) not in NOT_ASKED]
    assert [cell for cell in shown if cell] == [in_short(hypothesis, numbers) for numbers in found]
    if hypothesis in ("H2", "H3", "H4"):
        assert of_all == in_short(hypothesis, over_studies(hypothesis))
        assert judged == verdict(hypothesis, over_studies(hypothesis))
    else:
        assert of_all == ""
        assert judged == verdict(hypothesis, found[0])


def in_short(hypothesis: str, numbers: dict[str, list], over_pairs: bool = True) -> str:
    change, low, high = numbers["estimate"]
    digits = 2 if hypothesis in ("H2", "H3") else 1
    shown = f"{change:+.{digits}f} [{low:+.{digits}f}, {high:+.{digits}f}]"
    if over_pairs and "pairs" in numbers:
        shown += ", over pairs [{:+.1f}, {:+.1f}]".format(*numbers["pairs"])
    return shown


@functools.cache
def together() -> dict[str, pd.DataFrame]:
    """Put the runs of all three studies into pools, as docs/statistics.md shows."""
    tables = (pd.concat([table(study, name) for study in STUDIES]) for name in ("results", "predictors"))
    return pools(runs_table(*tables), live=0.08)


def over_studies(hypothesis: str) -> dict[str, list]:
    """Judge the runs of all three studies together."""
    found = together()
    if hypothesis == "H4":
        row = regret(found["all"], ["pass@1", "pass@32"]).set_index("predictor").loc["pass@32"]
        return {"estimate": [100 * row[name] for name in ("difference", "difference_low", "difference_high")]}
    pool, name = {"H2": ("all", "pass@32"), "H3": ("dataset", "generalization_loss")}[hypothesis]
    (row,) = compare(found[pool], [name]).to_dict("records")
    return {"estimate": [row["z_difference"], row["z_low"], row["z_high"]]}


@pytest.mark.parametrize("cells", OF_PAIRS, ids=[cells[0] for cells in OF_PAIRS])
def test_a_hypothesis_on_repeats_is_what_was_found(cells):
    hypothesis, _, *shown, judged = cells
    if hypothesis == "H8":
        found = [measured("H8", family, "repeats") for family in REPEATS]
        assert shown == [in_short("H8", numbers, over_pairs=i == 4) for i, numbers in enumerate(found)]
        assert judged == verdict("H8", found[-1])
        return
    rows = table("repeats", "sharpened").query("outcome == 'probe@180 less probe@100' and family != 'all'")
    changes = 100 * rows[rows["kind"] == "self"].set_index("family")["change"]
    change, low, high = over_bases(changes)
    assert shown == [f"{changes[family]:+.1f}" for family in REPEATS[:-1]] + [
        f"{change:+.1f} [{low:+.1f}, {high:+.1f}]"
    ]
    assert judged == ("undone in part" if low > 0 else "grown" if high < 0 else "not found")


@pytest.mark.parametrize("cells", OVER_BASES, ids=[cells[0] for cells in OVER_BASES])
def test_a_hypothesis_on_controls_is_what_was_found(cells):
    hypothesis, _, *shown, judged = cells
    changes = table("controls", "sharpened").query("kind == 'all'").set_index(["outcome", "family"])["change"]
    changes = 100 * changes["post_rl" if hypothesis == "H6" else "probe@100 less probe@24"].drop("all")
    of = changes.index.str.partition("-").get_level_values(0)
    for architecture, cell in zip(("llama", "qwen3", "mistral", None), shown, strict=True):
        values = changes[of == architecture] if architecture else changes
        change, low, high = over_bases(values)
        assert cell == f"{change:+.1f} [{low:+.1f}, {high:+.1f}]"
    if hypothesis == "H7":
        assert judged == ("for" if high < 0 else "not found")
        return
    assert judged == verdict("H1", {"estimate": [change, low, high]})  # registered with the bounds of H1
    row = table("controls", "sharpened").query("family == 'all'").set_index("outcome").loc["post_rl"]
    assert [change, low, high] == pytest.approx(list(100 * row[["change", "pairs_low", "pairs_high"]]), abs=1e-4)


def over_bases(values: pd.Series) -> tuple[float, float, float]:
    """Return the mean and its interval at 95 % (t), as registered."""
    half = stats.t.ppf(0.975, len(values) - 1) * values.std() / np.sqrt(len(values))
    return values.mean(), values.mean() - half, values.mean() + half


def controls() -> pd.DataFrame:
    """Return the scores and losses of `controls` in percent, a row a checkpoint, with its Pass@1 after RL."""
    results, predictors = table("controls", "results"), table("controls", "predictors")
    rows = results[results["benchmark"] == "average"].set_index(["family", "run"])
    before, after = rows[rows["phase"] == "post_sft"], rows[rows["phase"] == "post_rl"]["pass@1"]
    losses = predictors.set_index(["family", "run"])["generalization_loss"]
    return 100 * before.filter(regex=r"^pass@\d+$").assign(after=after, loss=-losses / 100)


def test_the_bases_and_their_controls_are_the_tables():
    scores, pairs = controls(), table("controls", "pairs").set_index("family")
    assert pairs["sharpened"].all()
    assert [cells[0] for cells in BASES] == pairs.sort_values("post_rl_change").index.tolist()
    for family, *shown, change in BASES:
        both = [scores.loc[(family, run)] for run in ("base", "self0.3-800-4ep")]
        assert shown == [f"{score[name]:.1f}" for score in both for name in ("pass@1", "pass@64", "after")]
        ends = 100 * pairs.loc[family, ["post_rl_change", "post_rl_change_low", "post_rl_change_high"]]
        assert change == "{:+.1f} [{:+.1f}, {:+.1f}]".format(*ends)


def test_what_the_text_says_of_controls_is_the_tables():
    scores, pairs = controls(), table("controls", "pairs")
    base, control = (scores.xs(run, level="run") for run in ("base", "self0.3-800-4ep"))
    gained = [(one["after"] - one["pass@1"]).mean() for one in (base, control)]
    assert "RL adds {:.1f} points to\n  the base and {:.1f} to what looks better.".format(*gained) in TEXT
    rise, fall = 100 * pairs["pass@1_change"], -100 * pairs["pass@64_change"]
    risen, fallen = (
        f"rises by {rise.min():.0f} to {rise.max():.0f} points",
        f"falls by {fall.min():.0f} to {fall.max():.0f}.",
    )
    assert f"its Pass@1 {risen}, its Pass@64 {fallen}" in TEXT
    lower, higher = (pairs["post_rl_change_high"] < 0).sum(), (pairs["post_rl_change_low"] > 0).sum()
    assert (lower, higher) == (7, 1)
    best, lost = np.maximum(base["after"], control["after"]), {}
    for name in ("pass@1", "pass@4", "pass@8", "pass@16", "pass@32", "pass@64", "loss"):
        preferred = control[name] > base[name]
        lost[name] = preferred.sum(), (best - control["after"].where(preferred, base["after"])).mean()
    assert [count for count, _ in lost.values()] == [15, 15, 10, 1, 0, 0, 0]
    assert [f"{cost:.1f}" for _, cost in lost.values()] == ["6.9", "6.9", "1.8", "1.6", "1.0", "1.0", "1.0"]
    told = [
        f"{named} {stats.spearmanr(base[name], base['after'])[0]:.2f} and "
        f"{stats.spearmanr(scores[name], scores['after'])[0]:.2f}".replace("0.", ".")
        for name, named in (
            ("pass@1", "Pass@1"), ("pass@16", "Pass@16"), ("pass@32", "Pass@32"), ("pass@64", "Pass@64"),
        )
    ]  # fmt: skip
    loss = [-stats.spearmanr(rows["loss"], rows["after"])[0] for rows in (base, scores)]
    told.append("the loss {:.2f} and {:.2f}".format(*loss).replace("0.", "."))
    assert ", ".join(told) in " ".join(TEXT.split())
    said = "Choosing between the two by Pass@1 costs 6.9 points, by Pass@32 or the loss 1.0."
    assert said in " ".join(TEXT.split())
    readme = " ".join((ROOT / "README.md").read_text().split())
    change, low, high = over_bases(100 * pairs["post_rl_change"])
    for text in (readme, " ".join(TEXT.split())):
        assert f"ends {-change:.1f} points lower [{-high:.1f}, {-low:.1f}]" in text


@pytest.mark.parametrize("cells", ORDER, ids=["-".join(cells[:3]) for cells in ORDER])
def test_a_place_is_the_tables(cells):
    study, pool, predictor, *shown = cells
    order = table(study, "order")
    assert order["predictor"].nunique() == 49
    row = order.set_index(["pool", "target", "predictor"], verify_integrity=True).loc[(pool, "post_rl", predictor)]
    places = [
        row["place"],
        *(row[f"place_without_{of}_{end}"] for of in ("run", "benchmark") for end in ("low", "high")),
    ]
    place, *ends = (f"{value:.0f}" for value in places)
    assert shown == [f"{row['strength']:.2f}", place, "{} to {}".format(*ends[:2]), "{} to {}".format(*ends[2:])]


def measured(hypothesis: str, family: str, study: str = "cpu") -> dict[str, list]:
    """Return what the committed tables of a study hold on a hypothesis, in one family or in all.

    `estimate`: with its interval, over problems for H1, H5 and H8, for which `pairs` has the one over pairs, and
    over runs for the others; `steps`: the change on the way, of H5; `of`: how many pairs count, of H1 and H8.
    """

    def pool(name: str) -> str:
        return name if family == "all" else f"{name}/{family}"  # every run is live

    if hypothesis in ("H1", "H5", "H8"):
        kind, last = "epochs" if hypothesis == "H8" else "all", 180 if study == "repeats" else 100
        changes = table(study, "sharpened").set_index(["family", "kind", "outcome"]).sort_index().loc[(family, kind)]
        row = 100 * changes.loc[f"probe@{last} less probe@24" if hypothesis == "H5" else "post_rl"]
        ends = {"estimate": list(row[["change", "low", "high"]]), "pairs": list(row[["pairs_low", "pairs_high"]])}
        if hypothesis == "H5":
            return ends | {"steps": [100 * changes.loc[f"probe@{k}", "change"] for k in (24, 60, last)]}
        pairs = table(study if family == "all" else f"{study}/{family}", "pairs")
        pairs = pairs[pairs["fewer"] != "base"] if hypothesis == "H8" else pairs
        return ends | {"of": [pairs["sharpened"].sum(), len(pairs)]}
    if hypothesis == "H4":
        names = ["difference", "difference_low", "difference_high"]
        row = table(study, "regret").set_index(["pool", "predictor"]).loc[(pool("all"), "pass@32"), names]
        return {"estimate": list(100 * row)}
    key = {"H2": (pool("all"), "pass@32"), "H3": (pool("dataset"), "generalization_loss")}[hypothesis]
    row = table(study, "compared").set_index(["pool", "predictor"]).loc[key, ["z_difference", "z_low", "z_high"]]
    return {"estimate": list(row)}


def said(hypothesis: str, numbers: dict[str, list]) -> str:
    """Put what was measured into the words of the table."""
    if hypothesis in ("H2", "H3"):
        return "{:+.2f}, {:+.2f} to {:+.2f}".format(*numbers["estimate"])
    if hypothesis == "H4":
        return "{:+.1f} points, {:+.1f} to {:+.1f}".format(*numbers["estimate"])
    change, *ends = numbers["estimate"]
    ends = "{:+.1f} to {:+.1f} over problems, {:+.1f} to {:+.1f} over pairs".format(*ends, *numbers["pairs"])
    if hypothesis in ("H1", "H8"):
        return "{} of {} pairs; mean change after RL {:+.1f} points, {}".format(*numbers["of"], change, ends)
    return "{:+.1f}, {:+.1f}, {:+.1f} points; last less first {:+.1f}, {}".format(*numbers["steps"], change, ends)


def verdict(hypothesis: str, numbers: dict[str, list]) -> str:
    """Judge by the rules of docs/preregistration.md; where there are two intervals, both must say so."""
    change, low, high = numbers["estimate"]
    over_pairs = numbers.get("pairs", [low, high])
    low, high = min(low, over_pairs[0]), max(high, over_pairs[1])
    if hypothesis == "H5":
        first, second, third = numbers["steps"]
        return "for" if first > second > third and high < 0 else "not found"
    if hypothesis in ("H2", "H3"):
        return "for" if change >= 0.3 and low > 0 else "against" if high < 0.3 else "open"
    against = low > -1 and (hypothesis in ("H1", "H8") or high < 1)
    return "for" if change <= -1 and high < 0 else "against" if against else "open"


def test_each_at_its_own_rl_temperature_is_the_tables():
    """The control of `gates-hot` against the base of `gates-warm`, paired over problems."""
    taken = (("gates-warm", "base"), ("gates-hot", "self0.3-800-4ep"))
    results, counts = (
        pd.concat([rows[rows["run"] == run] for study, run in taken for rows in [table(study, name)]])
        for name in ("results", "problem_counts")
    )
    (pair,) = overtraining(results, counts, left_out=("reversed", "long"))["pairs"].to_dict("records")
    change = [100 * pair[f"post_rl_change{end}"] for end in ("", "_low", "_high")]
    assert "the difference is {:.1f}\npoints [{:.1f}, {:.1f}]: decided against".format(*change) in TEXT
    assert change[2] < -11.3  # the rule of docs/preregistration.md


def test_every_table_is_there():
    assert len(JUDGED) >= 10
    assert len(SCORES) >= 10
    assert len(REGRET) >= 6
    assert len(ORDER) >= 6
    assert [cells[0] for cells in IN_SHORT] == [f"H{i}" for i in range(1, 6)]
    assert [cells[0] for cells in OVER_BASES] == ["H6", "H7"]
    assert [cells[0] for cells in OF_PAIRS] == ["H8", "H9"]
    assert {cells[0] for cells in OF_REPEATS} == {"H1", "H2", "H3", "H4", "H5", "H8"}
    assert {cells[0] for cells in OF_CHOICES} == {"H1", "H2", "H3", "H4", "H8"}
    assert len(BASES) == 15
    assert {(name, family) for name, family, *_ in FOUND} >= {(f"H{i}", "all") for i in range(1, 6)}


def test_the_readmes_numbers_are_those_of_the_results():
    readme = (ROOT / "README.md").read_text()
    best = [cells for cells in SCORES if cells[0] == "quick/qwen3-tiny" and cells[1] != "base"]
    best = max(best, key=lambda cells: float(cells[2]))
    assert f"({best[2]} % to {best[5]} %)" in readme
    found = together()["all"]
    assert (len(found), found["family"].nunique(), (found["selection"] == "self").sum()) == (192, 16, 16)
    compared = compare(found, ["pass@32", "generalization_loss"])
    one, large, loss = compared["baseline_spearman"].iloc[0], *compared["spearman"]
    flat, results = " ".join(readme.split()), " ".join(TEXT.split())
    assert f"Spearman is {one:.2f}, of Pass@32 {large:.2f}, of the loss -{loss:.2f}." in flat
    assert f"Spearman is {one:.2f}, of Pass@32 {large:.2f}, of the loss -{loss:.2f}.".replace("0.", ".") in results
    by = ["pass@1", "pass@32", "generalization_loss", "pass@4"]
    costs = regret(found, by).set_index("predictor")
    alone = regret(found[found["selection"] != "self"], by).set_index("predictor")
    random = 100 * costs.loc["random choice", "regret"]
    costs, alone = ([f"{100 * of.loc[name, 'regret']:.1f}" for name in by] for of in (costs, alone))
    assert "costs {3} points by Pass@4, {0} by Pass@1, {1} by Pass@32 and {2} by the loss".format(*costs) in flat
    assert "costs {} points by Pass@1, {} by Pass@32, {} by the loss and {} by Pass@4; ".format(*costs) in results
    assert "without the controls {}, {}, {} and {}; at random {:.1f}.".format(*alone, random) in results
    own = pd.concat([table(study, "pairs").query("fewer == 'base'") for study in ("gates", "cpu")])
    lower = -100 * own.loc[own["post_rl_change_high"] < 0, "post_rl_change"].sort_values()
    assert len(own) == 5
    assert "three ended lower, by {:.0f}, {:.0f} and {:.0f} points".format(*lower) in results
    pairs = table("cpu", "pairs").query("sharpened and fewer != 'base'")["post_rl_change"]
    assert f"in `cpu` {-100 * pairs.min():.1f} lower to {100 * pairs.max():.1f} higher" in results
    repeated = measured("H8", "all", "repeats")
    higher = "RL ends {:.1f} points higher [{:.1f}, {:.1f}]".format(repeated["estimate"][0], *repeated["pairs"])
    assert higher in flat
    assert higher in results
    assert f"its lower end over pairs is {repeated['pairs'][0]:.2f}," in results


def test_the_two_kinds_of_pairs_are_the_tables():
    kinds = table("cpu", "sharpened").query("family == 'all' and outcome == 'post_rl'").set_index("kind")
    own, epochs = (100 * kinds.loc[kind, ["change", "pairs_low", "pairs_high"]] for kind in ("self", "epochs"))
    assert "ends {:.1f} [{:.1f}, {:.1f}] points lower than from their bases".format(*(-own.iloc[[0, 2, 1]])) in TEXT
    assert " {:.1f} [{:.1f}, {:.1f}] higher (intervals over pairs)".format(*epochs) in " ".join(TEXT.split())
