"""The race on paper: replayed on finished studies, beside other ways to choose, for regret against tokens spent.

    runs = finished(probes, results, curves, rollouts=128)     # a study's committed tables
    replay(runs, budgets=(0.05, 0.1, 0.2))                      # a row a family, policy and budget
    measuring(runs)                                             # what measuring before RL buys: samples, problems

A replay draws subsets of a family's runs, one RL seed of each, and thins every probe to the samples that a race would
have drawn. Regret is the best outcome of the subset less that of the run taken: its score after RL on the benchmarks,
or, without `results`, the last probe with all of its samples.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from sftrl.choose.policies import POLICIES, Finished, by_pass1, race
from sftrl.choose.posterior import learn, probed
from sftrl.errors import InputError
from sftrl.predict.comparison import tokens_of
from sftrl.tables import AVERAGE, BASE, POST_RL, direction, headline, need, problem_columns, rounded

REGRET = ("regret", "regret_low", "regret_high")


def finished(
    probes: pd.DataFrame,
    results: pd.DataFrame | None = None,
    curves: pd.DataFrame | None = None,
    *,
    rollouts: int,
    leave_out: Sequence[str] = (BASE,),
) -> list[Finished]:
    """Read a study's tables: a `Finished` a family, whose `runs` are `run` and RL seed, as `name/seed`.

    Args:
        probes: `rl_probes.csv`: `family, run, rl_seed, step, samples, tokens`, and a problem a column: correct samples.
        results: `results.csv`, for the outcome.
        curves: `rl_curves.csv`, for the tokens of RL; None: as many a response as in the probes.
        rollouts: of one RL step.
        leave_out: runs that are references, not choices.

    Raises:
        InputError: a column that is missing; a run that lacks a step or a problem that others have, or an outcome.
    """
    need(probes, ["family", "run", "rl_seed", "step", "samples", "tokens"], "rl_probes")
    problems = problem_columns(probes)
    probes = probes[~probes["run"].isin(leave_out)]
    found = []
    for family, rows in probes.groupby("family", sort=False):
        steps = np.sort(rows["step"].unique())
        samples = int(rows["samples"].iloc[0])
        if rows["samples"].nunique() > 1:
            raise InputError(f"rl_probes: {family}: probes of {sorted(rows['samples'].unique())} samples: take one")
        parts: dict[str, list] = {name: [] for name in ("runs", "counts", "probe", "rl", "outcome")}
        for (run, seed), own in rows.groupby(["run", "rl_seed"], sort=False):
            own = own.sort_values("step")
            if list(own["step"]) != list(steps):
                raise InputError(
                    f"rl_probes: {family} {run} seed {seed}: probes at {list(own['step'])}, not {list(steps)}"
                )
            if own[problems].isna().any(axis=None):
                lacking = own[problems].columns[own[problems].isna().any()][0]
                raise InputError(f"rl_probes: {family} {run} seed {seed}: nothing for problem {lacking}")
            parts["runs"].append(f"{run}/{seed}")
            parts["counts"].append(own[problems].to_numpy(int))
            parts["probe"].append(own["tokens"].to_numpy(float))
            length = own["tokens"].to_numpy(float) / samples / len(problems)
            parts["rl"].append(_rl_tokens(curves, (family, run, seed), steps, length, rollouts))
            parts["outcome"].append(_outcome(results, (family, run, seed), parts["counts"][-1][-1] / samples))
        counts, probe, rl, outcome = (np.array(parts[name]) for name in ("counts", "probe", "rl", "outcome"))
        found.append(Finished(str(family), parts["runs"], steps, problems, counts, samples, probe, rl, outcome))
    return found


def _rl_tokens(curves, who: tuple, steps: np.ndarray, length: np.ndarray, rollouts: int) -> np.ndarray:
    """Return the response tokens of RL up to each of `steps` (k,)."""
    if curves is None:
        between = np.diff(steps) * (length[1:] + length[:-1]) / 2
        return rollouts * np.concatenate([[0.0], np.cumsum(between)])
    own = curves[(curves["family"] == who[0]) & (curves["run"] == who[1]) & (curves["rl_seed"] == who[2])]
    if own["step"].max() != steps[-1]:
        raise InputError(f"rl_curves: {who[0]} {who[1]} seed {who[2]}: no row of step {steps[-1]}")
    return np.array([rollouts * own.loc[own["step"] <= step, "mean_length"].sum() for step in steps])


def _outcome(results, who: tuple, last: np.ndarray) -> float:
    if results is None:
        return float(last.mean())
    rows = results[(results["phase"] == POST_RL) & (results["benchmark"] == AVERAGE)]
    rows = rows[(rows["family"] == who[0]) & (rows["run"] == who[1]) & (rows["rl_seed"] == who[2])]
    if len(rows) != 1:
        raise InputError(f"results: {who[0]} {who[1]} seed {who[2]}: {len(rows)} rows of the score after RL, not 1")
    return float(rows["pass@1"].iloc[0])


def subset(runs: Finished, candidates: int, samples: int, rng: np.random.Generator) -> Finished:
    """Draw `candidates` runs, one RL seed of each, and `samples` of the samples of every probe."""
    names = np.array(_names(runs))
    each = np.unique(names)
    chosen = rng.choice(each, min(candidates, len(each)), replace=False)
    seeds = [np.flatnonzero(names == name) for name in chosen]
    keep = np.array([int(rng.choice(found)) for found in seeds])
    counts = runs.counts[keep]
    if samples < runs.samples:
        counts = rng.hypergeometric(counts, runs.samples - counts, samples)
    return replace(
        runs,
        runs=[runs.runs[i] for i in keep],
        counts=counts,
        samples=min(samples, runs.samples),
        probe_tokens=runs.probe_tokens[keep] * min(samples / runs.samples, 1),
        rl_tokens=runs.rl_tokens[keep],
        outcome=runs.outcome[keep],
    )


def replay(
    families: list[Finished],
    *,
    budgets: Sequence[float] = (0.05, 0.10, 0.20),
    candidates: int = 8,
    samples: int = 4,
    subsets: int = 100,
    policies: Sequence[str] = tuple(POLICIES),
    seed: int = 0,
    **how,
) -> pd.DataFrame:
    """Replay every policy at every budget on the same subsets.

    A race of a family has what the other families taught as its `prior`, and nothing of its own.

    Args:
        families: as `finished` returns them.
        budgets: shares of the tokens of RL on all candidates.
        candidates: in a subset.
        samples: of each problem in a probe, at most those that were drawn.
        subsets: drawn from each family.
        policies: of `POLICIES`.
        seed: of the subsets.
        how: further arguments of `Race`.

    Returns:
        `family, policy, budget, candidates, samples, subsets, regret, regret_low, regret_high` (shares; the interval is
        of the mean over subsets, as if these were independent: they share runs), `better_than_pass1, better_low,
        better_high` (regret of Pass@1 less its own, paired), `spent`, `over_budget` (share of subsets), `best` (share
        in which it took the best) and `p_best` (what the race said of that).
    """
    rows = []
    for number, runs in enumerate(families):
        others = [[_probed(other, i) for i in range(len(other.runs))] for other in families if other is not runs]
        prior = {"prior": learn(others)} if others else {}
        rng = np.random.default_rng([seed, number])
        drawn = [subset(runs, candidates, samples, rng) for _ in range(subsets)]
        plain = np.array([_regret(one, by_pass1(one, 1.0)[0]) for one in drawn])
        for budget in budgets:
            for name in policies:
                said: list = []
                extra = (prior | how | {"trace": said}) if POLICIES[name] is race else {}
                taken = [
                    POLICIES[name](one, budget, **(extra | ({"seed": i} if name == "random" else {})))
                    for i, one in enumerate(drawn)
                ]
                regret = np.array([_regret(one, i) for one, (i, _) in zip(drawn, taken, strict=True)])
                spent = np.array([share for _, share in taken])
                about = {"family": runs.family, "policy": name, "budget": budget, "candidates": len(drawn[0].runs)}
                about |= {"samples": drawn[0].samples, "subsets": subsets, **_mean("regret", regret)}
                about |= _mean("better_than_pass1", plain - regret, "better")
                about |= {"spent": spent.mean(), "over_budget": (spent > budget).mean(), "best": (regret == 0).mean()}
                rows.append(about | {"p_best": np.mean([choice.p_best for choice in said]) if said else np.nan})
    return rounded(pd.DataFrame(rows))


def measuring(
    families: list[Finished],
    *,
    samples: Sequence[int] = (1, 2, 4, 8, 16),
    problems: Sequence[int] = (10, 20, 40, 60),
    candidates: int = 8,
    subsets: int = 400,
    seed: int = 0,
) -> pd.DataFrame:
    """What does measuring before RL buy? Regret of taking the best Pass@1, by samples and problems.

    Returns:
        `family, problems, samples, regret, regret_low, regret_high, spent`: the interval as `replay`'s, `spent` the
        share of the tokens of RL on all candidates. The last row with the most of both is what more cannot mend.
    """
    rows = []
    for number, runs in enumerate(families):
        for count in sorted({min(n, len(runs.problems)) for n in problems}):
            for each in sorted({min(m, runs.samples) for m in samples}):
                rng = np.random.default_rng([seed, number])
                regret, spent = [], []
                for _ in range(subsets):
                    one = subset(runs, candidates, each, rng)
                    asked = rng.choice(len(one.problems), count, replace=False)
                    share = count / len(one.problems)
                    one = replace(one, counts=one.counts[:, :, asked], probe_tokens=one.probe_tokens * share)
                    chosen, paid = by_pass1(one, 1.0)
                    regret.append(_regret(one, chosen))
                    spent.append(paid)
                about = {"family": runs.family, "problems": count, "samples": each}
                rows.append(about | _mean("regret", np.array(regret)) | {"spent": np.mean(spent)})
    return rounded(pd.DataFrame(rows))


def by_predictor(
    families: list[Finished],
    runs: pd.DataFrame,
    *,
    candidates: int = 8,
    samples: int = 4,
    subsets: int = 100,
    seed: int = 0,
) -> pd.DataFrame:
    """What does it cost to take the best by a metric from before RL? On the subsets of `replay`.

    Args:
        runs: a row a run: `family, run`, metrics, and the columns that hold what measuring them cost (`runs_table`).

    Returns:
        `family, predictor, regret, regret_low, regret_high, spent`, for the metrics of a first look of which one knows
        beforehand which way is better: as `replay`'s; `spent` is NaN where nobody counted the tokens.
    """
    rows = []
    for number, family in enumerate(families):
        own = runs[runs["family"] == family.family].set_index("run")
        rng = np.random.default_rng([seed, number])
        drawn = [subset(family, candidates, samples, rng) for _ in range(subsets)]
        of = [own.loc[_names(one)] for one in drawn]
        for name in headline([c for c in own if direction(c) and own[c].notna().all()]):
            best = [int((direction(name) * measured[name]).to_numpy().argmax()) for measured in of]
            regret = np.array([_regret(one, i) for one, i in zip(drawn, best, strict=True)])
            spent = tokens_of(own, name) / family.rl_tokens[:, -1].mean()
            rows.append({"family": family.family, "predictor": name} | _mean("regret", regret) | {"spent": spent})
    return rounded(pd.DataFrame(rows, columns=["family", "predictor", *REGRET, "spent"]))


def cheapest(table: pd.DataFrame, regret: float) -> pd.DataFrame:
    """Return, of `measuring`'s table, each family's cheapest row of at most that regret, if there is one."""
    enough = table[table["regret"] <= regret]
    return enough.loc[enough.groupby("family", sort=False)["spent"].idxmin()].reset_index(drop=True)


def _names(runs: Finished) -> list[str]:
    """The runs' names, without the RL seed that may stand behind them."""
    return [name.rpartition("/")[0] or name for name in runs.runs]


def _probed(runs: Finished, i: int):
    return probed(runs.steps / runs.steps[-1], runs.counts[i], runs.samples)


def _regret(runs: Finished, chosen: int) -> float:
    return float(runs.outcome.max() - runs.outcome[chosen])


def _mean(name: str, values: np.ndarray, ends: str | None = None) -> dict[str, float]:
    reach = 1.96 * values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.nan
    ends = ends or name
    return {name: values.mean(), f"{ends}_low": values.mean() - reach, f"{ends}_high": values.mean() + reach}
