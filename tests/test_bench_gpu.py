"""The benchmark for users who have a GPU, run on the smallest shape: what a CPU can tell of it."""

import importlib.util
from pathlib import Path

import pytest


@pytest.fixture
def bench():
    path = Path(__file__).parent / "bench" / "bench_gpu.py"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_kind_of_work_has_a_row(bench, capsys):
    rows = bench.table("tiny")
    assert list(rows["what"]) == ["loss", "SFT", "GRPO", "SFT LoRA", "GRPO LoRA"]
    assert (rows["tokens/s"] > 0).all()
    assert capsys.readouterr().out.count("| tiny |") == 5
    shape = bench.shapes.shape(bench.TINY)
    assert shape.parameters == 1024 * 64 + 2 * (64 * (2 * 64 + 2 * 32) + 3 * 64 * 128 + 2 * 64 + 2 * 32) + 64
