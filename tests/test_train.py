"""The real trainers on tiny models: the loss falls, the reward rises, and only responses are trained on."""

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from tiny import tiny_folder, tiny_pair

from sftrl import train
from sftrl.chat import encode_prompt
from sftrl.errors import InputError
from sftrl.loss import response_loss
from sftrl.models import load_model, load_tokenizer, stop_ids
from sftrl.recipes import Checkpoint, Compute, Decoding, Grpo, Lora, Probes, Scratch, Sft
from sftrl.sample.local import draw
from sftrl.sample.requests import Request
from sftrl.train import arguments

SFT = {"learning_rate": 5e-3, "batch_size": 8, "micro_batch": 4, "warmup_ratio": 0.1, "max_length": 64}
GRPO = {"steps": 2, "learning_rate": 1e-4, "prompts_per_step": 2, "group_size": 2, "max_tokens": 8}


def examples(count: int, answer=lambda i: i % 10) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "id": [f"e{i}" for i in range(count)],
            "prompt": ["What is it?"] * count,
            "response": [f"\\boxed{{{answer(i)}}}" for i in range(count)],
        }
    )


def problems(count: int = 8, **columns) -> pd.DataFrame:
    return pd.DataFrame({"prompt": ["What is it?"] * count, "answer": "3", "answer_type": "integer"} | columns)


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Checkpoint:
    return Checkpoint(model=str(tiny_folder(tmp_path_factory.mktemp("base"), layers=1)))


def sft(base, data, folder, epochs=2, seed=0, compute=None, **changes):
    return train.sft(base, data, Sft(**SFT | changes), epochs=epochs, folder=folder, seed=seed, compute=compute)


def weights(folder) -> dict[str, torch.Tensor]:
    return load_file(folder / "model" / "model.safetensors")


def loss(model: str, data: pd.DataFrame) -> float:
    return response_loss(
        load_model(Checkpoint(model=str(model))), load_tokenizer(Checkpoint(model=str(model))), data, token_budget=4096
    ).per_token


def test_sft_lowers_the_loss_on_responses(base, tmp_path):
    data = examples(64)
    log = sft(base, data, tmp_path)
    assert loss(str(tmp_path / "model"), data) < loss(base.model, data) / 2
    assert list(log.columns[:5]) == ["step", "epoch", "loss", "learning_rate", "grad_norm"]
    assert len(log) == 16  # 64 examples in batches of 8, twice
    assert log["tokens_per_second"].iloc[1:].gt(0).all()
    assert [path.name for path in tmp_path.iterdir()] == ["model"]  # nothing left of the trainer


def test_first_logged_loss_is_the_response_loss_of_the_batch(base, tmp_path):
    """The trainer and `response_loss` agree on what is counted, prompt left out and EOS included."""
    data = examples(8)
    log = sft(base, data, tmp_path, epochs=1, warmup_ratio=0.0)
    assert log["loss"].iloc[0] == pytest.approx(loss(base.model, data), abs=2e-3)


def test_the_log_has_the_loss_on_held_out_examples(base, tmp_path):
    """Every so many steps and at the last, where it is the saved model's; training is the same with it."""
    aside = examples(6, lambda i: 9)
    folder = tmp_path / "a"
    recipe = Sft(**SFT | {"held_out_steps": 3})
    log = train.sft(base, examples(32), recipe, epochs=2, folder=folder, seed=0, held_out=aside)
    assert list(log.loc[log["held_out_loss"].notna(), "step"]) == [3, 6, 8]
    assert log["held_out_loss"].iloc[-1] == pytest.approx(loss(folder / "model", aside), rel=1e-5)
    plain = sft(base, examples(32), tmp_path / "b")
    assert list(plain["loss"]) == list(log["loss"])
    with pytest.raises(InputError, match=r"sft\.held_out_steps: there are no held-out examples"):
        train.sft(base, examples(8), recipe, epochs=1, folder=tmp_path / "c", seed=0)


def test_sft_repeats_itself(base, tmp_path):
    for name in ("a", "b"):
        sft(base, examples(16), tmp_path / name)
    a, b = weights(tmp_path / "a"), weights(tmp_path / "b")
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_grpo_finds_the_rewarded_answer(base, tmp_path):
    """From a model that answers any digit, RL with one digit rewarded must come to say that digit."""
    sft(base, examples(320), tmp_path / "sft", batch_size=16, micro_batch=16)
    start = Checkpoint(model=str(tmp_path / "sft" / "model"))
    recipe = Grpo(
        **GRPO | {"steps": 30, "learning_rate": 5e-3, "prompts_per_step": 4, "group_size": 8, "max_tokens": 16}
    )
    log = train.grpo(start, problems(), recipe, folder=tmp_path / "rl", seed=0)
    assert log["reward"].head(3).mean() < 0.35
    assert log["reward"].tail(3).mean() > 0.8
    assert list(log["step"]) == list(range(1, 31))
    known = {"entropy", "clipped_ratio", "frac_reward_zero_std", "mean_length", "learning_rate", "grad_norm"}
    assert known <= set(log.columns)


