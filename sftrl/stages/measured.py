"""`predictors.csv`, a row a run: what was measured before RL beside the scores, and what the first steps of RL show."""

import math

import numpy as np
import pandas as pd

from sftrl.files import read_json
from sftrl.stages import evaluation, grpo, held_out, sft
from sftrl.study import Study
from sftrl.tables import POST_SFT, RUN

EARLY = 0.05  # share of an RL run's steps that the early signals may see: they are no predictors from before RL
FEWEST_STEPS = 3  # for a slope; with fewer it would be the noise of two steps. Chosen here


def predictors(study: Study) -> pd.DataFrame:
    """Return a row for every (family, run): its losses on held-out examples, what its own rollouts told, how much SFT
    it saw, and the early signals of its RL runs, where there are any."""
    rows = []
    for family in study.families:
        for run in study.runs:
            losses = read_json(held_out.job(study, family, run).folder / "losses.json")
            rollouts = evaluation.job(study, family, POST_SFT, run).folder / evaluation.ROLLOUTS
            own = read_json(rollouts) if rollouts.is_file() else {}
            tokens = sft.job(study, family, run).require()["tokens"] if run in study.sft_runs else 0
            rows.append({"family": family, "run": run} | losses | own | {"sft_tokens": tokens})
    table, log = pd.DataFrame(rows), grpo.curves(study)
    if log is None:
        return table
    rollouts = study.params.grpo.prompts_per_step * study.params.grpo.group_size
    return table.merge(early_signals(log, rollouts), on=RUN, how="left")


def early_signals(log: pd.DataFrame, rollouts: int) -> pd.DataFrame:
    """Read the first 5 % of RL's steps, rounded up: what a short trial of RL would show. The mean over RL seeds.

    Args:
        log: rows of `rl_curves.csv`.
        rollouts: how many a step has.

    Returns:
        A row for every (family, run): `early_no_signal`, the mean share of groups without signal, all of whose rewards
        are equal; `early_entropy_slope`, the least-squares slope of the entropy over these steps, nats a step (empty
        with fewer than three steps); and `early_tokens`, the tokens sampled to see them, a seed.
    """
    rows = []
    for (family, run, _), steps in log.groupby([*RUN, "rl_seed"], sort=False):
        first = steps.sort_values("step").head(math.ceil(EARLY * len(steps)))
        slope = np.nan
        if len(first) >= FEWEST_STEPS:
            slope = np.polynomial.Polynomial.fit(first["step"], first["entropy"], 1).convert().coef[1]
        rows.append(
            {
                "family": family,
                "run": run,
                "early_no_signal": first["frac_reward_zero_std"].mean(),
                "early_entropy_slope": slope,
                "early_tokens": rollouts * first["mean_length"].sum(),
            }
        )
    return pd.DataFrame(rows).groupby(RUN, sort=False, as_index=False).mean()
