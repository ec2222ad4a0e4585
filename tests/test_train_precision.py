"""Weights as they are trained and as they are saved: float32 masters, bfloat16 files, merged adapters, small data."""

import importlib.machinery
import json
import sys
from unittest import mock

import pandas as pd
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from tiny import tiny_folder, tiny_pair
from trained import examples, problems, start, weights

from sftrl import train
from sftrl.errors import InputError
from sftrl.models import load_model
from sftrl.recipes import Checkpoint, Grpo, Lora, Sft
from sftrl.train import arguments, arrow
from sftrl.train import weights as saving


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> str:
    return str(tiny_folder(tmp_path_factory.mktemp("base"), layers=1))


@pytest.fixture(scope="module")
def bf16(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("bf16")
    model, tokenizer = tiny_pair(layers=1)
    model.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture
def last(monkeypatch) -> list:
    """The trainers, as they are when their model is saved."""
    seen, save = [], saving.save
    monkeypatch.setattr(saving, "save", lambda trainer, folder: (seen.append(trainer), save(trainer, folder)))
    return seen


def moved(trainer, source: str) -> float:
    """The share of the weights that are no longer what they were."""
    before = load_file(f"{source}/model.safetensors")
    after = {name: weight for name, weight in trainer.model.state_dict().items() if name in before}
    changed = sum(int((after[name] != before[name].to(after[name].dtype)).sum()) for name in before)
    return changed / sum(weight.numel() for weight in before.values())


@pytest.mark.parametrize("precision", ["mixed", "float32"])
def test_small_steps_move_float32_masters_and_the_file_stays_bfloat16(precision, bf16, last, tmp_path):
    start("sft", bf16, tmp_path, learning_rate=1e-6, precision=precision)
    trainer = last[0]
    assert trainer.model.dtype == torch.float32
    used = {id for row in trainer.train_dataset["input_ids"] for id in row}
    unused = (trainer.model.config.vocab_size - len(used)) * 32  # rows of the tied embedding still have a gradient
    assert moved(trainer, bf16) > 0.99, unused
    assert {weight.dtype for weight in weights(tmp_path).values()} == {torch.bfloat16}
    assert json.loads((tmp_path / "model" / "config.json").read_text())["dtype"] == "bfloat16"
    assert load_model(Checkpoint(model=str(tmp_path / "model"))).dtype == torch.bfloat16


def test_without_masters_small_steps_are_lost_and_so_refused(bf16, last, tmp_path):
    with pytest.raises(InputError, match=r"'mixed' keeps them in float32, 'bfloat16-stuck' trains all the same"):
        start("sft", bf16, tmp_path, learning_rate=1e-6, precision="bfloat16")
    start("sft", bf16, tmp_path, learning_rate=1e-6, precision="bfloat16-stuck")
    assert moved(last[0], bf16) < 0.1
    start("sft", bf16, tmp_path, learning_rate=1e-2, precision="bfloat16")  # here they move
    assert moved(last[1], bf16) > 0.9


def test_a_checkpoint_is_saved_in_the_dtype_that_it_is_loaded_in(base, tmp_path):
    recipe = Sft(learning_rate=1e-3, batch_size=8)
    loaded = Checkpoint(model=base, dtype="bfloat16")
    train.sft(loaded, examples(8), recipe, epochs=1, folder=tmp_path, seed=0)
    assert {weight.dtype for weight in weights(tmp_path).values()} == {torch.bfloat16}


@pytest.mark.parametrize("kind", ["sft", "grpo"])
@pytest.mark.parametrize("lora", [Lora(rank=4, alpha=16.0), Lora(rank=2, targets=["q_proj", "down_proj"])])
def test_the_merged_model_says_what_the_adapted_one_did(kind, lora, base, last, tmp_path):
    start(kind, base, tmp_path, lora=lora, learning_rate=1e-2)
    ids = torch.arange(40).reshape(2, 20)
    plain = load_model(Checkpoint(model=base))
    with torch.no_grad():
        adapted = last[0].model.eval()(ids).logits
        merged = load_model(Checkpoint(model=str(tmp_path / "model")))(ids).logits
        assert not torch.allclose(adapted, plain(ids).logits, atol=1e-2)  # it has learned something
        assert torch.allclose(adapted, merged, atol=1e-5)
    assert weights(tmp_path).keys() == load_file(f"{base}/model.safetensors").keys()
    frozen, named = lora.targets and "embed_tokens", load_file(f"{base}/model.safetensors")
    assert all(torch.equal(named[name], weights(tmp_path)[name]) for name in named if frozen and frozen in name)


@given(st.sampled_from([torch.float32, torch.bfloat16]), st.floats(1e-9, 1.0))
@settings(max_examples=30, deadline=None)
def test_what_would_not_move_is_found_by_taking_the_step(dtype, rate):
    """Against bfloat16's spacing: a weight of 1 has steps of 1/256 below it, and a half of one rounds back to even."""
    model = torch.nn.Linear(8, 8, bias=False).to(dtype)
    torch.nn.init.ones_(model.weight)
    recipe = Sft(learning_rate=rate, precision="bfloat16")
    if dtype == torch.bfloat16 and rate <= 1 / 512:
        with pytest.raises(InputError, match="precision"):
            saving.check_moves(model, recipe)
    else:
        saving.check_moves(model, recipe)


# -- data -------------------------------------------------------------------------------------------------------------


def test_a_token_is_four_bytes_on_disk_and_labels_are_those_of_the_response(tmp_path):
    _, tokenizer = tiny_pair()
    table = pd.DataFrame({"id": ["a"] * 50, "prompt": ["What is it?"] * 50, "response": ["1 + 2 = 3. " * 200] * 50})
    longest = arrow.write_examples(tokenizer, table, tmp_path / "x", max_length=10_000, context=None)
    data = arrow.read_examples(tmp_path / "x", 8, processes=1)
    assert (tmp_path / "x").stat().st_size < 4.2 * longest * 50
    assert pa.types.is_int32(data.data.table.schema.field("input_ids").type.value_type)
    row = data[0]
    n_prompt = row["labels"].count(-100)
    assert row["labels"][n_prompt:] == row["input_ids"][n_prompt:]
    assert tokenizer.decode(row["input_ids"][n_prompt:]) == "1 + 2 = 3. " * 200 + tokenizer.eos_token


@given(st.integers(1, 40), st.integers(1, 8), st.integers(1, 4))
@settings(max_examples=25, deadline=None)
def test_rows_without_a_loss_fill_the_last_batch_of_several_processes(tmp_path_factory, rows, batch, processes):
    path = tmp_path_factory.mktemp("rows") / "x"
    _, tokenizer = tiny_pair()
    arrow.write_examples(tokenizer, examples(rows), path, max_length=100, context=None)
    data = arrow.read_examples(path, batch, processes)
    assert len(data) == rows if processes == 1 else (len(data) % batch == 0 and len(data) - rows < batch)
    assert all(set(data[i]["labels"]) == {-100} for i in range(rows, len(data)))


def test_a_problem_keeps_its_columns(tmp_path):
    _, tokenizer = tiny_pair()
    table = problems(2, choices=[["A) 1", "B) 2"], None], tolerance=[None, 0.5])
    arrow.write_problems(tokenizer, table, tmp_path / "x", max_tokens=8, context=None)
    data = arrow.read_problems(tmp_path / "x")
    assert data["choices"][:] == [["A) 1", "B) 2"], None]
    assert data["tolerance"][:] == [None, 0.5]


# -- the trainers' arguments -----------------------------------------------------------------------------------------


def test_a_recipe_becomes_these_arguments(tmp_path):
    folder = tmp_path / "study" / "family" / "sft" / "run" / "key"
    recipe = Sft(learning_rate=2e-5, batch_size=32, weight_decay=0.1, warmup_ratio=0.1, trl={"adam_beta2": 0.95})
    made = arguments.sft_config(recipe, folder=folder, epochs=3, rows=1000, seed=7, layout=(4, 8))
    expected = {
        "learning_rate": 2e-5, "num_train_epochs": 3, "per_device_train_batch_size": 4, "weight_decay": 0.1,
        "gradient_accumulation_steps": 8, "lr_scheduler_type": "cosine", "seed": 7, "adam_beta2": 0.95,
        "warmup_steps": 10,  # a tenth of 3 x 32 steps
        "bf16": False, "fp16": False, "gradient_checkpointing": False, "max_grad_norm": 1.0, "save_strategy": "no",
        "max_length": None, "packing": False, "padding_free": False, "report_to": [], "logging_steps": 1,
        "run_name": "study/family/sft/run/key", "output_dir": str(folder / "trainer"), "n_gpu": 0,
    }  # fmt: skip
    assert {name: getattr(made, name) for name in expected} == expected
    given = {"rollouts": "generate", "trl": {"generation_kwargs": {"top_k": 5}}}
    recipe = Grpo(steps=5, prompts_per_step=4, group_size=8, temperature=0.9, **given)
    made = arguments.grpo_config(recipe, folder=folder, steps=5, seed=7, layout=(16, 2))
    expected = {
        "max_steps": 5, "learning_rate": 1e-6, "num_generations": 8, "generation_batch_size": 32, "temperature": 0.9,
        "beta": 0.0, "max_completion_length": 128, "steps_per_generation": 2, "num_iterations": 1, "use_vllm": False,
        "generation_kwargs": {"use_cache": True, "top_k": 5}, "lr_scheduler_type": "linear",
    }  # fmt: skip
    assert {name: getattr(made, name) for name in expected} == expected


def test_on_gpus_memory_is_saved_and_a_process_uses_one(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert arguments.micro_batch(None, 64, 1000, ("a", "b")) == (16, 4)  # 16 x 1000 tokens
    assert arguments.micro_batch(None, 64, 100_000, ("a", "b")) == (1, 64)
    assert arguments.resolve("auto") == "mixed"
    monkeypatch.undo()
    assert arguments.micro_batch(None, 64, 100_000, ("a", "b")) == (64, 1)
    made = arguments.sft_config(Sft(), folder=tmp_path, epochs=1, rows=1, seed=0, layout=(1, 1))
    monkeypatch.setattr(type(made), "n_gpu", property(lambda self: 4))
    made = arguments.sft_config(Sft(), folder=tmp_path, epochs=1, rows=1, seed=0, layout=(1, 1))
    assert made._n_gpu == 1


def test_vllm_gets_no_argument_that_it_does_not_know(tmp_path):
    vllm = pytest.importorskip("vllm")
    options = {"folder": tmp_path, "steps": 1, "seed": 0, "layout": (8, 1)}
    recipe = Grpo(steps=1, prompts_per_step=1, rollouts="colocate", trl={"generation_kwargs": {"min_tokens": 2}})
    made = arguments.grpo_config(recipe, **options)
    assert (made.use_vllm, made.vllm_mode) == (True, "colocate")
    vllm.SamplingParams(**made.generation_kwargs)  # no `use_cache` of transformers
    wrong = Grpo(steps=1, rollouts="server", trl={"generation_kwargs": {"use_cache": True}})
    with pytest.raises(InputError, match=r"grpo\.trl\.generation_kwargs\.use_cache: vLLM's SamplingParams has no such"):
        arguments.grpo_config(wrong, **options)


def test_a_tracker_gets_the_log_under_the_name_of_the_run(base, tmp_path, monkeypatch):
    """With a stand-in for the package: what transformers hands to trackio."""
    tracker = mock.MagicMock(__spec__=importlib.machinery.ModuleSpec("trackio", None), __version__="9.0.0")
    tracker.context_vars.current_space_id.get.return_value = tracker.context_vars.current_project.get.return_value = (
        None
    )
    monkeypatch.setitem(sys.modules, "trackio", tracker)
    options = {"report_to": "trackio", "trackio_static_space_id": False}
    start("sft", base, tmp_path / "study" / "llama" / "sft" / "short-8" / "key", trl=options)
    assert tracker.init.call_args.kwargs["name"] == "study/llama/sft/short-8/key"
    logged = [call.args[0] for call in tracker.log.call_args_list]
    assert sum("train/loss" in row for row in logged) == 18