def test_grpo_counts_epochs(base, tmp_path):
    recipe = Grpo(**GRPO | {"steps": None, "epochs": 3})
    log = train.grpo(base, problems(5), recipe, folder=tmp_path, seed=0)
    assert list(log["step"]) == list(range(1, 7))  # two whole batches of two prompts an epoch


def test_pretraining_follows_its_schedule_inside_the_trainer(tmp_path, monkeypatch):
    """The trainer wraps an optimizer and puts new groups into it: both parts' rates must fall all the same."""
    model, tokenizer = tiny_pair(hidden_size=32, layers=1)
    rates, step = [], train.MuonAdamW.step

    def spy(self, closure=None):
        step(self, closure)
        rates.append([part.param_groups[0]["lr"] for part in self.parts])

    monkeypatch.setattr(train.MuonAdamW, "step", spy)
    recipe = Scratch(architecture="llama", batch_size=8, learning_rate=0.006, matrix_learning_rate=0.02)
    log = train.pretrain(model, tokenizer, examples(400), recipe, folder=tmp_path, seed=0)
    rates = np.array(rates)
    assert rates[:, 0].max() == pytest.approx(0.02, rel=0.05)
    assert rates[:, 1].max() == pytest.approx(0.006, rel=0.05)
    assert (rates[-1] < rates.max(axis=0) / 20).all()
    assert log["loss"].tail(5).mean() < log["loss"].iloc[0] / 3
    assert not list(tmp_path.iterdir())


def test_reward_is_one_for_right_and_zero_for_anything_else():
    completions = [[{"role": "assistant", "content": text}] for text in ("\\boxed{12}", "\\boxed{13}", "12 is", "")]
    assert train.reward(completions, ["12"] * 4, ["integer"] * 4, [None] * 4, [None] * 4)[:2] == [1.0, 0.0]
    assert train.reward(["\\boxed{12}", ""], ["12"] * 2, ["integer"] * 2, [None] * 2, [None] * 2) == [1.0, 0.0]
    near = ["\\boxed{9.61}"] * 2
    assert train.reward(near, ["9.6"] * 2, ["number"] * 2, [None] * 2, [0.01, None]) == [1.0, 0.0]
    assert train.reward(["\\boxed{1}"], ["???"], ["number"], [None], [None]) == [0.0]


def test_rollouts_by_generate_start_from_the_prompt_tokens_of_evaluation(base, tmp_path, monkeypatch):
    from transformers import LlamaForCausalLM

    seen, generate = [], LlamaForCausalLM.generate

    def spy(self, *args, input_ids=None, attention_mask=None, **kwargs):
        seen.extend(row[mask.bool()].tolist() for row, mask in zip(input_ids, attention_mask, strict=True))
        return generate(self, *args, input_ids=input_ids, attention_mask=attention_mask, **kwargs)

    monkeypatch.setattr(LlamaForCausalLM, "generate", spy)
    table = problems(2, prompt=["a b?", "a longer one?"])
    train.grpo(base, table, Grpo(**GRPO | {"steps": 1, "rollouts": "generate"}), folder=tmp_path, seed=0)
    expected = [encode_prompt(load_tokenizer(base), prompt) for prompt in table["prompt"]]
    assert sorted(map(tuple, seen)) == sorted(tuple(ids) for ids in expected for _ in range(2))


def test_rollouts_are_samples_of_the_policy_with_seeds_by_step_and_place(base, tmp_path):
    """The first step's rollouts are what evaluation's sampler draws from the checkpoint with the same seeds."""
    recipe = Grpo(**GRPO | {"steps": 3, "prompts_per_step": 4})
    table = problems(8, prompt=[f"What is {i} + {'1' * i}?" for i in range(8)], id=range(8), benchmark="sums")
    log = train.grpo(base, table, recipe, folder=tmp_path, seed=5)
    kept = pd.read_parquet(tmp_path / "rollouts.parquet")
    assert list(kept["step"]) == [1] * 8 + [2] * 8 + [3] * 8
    assert list(kept["reward"].groupby(kept["step"]).mean()) == pytest.approx(list(log["reward"]))
    assert list(kept["tokens"].groupby(kept["step"]).mean()) == pytest.approx(list(log["mean_length"]))
    first = kept[kept["step"] == 1]
    assert all(first.groupby("id").size() == 2)
    model, tokenizer = load_model(base).eval(), load_tokenizer(base)
    seeds = np.random.SeedSequence((5, 1)).generate_state(8, np.uint64)
    requests = [
        Request("", "", i, int(seed), tuple(encode_prompt(tokenizer, prompt)))
        for i, (seed, prompt) in enumerate(zip(seeds, first["prompt"], strict=True))
    ]
    ends = stop_ids(base, tokenizer)
    drawn = [r for batch in draw(model, requests, Decoding(max_tokens=8), ends, 10_000) for r in batch]
    assert [tokenizer.decode(r.tokens, skip_special_tokens=True) for r in drawn] == list(first["response"])


