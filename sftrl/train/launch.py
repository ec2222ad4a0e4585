"""A training as a job in a folder: written down, run in one process or many, gone on with if it was cut off."""

import contextlib
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import torch

from sftrl.errors import InputError
from sftrl.files import flat, hash_path, read_json, read_table, write_json
from sftrl.recipes import OWN_PROCESS, Compute, Grpo, Sft
from sftrl.train import arguments, arrow, inside
from sftrl.train.resumable import Interrupted, checkpoints

FREE = {"save_minutes", "until"}  # what may change between a stop and going on
DERIVED = {"micro_batch", "parts"}  # follow from others, which are named first


def check_compute(compute: Compute, recipe: Sft | Grpo) -> None:
    """Raise InputError if the machine has too few GPUs for `compute`, an accelerate configuration needs others, or the
    recipe has our sampler or loss read weights that no process has as a whole.
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
    shards = f"whole weights, and {compute.accelerate} keeps them in shards"
    if getattr(recipe, "held_out_steps", None):
        raise InputError(f"sft.held_out_steps: needs {shards}")
    if getattr(recipe, "rollouts", None) == "transformers":
        raise InputError(f"grpo.rollouts: transformers needs {shards}: give colocate, server or generate")
    if getattr(recipe, "probes", None):
        raise InputError(f"grpo.probes: need {shards}")


def run(folder: Path, job: dict, compute: Compute, until: int | None = None) -> pd.DataFrame:
    """Run `job`, whose data lies in `folder/"trainer"`; return its log. `inside.run` says what is left and raised.

    A job that was cut off goes on from its newest checkpoint, one that ended without telling its caller is not run
    again. On a CPU one process trains in place: no start is to be waited for, and the numbers are the same. An engine
    of vLLM's has a process of its own all the same, which ends with it.

    Raises:
        InputError: what is there was trained with other settings.
    """
    place = folder / "trainer"
    machine = {"processes": compute.processes, "accelerate": compute.accelerate}
    settings = job | machine | {"data": hash_path(place / arrow.NAME)}
    if checkpoints(place) or (place / "log.parquet").exists():
        _compare(read_json(place / "job.json"), settings, place)
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


def _compare(there: dict, now: dict, place: Path) -> None:
    there, now = flat(there), flat(now)
    for name in sorted(there.keys() | now.keys(), key=lambda name: (name in DERIVED, name)):
        if there.get(name) != now.get(name) and name not in FREE:
            raise InputError(
                f"{place}: an unfinished training with {name} = {there.get(name)!r}, now {now.get(name)!r}: "
                "give it back to go on, or remove the folder to start anew"
            )


def _launch(folder: Path, precision: str, compute: Compute) -> None:
    """Run the job in processes of its own, whose memory is free when it ends; show what the first one prints."""
    place = folder / "trainer"
    told = place / f"error-{os.getpid()}.json"  # of this launch: processes of another may still be leaving
    told.unlink(missing_ok=True)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), *sys.path])}
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
            stdin=subprocess.PIPE,  # its end, wanted or not, tells the processes to save and stop
            stdout=subprocess.PIPE,
            stderr=errors,
            env=environment,
            text=True,
            start_new_session=True,  # an interrupt of the keyboard is for this process, which passes it on
        )
        with _passing_on(process):
            try:
                for line in process.stdout:
                    print(line, end="", flush=True)
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
    """Pass SIGTERM on, inside the block, as the end of the processes' standard input."""
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
