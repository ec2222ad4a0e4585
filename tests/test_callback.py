"""The callback for trainers: what it measures is what the study measures, and the training does not notice it."""

import numpy as np
import pandas as pd
import pytest
import torch
from datasets import Dataset
from peft import LoraConfig
from tiny import tiny_pair
from trl import GRPOConfig, GRPOTrainer, SFTConfig, SFTTrainer

from sftrl.callback import CurveCallback, RolloutCallback, rise, turning_point
from sftrl.chat import encode_example
from sftrl.errors import InputError
from sftrl.files import read_table
from sftrl.generations import summarise
from sftrl.loss import response_loss
from sftrl.passk import pass_at_k
from sftrl.recipes import Checkpoint, Sampling
from sftrl.sample import fill
from sftrl.tables import HELD_OUT_CURVE, ROLLOUT_CURVE

PROBLEMS = pd.DataFrame(
    [{"benchmark": f"b{i % 2}", "id": str(i), "problem": f"{i} + 1 = ?", "answer": str(i + 1)} for i in range(6)]
)
TRAIN = [(f"{i} + 1 = ?", f"\\boxed{{{i + 1}}}") for i in range(4)] * 4
HELD_OUT = pd.DataFrame(
    [{"id": str(i), "prompt": f"{i} + 1 = ?", "response": f"\\boxed{{{i + 1}}}"} for i in range(4, 9)]
)


def train(folder, callbacks, steps=12, resume=None, peft=None, **more):
    model, tokenizer = tiny_pair()
    rows = []
    for prompt, response in TRAIN:
        ids, start = encode_example(tokenizer, prompt, response)
        rows.append({"input_ids": ids, "labels": [-100] * start + ids[start:]})
    options = {"save_strategy": "no", "max_steps": steps, "learning_rate": 3e-3} | more
    trainer = SFTTrainer(
        model=model,
        args=SFTConfig(
            output_dir=folder, max_length=None, dataset_kwargs={"skip_prepare_dataset": True}, report_to="none",
            per_device_train_batch_size=8, gradient_checkpointing=False, disable_tqdm=True, use_cpu=True, bf16=False,
            lr_scheduler_type="constant", **options,
        ),
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
        callbacks=callbacks,
        peft_config=peft,
    )  # fmt: skip
    trainer.train(resume_from_checkpoint=resume)
    return trainer.model, tokenizer


@pytest.mark.filterwarnings("ignore:.*cut off")
def test_it_measures_what_the_study_measures_and_changes_nothing(tmp_path):
    torch.set_num_threads(1)
    lines, sampling = [], Sampling(max_tokens=12)
    watch = CurveCallback(HELD_OUT, PROBLEMS, every=5, samples=4, sampling=sampling, progress=lines.append)
    model, tokenizer = train(tmp_path / "a", [watch])
    plain, _ = train(tmp_path / "b", [])
    for name, weights in model.state_dict().items():
        assert torch.equal(weights, plain.state_dict()[name])
    table = read_table(tmp_path / "a" / HELD_OUT_CURVE)
    assert list(table["step"]) == [0, 5, 10, 12]
    assert lines[-1].startswith("step 12: held-out loss ")

    loss = response_loss(model, tokenizer, HELD_OUT)
    last = table.iloc[-1]
    assert last["generalization_loss"] == pytest.approx(loss.per_token)
    assert last["entropy"] == pytest.approx(loss.entropy)
    for part in (model, tokenizer):
        part.save_pretrained(tmp_path / "model")
    fill(tmp_path / "store", Checkpoint(model=f"{tmp_path}/model"), PROBLEMS, sampling, n=4, seed=0, progress=None)
    counts = summarise(tmp_path / "store", PROBLEMS, n=4).problems
    assert counts["c"].sum() > 0
    for k in (1, 2, 4):
        means = counts.groupby("benchmark")["c"].apply(lambda c, k=k: pass_at_k(4, c, k).mean())
        assert last[f"pass@{k}"] == pytest.approx(means.mean())


@pytest.mark.filterwarnings("ignore:.*cut off")
def test_an_adapter_is_measured_as_the_model_that_it_makes(tmp_path):
    torch.set_num_threads(1)
    watch = CurveCallback(
        HELD_OUT, PROBLEMS, every=3, path=tmp_path / "c.csv", samples=1, sampling=Sampling(max_tokens=4), progress=None
    )
    peft = LoraConfig(r=4, target_modules="all-linear")
    model, tokenizer = train(tmp_path, [watch], steps=3, peft=peft, learning_rate=0.05)
    before, after = read_table(tmp_path / "c.csv")["generalization_loss"]
    assert after < before - 0.1
    assert after == pytest.approx(response_loss(model.merge_and_unload(), tokenizer, HELD_OUT).per_token, rel=1e-4)


def test_a_resumed_training_goes_on_with_the_same_curve(tmp_path):
    torch.set_num_threads(1)
    options = {"every": 4, "samples": 2, "sampling": Sampling(max_tokens=6), "progress": None}
    train(tmp_path / "a", [CurveCallback(HELD_OUT, PROBLEMS, path=tmp_path / "whole.csv", **options)])
    halves = {"save_strategy": "steps", "save_steps": 8}
    train(tmp_path / "b", [CurveCallback(HELD_OUT, PROBLEMS, path=tmp_path / "c.csv", **options)], steps=10, **halves)
    resumed = CurveCallback(HELD_OUT, PROBLEMS, path=tmp_path / "c.csv", **options)
    train(tmp_path / "b", [resumed], resume=str(tmp_path / "b" / "checkpoint-8"), **halves)
    for suffix in (".csv", ".parquet"):
        ours, whole = (read_table(tmp_path / f"{name}{suffix}") for name in ("c", "whole"))
        pd.testing.assert_frame_equal(ours, whole)