def test_candidates_meet_the_same_problems_in_the_same_order(base, tmp_path):
    other = Checkpoint(model=str(tiny_folder(tmp_path / "other", layers=2, seed=1)))
    table = problems(8, id=range(8), benchmark="sums", prompt=[f"{i}?" for i in range(8)])
    met = []
    for name, start in (("a", base), ("b", other)):
        train.grpo(start, table, Grpo(**GRPO | {"steps": 3}), folder=tmp_path / name, seed=5)
        met.append(list(pd.read_parquet(tmp_path / name / "rollouts.parquet")["id"]))
    assert met[0] == met[1]


def test_probes_count_right_responses_to_held_out_problems(base, tmp_path):
    """At step 0 the counts are those of the checkpoint; a policy that learns the answer is seen to."""
    probes = Probes(at=[0, 20], problems=3, samples=4)
    recipe = Grpo(**GRPO | {"steps": 20, "learning_rate": 1e-2, "prompts_per_step": 4, "group_size": 8}, probes=probes)
    started = sft(base, examples(64, lambda i: i % 5), tmp_path / "sft", epochs=3)
    assert len(started)
    start = Checkpoint(model=str(tmp_path / "sft" / "model"))
    held_out = problems(3, id=["a", "b", "c"], benchmark="sums", tolerance=[None, 0.01, None])
    train.grpo(start, problems(), recipe, folder=tmp_path, seed=5, probes=held_out)
    counts = pd.read_csv(tmp_path / "probes.csv")
    assert list(counts["step"]) == [0] * 3 + [20] * 3
    assert list(counts["id"]) == ["a", "b", "c"] * 2
    assert set(counts["samples"]) == {4}
    before, after = counts.groupby("step")["correct"].sum()
    assert before < after
    model, tokenizer = load_model(start).eval(), load_tokenizer(start)
    seeds = np.random.SeedSequence((5, 0)).generate_state(12, np.uint64)
    prompt = tuple(encode_prompt(tokenizer, "What is it?"))
    requests = [Request("", "", i, int(seed), prompt) for i, seed in enumerate(seeds)]
    ends = stop_ids(start, tokenizer)
    drawn = [r for batch in draw(model, requests, Decoding(max_tokens=8), ends, 10_000) for r in batch]
    texts = [tokenizer.decode(r.tokens, skip_special_tokens=True) for r in drawn]
    right = train.reward(texts, ["3"] * 12, ["integer"] * 12, [None] * 12, [None] * 12)
    assert list(counts["correct"][:3]) == list(np.reshape(right, (3, 4)).sum(1))


def test_probes_go_on_where_they_were(base, tmp_path):
    """A step that was probed before a stop is not probed again."""
    probes = Probes(at=[0, 2], problems=2, samples=2)
    held_out = problems(2, id=["a", "b"], benchmark="sums")
    place = tmp_path / "trainer" / "probes"
    place.mkdir(parents=True)
    there = {"step": 0, "benchmark": "sums", "id": ["a", "b"], "samples": 2, "correct": 2, "tokens": 9}
    pd.DataFrame(there).to_parquet(place / "0.parquet")
    train.grpo(base, problems(), Grpo(**GRPO, probes=probes), folder=tmp_path, seed=5, probes=held_out)
    counts = pd.read_csv(tmp_path / "probes.csv")
    assert list(counts["correct"][:2]) == [2, 2]
    assert list(counts["step"]) == [0, 0, 2, 2]


