"""What each process of a training does: load, train or resume, save. `launch` writes the job that it reads."""

import contextlib
import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
from transformers import PrinterCallback
from transformers.utils import logging as transformers_logging

from sftrl.errors import InputError
from sftrl.files import read_json, write_table
from sftrl.train import rollouts, weights
from sftrl.train.resumable import Interrupted, Resumable, StopSignal, Watch, checkpoints

# Columns kept of a trainer's log. The last two depend on the machine and differ from run to run.
MACHINE = ["tokens_per_second", "gpu_gigabytes"]
SFT_LOG = ["step", "epoch", "loss", "held_out_loss", "learning_rate", "grad_norm", *MACHINE]
GRPO_LOG = [
    "step", "reward", "entropy", "completions/clipped_ratio", "frac_reward_zero_std", "completions/mean_length",
    "learning_rate", "grad_norm", *MACHINE,
]  # fmt: skip
LOCK_SECONDS = 120  # for an earlier process of the same training to save and exit


def run(folder: Path, launched: bool = False) -> None:
    """Train the job in `folder/"trainer"`; write `folder/"model"`, then the log, whose presence marks it as finished.

    Args:
        launched: stop when standard input is closed.

    Raises:
        InputError: settings that a trainer refuses, another training running in the folder, a full disk.
        Interrupted: it was asked to stop before its last step, and has saved.
    """
    place, stop = folder / "trainer", StopSignal(launched)
    job = read_json(place / "job.json")
    first = os.environ.get("RANK", "0") == "0"
    with locked(place) if first else contextlib.nullcontext(), stop.listening():
        if first:
            for stale in (place / "saving", *folder.glob(".model.*")):
                shutil.rmtree(stale, ignore_errors=True)
        if job["kind"] == "sft":  # either trainer takes seconds to import
            from sftrl.train.supervised import build
        else:
            from sftrl.train.policy import build
        trainer = build(job, folder)
        _check_room(trainer, place)
        trainer.save_seconds, trainer.until = 60 * job["save_minutes"], job.get("until")
        if trainer.until is not None and trainer.until % trainer.steps_between_saves:
            raise InputError(
                f"until: {trainer.until} is no multiple of {trainer.steps_between_saves}: rollouts are waiting"
            )
        history = fit(trainer, stop)
        weights.save(trainer, folder)
        if trainer.is_world_process_zero():
            rollouts.collect(place / "probes", folder / "probes.csv")
            rollouts.collect(place / "rollouts", folder / "rollouts.parquet")
            write_table(table(history, SFT_LOG if job["kind"] == "sft" else GRPO_LOG), place / "log.parquet")


def fit(trainer: Resumable, stop: StopSignal | None = None) -> list[dict]:
    """Train to the last step, from the newest checkpoint if there is one; return the log, one dict per step.

    Raises:
        Interrupted: it was asked to stop before the last step, or the trainer's `until` comes before it.
    """
    transformers_logging.disable_progress_bar()
    trainer.remove_callback(PrinterCallback)  # prints each step's dict; Watch says the same, readably
    trainer.add_callback(Watch(trainer, stop or StopSignal()))
    saved = checkpoints(Path(trainer.args.output_dir))
    reached = int(saved[-1].name.partition("-")[2]) if saved else 0
    if trainer.is_world_process_zero():
        rollouts.forget(Path(trainer.args.output_dir), after=reached)
    if trainer.until is not None and trainer.until <= reached:
        if not saved:  # probes before the first step
            trainer.callback_handler.on_train_begin(trainer.args, trainer.state, trainer.control)
        raise Interrupted(f"{trainer.args.output_dir}: at step {reached}; the same call goes on from it")
    trainer.train(resume_from_checkpoint=str(saved[-1]) if saved else None)
    step, steps = trainer.state.global_step, trainer.state.max_steps
    if step < steps:
        raise Interrupted(
            f"{trainer.args.output_dir}: stopped at step {step} of {steps}; the same call goes on from it"
        )
    if trainer.averaging:
        trainer.averaging.use()
    return [row for row in trainer.state.log_history if "loss" in row]


def table(history: list[dict], columns: list[str]) -> pd.DataFrame:
    """Return those of the `columns` that were logged, as a table, under their short names."""
    log = pd.DataFrame(history)
    return log[[name for name in columns if name in log]].rename(columns=lambda name: name.rpartition("/")[2])


@contextlib.contextmanager
def locked(place: Path) -> Iterator[None]:
    """Hold the folder's lock inside the block; wait for a training that is stopping."""
    until = time.monotonic() + LOCK_SECONDS
    with (place / "lock").open("w") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > until:
                    raise InputError(f"{place}: another training is under way there") from None
                time.sleep(0.5)
        yield


def _check_room(trainer: Resumable, place: Path) -> None:
    """Raise InputError if the disk has no room for two checkpoints (the new beside the old) and the model.

    The one that a resumed training goes on from has its room already.
    """
    sizes = [(p.numel(), p.element_size(), p.requires_grad) for p in trainer.model.parameters()]
    model = sum(count * size for count, size, _ in sizes)
    copies = 4 if trainer.is_fsdp_enabled else 3  # weights (with FSDP in two formats) and Adam's two moments
    copies += trainer.averaging is not None
    checkpoint = sum(count * copies * size for count, size, trained in sizes if trained)
    needed, free = model + (1 if checkpoints(place) else 2) * checkpoint, shutil.disk_usage(place).free
    if free < needed:
        raise InputError(f"{place}: {free / 1e9:.1f} GB are free, and training needs {needed / 1e9:.1f} GB to save")
