"""What a race was told, and what it has cost: probes, and response tokens of probes and of RL."""

import numpy as np


class Ledger:
    """Rows of what was told, in their order: a probe's `run, step, counts, tokens, probe_tokens` and what else `tell`
    takes; or `run, died`, with the reason.

    Args:
        runs: the candidates.
        horizon: the step at which RL ends.
        problems: how many a probe asks.
        samples: of each problem in a probe.
        rollouts: samples of one RL step.
    """

    def __init__(self, runs: list[str], horizon: int, problems: int, samples: int, rollouts: int):
        self.runs, self.horizon, self.rollouts = runs, horizon, rollouts
        self.asked = problems * samples  # responses of one probe
        self.told: list[dict] = []

    @property
    def alive(self) -> list[str]:
        """The candidates that have not died."""
        dead = {row["run"] for row in self.told if "died" in row}
        return [run for run in self.runs if run not in dead]

    @property
    def probes(self) -> list[dict]:
        """The rows of probes."""
        return [row for row in self.told if "died" not in row]

    def of(self, run: str) -> list[dict]:
        """Return the probes of one candidate."""
        return [row for row in self.probes if row["run"] == run]

    @property
    def unprobed(self) -> list[str]:
        """The living candidates that have not been probed before RL."""
        return [run for run in self.alive if not self.of(run)]

    def last_step(self, run: str) -> int:
        """Return the step of the last probe of one candidate, -1 where there is none."""
        return max((row["step"] for row in self.of(run)), default=-1)

    def score(self, probe: dict) -> float:
        """Return the mean score of one of `probes`."""
        return sum(probe["counts"]) / self.asked

    def length(self, run: str) -> float:
        """Return the mean tokens of a response, by the last probe of `run`."""
        return self.of(run)[-1]["probe_tokens"] / self.asked

    def rl_tokens(self, run: str) -> float:
        """Return the tokens that RL of `run` has taken."""
        return sum(row["tokens"] for row in self.of(run))

    def step_tokens(self, run: str) -> float:
        """Return the tokens of a step of RL: as the last segment took, or estimated from the probe."""
        rows = self.of(run)
        if len(rows) > 1:
            return rows[-1]["tokens"] / (rows[-1]["step"] - rows[-2]["step"])
        return self.rollouts * self.length(run)

    def all_tokens(self) -> float:
        """Return the tokens of RL on all candidates to the horizon."""
        runs = [run for run in self.runs if self.of(run)]
        each = [self.rl_tokens(r) + (self.horizon - self.of(r)[-1]["step"]) * self.step_tokens(r) for r in runs]
        return float(np.mean(each)) * len(self.runs)

    def probe_tokens(self) -> float:
        """Return the tokens of all probes."""
        return sum(row["probe_tokens"] for row in self.probes)

    def lost(self, chosen: str) -> float:
        """Return the tokens of RL on the other candidates."""
        return sum(row["tokens"] for row in self.probes if row["run"] != chosen)

    def spent(self, chosen: str) -> float:
        """Return what choosing `chosen` has cost: all probes and RL on the others, as a share of RL on all."""
        return (self.probe_tokens() + self.lost(chosen)) / self.all_tokens()
