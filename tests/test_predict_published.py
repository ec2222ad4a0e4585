"""The paper's visible points give the known results, and the files in the repository are the ones they came from."""

from pathlib import Path

import pandas as pd
import pytest

from sftrl.errors import InputError
from sftrl.files import read_table
from sftrl.predict import analyse
from sftrl.predict.published import FIGURES, held_against, judge_published, published_figure, published_tables
from sftrl.recipes import Judging

POOLS = {"cpu": {"live": 0.08, "core": ["chain", "distract", "dials", "equation"]}}  # as params/cpu.yaml has them
FOLDER = Path(__file__).resolve().parent.parent / "figures" / "paper"


@pytest.fixture(scope="module")
def points():
    return read_table(FOLDER / "points.csv")


@pytest.fixture(scope="module")
def judged(points):
    return judge_published(points, splits=200, resamples=500)


@pytest.mark.parametrize("name", ["points.csv", "reported.csv"])
def test_committed_points_are_the_ones_read_off(shared, name):
    assert (FOLDER / name).read_bytes() == shared(f"paper/{name}").read_bytes()


@pytest.mark.parametrize(
    ("pool", "target", "predictor", "n", "r2", "spearman"),
    [
        ("Llama3 dataset", "post_rl", "pass@1", 9, 0.70, 0.65),
        ("Llama3 dataset", "post_rl", "generalization_loss", 9, 0.07, -0.46),
        ("Llama3 dataset", "gain", "generalization_loss", 9, 0.69, -0.93),
        ("Llama3 dataset", "post_rl", "pass@1 + generalization_loss", 9, 0.91, 0.90),
        ("Mistral dataset, 25k examples", "post_rl", "pass@1", 6, 0.51, 0.43),
        ("Mistral dataset, 25k, 2+ epochs", "post_rl", "pass@1", 5, 0.00, 0.00),
        ("Mistral dataset, 1 epoch", "post_rl", "pass@1", 5, 0.96, 1.00),
        ("Mistral instance", "post_rl", "pass@1", 12, 0.94, 0.97),
        ("Qwen3 dataset", "post_rl", "pass@1", 6, 0.80, 0.94),
        ("Qwen3 dataset and base", "post_rl", "pass@1", 7, 0.06, 0.61),
    ],
)
def test_known_results_of_the_published_points(judged, pool, target, predictor, n, r2, spearman):
    row = judged[(judged["pool"] == pool) & (judged["target"] == target) & (judged["predictor"] == predictor)].iloc[0]
    assert row["n"] == n
    assert row["r2"] == pytest.approx(r2, abs=0.006)
    assert row["spearman"] == pytest.approx(spearman, abs=0.006)
    assert row["r2_low"] <= row["r2"] <= row["r2_high"] or row["features"] > 1


DRAWN = ("p_", "halves_", "left_out", "note")  # columns that resampling decides
RANKED = ("spearman", "kendall", "loo_spearman", "influential_run")


def assert_same(committed, judged, but=DRAWN, tolerance=1e-6):
    kept = [c for c in committed if not c.startswith(but)]
    pd.testing.assert_frame_equal(judged[kept], committed[kept], check_dtype=False, rtol=tolerance, atol=tolerance)


def test_committed_judgement_of_the_paper_is_that_of_this_code(judged):
    assert_same(read_table(FOLDER / "judged.csv"), judged)


@pytest.mark.parametrize("study", ["quick", "cpu"])
def test_committed_judgement_of_a_study_is_that_of_this_code(study):
    results, predictors = (read_table(FOLDER.parent / study / f"{name}.csv") for name in ("results", "predictors"))
    results = results[results["run"] != "base"]
    large = study == "cpu"  # kept with fewer digits, so ranks that differ in the others are tied; some pools are enough
    only = ("all", "core") if large else None
    judging = Judging(resamples=10, **POOLS.get(study, {}))
    judged = analyse(results, predictors, judging=judging, splits=10, only=only)["judged"]
    committed = read_table(FOLDER.parent / study / "judged.csv")
    if large:
        committed = committed[committed["pool"].isin(only)].reset_index(drop=True)
    assert_same(committed, judged, *((DRAWN + RANKED, 1e-3) if large else ()))


@pytest.mark.parametrize(("name", "bars"), zip(FIGURES, [7, 6, 13, 5, 4, 9], strict=True))
def test_published_figures_show_the_runs_they_showed(points, name, bars):
    results, _ = published_tables(points)
    rows = published_figure(results, name)
    assert rows["run"].nunique() == bars
    shown = points[points["figure"].str.removesuffix("-a").str.removesuffix("-b").str.replace("_", "-") == name]
    assert len(shown) > 0
    assert set((shown["post_rl"] / 100).round(6)) <= set(rows.loc[rows["phase"] == "post_rl", "pass@1"].round(6))


def test_claims_are_held_against_what_can_be_seen(judged):
    claims = held_against(read_table(FOLDER / "reported.csv"), judged).set_index(
        ["level", "model", "statistic", "predictor"]
    )
    assert claims.loc[("dataset", "Llama3-8B-Instruct", "spearman", "generalization_loss"), "finding"] == "above"
    assert claims.loc[("dataset", "Llama3-8B-Instruct", "r2", "pass@1"), "finding"] == "compatible"
    assert claims.loc[("instance", "Mistral-NeMo-12B-Instruct", "r2", "pass@1"), "finding"] == "below"
    assert claims.loc[("dataset", "Llama3-8B-Instruct", "r2", "pass@64"), "finding"] == "not visible"


def test_two_figures_that_disagree_about_a_run_are_refused(points):
    wrong = pd.concat([points, points.iloc[[1]].assign(post_rl=40.0)])
    with pytest.raises(InputError, match="random-25k-1ep has two different scores"):
        published_tables(wrong)
