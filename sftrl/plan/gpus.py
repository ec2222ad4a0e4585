"""`python -m sftrl.plan.gpus 2 COMMAND...`: run a command on that many GPUs of this machine that no other one has.

Snakemake counts GPUs and does not say which. A GPU is taken by a lock on a file, which the kernel frees when the
command ends, however it ends. Where Slurm has already given a job its GPUs, the command is run as it is.
"""

import fcntl
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from sftrl.errors import InputError

SECONDS = 2  # between two looks for a free GPU


def main(words: list[str]) -> None:
    """Take the GPUs and become the command."""
    count, command = int(words[0]), words[1:]
    if count and "SLURM_JOB_ID" not in os.environ:
        taken = take(present(), count, Path(tempfile.gettempdir()) / f"sftrl-gpus-{os.getuid()}")
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(taken)
    os.execvp(command[0], command)


def check(count: int) -> None:
    """Check that this machine has as many GPUs as a job needs at once.

    Raises:
        InputError: it has fewer.
    """
    if count > (there := len(present())):
        raise InputError(f"cluster.gpu: a job needs {count} GPUs at once, and this machine has {there}")


def present() -> list[str]:
    """Return the GPUs that may be used: those of CUDA_VISIBLE_DEVICES, or all that nvidia-smi lists."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [name for name in named.split(",") if name]
    try:
        asked = subprocess.run(
            ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"], capture_output=True, text=True
        )
    except FileNotFoundError:
        return []
    return asked.stdout.split()


def take(gpus: list[str], count: int, folder: Path) -> list[str]:
    """Wait until `count` of `gpus` are free, lock them for this process and what it becomes, and return them."""
    if count > len(gpus):
        sys.exit(f"gpus: {count} are needed at once, and this machine has {len(gpus)}")
    folder.mkdir(parents=True, exist_ok=True)
    while True:
        # One at a time looks, so that two that need several never hold some each and wait for the other's.
        with (folder / "door").open("w") as door:
            fcntl.flock(door, fcntl.LOCK_EX)
            held = {}
            for gpu in gpus:
                file = os.open(folder / gpu, os.O_CREAT | os.O_RDWR)
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    os.close(file)
                    continue
                held[gpu] = file
                if len(held) == count:
                    for kept in held.values():
                        os.set_inheritable(kept, True)
                    return list(held)
            for file in held.values():
                os.close(file)
        time.sleep(SECONDS)


if __name__ == "__main__":
    main(sys.argv[1:])
