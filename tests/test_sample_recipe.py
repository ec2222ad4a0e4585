"""The recipe of sampling: what changes a sample is told apart from what changes how fast it comes."""

import dataclasses
import importlib.util

import pandas as pd
import pytest
from pydantic import ValidationError
from tiny import tiny_folder

from sftrl.recipes import VLLM_OWNED, VLLM_PLACEMENT, Checkpoint, Decoding, Sampling
from sftrl.sample import fill


def test_gpus_memory_batches_and_seeds_leave_the_distribution_as_it_is():
    plain = Sampling(engine="vllm")
    assert plain.distribution == Decoding().model_dump() | {"engine": "vllm"}
    for options in (
        {"tensor_parallel_size": 2},
        {"seeds": "shard"},
        {"batch_tokens": 100},
        {"vllm": {"gpu_memory_utilization": 0.8, "max_num_seqs": 16, "enforce_eager": True}},
    ):
        assert Sampling(engine="vllm", **options).distribution == plain.distribution
    for options in ({"temperature": 0.6}, {"max_tokens": 7}, {"vllm": {"quantization": "fp8", "max_num_seqs": 16}}):
        assert Sampling(engine="vllm", **options).distribution != plain.distribution
    assert Sampling(engine="vllm", vllm={"quantization": "fp8"}).distribution["vllm"] == {"quantization": "fp8"}
    assert Sampling().distribution != plain.distribution


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"engine": "sglang"}, "engine"),
        ({"temperature": -1.0}, "temperature"),
        ({"top_p": 0.0}, "top_p"),
        ({"temperature": "1e-1"}, "temperature"),
        ({"seeds": "shard"}, "seeds: only the vllm engine has a use for it, and engine is 'transformers'"),
        ({"tensor_parallel_size": 2}, "tensor_parallel_size: only the vllm engine"),
        ({"vllm": {"max_num_seqs": 4}}, "vllm: only the vllm engine"),
        ({"engine": "vllm", "vllm": {"seed": 4}}, "vllm.seed: set by a key of its own"),
        ({"adaptive": {"k": 4, "half_width": 0.0}}, "half_width"),
    ],
)
def test_slips_are_named(options, message):
    with pytest.raises(ValidationError, match=message):
        Sampling(**options)


def test_names_of_vllms_arguments_are_its_own():
    if not importlib.util.find_spec("vllm"):
        pytest.skip("vLLM is not installed")
    from vllm import EngineArgs

    assert VLLM_PLACEMENT | set(VLLM_OWNED) <= {field.name for field in dataclasses.fields(EngineArgs)}


def test_more_gpus_add_no_samples(tmp_path, monkeypatch):
    """A store that vLLM has filled is complete with any number of GPUs: no engine is even started."""
    problems = pd.DataFrame([{"benchmark": "b", "id": "1", "problem": "1 + 2 = ?", "answer": "3"}])
    what = Checkpoint(model=str(tiny_folder(tmp_path / "model"))), problems
    options = {"n": 4, "seed": 0, "progress": None}
    with monkeypatch.context() as patch:  # our own engine in the place of vLLM, which takes a minute to start
        from sftrl.sample import local
        from sftrl.sample.fill import ENGINES

        patch.setitem(ENGINES, "vllm", local)
        assert fill(tmp_path / "store", *what, Sampling(engine="vllm", max_tokens=8), **options).samples == 4
    monkeypatch.setattr("sftrl.sample.vllm_engine.version", lambda sampling: "vllm of any version")
    monkeypatch.setattr("sftrl.sample.vllm_engine.started", None)
    for more in ({"tensor_parallel_size": 4}, {"seeds": "shard"}, {"vllm": {"max_num_seqs": 2}}):
        assert fill(tmp_path / "store", *what, Sampling(engine="vllm", max_tokens=8, **more), **options).samples == 0
