"""What a Slurm has, checked before anything is submitted; and how its jobs ended, with the setting to raise."""

import re
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from sftrl.errors import InputError

# What slurmstepd writes into a job's log when it is killed.
OVER_MEMORY = re.compile(r"exceeded memory limit|oom[-_]kill|out[- ]of[- ]memory", re.I)
OVER_TIME = re.compile(r"DUE TO TIME LIMIT", re.I)


class Request(NamedTuple):
    """What the jobs of one stage ask for."""

    stage: str
    gpus: int
    minutes: int
    memory_mb: int
    partition: str | None


class Partition(NamedTuple):
    """A partition: its name, whether it is the default, its time limit, and its largest node's memory and GPUs."""

    name: str
    default: bool
    minutes: float
    memory_mb: int
    gpus: int


def partitions() -> list[Partition]:
    """Return the partitions of the Slurm that this machine is a client of.

    Raises:
        InputError: there is none, or it does not answer.
    """
    if not shutil.which("sinfo"):
        raise InputError("slurm: no sinfo here: start this on a machine from which jobs are submitted")
    asked = subprocess.run(["sinfo", "-h", "-o", "%P|%l|%m|%G"], capture_output=True, text=True)
    if asked.returncode:
        raise InputError(f"slurm: sinfo failed: {asked.stderr.strip()}")
    return read_sinfo(asked.stdout)


def read_sinfo(text: str) -> list[Partition]:
    """Read what `sinfo -h -o '%P|%l|%m|%G'` printed, a line a kind of node."""
    found: dict[str, Partition] = {}
    for line in filter(None, map(str.strip, text.splitlines())):
        name, limit, memory, gres = line.split("|")
        gpus = sum(int(count) for count in re.findall(r"gpu(?::[^:,()]+)?:(\d+)", gres))
        new = Partition(name.rstrip("*"), name.endswith("*"), _minutes(limit), int(memory.rstrip("+")), gpus)
        old = found.get(new.name, new)
        found[new.name] = new._replace(memory_mb=max(new.memory_mb, old.memory_mb), gpus=max(new.gpus, old.gpus))
    return list(found.values())


def check(requests: Iterable[Request], known: list[Partition]) -> None:
    """Check that every stage's partition is there and has the GPUs, the time and the memory.

    Raises:
        InputError: it names the setting, what it asks for and what there is.
    """
    names = ", ".join(partition.name for partition in known)
    for request in requests:
        key = f"cluster.{request.stage}"
        fits = [p for p in known if (p.name == request.partition if request.partition else p.default)]
        if not fits:
            wanted = repr(request.partition) if request.partition else "that is the default"
            raise InputError(f"{key}.partition: Slurm has no partition {wanted}; it has {names}")
        partition = fits[0]
        if request.gpus > partition.gpus:
            others = ", ".join(p.name for p in known if p.gpus >= request.gpus)
            raise InputError(
                f"{key}.partition: {request.gpus} GPUs on a node are needed, and partition {partition.name!r} has "
                f"{partition.gpus}; " + (f"enough have {others}" if others else "no partition has enough")
            )
        if request.minutes > partition.minutes:
            raise InputError(
                f"{key}.minutes: {request.minutes} requested, and partition {partition.name!r} allows "
                f"{partition.minutes:.0f}"
            )
        if request.memory_mb > partition.memory_mb:
            raise InputError(
                f"{key}.memory_gb: {request.memory_mb / 1000:.0f} requested, and a node of {partition.name!r} has "
                f"{partition.memory_mb / 1000:.0f}"
            )


def explain(logs: Iterable[str | Path]) -> list[str]:
    """Return, for each job that Slurm ended for its time or its memory, what to raise, from Snakemake's own logs."""
    found = {}
    for block in re.split(r"\n(?=\[|Error in )", "\n".join(Path(log).read_text() for log in logs)):
        rule, status = re.search(r"^Error in rule (\w+):", block, re.M), re.search(r"SLURM status is: '(\w+)'", block)
        if not rule or not status:
            continue
        stage = rule[1].removesuffix("_shard")
        said = _tail(block)
        output = re.search(r"^ +output: (.+)$", block, re.M)
        what = Path(output[1].split(",")[0]).parent if output else rule[1]
        if status[1] == "TIMEOUT" or OVER_TIME.search(said):
            found[what] = f"{what}: over its time: raise cluster.{stage}.minutes"
        elif status[1] == "OUT_OF_MEMORY" or OVER_MEMORY.search(said):
            found[what] = f"{what}: over its memory: raise cluster.{stage}.memory_gb"
    return list(found.values())


def _tail(block: str) -> str:
    """Return the end of the job's Slurm log, the last file that the block names."""
    logs = re.search(r"^ +log: (.+?)(?: \(check log file|$)", block, re.M)
    path = Path(logs[1].split(", ")[-1]) if logs else None
    return path.read_text(errors="replace")[-20_000:] if path and path.is_file() else ""


def _minutes(limit: str) -> float:
    """Read Slurm's `days-hours:minutes:seconds`, any but one of them absent, or `infinite`."""
    if limit in ("infinite", "UNLIMITED", "n/a"):
        return float("inf")
    days, _, clock = limit.rpartition("-")
    parts = [0, 0, *map(int, clock.split(":"))][-3:]
    return int(days or 0) * 1440 + parts[0] * 60 + parts[1] + parts[2] / 60