def test_rl_is_watched_too_and_does_not_notice(tmp_path):
    torch.set_num_threads(1)

    def reinforce(folder, callbacks, steps=3, resume=None):
        model, tokenizer = tiny_pair()
        trainer = GRPOTrainer(
            model=model,
            args=GRPOConfig(
                output_dir=folder, max_steps=steps, num_generations=2, per_device_train_batch_size=4, logging_steps=1,
                max_completion_length=4, learning_rate=1e-3, save_steps=2, gradient_checkpointing=False, use_cpu=True,
                bf16=False, disable_tqdm=True, report_to="none",
            ),
            reward_funcs=lambda completions, **_: [float(len(text) % 2) for text in completions],
            train_dataset=Dataset.from_list([{"prompt": f"{i} + 1 = ?"} for i in range(4)]),
            processing_class=tokenizer,
            callbacks=callbacks,
        )  # fmt: skip
        trainer.train(resume_from_checkpoint=resume)
        return trainer

    def callbacks():
        options = {"every": 2, "samples": 2, "sampling": Sampling(max_tokens=4), "progress": None}
        return [CurveCallback(HELD_OUT, PROBLEMS, **options), RolloutCallback()]

    watched, plain = reinforce(tmp_path / "a", callbacks()), reinforce(tmp_path / "b", [])
    for name, weights in watched.model.state_dict().items():
        assert torch.equal(weights, plain.model.state_dict()[name])
    assert list(read_table(tmp_path / "a" / HELD_OUT_CURVE)["step"]) == [0, 2, 3]
    rollouts = read_table(tmp_path / "a" / ROLLOUT_CURVE)
    assert list(rollouts["step"]) == [1, 2, 3]
    for name in ("reward", "entropy", "frac_reward_zero_std", "completions/clipped_ratio", "completions/mean_length"):
        said = [row[name] for row in watched.state.log_history if "reward" in row]
        assert list(rollouts[name.rpartition("/")[2]]) == pytest.approx(said)
    assert (rollouts["entropy"] > 0).all()

    (tmp_path / "a" / ROLLOUT_CURVE).unlink()
    reinforce(tmp_path / "a", callbacks(), resume=str(tmp_path / "a" / "checkpoint-2"))
    assert list(read_table(tmp_path / "a" / ROLLOUT_CURVE)["step"]) == [1, 2, 3]  # the first two from its log


def test_slips_are_named_before_the_first_step(tmp_path):
    long = HELD_OUT.assign(response="7" * 400)
    with pytest.raises(InputError, match="example 4: "):
        train(tmp_path, [CurveCallback(long, PROBLEMS, every=5)])
    with pytest.raises(InputError, match="b0 0: the gold answer ''"):
        train(tmp_path, [CurveCallback(HELD_OUT, PROBLEMS.assign(answer=""), every=5)])
    with pytest.raises(InputError, match="every and samples are at least 1"):
        CurveCallback(HELD_OUT, PROBLEMS, every=0)
    assert not (tmp_path / HELD_OUT_CURVE).exists()


# The mark


def items(losses, passes, noise=0.02, seed=0):
    """Make what a curve of these means would have left: 100 examples of 5 to 14 tokens, 64 problems."""
    random, rows = np.random.default_rng(seed), []
    tokens, own, rates = random.integers(5, 15, 100), random.normal(0, 0.3, 100), random.beta(1, 1, 64)
    for step, (loss, success) in enumerate(zip(losses, passes, strict=True)):
        nats = (loss + own + random.normal(0, noise, 100)) * tokens
        solved = random.random(64) < np.clip(rates + success - 0.5, 0, 1)
        rows += [(100 * step, "example", str(i), nats[i], tokens[i]) for i in range(100)]
        rows += [(100 * step, "problem", str(i), float(solved[i]), 1) for i in range(64)]
    return pd.DataFrame(rows, columns=["step", "kind", "item", "value", "weight"])


@pytest.mark.parametrize(
    ("losses", "passes", "marked"),
    [
        ([2.0, 1.5, 1.3, 1.5], [0.2, 0.5, 0.6, 0.6], 200),  # the loss rises, Pass@k stays
        ([2.0, 1.5, 1.3, 1.5], [0.2, 0.5, 0.6, 0.3], 200),  # or falls
        ([2.0, 1.5, 1.3, 1.5], [0.1, 0.2, 0.3, 0.9], None),  # the loss rises and Pass@k too: go on
        ([2.0, 1.5, 1.3, 1.2], [0.2, 0.5, 0.6, 0.6], None),  # the loss still falls
        ([2.0, 1.5, 1.3, 1.3001], [0.2, 0.5, 0.6, 0.6], None),  # no rise that could be told from noise
        ([1.5], [0.2], None),
        ([1.3, 1.5], [0.6, 0.6], 0),  # from the first step on
    ],
)
def test_the_turning_point(losses, passes, marked):
    assert turning_point(items(losses, passes)) == marked


def test_a_rise_is_in_units_of_its_standard_error():
    random = np.random.default_rng(1)
    found = []
    for _ in range(400):
        weights = pd.Series(random.integers(1, 20, 80))
        values = pd.DataFrame({0: random.normal(0, 1, 80) * weights})
        values[1] = values[0] + random.normal(0, 0.3, 80) * weights
        found.append(rise(values, weights, 0, 1))
    assert abs(np.mean(found)) < 3.5 / 20
    assert np.std(found) == pytest.approx(1, abs=0.12)
    assert rise(values, weights, 0, 0) == 0.0
    assert rise(pd.DataFrame({0: [1.0, 2.0], 1: [2.0, 3.0]}), pd.Series([1, 1]), 0, 1) == np.inf
