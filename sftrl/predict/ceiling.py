"""How good could a perfect predictor look? RL seeds disagree, and no predictor can know the seed.

A predictor that knew every run's true mean score would still miss what the seeds add. The share of the spread between
runs that is not seed noise is therefore the highest R² within reach; a higher one on a few runs is luck.
"""

import numpy as np
import pandas as pd
from scipy import stats

from sftrl.predict.measures import centred
from sftrl.tables import need

ENOUGH = 5  # repeated seeds (beyond each run's first) below which the noise itself is hardly known; chosen here


def noise_ceiling(runs: pd.DataFrame, *, pool: str = "all", level: float = 0.95) -> pd.DataFrame:
    """Estimate the highest R² and Spearman correlation with `post_rl` that a perfect predictor would reach.

    The noise of one RL run is pooled over all runs with two seeds or more. Where runs differ in their noise, this is
    the noise of the runs that were repeated. The interval is that of a ratio of variances (F), normal theory.

    Args:
        runs: `runs_table`'s frame, with `post_rl`, `post_rl_sd` and `n_seeds`.
        pool: the pool's name, for the table.
        level: of the intervals.

    Returns:
        One row: `pool, n, repeated` (seeds beyond each run's first), `seed_sd` (of one RL run, as a score),
        `run_sd` (between runs' means), `r2` and `spearman` with `_low` and `_high`, and `note`, which says when there
        is nothing to estimate from, or too little.
    """
    need(runs, ["family", "post_rl", "post_rl_sd", "n_seeds"], "runs")
    runs = runs[runs["post_rl"].notna()]
    row: dict = {"pool": pool, "n": len(runs), "repeated": 0, "note": ""}
    more = runs[runs["n_seeds"] > 1]
    repeated = int((more["n_seeds"] - 1).sum())
    groups = pd.factorize(runs["family"])[0]
    free = len(runs) - int(groups.max(initial=0)) - 1
    if repeated == 0 or free < 2:
        few = "no run has two RL seeds" if repeated == 0 else f"only {len(runs)} runs"
        return pd.DataFrame([row | {"note": f"no noise ceiling: {few}"}], columns=list(COLUMNS))
    noise = ((more["n_seeds"] - 1) * more["post_rl_sd"] ** 2).sum() / repeated
    of_means = noise * (1 / runs["n_seeds"]).mean()
    between = (centred(runs["post_rl"].to_numpy(), groups) ** 2).sum() / free
    row |= {"repeated": repeated, "seed_sd": np.sqrt(noise), "run_sd": np.sqrt(between)}
    share = of_means / between if between > 0 else np.inf
    f_low, f_high = stats.f.ppf([0.5 - level / 2, 0.5 + level / 2], free, repeated)
    for end, noisy in (("", share), ("_low", share * f_high), ("_high", share * f_low)):
        r2 = float(np.clip(1 - noisy, 0, 1))
        row |= {f"r2{end}": r2, f"spearman{end}": 6 / np.pi * np.arcsin(np.sqrt(r2) / 2)}  # bivariate normal
    if share >= 1:
        row["note"] = "runs differ no more than RL seeds do: nothing here can be predicted"
    elif repeated < ENOUGH:
        row["note"] = f"only {repeated} repeated RL seeds: the ceiling is hardly known"
    return pd.DataFrame([row], columns=list(COLUMNS))


COLUMNS = (
    *("pool", "n", "repeated", "seed_sd", "run_sd"),
    *(f"{measure}{end}" for measure in ("r2", "spearman") for end in ("", "_low", "_high")),
    "note",
)
