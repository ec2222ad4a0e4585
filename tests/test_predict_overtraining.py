"""Pairs of runs that differ in epochs: which there are, and their changes before and after RL, paired over problems."""

import numpy as np
import pandas as pd
import pytest

from sftrl.errors import InputError
from sftrl.figures import ladders
from sftrl.predict import overtraining

RUNS = {  # selection, examples, epochs, Pass@1, Pass@8 before RL
    "base": ("none", 0, 0, 0.30, 0.90),
    "random-100-1ep": ("random", 100, 1, 0.40, 0.90),
    "random-100-4ep": ("random", 100, 4, 0.50, 0.80),
    "random-100-16ep": ("random", 100, 16, 0.52, 0.70),
    "random-400-1ep": ("random", 400, 1, 0.45, 0.90),
    "shortest-100-4ep": ("shortest", 100, 4, 0.20, 0.50),
    "self0.3-100-4ep": ("self", 100, 4, 0.45, 0.60),
}
PROBLEMS = [f"{name}/{i}" for name in ("sums", "dials") for i in range(4)]


def results() -> pd.DataFrame:
    rows = [
        {"family": "f", "run": run, "phase": "post_sft", "benchmark": "average", "selection": selection}
        | {"examples": examples, "epochs": epochs, "data_seed": 0, "pass@1": p1, "pass@1_low": p1 - 0.01, "pass@8": p8}
        for run, (selection, examples, epochs, p1, p8) in RUNS.items()
    ]
    return pd.DataFrame(rows)


def counts(right: dict[str, list[int]], seeds=(0,), **columns) -> pd.DataFrame:
    """Rows of counts after RL: of each run the same in every seed."""
    rows = [
        {"family": "f", "run": run, "phase": "post_rl", "rl_seed": seed, "samples": 8}
        | columns
        | dict(zip(PROBLEMS, c, strict=True))
        for run, c in right.items()
        for seed in seeds
    ]
    return pd.DataFrame(rows)


def test_another_draw_of_the_examples_pairs_with_its_own_alone():
    rows, nothing = results(), counts({}).reindex(columns=counts({"x": [0] * 8}).columns)
    alone = overtraining(rows, nothing)["pairs"]
    again = rows[rows["selection"] == "random"].assign(run=lambda t: t["run"] + "-d1", data_seed=1)
    pairs = overtraining(pd.concat([rows, again], ignore_index=True), nothing)["pairs"]
    drawn = [[name.endswith("-d1") for name in pair] for pair in pairs[["fewer", "more"]].to_numpy()]
    assert all(fewer == more for fewer, more in drawn)
    assert len(pairs) > len(alone) > 0


def test_pairs_differ_in_epochs_alone_and_the_base_pairs_with_its_own_distillate():
    pairs = overtraining(results(), counts({}).reindex(columns=counts({"x": [0] * 8}).columns))["pairs"]
    assert list(zip(pairs["fewer"], pairs["more"], strict=True)) == [
        ("random-100-1ep", "random-100-4ep"),
        ("random-100-1ep", "random-100-16ep"),
        ("random-100-4ep", "random-100-16ep"),
        ("base", "self0.3-100-4ep"),
    ]
    # The third rises by 2 points only.
    assert list(pairs["sharpened"]) == [True, True, False, True]
    assert list(pairs["pass@8_change"]) == pytest.approx([-0.1, -0.2, -0.1, -0.3])
    assert pairs["post_rl_change"].isna().all()


def test_the_change_is_paired_over_problems_and_benchmarks_weigh_the_same():
    """By hand: the first benchmark changes by 2, 0, 2, 0 of 8, the second by 4 on each."""
    right = {"random-100-1ep": [1, 2, 3, 4, 0, 1, 2, 3], "random-100-4ep": [3, 2, 5, 4, 4, 5, 6, 7]}
    said = overtraining(results(), counts(right, seeds=(0, 1)))
    row = said["pairs"].iloc[0]
    mean = ((2 + 0 + 2 + 0) / 4 / 8 + 4 / 8) / 2
    half = 1.959963985 * np.sqrt(np.var([2 / 8, 0, 2 / 8, 0], ddof=1) / 4) / 2
    assert row["post_rl_change"] == pytest.approx(mean)
    assert [row["post_rl_change_low"], row["post_rl_change_high"]] == pytest.approx([mean - half, mean + half])
    (found,) = said["sharpened"].to_dict("records")
    assert found["outcome"] == "post_rl"
    assert found["change"] == pytest.approx(mean)
    assert np.isnan(found["pairs_low"])
    alone = overtraining(results(), counts(right), left_out=("dials",))["pairs"].iloc[0]
    assert alone["post_rl_change"] == pytest.approx(4 / 4 / 8)


def test_only_seeds_that_both_have_count():
    right = {"base": [4] * 8, "self0.3-100-4ep": [2] * 8}
    table = pd.concat([counts(right), counts({"base": [8] * 8}, seeds=(1,))])
    pairs = overtraining(results(), table)["pairs"]
    assert pairs["post_rl_change"].iloc[-1] == pytest.approx(-2 / 8)


def test_the_mean_over_sharpened_pairs_and_probes_on_the_way():
    right = {"random-100-1ep": [4] * 8, "random-100-4ep": [3] * 8, "random-100-16ep": [0] * 8}
    start = {run: [4] * 8 for run in right}
    probes = pd.concat([counts(start, step=0), counts(start, step=5), counts(right, step=9)]).drop(columns="phase")
    found = overtraining(results(), counts(right), probes)["sharpened"].set_index("outcome")
    assert list(found.index) == ["post_rl", "probe@0", "probe@5", "probe@9", "probe@9 less probe@5"]
    assert set(found["pairs"]) == {2}  # 1 to 4 and 1 to 16 epochs; 4 to 16 was not sharpened
    assert found.loc["post_rl", "change"] == pytest.approx(-(1 + 4) / 2 / 8)
    half = 12.706204736 * np.std([-1 / 8, -4 / 8], ddof=1) / np.sqrt(2)
    assert found.loc["post_rl", "pairs_high"] == pytest.approx(-5 / 16 + half)
    assert found.loc["probe@5", "change"] == 0
    assert found.loc["probe@9 less probe@5", "change"] == pytest.approx(-5 / 16)


