"""Requests to an engine, its responses, and each sample's own random numbers."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Request:
    """One sample to draw: whose it is, its seed (None where a shard's samples share one), its prompt's token ids."""

    benchmark: str
    problem_id: str
    sample_index: int
    seed: int | None
    prompt: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Response:
    """What was drawn: token ids, the stop token included, and why it ended: `stop` or `length`."""

    request: Request
    tokens: list[int]
    finish_reason: str


# What an engine gives when it is started: requests in, longest prompt first and those of one problem side by side;
# batches of responses out, as they are done.
Draw = Callable[[Iterable[Request]], Iterator[list[Response]]]


def uniforms(seeds: NDArray[np.uint64], step: int) -> NDArray[np.float64]:
    """Return for each seed the `step`-th number in [0, 1) of its own stream.

    SplitMix64 (Steele, Lea and Flood 2014, doi 10.1145/2660193.2660195) with the step as its counter: no state to
    keep, so that a sample's numbers do not depend on which others share its batch.
    """
    with np.errstate(over="ignore"):
        z = seeds + np.uint64(step + 1) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
    return (z >> np.uint64(12)) * 2.0**-52
