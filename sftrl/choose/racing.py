"""A race of SFT checkpoints: which segment of RL to run next, when to stop, and which to take.

    race = Race(candidates, horizon=120, problems=ids, budget=0.10, margin=0.01, log="race.json")
    while job := race.ask():                  # a run, the step to take it to, the problems to probe it on
        counts, tokens = ...                  # any trainer: correct samples of each problem, tokens it took
        race.tell(job, counts=counts, tokens=tokens)
    race.choice                               # the run to take, with its chance to be best and the expected regret

First every candidate is probed before RL (`until_step` 0). Then the next segment is the one whose probe is worth most
for its price: the gain that its result is expected to bring to the choice (the knowledge gradient for normal beliefs,
Frazier, Powell and Dayanik 2008), over the tokens that are lost if the run is not chosen. All that was told lies in
the log, whole at any moment: the same call goes on from it.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.special import ndtr

from sftrl.choose.ledger import Ledger
from sftrl.choose.posterior import UNIFORM, WOBBLE, Draws, Forecast, Probed, draw, probed, suits
from sftrl.errors import InputError
from sftrl.files import read_json, write_json
from sftrl.predict.decide import metrics_of
from sftrl.predict.forecast import predict
from sftrl.tables import POST_RL, need

AT = (0.05, 0.1, 0.2, 0.35, 0.5, 1.0)  # shares of the horizon at which a run may be probed, unless told; chosen here
SIGNAL_BY = 0.05  # share of the horizon by which a run must have shown a signal
NO_SIGNAL = 0.9  # share of groups whose rewards are all the same, from which there is none
IDLE = 0.01  # of the margin: a probe that is expected to bring less is not worth asking for


class Job(NamedTuple):
    """What to run next: RL of `run` from where it is to `until_step` (0: none), then `samples` of each problem."""

    run: str
    until_step: int
    problems: tuple[str, ...]
    samples: int


class Choice(NamedTuple):
    """The run to take.

    Attributes:
        run: its name.
        p_best: chance that no candidate ends higher.
        expected_regret: how far the best is expected to end above it, a share.
        spent: tokens of measuring and of RL on the other runs, as a share of RL on all candidates.
        why: why the race is where it is, in a sentence.
    """

    run: str
    p_best: float
    expected_regret: float
    spent: float
    why: str


class Race:
    """Which of several checkpoints of one family should go to RL, found by starting RL on some.

    Args:
        candidates: one row a checkpoint, columns `family` and `run`, and the metrics if `calibration` is given.
        horizon: the step at which RL ends; the target is the mean score on problems like the probe's there.
        problems: ids of the held-out RL problems that every probe asks.
        samples: of each problem in a probe.
        rollouts: samples of one RL step (prompts a step x group size), to foresee what a segment costs.
        budget: share of the tokens of RL on all candidates that measuring and RL on runs not chosen may take.
        margin: expected regret, a share, that is small enough to stop.
        at: the steps at which runs may be probed; default: `AT` of the horizon.
        group_size: of GRPO, for the gate of runs without a signal.
        calibration: runs of the same family that have been through RL, as `decide` takes them: the forecast before the
            first probe is then `decide`'s. None: it is learned in the race.
        prior: what other families taught, as `posterior.learn` returns it.
        log: a JSON file that holds all that was told; an existing one is gone on from.
        seed: of the draws.

    Raises:
        InputError: candidates of several families or fewer than two, steps that are no steps, a budget that cannot pay
            for the first probes, a log of another race.
    """

    def __init__(
        self,
        candidates: pd.DataFrame,
        horizon: int,
        problems: Sequence[str],
        *,
        samples: int = 4,
        rollouts: int = 192,
        budget: float = 0.10,
        margin: float = 0.01,
        at: Sequence[int] | None = None,
        group_size: int = 8,
        calibration: pd.DataFrame | None = None,
        prior: np.ndarray = UNIFORM,
        log: str | Path | None = None,
        seed: int = 0,
        draws: int = 4000,
    ):
        need(candidates, ["family", "run"], "choose: candidates")
        self.runs = [str(run) for run in candidates["run"]]
        if candidates["family"].nunique() != 1:
            raise InputError(f"choose: candidates of one family, not {sorted(candidates['family'].unique())}")
        if twice := sorted({run for run in self.runs if self.runs.count(run) > 1}):
            raise InputError(f"choose: candidate {twice[0]!r} stands twice")
        if len(self.runs) < 2:
            raise InputError(f"choose: {len(self.runs)} candidate: nothing to choose")
        self.problems = tuple(map(str, problems))
        if len(set(self.problems)) != len(self.problems) or len(self.problems) < 2:
            raise InputError("choose: problems: needs two or more, each once")
        self.at = tuple(at) if at else tuple(sorted({max(1, round(share * horizon)) for share in AT}))
        if list(self.at) != sorted(set(self.at)) or self.at[0] < 1 or self.at[-1] > horizon:
            raise InputError(f"choose: at: {list(self.at)} are not ascending steps from 1 to the horizon, {horizon}")
        if not budget > 0 or not 0 <= margin < 1:
            raise InputError(f"choose: budget {budget} and margin {margin} are shares above 0")
        measuring = len(self.problems) * samples / (horizon * rollouts)
        if measuring > budget:
            raise InputError(
                f"choose: budget {budget:g} cannot pay for probing before RL: {len(self.problems)} problems of "
                f"{samples} samples each take {measuring:.3f} of RL on all; take fewer samples"
            )
        self.horizon, self.samples, self.group_size = horizon, samples, group_size
        self.budget, self.margin, self.prior, self.seed, self.draws = budget, margin, prior, seed, draws
        self.forecast, self._forecasts = None, {}
        if calibration is not None:
            need(calibration, ["family", POST_RL], "choose: calibration")
            family = str(candidates["family"].iloc[0])
            known = calibration[(calibration["family"].astype(str) == family) & calibration[POST_RL].notna()]
            if known.empty:
                raise InputError(f"choose: calibration: no run of family {family!r} has a {POST_RL}")
            metrics = metrics_of(candidates, known)
            views = predict(candidates, known, metrics, draws, np.random.default_rng(seed))
            self.forecast = Forecast.of(views[-1].outcome)
        self.ledger = Ledger(self.runs, horizon, len(self.problems), samples, rollouts)
        self._curves: dict[tuple[str, int], Probed] = {}
        self._cached: tuple[int, tuple[Draws, list[str]]] | None = None
        self._settings = {
            "family": str(candidates["family"].iloc[0]), "runs": self.runs, "horizon": horizon, "at": list(self.at),
            "problems": list(self.problems), "samples": samples, "budget": budget, "margin": margin,
        }  # fmt: skip
        self._log = Path(log) if log else None
        if self._log and self._log.exists():
            self._go_on(read_json(self._log))

    def ask(self) -> Job | None:
        """Return the next job, or None when the race is over; the same one until it is told."""
        if waiting := self.ledger.unprobed:
            return Job(waiting[0], 0, self.problems, self.samples)
        return self._look()[1]

    def tell(
        self,
        job: Job,
        *,
        counts: Mapping[str, int],
        probe_tokens: float,
        tokens: float = 0,
        zero_advantage: float | None = None,
        entropy: float | None = None,
    ) -> None:
        """Take in what a job gave, and write the log.

        Args:
            job: as asked, or another: a candidate, a later step of it.
            counts: correct samples of each problem, of `job.samples`.
            probe_tokens: response tokens of the probe.
            tokens: response tokens of the segment's rollouts.
            zero_advantage: share of the segment's groups whose rewards were all the same, for the gate.
            entropy: nats a token, kept in the log.

        Raises:
            InputError: no candidate, or a dead one; a step that is not after the last; other problems than the race's;
                counts that are none of so many samples; tokens below 0.
        """
        where = f"choose: {job.run} at step {job.until_step}"
        if job.run not in self.runs:
            raise InputError(f"{where}: no candidate of this race; they are {', '.join(self.runs)}")
        if job.run not in self.ledger.alive:
            raise InputError(f"{where}: this candidate has died")
        last = self.ledger.last_step(job.run)
        if job.until_step <= last or job.until_step > self.horizon:
            raise InputError(f"{where}: its last probe was at step {last}, and the horizon is {self.horizon}")
        if last < 0 < job.until_step:
            raise InputError(f"{where}: it has not been probed before RL")
        if odd := sorted(set(map(str, counts)) ^ set(self.problems)):
            raise InputError(f"{where}: all candidates answer the same problems, and {odd[0]} is not in both")
        counts = {str(name): count for name, count in counts.items()}
        for name, count in counts.items():
            if int(count) != count or not 0 <= count <= job.samples:
                raise InputError(f"{where}: {count!r} correct of {job.samples} samples of {name}")
        if job.samples != self.samples:
            raise InputError(f"{where}: {job.samples} samples of each problem, and the race takes {self.samples}")
        if not probe_tokens > 0 or not tokens >= 0:
            raise InputError(f"{where}: tokens {tokens!r} and probe_tokens {probe_tokens!r}")
        row = {"run": job.run, "step": int(job.until_step), "counts": [int(counts[name]) for name in self.problems]}
        row |= {"tokens": float(tokens), "probe_tokens": float(probe_tokens)}
        self._write(row | {"zero_advantage": zero_advantage, "entropy": entropy})

    def died(self, run: str, why: str) -> None:
        """Note that a candidate can go no further: it is neither asked for nor chosen from now on."""
        if run not in self.ledger.alive:
            raise InputError(f"choose: {run}: no candidate that is alive; those are {', '.join(self.ledger.alive)}")
        if len(self.ledger.alive) == 1:
            raise InputError(f"choose: {run}: the last candidate has died ({why}): nothing is left to choose")
        self._write({"run": run, "died": why})

    @property
    def choice(self) -> Choice:
        """The run to take, by all that was told. InputError: a candidate has not been probed before RL."""
        if waiting := self.ledger.unprobed:
            raise InputError(f"choose: {waiting[0]} has not been probed before RL, so there is no choice yet")
        return self._look()[0]

    def table(self) -> pd.DataFrame:
        """Return a row a candidate, best first: `run, step, score` of its last probe, `predicted, low, high` (the score
        at the horizon with its 95 % interval), `p_best`, `tokens` of its RL, `note`."""
        posterior, runs = self._posterior()
        low, high = np.quantile(posterior.score, [0.025, 0.975], axis=0)
        best = np.bincount(posterior.score.argmax(axis=1), minlength=len(runs)) / len(posterior.score)
        rows = []
        for i, run in enumerate(runs):
            last = self.ledger.of(run)[-1]
            rows.append({
                "run": run, "step": last["step"], "score": self.ledger.score(last),
                "predicted": posterior.score[:, i].mean(), "low": low[i], "high": high[i], "p_best": best[i],
                "tokens": self.ledger.rl_tokens(run), "note": "no signal" if self._silent(run) else "",
            })  # fmt: skip
        return pd.DataFrame(rows).sort_values("predicted", ascending=False, ignore_index=True)

    def _look(self) -> tuple[Choice, Job | None]:
        """Return the choice and the next job, if there is one."""
        posterior, runs = self._posterior()
        racing = [i for i, run in enumerate(runs) if not self._silent(run)] or list(range(len(runs)))
        score, mean = posterior.score[:, racing], posterior.score[:, racing].mean(axis=0)
        first = int(mean.argmax())
        best = np.bincount(score.argmax(axis=1), minlength=len(racing)) / len(score)
        regret = float((score.max(axis=1) - score[:, first]).mean())
        job, why = None, f"an expected regret of {100 * regret:.1f} points is within the margin"
        if len(racing) == 1:
            why = "no other candidate is left"
        elif regret > self.margin:
            job, why = self._next(posterior, [(i, runs[i], best[place]) for place, i in enumerate(racing)])
        leader = runs[racing[first]]
        return Choice(leader, float(best[first]), regret, self.ledger.spent(leader), why), job

    def _next(self, posterior: Draws, racing: list[tuple[int, str, float]]) -> tuple[Job | None, str]:
        """Return the segment whose probe brings most for its price, or None and why there is none."""
        mean = posterior.score.mean(axis=0)
        order = sorted(racing, key=lambda one: -mean[one[0]])
        room = self.budget * self.ledger.all_tokens() - self.ledger.probe_tokens()
        found, affordable = [], False
        for i, run, chance in racing:
            rows = self.ledger.of(run)
            later = [step for step in self.at if step > rows[-1]["step"]]
            rival = mean[next(j for j, other, _ in order if other != run)]
            probe = self.ledger.length(run) * self.samples * len(self.problems)
            noise = self._probed(run).noise[-1] + WOBBLE**2 * (len(rows) == 1)
            for step in later:
                tokens = (step - rows[-1]["step"]) * self.ledger.step_tokens(run)
                # Whoever of the first two is taken in the end, what is lost on the others must fit.
                if probe + max(self.ledger.lost(other) + tokens * (other != run) for _, other, _ in order[:2]) > room:
                    continue
                affordable = True
                z = posterior.at(i, np.array([step / self.horizon]))[:, 0]
                tied = np.cov(z, posterior.score[:, i])
                moved = abs(tied[0, 1]) / np.sqrt(tied[0, 0] + noise)  # sd of what the probe makes of the mean score
                away = abs(mean[i] - rival) / max(moved, 1e-12)
                worth = moved * (np.exp(-(away**2) / 2) / np.sqrt(2 * np.pi) - away * ndtr(-away))
                if worth > IDLE * self.margin:
                    found.append((worth / (probe + (1 - chance) * tokens), run, step))
        if not found:
            why = "no probe is worth its price any more" if affordable else "the budget cannot pay for another segment"
            return None, why
        _, run, step = max(found)
        return Job(run, step, self.problems, self.samples), f"{run} to step {step} is the next probe worth its price"

    def _posterior(self) -> tuple[Draws, list[str]]:
        """Return draws of what the living candidates may become, and their names."""
        if self._cached and self._cached[0] == len(self.ledger.told):
            return self._cached[1]
        runs = self.ledger.alive
        before = np.array([self.ledger.of(run)[0]["counts"] for run in runs])
        forecast = self.forecast
        if forecast:
            kept = tuple(self.runs.index(run) for run in runs)
            forecast = self._forecasts.setdefault(kept, forecast.only(list(kept)))
        unsure = suits(before, self.samples) if len(runs) > 1 else 0.0
        how = {"forecast": forecast, "prior": self.prior, "draws": self.draws, "seed": self.seed}
        posterior = draw([self._probed(run) for run in runs], unsure=unsure, **how), runs
        self._cached = len(self.ledger.told), posterior
        return posterior

    def _probed(self, run: str) -> Probed:
        rows = self.ledger.of(run)
        if (run, len(rows)) not in self._curves:
            steps = np.array([row["step"] for row in rows]) / self.horizon
            self._curves[run, len(rows)] = probed(steps, np.array([row["counts"] for row in rows]), self.samples)
        return self._curves[run, len(rows)]

    def _silent(self, run: str) -> bool:
        """Whether RL has nothing to learn from: groups without a signal, as its score lets expect."""
        last, hopeless = self.ledger.of(run)[-1], 1 - NO_SIGNAL ** (1 / self.group_size)
        quiet = last["zero_advantage"] is not None and last["zero_advantage"] >= NO_SIGNAL
        return last["step"] >= SIGNAL_BY * self.horizon and quiet and self.ledger.score(last) < hopeless

    def _write(self, row: dict) -> None:
        self.ledger.told.append(row)
        if self._log:
            write_json(self._log, {"race": self._settings, "told": self.ledger.told})

    def _go_on(self, kept: dict) -> None:
        """Take up a log: the settings must be this race's."""
        for name, value in self._settings.items():
            if (there := kept.get("race", {}).get(name)) != value and name not in ("budget", "margin"):
                raise InputError(f"{self._log}: a race with {name} = {there!r}, now {value!r}: give it another log")
        self.ledger.told = kept["told"]
