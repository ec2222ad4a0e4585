"""A training that is killed goes on where it was, and ends where it would have: same steps, same weights."""

import errno
import os
import random
import shutil
import signal

import pandas as pd
import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from tiny import tiny_folder
from trained import EVERY_STEP, GRPO, SFT, examples, killed, problems, same, start, weights

from sftrl import train
from sftrl.errors import InputError
from sftrl.recipes import Checkpoint, Compute, Grpo, Lora, Sft
from sftrl.train import launch, resumable

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


def test_no_process_leaves_before_the_checkpoint_is_in_place(base, tmp_path, monkeypatch):
    """The first of several to exit has the others killed after half a minute, and a large checkpoint takes longer."""
    seen = []
    look = lambda *_: seen.append([path.name for path in resumable.checkpoints(tmp_path / "trainer")])  # noqa: E731
    monkeypatch.setattr("accelerate.Accelerator.wait_for_everyone", look)
    stopped("sft", base, tmp_path, 5, monkeypatch)
    assert seen[-1] == ["checkpoint-5"]


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


def test_a_disk_that_is_full_at_the_last_is_one_line_too(base, tmp_path, monkeypatch):
    """Safetensors has an error of its own for it."""
    from transformers import PreTrainedModel

    def full(*args, **kwargs):
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    with monkeypatch.context() as patch:
        patch.setattr(PreTrainedModel, "save_pretrained", full)
        with pytest.raises(InputError, match=r"model: cannot be written: .*No space left"):
            start("sft", base, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["trainer"]


def test_too_little_room_is_said_before_training(base, tmp_path, monkeypatch):
    """For the model and two checkpoints; of a training that goes on, one is there."""
    size = sum(weight.numel() * 4 for weight in load_file(f"{base}/model.safetensors").values())
    usage = shutil.disk_usage(tmp_path)._replace(free=5 * size)  # a checkpoint is weights and Adam's two moments
    stopped("sft", base, tmp_path / "cut", 5, monkeypatch)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(InputError, match=r"GB are free, and training needs"):
        start("sft", base, tmp_path / "new")
    assert len(start("sft", base, tmp_path / "cut")) == 18


def probed(base, folder, answer="3", until=None, samples=2):
    table = problems(2, id=["a", "b"], benchmark="sums", answer=answer)
    recipe = Grpo(**GRPO | {"steps": 3}, probes={"at": [0, 1, 2], "problems": 2, "samples": samples})
    return train.grpo(Checkpoint(model=base), problems(5), recipe, folder=folder, seed=3, probes=table, until=until)


def test_a_changed_probe_set_is_refused_by_name(base, tmp_path):
    with pytest.raises(train.Interrupted):
        probed(base, tmp_path, until=1)
    with pytest.raises(InputError, match=r"unfinished training with probes = '[0-9a-f]+', now"):
        probed(base, tmp_path, answer="4")
    lost = pd.DataFrame({"step": 2, "benchmark": "sums", "id": ["a", "b"], "samples": 2, "correct": 2, "tokens": -1})
    lost.to_parquet(tmp_path / "trainer" / "probes" / "2.parquet")  # of a step after the checkpoint, taken again
    assert len(probed(base, tmp_path)) == 3
    counts = pd.read_csv(tmp_path / "probes.csv")
    assert list(counts["step"]) == [0, 0, 1, 1, 2, 2]
    assert (counts["tokens"] > 0).all()


def test_nothing_is_kept_of_other_settings(base, tmp_path):
    """Stopped before the first checkpoint, a training may go on with other settings; what it probed is of the old."""
    with pytest.raises(train.Interrupted):
        probed(base, tmp_path, until=0)
    with pytest.raises(train.Interrupted):
        probed(base, tmp_path, until=0, samples=3)
    assert set(train.so_far(tmp_path)[1]["samples"]) == {3}


def test_other_held_out_examples_are_refused_by_name(base, tmp_path, monkeypatch):
    changes = {"held_out_steps": 5, "batch_size": 8}

    def tune(count):
        recipe = Sft(**SFT | changes)
        kept = {"folder": tmp_path, "seed": 3, "held_out": examples(count)}
        return train.sft(Checkpoint(model=base), examples(16), recipe, epochs=3, **kept)

    with monkeypatch.context() as patch:
        patch.setattr(resumable.StopSignal, "asked", lambda self: True)
        with pytest.raises(train.Interrupted, match="stopped at step 1 of 6"):
            tune(3)
    with pytest.raises(InputError, match="unfinished training with held_out = "):
        tune(4)
    assert tune(3)["held_out_loss"].notna().sum() == 2


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
    assert not (tmp_path / "trainer" / "job.json").exists()  # what the other one was started with stays


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


@pytest.mark.parametrize("kind", ["sft", "grpo"])
def test_averaged_weights_are_the_mean_of_the_last_steps_and_survive_a_stop(kind, base, whole, tmp_path, monkeypatch):
    """The training itself stays as it is; only what is saved is another."""
    after, seen = resumable.Watch.on_step_end, []

    def look(self, args, state, control, **kwargs):
        seen.append({name: p.detach().clone() for name, p in self.trainer.model.named_parameters()})
        after(self, args, state, control, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(resumable.Watch, "on_step_end", look)
        log = start(kind, base, tmp_path / "whole", averaged_steps=5)
    assert log.drop(columns=MACHINE).equals(whole[kind][0])
    mean = {name: torch.stack([step[name] for step in seen[-5:]]).mean(0) for name in seen[0]}
    averaged = weights(tmp_path / "whole")
    assert mean.keys() >= averaged.keys()
    assert all(torch.allclose(averaged[name], mean[name], atol=1e-6) for name in averaged)
    assert not same(averaged, whole[kind][1])
    stopped(kind, base, tmp_path / "cut", len(log) - 3, monkeypatch, averaged_steps=5)  # two steps are in the mean
    start(kind, base, tmp_path / "cut", averaged_steps=5)
    assert same(weights(tmp_path / "cut"), averaged)


def test_averaging_that_cannot_be_is_one_line_before_training(base, tmp_path, monkeypatch):
    with pytest.raises(InputError, match="averaged_steps: 19, and the training has 18 steps"):
        start("sft", base, tmp_path, averaged_steps=19)
    with pytest.raises(ValueError, match="averaged_steps: 10, and there are 9 steps"):
        start("grpo", base, tmp_path, averaged_steps=10)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(InputError, match="averaged_steps: not with fsdp1: give fsdp2"):
        launch.check_compute(Compute(processes=2, accelerate="fsdp1"), Sft(averaged_steps=2))