def test_several_families_are_summarised_alone_and_together():
    one = counts({"random-100-1ep": [4] * 8, "random-100-4ep": [3] * 8})
    other = counts({"random-100-1ep": [4] * 8, "random-100-4ep": [1] * 8}).assign(family="g")
    found = overtraining(pd.concat([results(), results().assign(family="g")]), pd.concat([one, other]))["sharpened"]
    assert list(found["family"]) == ["f", "g", "all"]
    assert list(found["pairs"]) == [1, 1, 2]
    assert found["change"].tolist() == pytest.approx([-1 / 8, -3 / 8, -2 / 8])
    half = 12.706204736 * np.std([-1 / 8, -3 / 8], ddof=1) / np.sqrt(2)
    assert found["pairs_high"].iloc[-1] == pytest.approx(-2 / 8 + half)


def test_the_base_and_its_own_responses_are_summarised_apart_from_more_epochs():
    right = {"random-100-1ep": [4] * 8, "random-100-4ep": [6] * 8, "base": [4] * 8, "self0.3-100-4ep": [1] * 8}
    found = overtraining(results(), counts(right))["sharpened"]
    assert found[["family", "kind", "pairs"]].to_numpy().tolist() == [
        ["f", "all", 2],
        ["f", "epochs", 1],
        ["f", "self", 1],
    ]
    assert found["change"].tolist() == pytest.approx([-1 / 16, 2 / 8, -3 / 8])
    again = pd.concat([results(), results().assign(family="g")])
    one = counts({run: right[run] for run in ("base", "self0.3-100-4ep")}).assign(family="g")
    found = overtraining(again, pd.concat([counts(right), one]))["sharpened"].set_index(["family", "kind"])
    assert list(found.index) == [("f", "all"), ("f", "epochs"), ("f", "self"), ("g", "all")] + [
        ("all", kind) for kind in ("all", "epochs", "self")
    ]
    assert found["pairs"].tolist() == [2, 1, 1, 1, 3, 1, 2]
    assert found.loc[("all", "self"), "change"] == pytest.approx(-3 / 8)


def test_the_interval_covers_the_change_of_the_population():
    """Problems drawn anew: 95 % of intervals hold the true mean change, give or take what 400 draws leave open."""
    rng = np.random.default_rng(0)
    held = 0
    names = [f"{b}/{i}" for b in "ab" for i in range(40)]
    for _ in range(400):
        before, after = rng.beta(2, 2, 80), rng.beta(2, 1, 80)
        rows = [
            {"family": "f", "run": run, "phase": "post_rl", "rl_seed": 0, "samples": 16}
            | dict(zip(names, rng.binomial(16, p), strict=True))
            for run, p in (("random-100-1ep", before), ("random-100-4ep", after))
        ]
        row = overtraining(results(), pd.DataFrame(rows))["pairs"].iloc[0]
        held += row["post_rl_change_low"] <= 2 / 3 - 1 / 2 <= row["post_rl_change_high"]
    assert 0.92 <= held / 400 <= 0.98


def test_a_missing_column_and_a_benchmark_of_one_problem_are_named():
    with pytest.raises(InputError, match="problem_counts: no column 'samples'"):
        overtraining(results(), counts({"base": [0] * 8}).drop(columns="samples"))
    right = counts({"random-100-1ep": [0] * 8, "random-100-4ep": [1] * 8})
    with pytest.raises(InputError, match="has one problem"):
        overtraining(results(), right.drop(columns=PROBLEMS[1:4]))


def test_the_figure_holds_every_pair_that_went_through_rl():
    right = {"random-100-1ep": [4, 3] * 4, "random-100-4ep": [3, 5] * 4, "random-100-16ep": [0, 1] * 4}
    figure = ladders(overtraining(results(), counts(right))["pairs"])
    (axes,) = figure.axes
    markers = [line for line in axes.lines if line.get_marker() == "o"]
    assert len(markers) == 3
    assert sum(line.get_markerfacecolor() == "white" for line in markers) == 1


def test_the_figure_marks_the_base_with_its_own_responses():
    right = {
        "random-100-1ep": [4, 3] * 4,
        "random-100-4ep": [3, 5] * 4,
        "base": [4, 2] * 4,
        "self0.3-100-4ep": [1, 2] * 4,
    }
    said = overtraining(results(), counts(right))
    (axes,) = ladders(said["pairs"], said["sharpened"]).axes
    edges = [line.get_markeredgecolor() for line in axes.lines if line.get_marker() == "o"]
    assert edges.count("black") == 1


def test_the_figure_follows_sharpened_pairs_through_rl():
    right = {"random-100-1ep": [4, 3] * 4, "random-100-4ep": [3, 5] * 4}
    probes = pd.concat([counts(right, step=step) for step in (0, 5, 9)]).drop(columns="phase")
    said = overtraining(results(), counts(right), probes)
    panels = ladders(said["pairs"], said["sharpened"]).axes
    assert len(panels) == 2
    line = next(line for line in panels[1].lines if line.get_marker() == "o")
    assert list(line.get_xdata()) == [0, 5, 9]
    assert list(line.get_ydata()) == pytest.approx(100 * said["sharpened"]["change"].iloc[1:4])
