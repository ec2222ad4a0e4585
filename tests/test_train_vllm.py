"""GRPO with rollouts of a vLLM engine in the training process: the engine has the weights that are being trained."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tiny import tiny_folder

TESTS = Path(__file__).parent
# Keeps what the trainer logged, of which the difference between the engine's log-probabilities and the trainer's.
CODE = """
import json, sys
from pathlib import Path
from trained import *
from sftrl.train import inside
fit = inside.fit
def kept(*args):
    history = fit(*args)
    Path(sys.argv[2], "history.json").write_text(json.dumps(history))
    return history
inside.fit = kept
from sftrl.train import launch
launch._launch = lambda folder, *_: inside.run(folder)
changes = {"rollouts": "colocate", "max_tokens": 16, "trl": {"generation_kwargs": {"min_tokens": 2}}}
start("grpo", sys.argv[1], Path(sys.argv[2]), **changes)
"""


@pytest.mark.vllm
def test_the_engine_samples_from_the_weights_of_each_step(tmp_path):
    pytest.importorskip("vllm")
    base = tiny_folder(tmp_path / "base", layers=1)
    environment = os.environ | {"PYTHONPATH": f"{TESTS.parent}:{TESTS}", "VLLM_CPU_KVCACHE_SPACE": "1"}
    command = [sys.executable, "-c", CODE, base, tmp_path / "rl"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    history = json.loads((tmp_path / "rl" / "history.json").read_text())
    assert len(history) == 9
    assert any(row["grad_norm"] > 0.1 for row in history[:-1])  # so the weights moved, by 0.005 a step
    apart = [row["sampling/sampling_logp_difference/mean"] for row in history]
    assert max(apart) < 1e-3  # of the first weights, or of the first LM head, it grows to a hundredth
    assert min(row["completions/min_length"] for row in history) >= 2  # the arguments reached SamplingParams