SFT_SLIPS = [
    # batches that do not divide, in one process and in several
    ({"batch_size": 6, "micro_batch": 4}, 1, r"sft\.batch_size \(6\) is not a multiple of sft\.micro_batch \(4\)"),
    ({"batch_size": 9}, 2, r"sft\.batch_size \(9\) is not a multiple of compute\.processes \(2\)"),
    (
        {"batch_size": 12, "micro_batch": 4},
        2,
        r"sft\.batch_size / compute\.processes \(6\) is not a multiple of sft\.mi",
    ),
    # an example that is too long is named, not cut
    ({"max_length": 6}, 1, r"example e0: \d+ tokens, and sft\.max_length is 6"),
    # arguments that TRL does not have, or that have another type there
    (
        {"trl": {"learning_rat": 1}},
        1,
        r"sft\.trl\.learning_rat: SFTConfig has no such argument \(did you mean 'learning_",
    ),
    ({"trl": {"adam_epsilon": "1e-8"}}, 1, r"sft\.trl\.adam_epsilon: '1e-8' is not float"),
    ({"trl": {"group_by_length": True}}, 1, r"sft\.trl\.group_by_length: SFTConfig has no such"),
    ({"scheduler": "cosin"}, 1, r"sft: .*cosin"),
    # a tracker that is not there
    ({"trl": {"report_to": "no_such"}}, 1, r"sft\.trl\.report_to: no_such is not installed"),
    # an adapter on nothing
    ({"lora": Lora(targets=["q_pro"])}, 1, r"sft\.lora\.targets: no layer is called 'q_pro'; there are q_proj, k_proj"),
    ({"lora": Lora(targets=["lm_head"])}, 1, r"sft\.lora\.targets: no layer is called 'lm_head'"),
    # a step that bfloat16 rounds away
    ({"precision": "bfloat16", "learning_rate": 1e-6}, 1, r"precision: in bfloat16 a step at the rate 1e-06 moves"),
]


@pytest.mark.parametrize(("change", "processes", "message"), SFT_SLIPS)
def test_sft_slips_are_named(base, tmp_path, change, processes, message):
    with pytest.raises(InputError, match=message):
        sft(base, examples(8), tmp_path, compute=Compute(processes=processes), **change)
    assert not (tmp_path / "model").exists()


GRPO_SLIPS = [
    ({"micro_batch": 3}, 1, r"prompts_per_step x group_size \(4\) is not a multiple of micro_batch \(3\)"),
    ({}, 3, r"prompts_per_step x group_size \(4\) is not a multiple of compute\.processes \(3\)"),
    ({"prompts_per_step": 16}, 1, r"grpo\.prompts_per_step: 16, and there are 8 problems"),
    (
        {"max_tokens": 250},
        1,
        r"problem 0: a prompt of \d+ tokens and grpo\.max_tokens \(250\) exceed the model's context",
    ),
    ({"trl": {"epsilon": "0.2"}}, 1, r"grpo\.trl\.epsilon: '0\.2' is not float"),
    ({"trl": {"top_p": 0.9}}, 1, r"grpo\.trl\.top_p: is for TRL's own generation; give grpo\.rollouts: generate"),
    ({"probes": Probes(at=[0])}, 1, r"grpo\.probes: the recipe's steps and the problems go together"),
    # a server that is not there
    (
        {"rollouts": "server", "trl": {"vllm_server_base_url": "http://127.0.0.1:9", "vllm_server_timeout": 0.0}},
        1,
        r"grpo\.rollouts: no vLLM server answers at http://127\.0\.0\.1:9 \(.*; start one, or name its place: trl: ",
    ),
]


@pytest.mark.parametrize(("change", "processes", "message"), GRPO_SLIPS)
def test_grpo_slips_are_named(base, tmp_path, change, processes, message):
    with pytest.raises(InputError, match=message):
        train.grpo(
            base, problems(), Grpo(**GRPO | change), folder=tmp_path, seed=0, compute=Compute(processes=processes)
        )


def test_a_server_that_is_starting_is_waited_for():
    asked = []

    class Starting(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(503 if len(asked) == 1 else 200)
            self.end_headers()

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Starting) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        arguments.check_server({"vllm_server_host": "127.0.0.1", "vllm_server_port": server.server_port})
        server.shutdown()
    assert asked == ["/health", "/health"]


def test_what_a_recipe_decides_is_no_trl_argument():
    for name in ("learning_rate", "num_train_epochs", "per_device_train_batch_size", "packing", "seed"):
        with pytest.raises(ValueError, match=f"trl.{name}"):
            Sft(trl={name: 1})
    with pytest.raises(ValueError, match=r"trl\.use_vllm"):
        Grpo(steps=1, trl={"use_vllm": True})
    with pytest.raises(ValueError, match="either 'steps' or 'epochs'"):
        Grpo(steps=1, epochs=1)


def test_more_processes_than_gpus_and_gpu_configurations_without_one(base, tmp_path, monkeypatch):
    with pytest.raises(InputError, match=r"compute\.accelerate: fsdp2 is for GPUs, and this machine has none"):
        sft(base, examples(8), tmp_path, compute=Compute(accelerate="fsdp2"))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(InputError, match=r"compute\.processes: 4, and this machine has 2 GPUs"):
        sft(base, examples(8), tmp_path, compute=Compute(processes=4))
    with pytest.raises(InputError, match=r"compute\.accelerate: zero3 needs the package deepspeed"):
        sft(base, examples(8), tmp_path, compute=Compute(processes=2, accelerate="zero3"))
