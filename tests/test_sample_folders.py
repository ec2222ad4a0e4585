"""Checkpoints that others have made: what their folders lack or hold besides, sampled all the same or refused."""

import json

import pandas as pd
import pytest
import torch
from peft import LoraConfig, get_peft_model
from tiny import tiny_folder, tiny_pair
from transformers import AutoModelForCausalLM, AutoTokenizer

from sftrl.errors import InputError
from sftrl.generations import Store
from sftrl.recipes import Checkpoint, Sampling
from sftrl.sample import fill
from sftrl.sample.checkpoint import hash_model

PROBLEMS = pd.DataFrame([{"benchmark": "b", "id": str(i), "problem": f"{i} + 1 = ?", "answer": "3"} for i in range(3)])


def evaluate(store, checkpoint, engine="transformers"):
    sampling = Sampling(max_tokens=12, engine=engine)
    fill(store, checkpoint, PROBLEMS, sampling, n=4, seed=0, progress=None)
    return Store(store)


@pytest.fixture
def folder(tmp_path):
    return tiny_folder(tmp_path / "model")


def test_what_a_trainer_leaves_beside_the_weights_is_no_matter(tmp_path, folder):
    """As in `checkpoint-100` of the trainers of transformers, open-r1 and axolotl: optimizer, states, logs."""
    expected = evaluate(tmp_path / "a", Checkpoint(model=str(folder))).read()
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json"):
        (folder / name).write_bytes(b"{}")
    pd.testing.assert_frame_equal(evaluate(tmp_path / "b", Checkpoint(model=str(folder))).read(), expected)
    assert evaluate(tmp_path / "a", Checkpoint(model=str(folder))).key == Store(tmp_path / "b").key


def test_a_folder_without_tokenizer_is_named(tmp_path, folder):
    """As an actor that verl or OpenRLHF has merged weights alone of."""
    for path in folder.glob("*token*"):
        path.unlink()
    with pytest.raises(InputError, match=f"{folder}: its tokenizer cannot be loaded"):
        evaluate(tmp_path / "store", Checkpoint(model=str(folder)))
    assert not (tmp_path / "store" / "store.json").exists()


def test_a_folder_without_chat_template_says_what_to_give(tmp_path, folder):
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(InputError, match="no chat template; give a file as `template`, or `template: plain`"):
        evaluate(tmp_path / "store", Checkpoint(model=str(folder)))
    plain = evaluate(tmp_path / "store", Checkpoint(model=str(folder), template="plain"))
    _, tokenizer = tiny_pair()
    (tmp_path / "own.jinja").write_text(tokenizer.chat_template)
    own = evaluate(tmp_path / "own", Checkpoint(model=str(folder), template=f"{tmp_path}/own.jinja"))
    assert plain.key["template"] != own.key["template"]
    assert not plain.read()["response"].equals(own.read()["response"])
    with pytest.raises(InputError, match="template is"):
        evaluate(tmp_path / "store", Checkpoint(model=str(folder), template=f"{tmp_path}/own.jinja"))


def test_sharded_weights_and_a_list_of_ends(tmp_path, folder):
    """Large models come in several files, and Llama 3's and Qwen's list two ends or three."""
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    model.generation_config.eos_token_id = [3, 40]
    model.save_pretrained(tmp_path / "shards", max_shard_size="20KB")
    tokenizer.save_pretrained(tmp_path / "shards")
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 1
    store = evaluate(tmp_path / "store", Checkpoint(model=f"{tmp_path}/shards"))
    assert store.key["sampling"]["stop_ids"] == [3, 40]
    one = evaluate(tmp_path / "one", Checkpoint(model=str(folder), stop=[tokenizer.convert_ids_to_tokens(40)]))
    pd.testing.assert_frame_equal(store.read(), one.read())


@pytest.mark.parametrize(("dtype", "loaded"), [("auto", "bfloat16"), ("float32", "float32")])
def test_the_key_says_in_which_precision_the_weights_were_loaded(tmp_path, folder, dtype, loaded):
    AutoModelForCausalLM.from_pretrained(folder).to(torch.bfloat16).save_pretrained(folder)
    assert json.loads((folder / "config.json").read_text())["dtype"] == "bfloat16"
    assert evaluate(tmp_path / "store", Checkpoint(model=str(folder), dtype=dtype)).key["dtype"] == loaded


@pytest.fixture
def adapter(tmp_path, folder):
    """A LoRA adapter's folder, and the same weights as a whole model."""
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(folder), LoraConfig(r=4, target_modules="all-linear"))
    torch.manual_seed(0)
    for name, weights in model.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(weights, std=0.1)
    model.save_pretrained(tmp_path / "adapter")
    model.merge_and_unload().save_pretrained(tmp_path / "merged")
    AutoTokenizer.from_pretrained(folder).save_pretrained(tmp_path / "merged")
    return tmp_path / "adapter", tmp_path / "merged"


def test_an_adapter_is_sampled_as_the_model_that_it_makes(tmp_path, folder, adapter):
    ours = evaluate(tmp_path / "a", Checkpoint(model=str(adapter[0])))
    whole = evaluate(tmp_path / "b", Checkpoint(model=str(adapter[1])))
    base = evaluate(tmp_path / "c", Checkpoint(model=str(folder)))
    pd.testing.assert_frame_equal(ours.read(), whole.read())
    assert not ours.read()["response"].equals(base.read()["response"])
    other = tiny_folder(tmp_path / "other", seed=1)
    with pytest.raises(InputError, match="model is"):  # the base is part of what an adapter is
        evaluate(tmp_path / "a", Checkpoint(model=str(adapter[0]), base=str(other)))


@pytest.mark.vllm
def test_an_adapter_through_vllm(tmp_path, adapter, monkeypatch):
    envs = pytest.importorskip("vllm.envs")
    if not torch.cuda.is_available():
        monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")  # GiB
    monkeypatch.setenv("VLLM_LOGGING_LEVEL", "ERROR")
    monkeypatch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "0")  # the engine in this process: it starts sooner
    store = evaluate(tmp_path / "store", Checkpoint(model=str(adapter[0])), engine="vllm")
    envs.disable_envs_cache()  # engines after this one read theirs anew
    assert len(store.read()) == 12
    assert store.key["model"] == hash_model(Checkpoint(model=str(adapter[0])))
