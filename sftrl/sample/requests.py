"""Requests to an engine, its responses, and each sample's own random numbers."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Request:
    """One sample to draw: its problem and index, its seed (None if the shard's samples share one), its prompt's ids."""

    benchmark: str
    problem_id: str
    sample_index: int
    seed: int | None
    prompt: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Response:
    """A drawn sample: token ids, stop token included, and why it ended: `stop` or `length`."""

    request: Request
    tokens: list[int]
    finish_reason: str


# What a started engine yields. Requests come longest prompt first, those of one problem adjacent; responses leave in
# batches as they finish.
Draw = Callable[[Iterable[Request]], Iterator[list[Response]]]


def uniforms(seeds: NDArray[np.uint64], step: int) -> NDArray[np.float64]:
    """Return for each seed, shape (rows,), the `step`-th number in [0, 1) of its own stream.

    SplitMix64 (Steele, Lea and Flood 2014, doi 10.1145/2660193.2660195) with the step as counter: it has no state, so a
    sample's numbers do not depend on its batch.
    """
    with np.errstate(over="ignore"):
        z = seeds + np.uint64(step + 1) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
    return (z >> np.uint64(12)) * 2.0**-52
