"""Two processes, or a batch in parts, are one training: the same curve, but for the order of additions."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import trained
from tiny import tiny_folder
from trained import start, weights

from sftrl.files import read_table
from sftrl.recipes import Compute, Lora
from sftrl.train import launch

TESTS = Path(__file__).parent
KINDS = {
    "full": ("sft", {"held_out_steps": 6}),
    "lora": ("sft", {"lora": Lora(rank=4)}),
    "packed": ("sft", {"packing": True, "averaged_steps": 14}),
    "grpo": ("grpo", {"probes": {"at": [0, 4], "problems": 3, "samples": 3}, "averaged_steps": 4}),
}


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> str:
    return str(tiny_folder(tmp_path_factory.mktemp("base"), layers=1))


@pytest.fixture
def fixed(monkeypatch):
    """Rollouts that depend on their seeds and not on the weights."""
    from sftrl.train.rollouts import Policy

    monkeypatch.setattr(Policy, "draw", Policy.draw)
    trained.fixed_rollouts()


@pytest.fixture(scope="module")
def by_one(base, tmp_path_factory):
    """Train a kind in this process, its batches in parts of 4; each once."""
    made = {}

    def train(name: str):
        if name not in made:
            folder = tmp_path_factory.mktemp(name)
            kind, changes = KINDS[name]
            made[name] = start(kind, base, folder, **changes), weights(folder), folder
        return made[name]

    return train


def by_two_processes(script: str, kinds: dict, base: str, folder: Path, compute: Compute) -> Path:
    """Train every kind by two processes: one start for all, and so not by `launch`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(launch, "_launch", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        for name, (kind, changes) in kinds.items():
            with pytest.raises(KeyboardInterrupt):
                start(kind, base, folder / name, compute, **changes)
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", "0"]
    command += ["--rdzv_backend", "c10d", "--rdzv_endpoint", "localhost:0"]
    command += [TESTS / script, *(folder / name for name in kinds)]
    environment = os.environ | {"PYTHONPATH": f"{TESTS.parent}:{TESTS}"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


@pytest.fixture(scope="module")
def by_two(base, tmp_path_factory) -> Path:
    return by_two_processes("trained.py", KINDS, base, tmp_path_factory.mktemp("two"), Compute(processes=2))


def close(one, two) -> None:
    """Check that two logs have the same steps, and the same values to the rounding of float32.

    Left out are `epoch` and `entropy`, which the trainers count in parts of a batch, and what the machine decides.
    """
    assert list(one["step"]) == list(two["step"])
    for name in one.columns.drop(["epoch", "entropy", "tokens_per_second"], errors="ignore"):
        assert np.allclose(one[name], two[name], rtol=5e-5, atol=1e-6, equal_nan=True), name


@pytest.mark.parametrize("name", KINDS)
def test_two_processes_train_as_one(name, by_one, by_two, fixed):
    """45 examples in batches of 8: the last batch of an epoch has 5, in one process and in two."""
    one, a, _ = by_one(name)
    close(one, read_table(by_two / name / "trainer" / "log.parquet"))
    b = weights(by_two / name)
    # Adam's first steps turn a rounding error of a gradient near 0 into a step of its own sign.
    assert all(torch.allclose(a[key], b[key], atol=2e-3) for key in a)


def test_two_processes_share_the_probes(by_one, by_two, fixed):
    """All of them in one process would leave the other waiting, which torch.distributed does for half an hour."""
    *_, alone = by_one("grpo")
    counts = read_table(by_two / "grpo" / "probes.csv")
    assert counts.equals(read_table(alone / "probes.csv"))
    assert list(counts["step"]) == [0, 0, 0, 4, 4, 4]
    assert (counts["correct"] > 0).any()
    each = [(by_two / "grpo" / "trainer" / f"drawn-{rank}").read_text().split() for rank in (0, 1)]
    first, second = (sum(map(int, drawn)) for drawn in each)
    assert 0 <= first - second <= 2  # 9 rollouts, twice


@pytest.mark.parametrize(("name", "part"), [("full", 1), ("full", 8), ("packed", 1), ("grpo", 1)])
def test_a_batch_in_parts_is_one_batch(name, part, base, by_one, fixed, tmp_path):
    """Each token counts the same, whatever part it comes in (a mean of parts' means would not do; arXiv 2604.23747)."""
    kind, changes = KINDS[name]
    close(by_one(name)[0], start(kind, base, tmp_path, **changes, micro_batch=part))


def test_packed_is_as_unpacked(by_one):
    close(by_one("full")[0].drop(columns="held_out_loss"), by_one("packed")[0])


def test_weights_in_shards_train_as_one_and_resume(base, by_one, tmp_path):
    """FSDP2, stopped at step 6 and gone on with: the curve and the weights of one process."""
    kinds = {name: KINDS[name] for name in ("lora", "packed")} | {"grpo": ("grpo", {"rollouts": "generate"})}
    folder = by_two_processes("sharded.py", kinds, base, tmp_path, Compute(processes=2, save_minutes=1e-9))
    for name in ("lora", "packed"):
        one, a, _ = by_one(name)
        close(one, read_table(folder / name / "trainer" / "log.parquet"))
        b = weights(folder / name)
        assert a.keys() == b.keys()
        assert all(torch.allclose(a[key], b[key], atol=2e-3) for key in a)
    log = read_table(folder / "grpo" / "trainer" / "log.parquet")
    assert log["step"].tolist() == list(range(1, 10))
    assert weights(folder / "grpo").keys() == a.keys()


def test_launched_processes_end_as_one_in_place(base, by_one, tmp_path, capfd):
    one, *_ = by_one("full")
    capfd.readouterr()
    close(one, start("sft", base, tmp_path, Compute(processes=2), held_out_steps=6))
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    shown = capfd.readouterr().out
    assert shown.count("1 of 18 steps") == shown.count("18 of 18 steps") == 1  # by the first process alone


@pytest.mark.skipif("SFTRL_KILLS" not in os.environ, reason="minutes of starts; SFTRL_KILLS=1 runs it")
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_processes_stop_with_their_launcher_and_go_on(how, base, by_one, tmp_path):
    """Told by the launcher, or by its end: the processes save, leave no one behind, and the next call goes on."""
    code = (
        f"from trained import *; start('sft', {base!r}, Path({str(tmp_path)!r}), Compute(processes=2, save_minutes=9))"
    )
    command = [sys.executable, "-c", f"from trained import *; {code}"]
    environment = os.environ | {"PYTHONPATH": f"{TESTS.parent}:{TESTS}"}
    launcher = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert "1 of 18 steps" in launcher.stdout.readline()
    launcher.send_signal(how)
    _, errors = launcher.communicate(timeout=300)
    assert launcher.returncode != 0
    assert how == signal.SIGKILL or "Interrupted" in errors
    again = start("sft", base, tmp_path, Compute(processes=2))  # waits for those that still save
    close(by_one("full")[0].drop(columns="held_out_loss"), again)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
