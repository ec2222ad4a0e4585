"""What is measured of a checkpoint before RL: beside a plain calculation, and empty wherever it cannot be measured."""

import math
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from tiny import tiny_folder
from transformers import AutoModelForCausalLM

from sftrl.generations import Store
from sftrl.loss import response_loss
from sftrl.models import load_model, load_tokenizer
from sftrl.predict import predictor_names
from sftrl.recipes import Checkpoint, Sampling
from sftrl.stages import curation, evaluation, held_out, measured, on_policy
from sftrl.study import Study
from sftrl.study.params import check

ROOT = Path(__file__).resolve().parent.parent


def study(folder: Path, **evaluation_changes) -> Study:
    """One family and two checkpoints of one's own: the base with all weights a quarter larger, and another shape."""
    values = {
        "study": "x",
        "families": {"tiny": {"model": str(folder / "base")}},
        "data": {"benchmarks": {"procedural": 2}, "sft": {"procedural": 40}, "rl": {"procedural": 40}, "held_out": 8},
        "runs": [{"name": name, "model": str(folder / name)} for name in ("grown", "other")],
        "evaluation": {"samples": 2, "rl_problems": 2, "max_tokens": 12, "rollout_tokens": 30} | evaluation_changes,
    }
    return Study(check(values, "x"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A project in which the study's checkpoints have been evaluated before RL."""
    place = tmp_path_factory.mktemp("study")
    tiny_folder(place / "base", context=512)
    tiny_folder(place / "grown", context=512)
    tiny_folder(place / "other", context=512, hidden_size=64)
    model = AutoModelForCausalLM.from_pretrained(place / "grown")
    with torch.no_grad():
        for weights in model.parameters():
            weights *= 1.25
    model.save_pretrained(place / "grown")
    shutil.copytree(ROOT / "notebooks", place / "notebooks")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        plan = study(place)
        work = curation.job(plan).begin()
        tables = curation.hold_out(plan, curation.clean(plan, curation.training(plan))[0], work.seeds["split"])
        curation.save(work, {"benchmarks": curation.benchmarks(plan)} | tables, pd.DataFrame({"id": []}))
        for run in plan.runs:
            held_out.measure(plan, "tiny", run, held_out.job(plan, "tiny", run).begin())
            which = ("tiny", "post_sft", run, None, 0, 1)
            work = evaluation.job(plan, *which).begin()
            evaluation.score(plan, evaluation.sample(plan, *which, work), work)
    return place


@pytest.fixture
def plan(folder, monkeypatch):
    monkeypatch.chdir(folder)
    return study(folder)


def test_what_a_run_is_measured_by(plan, folder):
    table = measured.predictors(plan).set_index("run")
    examples = curation.read(plan, "held_out")
    grown, base = (load_model(Checkpoint(model=str(folder / name))) for name in ("grown", "base"))
    loss = response_loss(grown, load_tokenizer(Checkpoint(model=str(folder / "grown"))), examples, reference=base)
    row = table.loc["grown"]
    assert row["generalization_loss"] == pytest.approx(loss.per_token)
    assert row["kl_from_base"] == pytest.approx(loss.kl)
    assert row["weight_distance"] == pytest.approx(0.25, rel=1e-5)
    for n in (64, 1024, 16_384):
        assert row[f"coverage_tail@{n}"] == np.mean([value >= math.log(n) for value in loss.per_example["nll_sum"]])
    assert row["sft_tokens"] == 0
    assert table.loc["base", ["kl_from_base", "weight_distance", "rollout_kl"]].tolist() == [0, 0, 0]
    # another shape has no distance of weights, but reads the same tokens: the divergence is there
    assert math.isnan(table.loc["other", "weight_distance"])
    assert table.loc["other", "kl_from_base"] > 0
    assert table.loc["other", "rollout_kl"] > 0
    known = set(predictor_names(table.reset_index()))
    assert {"kl_from_base", "weight_distance", "rollout_entropy", "rollout_kl", "coverage_tail@64"} <= known


def test_own_rollouts_are_those_of_the_rl_problems(plan, folder):
    which = ("tiny", "post_sft", "grown", None)
    work = evaluation.job(plan, *which).begin()
    store, problems = evaluation.store(plan, *which), evaluation.problems(plan, work)
    of_rl = problems[problems["benchmark"] == "rl"]
    rows = Store(store).read()
    rows = rows[(rows["benchmark"] == "rl") & (rows["response"].str.strip() != "")]
    order = {name: at for at, name in enumerate(of_rl["id"])}
    rows = rows.assign(at=rows["problem_id"].map(order)).sort_values(["sample_index", "at"])
    taken = rows[(rows["n_tokens"].cumsum() <= 30) | (np.arange(len(rows)) == 0)]
    found = on_policy.first_rollouts(store, of_rl, 30)
    assert list(found["response"]) == list(taken["response"])
    assert list(found["finish_reason"]) == list(taken["finish_reason"])
    assert list(found["prompt"]) == list(of_rl.set_index("id").loc[taken["problem_id"], "problem"])
    assert 0 < len(found) < len(rows)
    assert len(on_policy.first_rollouts(store, of_rl, 1)) == 1
    assert len(on_policy.first_rollouts(store, of_rl, 10**6)) == len(rows)
    assert on_policy.first_rollouts(store, of_rl.iloc[:0], 30).empty

    models = [load_model(Checkpoint(model=str(folder / name))) for name in ("grown", "base")]
    tokenizer = load_tokenizer(Checkpoint(model=str(folder / "grown")))
    loss = response_loss(models[0], tokenizer, found, reference=models[1])
    row = measured.predictors(plan).set_index("run").loc["grown"]
    assert row["rollout_entropy"] == pytest.approx(loss.entropy)
    assert row["rollout_kl"] == pytest.approx(loss.kl)
    assert row["rollout_tokens"] == loss.n_tokens
    assert 0 < row["rollout_entropy"] < math.log(300)


@pytest.mark.parametrize(
    ("how", "changes"),
    [({"temperature": 0.7}, {}), ({"top_p": 0.9}, {}), ({}, {"rollout_tokens": 0})],
)
def test_no_number_where_rollouts_are_not_of_temperature_1_or_not_wanted(folder, monkeypatch, how, changes):
    monkeypatch.chdir(folder)
    problems = pd.DataFrame({"benchmark": ["rl"], "id": ["1"], "problem": ["x"]})
    found = on_policy.measure(study(folder, **changes), "tiny", "grown", Path("no store"), problems, Sampling(**how))
    assert found == {}


def test_what_was_evaluated_before_there_were_rollouts_to_read_lacks_their_columns(plan):
    path = evaluation.job(plan, "tiny", "post_sft", "grown").folder / evaluation.ROLLOUTS
    kept = path.read_text()
    path.unlink()
    try:
        table = measured.predictors(plan).set_index("run")
    finally:
        path.write_text(kept)
    assert math.isnan(table.loc["grown", "rollout_entropy"])
    assert table.loc["other", "rollout_entropy"] > 0
    assert table.loc["grown", "generalization_loss"] > 0


def test_a_checkpoint_that_reads_other_tokens_is_not_compared(plan, folder):
    model = load_model(Checkpoint(model=str(folder / "grown")))
    tokenizer = load_tokenizer(Checkpoint(model=str(folder / "grown")))
    assert on_policy.reference(plan, "tiny", "grown", model, tokenizer) is not None
    assert on_policy.reference(plan, "tiny", "base", model, tokenizer) is None
    tokenizer.chat_template = "{{ messages[0]['content'] }}"
    assert on_policy.reference(plan, "tiny", "grown", model, tokenizer) is None
    tokenizer = load_tokenizer(Checkpoint(model=str(folder / "grown")))
    tokenizer.add_tokens(["another"])
    assert on_policy.reference(plan, "tiny", "grown", model, tokenizer) is None


def test_a_checkpoint_of_ones_own_has_no_base_where_the_family_is_made_from_scratch(plan, folder):
    values = plan.params.model_dump(mode="json", exclude_unset=True)
    values["families"] = {"tiny": {"scratch": {"architecture": "llama"}}}
    own = Study(check(values, "x"))
    assert on_policy.reference(own, "tiny", "grown", None, None) is None


@pytest.mark.parametrize(("value", "kept"), [(0.5, 0.5), (None, None), (math.inf, None), (math.nan, None)])
def test_a_distance_that_is_not_finite_is_empty(value, kept):
    assert on_policy.from_base("grown", value) == kept
    assert on_policy.from_base("base", value) == 0


# The first steps of RL


def log(steps: int, run: str = "a", seed: int = 0, **columns) -> pd.DataFrame:
    step = np.arange(1, steps + 1)
    about = {"family": "f", "run": run, "rl_seed": seed, "step": step, "mean_length": 10.0}
    return pd.DataFrame(about | {"entropy": 1 - 0.01 * step, "frac_reward_zero_std": 0.5} | columns)


def test_early_signals_see_five_percent_of_the_steps():
    known = np.r_[np.full(6, 0.25), np.full(114, 1.0)]
    noisy = np.r_[[0.9, 0.8, 0.85, 0.7, 0.75, 0.6], np.full(114, 9.0)]
    runs = [log(120, "a", 0, frac_reward_zero_std=known, entropy=noisy), log(120, "a", 1), log(41, "b")]
    table = measured.early_signals(pd.concat(runs).sample(frac=1, random_state=0), rollouts=8).set_index("run")
    slope = np.polyfit(np.arange(1, 7), noisy[:6], 1)[0]
    assert table.loc["a", "early_no_signal"] == pytest.approx((0.25 + 0.5) / 2)  # the mean over RL seeds
    assert table.loc["a", "early_entropy_slope"] == pytest.approx((slope - 0.01) / 2)
    assert table.loc["a", "early_tokens"] == 8 * 6 * 10
    assert table.loc["b", "early_entropy_slope"] == pytest.approx(-0.01)  # 3 of 41 steps, rounded up
    assert table.loc["b", "early_tokens"] == 8 * 3 * 10


def test_two_steps_have_no_slope():
    row = measured.early_signals(log(40), rollouts=8).iloc[0]
    assert math.isnan(row["early_entropy_slope"])
    assert row["early_no_signal"] == 0.5
    assert row["early_tokens"] == 8 * 2 * 10
