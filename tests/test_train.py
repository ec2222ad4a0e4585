"""The real trainers on tiny models: the loss falls, the reward rises, and only responses are trained on."""

import numpy as np
import pandas as pd
import pytest
import torch
from tiny import tiny_pair

from sftrl import train
from sftrl.errors import InputError
from sftrl.loss import response_loss

SFT = {
    "epochs": 2, "learning_rate": 5e-3, "batch_size": 8, "micro_batch": 4, "scheduler": "cosine", "warmup_ratio": 0.1,
    "weight_decay": 0.0, "max_length": 64, "seed": 0, "trl": {},
}  # fmt: skip
GRPO = {
    "steps": 1, "learning_rate": 1e-4, "scheduler": "linear", "prompts_per_step": 2, "group_size": 2,
    "micro_batch": None, "temperature": 1.0, "max_tokens": 8, "seed": 0, "trl": {},
}  # fmt: skip


def examples(count: int, answer=lambda i: i % 10) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "id": [f"e{i}" for i in range(count)],
            "prompt": ["What is it?"] * count,
            "response": [f"\\boxed{{{answer(i)}}}" for i in range(count)],
        }
    )


def test_sft_lowers_the_loss_on_responses(tmp_path):
    model, tokenizer = tiny_pair()
    data = examples(64)
    before = response_loss(model, tokenizer, data, token_budget=4096).per_token
    log = train.sft(model, tokenizer, data, folder=str(tmp_path), **SFT)
    after = response_loss(model, tokenizer, data, token_budget=4096).per_token
    assert after < before / 2
    assert list(log.columns) == ["step", "epoch", "loss"]
    assert len(log) == 16  # 64 examples in batches of 8, twice


def test_first_logged_loss_is_the_response_loss_of_the_batch(tmp_path):
    """The trainer and `response_loss` agree on what is counted, prompt left out and EOS included."""
    model, tokenizer = tiny_pair()
    data = examples(8)
    expected = response_loss(model, tokenizer, data, token_budget=4096).per_token
    log = train.sft(model, tokenizer, data, folder=str(tmp_path), **(SFT | {"epochs": 1, "warmup_ratio": 0.0}))
    assert log["loss"].iloc[0] == pytest.approx(expected, abs=2e-3)


def test_sft_repeats_itself(tmp_path):
    states = []
    for _ in range(2):
        model, tokenizer = tiny_pair()
        train.sft(model, tokenizer, examples(16), folder=str(tmp_path), **SFT)
        states.append(model.state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_grpo_finds_the_rewarded_answer(tmp_path):
    """From a model that answers any digit, RL with one digit rewarded must come to say that digit."""
    model, tokenizer = tiny_pair(hidden_size=32, layers=1)
    train.sft(model, tokenizer, examples(320), folder=str(tmp_path), **(SFT | {"batch_size": 16, "micro_batch": 16}))
    problems = pd.DataFrame({"prompt": ["What is it?"] * 8, "answer": "3", "answer_type": "integer"})
    settings = GRPO | {"steps": 30, "learning_rate": 5e-3, "prompts_per_step": 4, "group_size": 8, "max_tokens": 16}
    log = train.grpo(model, tokenizer, problems, folder=str(tmp_path), **settings)
    assert log["reward"].head(3).mean() < 0.35
    assert log["reward"].tail(3).mean() > 0.8
    assert list(log["step"]) == list(range(1, 31))
    assert {"entropy", "clipped_ratio", "frac_reward_zero_std", "mean_length"} <= set(log.columns)


def test_pretraining_follows_its_schedule_inside_the_trainer(tmp_path):
    """The trainer wraps an optimizer and puts new groups into it: both parts' rates must fall all the same."""
    model, tokenizer = tiny_pair(hidden_size=32, layers=1)
    rates = []
    step = train.MuonAdamW.step

    def spy(self, closure=None):
        step(self, closure)
        rates.append([part.param_groups[0]["lr"] for part in self.parts])

    train.MuonAdamW.step = spy
    try:
        log = train.pretrain(
            model, tokenizer, examples(400), folder=str(tmp_path), batch_size=8, learning_rate=0.006,
            matrix_learning_rate=0.02, seed=0,
        )  # fmt: skip
    finally:
        train.MuonAdamW.step = step
    rates = np.array(rates)
    assert rates[:, 0].max() == pytest.approx(0.02, rel=0.05)
    assert rates[:, 1].max() == pytest.approx(0.006, rel=0.05)
    assert (rates[-1] < rates.max(axis=0) / 20).all()
    assert log["loss"].tail(5).mean() < log["loss"].iloc[0] / 3


def test_reward_is_one_for_right_and_zero_for_anything_else():
    completions = [[{"role": "assistant", "content": text}] for text in ("\\boxed{12}", "\\boxed{13}", "12 is", "")]
    assert train.reward(completions, ["12"] * 4, ["integer"] * 4, [None] * 4, [None] * 4)[:2] == [1.0, 0.0]
    assert train.reward(["\\boxed{12}", ""], ["12"] * 2, ["integer"] * 2, [None] * 2, [None] * 2) == [1.0, 0.0]
    near = ["\\boxed{9.61}"] * 2
    assert train.reward(near, ["9.6"] * 2, ["number"] * 2, [None] * 2, [0.01, None]) == [1.0, 0.0]


SLIPS = [
    # an argument that TRL does not have
    ({"trl": {"learning_rat": 1}}, r"sft\.trl\.learning_rat: SFTConfig has no such argument"),
    # batches that do not divide
    ({"batch_size": 6, "micro_batch": 4}, r"sft\.batch_size \(6\) is not a multiple of sft\.micro_batch \(4\)"),
    # an example that is too long is named, not cut
    ({"max_length": 6}, r"example e0: \d+ tokens, and sft\.max_length is 6"),
]


@pytest.mark.parametrize(("change", "message"), SLIPS)
def test_slips_are_named(tmp_path, change, message):
    model, tokenizer = tiny_pair()
    with pytest.raises(InputError, match=message):
        train.sft(model, tokenizer, examples(8), folder=str(tmp_path), **(SFT | change))
