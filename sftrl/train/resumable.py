"""What a TRL trainer lacks to survive being killed: checkpoints by time, whole or ignored; a stop that saves; progress.

A checkpoint is written to `saving/` and renamed when every process is done with it, so a `checkpoint-N` is whole
whenever there is one, and a full disk leaves the one before as it was.
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
from sftrl.recipes import Lora

PROGRESS_SECONDS = 30

# Of several processes on a CPU each has a device such as `cpu:1`; transformers has an optimizer's state loaded to it,
# and torch knows `cpu` alone.
torch.serialization.register_package(
    40, lambda storage: None, lambda storage, place: storage if place.startswith("cpu:") else None
)


class Interrupted(RuntimeError):
    """A training that was asked to stop, and saved; the same call goes on from there. It shows as its message alone."""

    _render_traceback_ = InputError._render_traceback_


def checkpoints(folder: Path) -> list[Path]:
    """Return the whole checkpoints in a trainer's folder, oldest first."""
    found = [path for path in folder.glob("checkpoint-*") if re.fullmatch(r"checkpoint-\d+", path.name)]
    return sorted(found, key=lambda path: int(path.name.partition("-")[2]))


class Resumable:
    """Mixed into TRL's trainers, before them.

    Attributes:
        stored: the dtype that the model is saved in.
        lora: the adapters' recipe, if there are adapters.
        save_seconds: between two checkpoints; None: none are saved.
        until: the step to stop at, saved; None: the last.
        steps_between_saves: checkpoints fall on multiples of it, where no rollouts are waiting to be used.
        epoch_sampler: a sampler whose `epoch` is to be set, if any.
    """

    stored: torch.dtype
    lora: Lora | None = None
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
            super()._save_checkpoint(model, trial)
            self.accelerator.wait_for_everyone()
            if first:
                name = f"checkpoint-{self.state.global_step}"
                sync(folder / "saving" / name)
                os.replace(folder / "saving" / name, folder / name)
                for old in checkpoints(folder)[:-1]:
                    shutil.rmtree(old)
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
    """Have the bytes of every file under `folder` reach the disk."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())


class Watch(TrainerCallback):
    """Says how far it is, every half minute; decides, with all processes together, when to save and when to stop."""

    def __init__(self, trainer: Resumable, stop: "StopSignal"):
        self.trainer, self.stop = trainer, stop

    def on_train_begin(self, args, state, control, **kwargs):
        self.started = self.shown = self.logged = self.saved = time.monotonic()
        self.first_step, self.tokens = state.global_step, None
        if state.global_step and state.is_world_process_zero:
            print(f"goes on from step {state.global_step}/{state.max_steps}", flush=True)

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
        tokens = logs.get("num_tokens", self.tokens)  # none are new in a second update from the same rollouts
        if self.tokens is not None:
            row["tokens_per_second"] = (tokens - self.tokens) / max(now - self.logged, 1e-9)
        self.logged, self.tokens = now, tokens
        if torch.cuda.is_available():
            row["gpu_gigabytes"] = torch.cuda.max_memory_reserved() / 1e9
        first, last = state.global_step == self.first_step + 1, state.global_step == state.max_steps
        if state.is_world_process_zero and (first or last or now - self.shown > PROGRESS_SECONDS):
            self.shown, done = now, state.global_step - self.first_step
            left = (now - self.started) / done * (state.max_steps - state.global_step)
            values = {key.rpartition("/")[2]: row.get(key) for key in ("loss", "reward", "completions/clipped_ratio")}
            said = "  ".join(f"{name} {float(value):.3f}" for name, value in values.items() if value is not None)
            clock = f"{_clock(now - self.started)} gone, {_clock(left)} to go"
            print(f"step {state.global_step}/{state.max_steps}  {clock}  {said}", flush=True)


def _clock(seconds: float) -> str:
    hours, rest = divmod(round(seconds), 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}" if hours else f"{rest // 60}:{rest % 60:02d}"


class StopSignal:
    """Whether this process has been asked to stop: by SIGTERM, or by the end of its standard input, the launcher's."""

    def __init__(self, launched: bool = False):
        self.launched, self.terminated = launched, False

    def asked(self) -> bool:
        """Return whether to stop at the next step's end."""
        if self.launched and not self.terminated and select.select([sys.stdin], [], [], 0)[0]:
            self.terminated = True  # closed on purpose, or the launcher is gone: nobody would take up the result
        return self.terminated

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Take SIGTERM for a wish to save and stop, inside the block."""
        if threading.current_thread() is not threading.main_thread():
            yield  # only the main thread can listen; a SIGTERM then ends the process, as it would anyway
            return

        def note(*_):
            self.terminated = True

        before = signal.signal(signal.SIGTERM, note)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, before)
