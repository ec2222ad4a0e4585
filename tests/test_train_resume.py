"""A training that is killed goes on where it was, and ends where it would have: same steps, same weights."""

import errno
import json
import os
import random
import shutil
import signal

import pytest
import torch
from tiny import tiny_folder
from trained import EVERY_STEP, killed, same, start, weights

from sftrl import train
from sftrl.errors import InputError
from sftrl.recipes import Compute, Lora
from sftrl.train import resumable

TIMES = int(os.environ.get("SFTRL_KILLS", "1"))  # how often each kind is killed in each way
MACHINE = ["tokens_per_second"]


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> str:
    return str(tiny_folder(tmp_path_factory.mktemp("base"), layers=1))


@pytest.fixture(scope="module")
def whole(base, tmp_path_factory):
    """The log and the weights of each kind, trained in one go."""
    made = {}
    for kind in ("sft", "grpo"):
        folder = tmp_path_factory.mktemp(kind)
        made[kind] = start(kind, base, folder).drop(columns=MACHINE), weights(folder)
    return made


@pytest.mark.parametrize("time", range(TIMES))
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("kind", ["sft", "grpo"])
def test_killed_at_a_random_step_it_ends_as_if_it_had_not_been(kind, how, time, base, whole, tmp_path):
    log, expected = whole[kind]
    at = random.randint(1, len(log) - 2)
    code = killed(how, at, kind, base, tmp_path)
    assert code in ((-signal.SIGKILL,) if how == signal.SIGKILL else (3, 0))  # 0: it came after the last step
    if code == 3:
        step = int(resumable.checkpoints(tmp_path / "trainer")[-1].name.partition("-")[2])
        assert step >= at
        assert not (tmp_path / "model").exists()
    again = start(kind, base, tmp_path, Compute())
    assert list(again["step"]) == list(log["step"])  # each once
    assert again.drop(columns=MACHINE).equals(log)
    assert same(weights(tmp_path), expected)
    left = ["model", "rollouts.parquet"] if kind == "grpo" else ["model"]
    assert sorted(path.name for path in tmp_path.iterdir()) == left


def stopped(kind, base, folder, after, monkeypatch, **changes):
    """Train in this process until a SIGTERM in the middle of a step."""
    with monkeypatch.context() as patch:
        step_end = resumable.Watch.on_step_end

        def terminate(self, args, state, control, **kwargs):
            if state.global_step == after:
                os.kill(os.getpid(), signal.SIGTERM)
            step_end(self, args, state, control, **kwargs)

        patch.setattr(resumable.Watch, "on_step_end", terminate)
        with pytest.raises(train.Interrupted, match=f"stopped at step {after} of .*the same call goes on"):
            start(kind, base, folder, **changes)


@pytest.mark.parametrize("changes", [{"lora": Lora(rank=4)}, {"packing": True}])
def test_adapters_and_packed_batches_go_on_too(changes, base, tmp_path, monkeypatch):
    log = start("sft", base, tmp_path / "whole", **changes).drop(columns=MACHINE)
    stopped("sft", base, tmp_path / "cut", 7, monkeypatch, **changes)
    assert start("sft", base, tmp_path / "cut", **changes).drop(columns=MACHINE).equals(log)
    assert same(weights(tmp_path / "cut"), weights(tmp_path / "whole"))


def test_rollouts_that_are_used_twice_are_not_cut_apart(base, tmp_path, monkeypatch):
    """With two updates from one drawing of rollouts, a checkpoint between them would draw again for the second."""
    changes = {"trl": {"num_iterations": 2}}
    log = start("grpo", base, tmp_path / "whole", **changes).drop(columns=MACHINE)
    with pytest.raises(AssertionError, match="stopped at step 4"):
        stopped("grpo", base, tmp_path / "cut", 3, monkeypatch, **changes)
    assert start("grpo", base, tmp_path / "cut", **changes).drop(columns=MACHINE).equals(log)


def test_other_settings_are_refused_by_name(base, tmp_path, monkeypatch):
    stopped("sft", base, tmp_path, 5, monkeypatch)
    with pytest.raises(InputError, match=r"unfinished training with recipe\.learning_rate = 0\.005, now 0\.001"):
        start("sft", base, tmp_path, learning_rate=1e-3)
    with pytest.raises(InputError, match=r"unfinished training with processes = 1, now 2"):
        start("sft", base, tmp_path, Compute(processes=2))
    assert len(start("sft", base, tmp_path, Compute(save_minutes=1.0))) == 18  # how often it saves may change


def test_a_half_written_checkpoint_is_ignored(base, whole, tmp_path, monkeypatch):
    stopped("sft", base, tmp_path, 5, monkeypatch)
    trainer = tmp_path / "trainer"
    shutil.copytree(trainer / "checkpoint-5", trainer / "saving" / "checkpoint-6")
    (trainer / "saving" / "checkpoint-6" / "optimizer.pt").write_bytes(b"half")
    (tmp_path / ".model.left").mkdir()
    assert start("sft", base, tmp_path).drop(columns=MACHINE).equals(whole["sft"][0])
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_full_disk_is_one_line_and_what_was_saved_stays(base, whole, tmp_path, monkeypatch):
    stopped("sft", base, tmp_path, 5, monkeypatch)
    save = torch.save

    def full(value, path, *args, **kwargs):
        if "optimizer" in str(path):
            raise OSError(errno.ENOSPC, "No space left on device")
        return save(value, path, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", full)
        with pytest.raises(InputError, match=r"step 6 cannot be saved: .*No space left.*checkpoint-5 is whole"):
            start("sft", base, tmp_path, EVERY_STEP)
    assert [path.name for path in resumable.checkpoints(tmp_path / "trainer")] == ["checkpoint-5"]
    assert not (tmp_path / "trainer" / "saving").exists()
    assert start("sft", base, tmp_path).drop(columns=MACHINE).equals(whole["sft"][0])


def test_too_little_room_is_said_before_training(base, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(InputError, match=r"GB are free, and training needs"):
        start("sft", base, tmp_path)


def test_finished_but_untold_is_told_without_training(base, tmp_path, monkeypatch):
    """Killed between the log's last byte and its reading: the result stands."""
    with monkeypatch.context() as patch:
        patch.setattr("sftrl.train.launch.read_table", lambda path: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            start("sft", base, tmp_path)
    monkeypatch.setattr("sftrl.train.inside.run", None)
    assert len(start("sft", base, tmp_path)) == 18


def test_two_trainings_in_one_folder_are_refused(base, tmp_path, monkeypatch):
    import fcntl

    monkeypatch.setattr("sftrl.train.inside.LOCK_SECONDS", 0)
    (tmp_path / "trainer").mkdir()
    with (tmp_path / "trainer" / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(InputError, match="another training is under way there"):
            start("sft", base, tmp_path)
    assert json.loads((tmp_path / "trainer" / "job.json").read_text())["kind"] == "sft"


def test_taken_in_segments_it_ends_as_in_one_go(base, whole, tmp_path):
    """GRPO to step 0, 4 and 7, asked twice for one of them, and then to the end."""
    log, expected = whole["grpo"]
    for until in (0, 4, 4, 7):
        with pytest.raises(train.Interrupted):
            start("grpo", base, tmp_path, until=until)
        assert not (tmp_path / "model").exists()
        seen, _ = train.so_far(tmp_path)
        assert seen.drop(columns=MACHINE, errors="ignore").equals(log.head(until)) or until == 0 == len(seen)
    again = start("grpo", base, tmp_path)
    assert again.drop(columns=MACHINE).equals(log)
    assert same(weights(tmp_path), expected)
