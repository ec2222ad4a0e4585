"""Simulated families with curves that are known, for the tests and the bench of `choose`."""

from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from sftrl.choose.policies import Finished

ROLLOUTS = 192  # of one step
AT = (0, 6, 12, 24, 36, 60, 120)
KINDS = ("saturating", "late", "crossing", "dead", "mixed")


@dataclass(frozen=True)
class Simulated:
    """A family: true mean scores of many problems (runs, steps of `AT`), and each probe problem's (.., problems)."""

    score: np.ndarray
    rate: np.ndarray
    tokens: np.ndarray  # a response's mean length, of each run

    @property
    def end(self) -> np.ndarray:
        """The outcome (runs,): the mean score over many problems at the horizon."""
        return self.score[:, -1]


def simulate(kind: str, seed: int, *, runs: int = 8, problems: int = 60) -> Simulated:
    """Draw a family; none of the shapes is of the model's own grid.

    saturating: power-law rises. late: half of the runs rise in the second half. crossing: the worse at the start, the
    better at the end. dead: half of the runs do not move. mixed: some of each.
    """
    rng = np.random.default_rng([seed, KINDS.index(kind)])
    t = np.array(AT) / AT[-1]
    start = rng.normal(rng.uniform(-2, 0), rng.uniform(0.3, 1.0), runs)
    slope = rng.uniform(0.2, 1.0) if kind != "crossing" else -0.3
    gain = np.maximum(rng.uniform(0.3, 1.8) + rng.normal(0, rng.uniform(0.05, 0.5), runs), 0)
    end = start.mean() + gain + slope * (start - start.mean())
    half = rng.uniform(0.05, 0.4) * np.exp(rng.normal(0, 0.5, runs))  # of the way is gone at this share
    rise = (t / (t + half[:, None])) * (1 + half[:, None])
    is_late = {"late": 0.5, "mixed": 0.2}.get(kind, 0) > rng.random(runs)
    middle = rng.uniform(0.3, 0.7, runs)[:, None]
    late = np.clip((t - middle + 0.15) / 0.3, 0, 1) ** 2
    rise = np.where(is_late[:, None], late / late[:, -1:], rise)
    is_dead = {"dead": 0.5, "mixed": 0.15}.get(kind, 0) > rng.random(runs)
    end = np.where(is_dead, start, end)
    level = start[:, None] + (end - start)[:, None] * rise
    level = level + rng.normal(0, 0.07, level.shape) * (t > 0)

    def of(count: int) -> np.ndarray:
        difficulty = rng.normal(0, 1.3, count)
        suits = rng.normal(0, 0.4, (runs, 1, count))
        return expit(level[:, :, None] + difficulty + suits)

    return Simulated(of(3000).mean(axis=2), of(problems), rng.uniform(35, 55, runs))


def finished(family: Simulated, samples: int, seed: int) -> Finished:
    """Draw what probes of a simulated family would have seen."""
    counts = np.random.default_rng([seed, 1]).binomial(samples, family.rate)
    runs, _, problems = counts.shape
    probe = np.repeat(family.tokens[:, None] * problems * samples, len(AT), axis=1)
    rl = family.tokens[:, None] * ROLLOUTS * np.array(AT)
    names, ids = [f"r{i}" for i in range(runs)], [f"p{j}" for j in range(problems)]
    return Finished("simulated", names, np.array(AT), ids, counts, samples, probe, rl, family.end)
