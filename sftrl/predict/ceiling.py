"""How good could a perfect predictor look? RL seeds disagree, and no predictor can know the seed.

A predictor that knew every run's true mean score would still miss what the seeds add. The share of the spread between
runs that is not seed noise is therefore the highest R² within reach; a higher one on a few runs is luck. That is for
given checkpoints: another draw of the training examples makes another checkpoint, and moves the result as well.
"""

import numpy as np
import pandas as pd
from scipy import stats

from sftrl.predict.measures import centred
from sftrl.tables import DESCRIPTION, POST_RL, need, rounded

ENOUGH = 5  # repeats (beyond each cell's first) below which a noise is hardly known; chosen here


def noise_ceiling(runs: pd.DataFrame, *, pool: str = "all", level: float = 0.95) -> pd.DataFrame:
    """Estimate the highest R² and Spearman correlation with `post_rl` that a perfect predictor would reach.

    The noise of one RL run is pooled over all runs with two seeds or more. Where runs differ in their noise, this is
    the noise of the runs that were repeated. The interval of the ceiling is that of a ratio of variances (F), those of
    the noises that of a variance (chi-squared); normal theory.

    Args:
        runs: `runs_table`'s frame, with `post_rl`, `post_rl_sd` and `n_seeds`.
        pool: the pool's name, for the table.
        level: of the intervals.

    Returns:
        One row: `pool, n, repeated` (RL seeds beyond each run's first), `seed_sd` (of one RL run, as a score),
        `draws` (runs beyond the first of those that differ only in `data_seed`), `draw_sd` (of `post_rl` between them,
        seed noise included), `run_sd` (between runs' means), `r2` and `spearman`, each noise and each ceiling with
        `_low` and `_high`, and `note`. The ceiling is empty, and the note says unknown, with fewer than `ENOUGH`
        repeated seeds.
    """
    need(runs, ["family", "post_rl", "post_rl_sd", "n_seeds"], "runs")
    runs = runs[runs[POST_RL].notna()]
    more = runs[runs["n_seeds"] > 1]
    repeated = int((more["n_seeds"] - 1).sum())
    noise = float(((more["n_seeds"] - 1) * more["post_rl_sd"] ** 2).sum() / max(repeated, 1))
    draws, of_draws = _draw_noise(runs)
    row: dict = {"pool": pool, "n": len(runs)}
    row |= _spread("repeated", "seed_sd", repeated, noise, level) | _spread("draws", "draw_sd", draws, of_draws, level)
    groups = pd.factorize(runs["family"])[0]
    free = len(runs) - int(groups.max(initial=0)) - 1
    notes = []
    if free < 2:
        notes.append(f"noise ceiling unknown: only {len(runs)} runs")
    else:
        between = float((centred(runs[POST_RL].to_numpy(), groups) ** 2).sum() / free)
        row["run_sd"] = np.sqrt(between)
        share = noise * (1 / runs["n_seeds"]).mean() / between if between > 0 else np.inf
        if repeated < ENOUGH:
            seeds = "no run has two RL seeds" if not repeated else f"only {_counted(repeated, 'repeated RL seed')}"
            notes.append(f"noise ceiling unknown: {seeds}")
        else:
            f_low, f_high = stats.f.ppf([0.5 - level / 2, 0.5 + level / 2], free, repeated)
            for end, noisy in (("", share), ("_low", share * f_high), ("_high", share * f_low)):
                r2 = float(np.clip(1 - noisy, 0, 1))
                row |= {f"r2{end}": r2, f"spearman{end}": 6 / np.pi * np.arcsin(np.sqrt(r2) / 2)}  # bivariate normal
            if share >= 1:
                notes.append("runs differ no more than RL seeds do: nothing here can be predicted")
    if 0 < draws < ENOUGH:
        notes.append(f"draw noise hardly known: {_counted(draws, 'repeated draw')} of the examples")
    return rounded(pd.DataFrame([row | {"note": "; ".join(notes)}], columns=list(COLUMNS)))


ENDS = ("", "_low", "_high")
COLUMNS = (
    *("pool", "n", "repeated", *(f"seed_sd{end}" for end in ENDS)),
    *("draws", *(f"draw_sd{end}" for end in ENDS), "run_sd"),
    *(f"{measure}{end}" for measure in ("r2", "spearman") for end in ENDS),
    "note",
)


def _draw_noise(runs: pd.DataFrame) -> tuple[int, float]:
    """Degrees of freedom and variance of `post_rl` between runs that differ only in which examples were drawn."""
    cell = ["family", *(c for c in DESCRIPTION if c in runs and c != "data_seed")]
    if "data_seed" not in runs:
        return 0, 0.0
    by_cell = runs.groupby(cell, dropna=False)
    several = runs[by_cell["data_seed"].transform("nunique") > 1].groupby(cell, dropna=False)[POST_RL]
    free = int((several.size() - 1).sum())
    return free, float(((several.size() - 1) * several.var()).sum() / max(free, 1))


def _spread(count: str, name: str, free: int, variance: float, level: float) -> dict:
    """A standard deviation with its interval, by chi-squared; without a repeat, only the count."""
    if not free:
        return {count: 0}
    low, high = variance * free / stats.chi2.ppf([0.5 + level / 2, 0.5 - level / 2], free)
    return {count: free, name: np.sqrt(variance), f"{name}_low": np.sqrt(low), f"{name}_high": np.sqrt(high)}


def _counted(number: int, name: str) -> str:
    return f"{number} {name}{'s' if number > 1 else ''}"
