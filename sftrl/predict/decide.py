"""Which of these checkpoints should go to RL? The answer with its uncertainty, and how many to take to be safe.

    decide(candidates, calibration)     # a table: each metric's view of the candidates, and all of them combined
    replay(runs)                        # where all have been through RL: each predicted from the others, and the price
    answer(runs)                        # whichever of the two a study's runs allow, family by family
    advice(decision)                    # the table in words

`forecast` has the statistics. Two checkpoints cannot be told apart where the interval of their difference holds 0; a
shortlist never drops one that the measurement cannot tell from one that it keeps.
"""

import re

import numpy as np
import pandas as pd

from sftrl.errors import InputError
from sftrl.predict.features import sample_of
from sftrl.predict.forecast import FEWEST, View, assume, predict, rank, replayed_regret
from sftrl.predict.ranking import ranking
from sftrl.tables import DECIMALS, POST_RL, RUN, need

TRIED = 5  # checkpoints among which a replayed choice is priced, as in `regret`
SETS = 400  # drawn sets of them
AMONG_CANDIDATES = ["rank", "p_best", "expected_regret", "behind", "behind_low", "behind_high", "apart", "shortlist"]


def decide(
    candidates: pd.DataFrame,
    calibration: pd.DataFrame | None = None,
    *,
    predictors: tuple[str, ...] | None = None,
    correlation: float | None = None,
    confidence: float = 0.9,
    draws: int = 20_000,
    seed: int = 0,
) -> pd.DataFrame:
    """Rank checkpoints of one family by each metric and by all of them combined.

    Args:
        candidates: one row per checkpoint, as `runs_table` gives it; no RL result is needed.
        calibration: rows with `post_rl` of the same family, or None: then there is a ranking only.
        predictors: names as `judge` takes them; default: `metrics_of` the candidates.
        correlation: without calibration, the correlation between each metric and the RL result to assume (0 to 1).
        confidence: wanted chance that the shortlist holds the best candidate.
        draws: joint draws of the RL results.
        seed: of the draws.

    Returns:
        One row per (predictor, run), best first; the last predictor is the one to go by (`combined`, if there are
        several): `predictor, weight` (by the replay), `calibration` (runs), `family, run, value, value_low,
        value_high` (measured), `rank` (by expected score), `predicted, low, high` (the RL score and its 95 %
        interval), `p_best`, `expected_regret` (a score; in standard deviations of the RL result if a correlation was
        assumed), `behind, behind_low, behind_high` (how far the run is behind the one ranked first, with its 95 %
        interval: of RL results where these are drawn, else of the measured metric), `apart` (that interval lies
        above 0) and `shortlist` (take these for the wanted confidence).

    Raises:
        InputError: candidates of several families, fewer than two, a metric that is missing or unusable.
    """
    if candidates["family"].nunique() != 1:
        raise InputError(f"decide: candidates of one family at a time, not {sorted(candidates['family'].unique())}")
    if len(candidates) < 2:
        raise InputError(f"decide: {len(candidates)} candidate: nothing to decide")
    if correlation is not None and not 0 <= correlation < 1:
        raise InputError(f"decide: correlation {correlation} is not between 0 and 1")
    calibration = _of_family(calibration, candidates["family"].iloc[0])
    metrics = predictors or metrics_of(candidates, calibration)
    rng = np.random.default_rng(seed)
    if calibration is not None:
        views = predict(candidates, calibration, metrics, draws, rng)
    elif correlation is not None:
        views = assume(candidates, metrics, correlation, draws, rng)
    else:
        views = rank(candidates, metrics)
    return ranking(candidates, views, confidence, calibration=0 if calibration is None else len(calibration))


