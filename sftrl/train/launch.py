"""A training as a job in a folder: its settings are written down, it runs in one process or many, and it can resume."""

import contextlib
import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import torch

from sftrl import progress
from sftrl.errors import InputError
from sftrl.files import flat, hash_path, read_json, read_table, write_json
from sftrl.recipes import OWN_PROCESS, Compute, Grpo, Sft
from sftrl.train import arguments, arrow, inside, rollouts
from sftrl.train.resumable import Interrupted, checkpoints

FREE = {"save_minutes", "until"}  # may change when a training is resumed
HASHED = {"probes", "held_out"}  # jobs written before 2026-11-22 do not name these files
SAVE_SECONDS = 600  # as long as Slurm is asked to wait after SIGTERM
STEPS = re.compile(r"[\d,]+ of [\d,]+ steps ")  # a line of progress
DERIVED = {"micro_batch", "parts"}  # follow from other settings, which an error names first


def check_compute(compute: Compute, recipe: Sft | Grpo) -> None:
    """Check `compute` against this machine and the recipe.

    Raises:
        InputError: too few GPUs, an accelerate configuration that cannot run here, or sharded weights where our sampler
            or our loss needs the whole model in one process.
    """
    gpus = torch.cuda.device_count()
    if gpus and compute.processes > gpus:
        raise InputError(f"compute.processes: {compute.processes}, and this machine has {gpus} GPUs")
    if compute.accelerate and not gpus:
        raise InputError(f"compute.accelerate: {compute.accelerate} is for GPUs, and this machine has none")
    if (compute.accelerate or "").startswith("zero") and importlib.util.find_spec("deepspeed") is None:
        raise InputError(
            f"compute.accelerate: {compute.accelerate} needs the package deepspeed, which is not installed"
        )
    if compute.accelerate == "multi_gpu" and compute.processes < 2:
        raise InputError("compute.accelerate: multi_gpu needs compute.processes of 2 or more")
    if compute.accelerate not in ("fsdp1", "fsdp2", "zero3"):
        return
    if recipe.averaged_steps and compute.accelerate != "fsdp2":
        raise InputError(f"averaged_steps: not with {compute.accelerate}: give fsdp2, or train in one piece")
    shards = f"whole weights, and {compute.accelerate} keeps them in shards"
    if getattr(recipe, "held_out_steps", None):
        raise InputError(f"sft.held_out_steps: needs {shards}")
    if getattr(recipe, "rollouts", None) == "transformers":
        raise InputError(f"grpo.rollouts: transformers needs {shards}: give colocate, server or generate")
    if getattr(recipe, "probes", None):
        raise InputError(f"grpo.probes: need {shards}")


def run(folder: Path, job: dict, compute: Compute, until: int | None = None) -> pd.DataFrame:
    """Run `job`, whose data is in `folder/"trainer"`; return its log. See `inside.run` for what it writes and raises.

    An interrupted job resumes from its newest checkpoint. A job that finished, but whose caller died before it read the
    log, is not run again. On a CPU a single process trains in place: this saves the start of another process and gives
    the same numbers. With a vLLM engine it is a process of its own, so that the engine ends with it.

    Raises:
        InputError: the folder holds an unfinished training with other settings.
    """
    place = folder / "trainer"
    machine = {"processes": compute.processes, "accelerate": compute.accelerate}
    settings = job | machine | {"data": hash_path(place / arrow.NAME)}
    with inside.locked(place):  # a training that is still running keeps its job.json
        if (place / "job.json").exists() and (other := _differing(read_json(place / "job.json"), settings)):
            if checkpoints(place) or (place / "log.parquet").exists():
                raise InputError(
                    f"{place}: an unfinished training with {other}: give it back to go on, or remove the folder to "
                    "start anew"
                )
            rollouts.forget(place, after=-1)  # made under other settings, with no checkpoint to resume
        write_json(place / "job.json", settings | {"save_minutes": compute.save_minutes, "until": until})
    if not (place / "log.parquet").exists():
        alone = compute.processes == 1 and compute.accelerate is None and not torch.cuda.is_available()
        if alone and job["recipe"].get("rollouts", "transformers") in OWN_PROCESS:
            inside.run(folder)
        else:
            _launch(folder, job["recipe"]["precision"], compute)
    log = read_table(place / "log.parquet")
    shutil.rmtree(place)
    return log


def _differing(there: dict, now: dict) -> str | None:
    """Name a setting that differs and its two values; None where none does."""
    there, now = flat(there), flat(now)
    for name in sorted(there.keys() | now.keys(), key=lambda name: (name in DERIVED, name)):
        unknown = name in HASHED and name not in there
        if there.get(name) != now.get(name) and name not in FREE and not unknown:
            return f"{name} = {there.get(name)!r}, now {now.get(name)!r}"
    return None


def _launch(folder: Path, precision: str, compute: Compute) -> None:
    """Run the job in separate processes, which free their memory when they end; show what they print."""
    place = folder / "trainer"
    told = place / f"error-{os.getpid()}.json"  # of this launch: processes of an earlier one may still be running
    told.unlink(missing_ok=True)
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), *sys.path]),
        # A scheduler's SIGTERM reaches accelerate too, which by itself kills processes that save for half a minute.
        "TORCH_ELASTIC_SHUTDOWN_TIMEOUT": str(SAVE_SECONDS),
    }
    line = progress.Line()
    if line.live:
        environment[progress.SECONDS] = str(progress.LIVE)
    command = [sys.executable, "-m"]
    if compute.processes == 1 and compute.accelerate is None:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")
        environment["CUDA_VISIBLE_DEVICES"] = visible[0]  # several would be DataParallel
    else:
        command += ["accelerate.commands.launch", "--num_machines", "1", "--num_processes", str(compute.processes)]
        mixed = arguments.resolve(precision) == "mixed"
        command += ["--mixed_precision", "bf16" if mixed else "no", "--dynamo_backend", "no"]
        command += ["--main_process_port", "0"]  # any that is free
        command += ["--config_file", str(_config(compute.accelerate))] if compute.accelerate else ["--multi_gpu"]
        command += ["-m"]
    command += ["sftrl.train", str(folder), str(told)]
    with (place / "stderr.log").open("w") as errors:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,  # closed on purpose or by our death, it tells the processes to save and stop
            stdout=subprocess.PIPE,
            stderr=errors,
            env=environment,
            text=True,
            start_new_session=True,  # Ctrl-C reaches this process, which passes it on
        )
        with _passing_on(process):
            try:
                for text in process.stdout:
                    if STEPS.match(text):
                        line.show(text.rstrip("\n"))
                    else:
                        print(text, end="", flush=True)
            finally:
                process.stdin.close()
                status = process.wait()
    if told.exists():
        error = read_json(told)
        raise {"InputError": InputError, "Interrupted": Interrupted}[error["kind"]](error["message"])
    if status or not (place / "log.parquet").exists():
        last = "\n".join((place / "stderr.log").read_text(errors="replace").splitlines()[-30:])
        raise RuntimeError(f"training ended with status {status}; {place / 'stderr.log'} ends:\n{last}")


@contextlib.contextmanager
def _passing_on(process: subprocess.Popen) -> Iterator[None]:
    """Inside the block, pass SIGTERM on by closing the standard input of the processes."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda *_: process.stdin.close())
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _config(name: str) -> Path:
    import trl

    return Path(trl.__file__).parent / "accelerate_configs" / f"{name}.yaml"
