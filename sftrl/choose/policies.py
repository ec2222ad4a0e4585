"""Other ways to choose a checkpoint, on the same finished runs and with the same budget: what a race must beat.

Each takes `Finished` runs and a budget (a share of the tokens of RL on all) and returns the index of the run it takes
and the share it spent: probes, and RL on the runs not taken.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from sftrl.choose.racing import Race


@dataclass(frozen=True)
class Finished:
    """Runs of one family that have been through RL, with what a race could have seen of them.

    Attributes:
        family, runs: names.
        steps: of the probes (k,), the first 0, the last the horizon.
        problems: ids.
        counts: correct samples (n, k, problems).
        samples: of each problem in a probe.
        probe_tokens: response tokens of each probe (n, k).
        rl_tokens: response tokens of RL up to each probe (n, k), 0 at first.
        outcome: score after RL (n,), a share.
    """

    family: str
    runs: list[str]
    steps: np.ndarray
    problems: list[str]
    counts: np.ndarray
    samples: int
    probe_tokens: np.ndarray
    rl_tokens: np.ndarray
    outcome: np.ndarray

    @property
    def score(self) -> np.ndarray:
        """Mean score of each probe (n, k)."""
        return self.counts.mean(axis=2) / self.samples

    def spent(self, chosen: int, step: np.ndarray, probes: float) -> float:
        """Return the share spent if run i was taken to the probe `step[i]` (n,), with `probes` tokens of probing."""
        lost = self.rl_tokens[np.arange(len(step)), step]
        return float((probes + lost.sum() - lost[chosen]) / self.rl_tokens[:, -1].sum())


def race(runs: Finished, budget: float, *, trace: list | None = None, **how) -> tuple[int, float]:
    """Race them; `how` holds further arguments of `Race`, `trace` takes the final `Choice`."""
    table = pd.DataFrame({"family": runs.family, "run": runs.runs})
    at = [int(step) for step in runs.steps[1:]]
    steps = {int(step): k for k, step in enumerate(runs.steps)}
    mean = runs.probe_tokens[:, 0].mean() / runs.samples / len(runs.problems)
    how = {"margin": 0.0, "draws": 1000} | how
    rollouts = max(1, round(runs.rl_tokens[:, -1].mean() / runs.steps[-1] / mean))
    contest = Race(table, at[-1], runs.problems, samples=runs.samples, rollouts=rollouts, budget=budget, at=at, **how)
    where = np.zeros(len(runs.runs), int)
    while job := contest.ask():
        i, k = runs.runs.index(job.run), steps[job.until_step]
        counts = dict(zip(runs.problems, runs.counts[i, k], strict=True))
        tokens = runs.rl_tokens[i, k] - runs.rl_tokens[i, where[i]]
        contest.tell(job, counts=counts, tokens=tokens, probe_tokens=runs.probe_tokens[i, k])
        where[i] = k
    choice = contest.choice
    if trace is not None:
        trace.append(choice)
    return runs.runs.index(choice.run), choice.spent


def at_random(runs: Finished, budget: float, *, seed: int = 0) -> tuple[int, float]:
    """Take any."""
    return int(np.random.default_rng(seed).integers(len(runs.runs))), 0.0


def by_pass1(runs: Finished, budget: float) -> tuple[int, float]:
    """Take the best before RL."""
    chosen = int(runs.score[:, 0].argmax())
    return chosen, runs.spent(chosen, np.zeros(len(runs.runs), int), runs.probe_tokens[:, 0].sum())


def top_two(runs: Finished, budget: float) -> tuple[int, float]:
    """Take the two best before RL to the end, whatever the budget, and then the better of them."""
    two = np.argsort(-runs.score[:, 0], kind="stable")[:2]
    step = np.zeros(len(runs.runs), int)
    step[two] = len(runs.steps) - 1
    chosen = int(two[runs.score[two, -1].argmax()])
    return chosen, runs.spent(chosen, step, runs.probe_tokens[:, 0].sum() + runs.probe_tokens[two, -1].sum())


def uniform(runs: Finished, budget: float) -> tuple[int, float]:
    """Take all to the last probe that the budget pays for, and then the best there."""
    step, probes = _even(runs, budget)
    chosen = int(runs.score[:, step].argmax())
    return chosen, runs.spent(chosen, np.full(len(runs.runs), step), probes)


def halving(runs: Finished, budget: float) -> tuple[int, float]:
    """Successive halving (Karnin, Koren and Somekh 2013): the same tokens a round, the worse half leaves after each."""
    alive, step = np.arange(len(runs.runs)), np.zeros(len(runs.runs), int)
    whole, probes = runs.rl_tokens[:, -1].sum(), runs.probe_tokens[:, 0].sum()
    rounds = int(np.ceil(np.log2(len(alive))))
    purse = 0.0
    for _ in range(rounds):
        purse += (budget * whole - runs.probe_tokens[:, 0].sum()) / rounds  # what a round leaves, the next one has
        now = step[alive[0]]
        price = {
            k: (runs.rl_tokens[alive, k] - runs.rl_tokens[alive, now]).sum() + runs.probe_tokens[alive, k].sum()
            for k in range(now + 1, len(runs.steps))
        }
        if paid := [k for k, tokens in price.items() if tokens <= purse]:
            step[alive] = paid[-1]
            purse -= price[paid[-1]]
            probes += runs.probe_tokens[alive, paid[-1]].sum()
        order = np.argsort(-runs.score[alive, step[alive]], kind="stable")
        alive = alive[order[: -(-len(alive) // 2)]]
    return int(alive[0]), runs.spent(int(alive[0]), step, probes)


# The grid of the extrapolation: share of the way from R0 to 1, middle as a share of the horizon, exponent.
CEILING, MIDDLE, POWER = np.meshgrid(np.linspace(0, 1, 41), np.geomspace(0.01, 3, 25), [0.5, 1.0, 2.0, 4.0])


def extrapolation(runs: Finished, budget: float) -> tuple[int, float]:
    """As `uniform`, but take the one whose curve R0 + (A - R0) / (1 + (C_mid / C)^B) is highest at the horizon.

    The curve is that of arXiv 2510.13786, fitted to each run alone by least squares on a grid.
    """
    step, _ = _even(runs, budget)
    probes = runs.probe_tokens[:, : step + 1].sum()
    t = runs.steps[1 : step + 1] / runs.steps[-1]
    share = CEILING[..., None] / (1 + (MIDDLE[..., None] / t) ** POWER[..., None])
    end = []
    for score in runs.score:
        error = ((score[0] + (1 - score[0]) * share - score[1 : step + 1]) ** 2).sum(axis=-1)
        best = np.unravel_index(error.argmin(), error.shape)
        end.append(score[0] + (1 - score[0]) * CEILING[best] / (1 + MIDDLE[best] ** POWER[best]))
    chosen = int(np.argmax(end))
    return chosen, runs.spent(chosen, np.full(len(runs.runs), step), probes)


def _even(runs: Finished, budget: float) -> tuple[int, float]:
    """Return the last probe that all can be taken to, and the tokens of probing before RL and there."""
    room, last, probes = budget * runs.rl_tokens[:, -1].sum(), 0, runs.probe_tokens[:, 0].sum()
    for k in range(1, len(runs.steps)):
        probing = runs.probe_tokens[:, [0, k]].sum()
        if runs.rl_tokens[:, k].sum() * (1 - 1 / len(runs.runs)) + probing <= room:
            last, probes = k, probing
    return last, probes


POLICIES = {
    "random": at_random,
    "Pass@1": by_pass1,
    "top two": top_two,
    "uniform": uniform,
    "halving": halving,
    "extrapolation": extrapolation,
    "race": race,
}
