"""What a TRL trainer lacks to survive being killed: atomic checkpoints by time, a stop that saves, progress.

A checkpoint is written to `saving/` and renamed when every process has finished writing, so every `checkpoint-N` is
complete, and a full disk does not damage the one before.
"""

import contextlib
import os
import re
import select
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch.utils.data import Sampler
from transformers import TrainerCallback

from sftrl.errors import InputError
from sftrl.progress import Progress
from sftrl.recipes import Lora
from sftrl.train.averaging import Averaging

# With several processes on a CPU, each has a device such as `cpu:1`. transformers loads the optimizer's state to it,
# and torch only knows `cpu`.
torch.serialization.register_package(
    40, lambda storage: None, lambda storage, place: storage if place.startswith("cpu:") else None
)


class Interrupted(RuntimeError):
    """A training was asked to stop and has saved; the same call resumes it. Notebooks show its message alone."""

    _render_traceback_ = InputError._render_traceback_


def checkpoints(folder: Path) -> list[Path]:
    """Return the complete checkpoints in a trainer's folder, oldest first."""
    found = [path for path in folder.glob("checkpoint-*") if re.fullmatch(r"checkpoint-\d+", path.name)]
    return sorted(found, key=lambda path: int(path.name.partition("-")[2]))


class Resumable:
    """Mixed into TRL's trainers, before them.

    Attributes:
        stored: the dtype in which the model is saved.
        lora: the adapters' recipe, if there are adapters.
        averaging: keeps the mean of the last steps' weights, if that is what will be saved.
        save_seconds: the time between two checkpoints; None: no checkpoints.
        until: the step at which to save and stop; None: the last.
        steps_between_saves: checkpoints are taken at multiples of it, where all rollouts drawn so far have been used.
        epoch_sampler: a sampler whose `epoch` must be set at the start of each epoch, if any.
    """

    stored: torch.dtype
    lora: Lora | None = None
    averaging: Averaging | None = None
    save_seconds: float | None = None
    until: int | None = None
    steps_between_saves = 1
    epoch_sampler: Sampler | None = None
    _saving = False

    def _get_output_dir(self, trial):
        return str(Path(self.args.output_dir) / "saving") if self._saving else super()._get_output_dir(trial)

    def create_model_card(self, *args, **kwargs):
        """Write no model card: the manifest says what was trained, and how."""

    def _save_checkpoint(self, model, trial):
        folder, first = Path(self.args.output_dir), self.is_world_process_zero()
        if first:
            shutil.rmtree(folder / "saving", ignore_errors=True)
        self.accelerator.wait_for_everyone()
        self._saving = True
        try:
            name = f"checkpoint-{self.state.global_step}"
            super()._save_checkpoint(model, trial)
            if self.averaging:
                self.averaging.save(folder / "saving" / name, self.args.process_index)
            self.accelerator.wait_for_everyone()
            if first:
                sync(folder / "saving" / name)
                os.replace(folder / "saving" / name, folder / name)
                for old in checkpoints(folder)[:-1]:
                    shutil.rmtree(old)
            # The first process to exit ends the launch, and with it those that are still writing.
            self.accelerator.wait_for_everyone()
        except (OSError, RuntimeError, SafetensorError) as error:
            kept = checkpoints(folder)
            good = (
                f"{kept[-1].name} is whole, and the same call goes on from it" if kept else "nothing was saved before"
            )
            raise InputError(f"{folder}: step {self.state.global_step} cannot be saved: {error}; {good}") from error
        finally:
            self._saving = False
            if first:
                shutil.rmtree(folder / "saving", ignore_errors=True)


def sync(folder: Path) -> None:
    """Flush every file under `folder` to the disk."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())


class Watch(TrainerCallback):
    """Reports progress; decides, for all processes together, when to save and when to stop."""

    def __init__(self, trainer: Resumable, stop: "StopSignal"):
        self.trainer, self.stop = trainer, stop

    def on_train_begin(self, args, state, control, **kwargs):
        self.logged = self.saved = time.monotonic()
        self.first_step, self.tokens = state.global_step, None
        say = print if state.is_world_process_zero else None
        self.progress = Progress(state.max_steps, "steps", say, start=state.global_step)
        if say and state.global_step:
            say(f"goes on from step {state.global_step}/{state.max_steps}", flush=True)

    def on_epoch_begin(self, args, state, control, **kwargs):
        if self.trainer.epoch_sampler is not None:
            self.trainer.epoch_sampler.epoch = int(state.epoch or 0)

    def on_step_end(self, args, state, control, **kwargs):
        due = self.trainer.save_seconds is not None and time.monotonic() - self.saved > self.trainer.save_seconds
        there = state.global_step == self.trainer.until
        wishes = torch.tensor([due, there or self.stop.asked()], dtype=torch.int32, device=args.device)
        if args.world_size > 1:
            torch.distributed.all_reduce(wishes, op=torch.distributed.ReduceOp.MAX)
        due, stop = (bool(wish) for wish in wishes)
        if (due or stop) and state.global_step % self.trainer.steps_between_saves == 0:
            control.should_save = self.trainer.save_seconds is not None and state.global_step < state.max_steps
            control.should_training_stop |= stop
            self.saved = time.monotonic()

    def on_log(self, args, state, control, logs=None, **kwargs):
        if "loss" not in logs:
            return  # the summary at the end
        now, row = time.monotonic(), state.log_history[-1]
        tokens = logs.get("num_tokens", self.tokens)  # a second update from the same rollouts has no new ones
        if self.tokens is not None:
            row["tokens_per_second"] = (tokens - self.tokens) / max(now - self.logged, 1e-9)
        self.logged, self.tokens = now, tokens
        if torch.cuda.is_available():
            row["gpu_gigabytes"] = torch.cuda.max_memory_reserved() / 1e9
        values = {key.rpartition("/")[2]: row.get(key) for key in ("loss", "reward", "completions/clipped_ratio")}
        said = ", ".join(f"{name} {float(value):.3f}" for name, value in values.items() if value is not None)
        self.progress.at(state.global_step, said, now=state.global_step == self.first_step + 1)


class StopSignal:
    """Whether this process was asked to stop: by SIGTERM, or by its launcher, which closes its standard input."""

    def __init__(self, launched: bool = False):
        self.launched, self.terminated = launched, False

    def asked(self) -> bool:
        """Return whether to stop at the end of this step."""
        if self.launched and not self.terminated and select.select([sys.stdin], [], [], 0)[0]:
            self.terminated = True  # closed on purpose, or the launcher is dead and nobody would read the result
        return self.terminated

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Inside the block, SIGTERM asks to save and stop."""
        if threading.current_thread() is not threading.main_thread():
            yield  # only the main thread can set handlers; SIGTERM ends the process as usual
            return

        def note(*_):
            self.terminated = True

        before = signal.signal(signal.SIGTERM, note)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, before)
