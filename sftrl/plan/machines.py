"""Machines and rates: what `rates.yaml` says, checked, by name."""

import math
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml

from sftrl.errors import InputError

MICRO = 1e-6


@dataclass(frozen=True)
class Gpu:
    """A GPU's published peaks: dense bf16 in FLOP/s, memory in bytes, bandwidth in bytes/s."""

    name: str
    flops: float
    memory: float
    bandwidth: float


@dataclass(frozen=True)
class Cpu:
    """One core: seconds a token for a model of `parameters`, measured at two sizes and taken as linear between."""

    name: str
    base: dict[str, float]
    more: dict[str, float]

    def seconds(self, use: str, parameters: int) -> float:
        """Return seconds a token of `training` or `sampling`."""
        return self.base[use] + self.more[use] * parameters


@cache
def rates() -> dict:
    """Return the table of rates as it is written."""
    return yaml.safe_load((Path(__file__).parent / "rates.yaml").read_text())


def machine(name: str, key: str = "gpu") -> Gpu | Cpu:
    """Return a GPU, or a core of a CPU, by its name in `rates.yaml`.

    Args:
        key: the setting that has the name, for the error.

    Raises:
        InputError: an unknown name; it lists those that are known.
    """
    if name == "cpu":
        cpu = rates()["cpu"]
        return Cpu(
            name,
            {use: cpu[use]["base"] * MICRO for use in cpu},
            {use: cpu[use]["more"] * MICRO * 1e-6 for use in cpu},
        )
    known = rates()["gpus"]
    if name not in known:
        raise InputError(f"{key}: {name!r} is not one of cpu, {', '.join(known)}")
    entry = known[name]
    return Gpu(name, entry["tflops"] * 1e12, entry["memory"] * 1e9, entry["bandwidth"] * 1e9)


def utilisation(use: str) -> tuple[float, float]:
    """Return the low and the high share of a GPU's peaks that `training`, `sampling` or `rollouts` get."""
    entry = rates()["utilisation"][use]
    return entry["low"], entry["high"]


def planned(use: str) -> float:
    """Return the share that is planned with: the geometric mean of low and high."""
    return math.sqrt(math.prod(utilisation(use)))


def recognised(device: str) -> str | None:
    """Return the name here of a device as a manifest names it, or None: `NVIDIA H100 80GB HBM3` is H100-80."""
    if not device.startswith("NVIDIA"):
        return "cpu"
    said = device.upper().replace("-", " ").split()
    for name in rates()["gpus"]:
        model, _, memory = name.partition("-")
        model, memory = (memory, "") if model == "RTX" else (model, memory)
        if model in said and (not memory or f"{memory}GB" in said):
            return name
    return None