def replay(
    runs: pd.DataFrame,
    *,
    predictors: tuple[str, ...] | None = None,
    draws: int = 20_000,
    seed: int = 0,
) -> pd.DataFrame:
    """Predict each run of one family from all others, all RL results being known, and say what choosing so costs.

    Returns:
        Of `decide`'s columns those that describe a single run, the highest result first, and three more. `post_rl`:
        what RL made of the run. `replayed_regret`: what deciding among `tried` runs costs on average, those of a set
        all predicted from the runs outside it (NaN where there are too few). Ranks and chances are left out: the mean
        of the others is the lower, the better a run is, so these predictions cannot be compared with one another.

    Raises:
        InputError: as `decide`; fewer than `FEWEST` + 1 runs.
    """
    family = runs["family"].iloc[0]
    runs = _of_family(runs, family)
    if len(runs) <= FEWEST:
        raise InputError(f"replay: {len(runs)} runs of {family!r} have been through RL; it needs {FEWEST + 1}")
    metrics = predictors or metrics_of(runs, runs)
    rng = np.random.default_rng(seed)
    each = [predict(runs[runs.index == i], runs[runs.index != i], metrics, draws, rng) for i in runs.index]
    views = [
        View(
            one[0].predictor,
            float(np.mean([view.weight for view in one])),
            np.concatenate([view.score for view in one]),
            np.hstack([view.outcome for view in one]),
        )
        for one in zip(*each, strict=True)  # one metric's view of each run
    ]
    tried = min(TRIED, len(runs) - FEWEST)
    features = {name: sample_of(runs, name, None).x for name in metrics}
    cost = replayed_regret(features, runs[POST_RL].to_numpy(float), tried, SETS, rng)
    table = ranking(runs, views, 1.0, calibration=len(runs) - 1).drop(columns=AMONG_CANDIDATES)
    best_first = runs[[*RUN, POST_RL]].sort_values(POST_RL, ascending=False, kind="stable")
    parts = [best_first.merge(rows, on=RUN)[[*rows, POST_RL]] for _, rows in table.groupby("predictor", sort=False)]
    return pd.concat(parts, ignore_index=True).assign(tried=tried, replayed_regret=round(cost, DECIMALS))


def answer(runs: pd.DataFrame, *, seed: int = 0, **how) -> pd.DataFrame:
    """Decide for each family of a study: among the runs that have not been through RL, or else by replay.

    Runs that have been through RL calibrate, where there are enough of them. A family with fewer than two runs to
    decide among, and too few to replay, has no rows. `how` holds further arguments of `decide` and `replay`.
    """
    tables = []
    for _, family in runs.groupby("family", sort=False):
        waiting, done = family[family[POST_RL].isna()], family[family[POST_RL].notna()]
        several = done[POST_RL].nunique() > 2
        if len(waiting) > 1:
            tables.append(decide(waiting, done if several and len(done) >= FEWEST else None, seed=seed, **how))
        elif several and len(done) > FEWEST:
            tables.append(replay(done, seed=seed, **how))
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def metrics_of(candidates: pd.DataFrame, calibration: pd.DataFrame | None = None) -> tuple[str, ...]:
    """List the metrics that a decision asks unless told: Pass@1, 16, 64, the largest k, and the loss.

    Of the Pass@k those with four samples or more for each draw (the others are noisy), and all only where every run
    has them and, if a line is to be learned, where they vary.
    """
    both = pd.concat([calibration, candidates], ignore_index=True)
    draws = both["samples"].min() / 4 if "samples" in both else np.inf
    ks = {c: int(c[5:]) for c in both if re.fullmatch(r"pass@\d+", c)}
    ks = {c: k for c, k in ks.items() if k <= max(draws, 1)}
    wanted = [c for c, k in ks.items() if k in (1, 16, 64, max(ks.values()))] + ["generalization_loss"]
    found = [c for c in wanted if c in both and both[c].notna().all()]
    if calibration is not None:
        found = [c for c in found if calibration[c].nunique() > 2]
    elif not found:
        raise InputError("decide: no metric is measured for all candidates")
    return tuple(found)


def _of_family(calibration: pd.DataFrame | None, family: str) -> pd.DataFrame | None:
    """Keep the calibration runs of this family: a line from another is not carried over."""
    if calibration is None:
        return None
    need(calibration, ["family", "run", POST_RL], "calibration")
    usable = calibration[(calibration["family"] == family) & calibration[POST_RL].notna()]
    if usable.empty:
        raise InputError(
            f"decide: no calibration run of family {family!r} has a post_rl; a line from another family is not carried "
            "over: leave calibration out, and assume a correlation if you will"
        )
    return usable.reset_index(drop=True)
