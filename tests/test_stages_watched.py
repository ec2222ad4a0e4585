"""The curves of trainings elsewhere: found beside checkpoints of one's own, and drawn over steps."""

import pandas as pd
import pytest
from test_study import study

from sftrl.figures import redraw
from sftrl.files import read_table, write_table
from sftrl.stages import evaluation, measured, prediction, watched
from sftrl.stages.job import Work
from sftrl.tables import HELD_OUT_CURVE, ROLLOUT_CURVE

STEPS = (5, 20, 100)


@pytest.fixture
def plan(tmp_path, monkeypatch):
    """Give a study of three checkpoints of one training, and of what RL made of the last."""
    monkeypatch.chdir(tmp_path)
    for step in STEPS:
        (tmp_path / "sft" / f"checkpoint-{step}").mkdir(parents=True)
    (tmp_path / "rl").mkdir()
    curve = {"step": [0, *STEPS], "epoch": [0.0, 0.1, 0.4, 2.0], "generalization_loss": [2.0, 1.5, 1.2, 1.4]}
    curve |= {"entropy": 0.5, "pass@1": [0.1, 0.2, 0.3, 0.3], "pass@8": [0.3, 0.5, 0.6, 0.5]}
    write_table(pd.DataFrame(curve | {"marked": [False, False, True, False]}), tmp_path / "sft" / HELD_OUT_CURVE)
    rollouts = {"step": [1, 2], "reward": [0.2, 0.4], "entropy": 0.3, "clipped_ratio": 0.0}
    rollouts |= {"frac_reward_zero_std": [0.5, 0.75], "mean_length": 12.0}
    write_table(pd.DataFrame(rollouts), tmp_path / "rl" / ROLLOUT_CURVE)
    runs = [{"name": "mine", "model": "sft/checkpoint-*"}]
    runs += [{"name": "last", "model": "sft/checkpoint-100", "post_rl": "rl"}]
    return study(runs=runs, grpo=..., data__rl=..., evaluation__rl_problems=0)


def results() -> pd.DataFrame:
    """Give scores as 03_evaluate would have them."""
    rows = [("base", 0.1), *((f"mine-{step}", 0.1 + step / 200) for step in STEPS), ("last", 0.6)]
    table = pd.DataFrame(rows, columns=["run", "pass@1"]).assign(family="llama-smoke", phase="post_sft")
    table["pass@4"] = table["pass@1"] + 0.2
    table = pd.concat([table, table[-1:].assign(phase="post_rl", rl_seed=0)], ignore_index=True)
    return table.assign(benchmark="average")


def test_05_predict_reads_what_the_callbacks_left(plan, monkeypatch):
    losses = pd.DataFrame({"family": "llama-smoke", "run": ["base", *(f"mine-{s}" for s in STEPS), "last"]})
    losses["generalization_loss"] = [3.0, 2.0, 1.6, 1.3, 1.3]
    monkeypatch.setattr(evaluation, "results", lambda _: results())
    monkeypatch.setattr(measured, "predictors", lambda _: losses)
    monkeypatch.setattr(evaluation, "problem_counts", lambda _: None)
    work = Work(prediction.job(plan), {}, None)
    found = prediction.tables(plan, work)
    curves = found["step_curves"].set_index(["run", "measured", "step"]).sort_index()
    assert curves.loc[("mine", "in SFT")].index.tolist() == [0, *STEPS]
    assert curves.index[curves["marked"].eq(True)].tolist() == [("mine", "in SFT", 20)]
    studied = curves.loc[("mine", "by 03_evaluate")]
    assert studied["pass@1"].tolist() == pytest.approx([0.125, 0.2, 0.6])
    assert studied["generalization_loss"].tolist() == [2.0, 1.6, 1.3]
    rl = found["rl_curves"]
    assert rl[["run", "rl_seed", "step"]].to_numpy().tolist() == [["last", 0, 1], ["last", 0, 2]]
    assert rl["frac_reward_zero_std"].tolist() == [0.5, 0.75]
    assert {"step_curves", "rl_curves"} <= set(redraw(work.folder))


def test_another_curve_is_another_judgement(plan, tmp_path):
    before = prediction.job(plan).key
    curve = tmp_path / "sft" / HELD_OUT_CURVE
    write_table(read_table(curve).assign(marked=False), curve)
    assert prediction.job(plan).key != before
    for path in (curve, tmp_path / "rl" / ROLLOUT_CURVE):
        path.unlink()
    assert watched.hashes(plan) == []
    assert watched.rl_curves(plan) is None
