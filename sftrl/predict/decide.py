"""Which of these checkpoints should go to RL? A ranking with its uncertainty, and how many to take to be safe.

With calibration runs (SFT runs of the same family that have been through RL) each predictor gets a line, and each
candidate a predictive distribution: for the line, for the noise around it, and for how little a few runs tell of both.
From joint draws come the chance of being best and the expected regret. Several predictors are combined in proportion to
how well each foretold calibration runs that it had not seen; where they disagree, the shortlist holds both favourites.

Without calibration runs there is a ranking only; with a correlation that the user is ready to assume, chances as well.
"""

import numpy as np
import pandas as pd
from scipy import stats

from sftrl.errors import InputError
from sftrl.predict.sample import Sample, columns_of, direction, sample_of, unfit
from sftrl.tables import need

COMBINED = "combined"
FEWEST_FREE = 3  # degrees of freedom around the line, below which a prediction says nothing; chosen here


def decide(
    candidates: pd.DataFrame,
    calibration: pd.DataFrame | None = None,
    *,
    predictors: tuple[str, ...] = ("pass@64", "generalization_loss"),
    correlation: float | None = None,
    confidence: float = 0.9,
    draws: int = 20_000,
    seed: int = 0,
) -> pd.DataFrame:
    """Rank checkpoints of one family by each predictor and by all of them combined.

    Args:
        candidates: one row per checkpoint, as `runs_table` gives it; no RL result is needed.
        calibration: rows with `post_rl` of the same family, or None.
        predictors: names as `judge` takes them.
        correlation: without calibration, the correlation between each predictor and the RL result to assume (0 to 1).
        confidence: wanted chance that the shortlist holds the best candidate.
        draws: joint draws of the RL results.
        seed: of the draws.

    Returns:
        One row per (predictor, run), best first, and `combined` last if there are several predictors:
        `predictor, weight, family, run, value, rank` (by expected score), `predicted, low, high` (the RL score and
        its 95 % interval), `p_best`, `expected_regret` (a score; in standard deviations of the RL result if a
        correlation was assumed), `shortlist` (take these for the wanted confidence).
    """
    if candidates["family"].nunique() != 1:
        raise InputError(f"decide: candidates of one family at a time, not {sorted(candidates['family'].unique())}")
    if len(candidates) < 2:
        raise InputError(f"decide: {len(candidates)} candidate: nothing to decide")
    if correlation is not None and not 0 <= correlation < 1:
        raise InputError(f"decide: correlation {correlation} is not between 0 and 1")
    calibration = _of_family(calibration, candidates["family"].iloc[0], predictors)
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal((draws, len(candidates)))  # the same for every predictor: only their lines differ
    outcomes: list[np.ndarray | None] = []
    rankings, densities = [], []
    for name in predictors:
        x, known = _features(name, candidates, calibration)
        if known is not None:
            outcome, density = _calibrated(name, x, known, noise, rng)
            ranking = stats.rankdata(-outcome.mean(axis=0), method="min")
            densities.append(density)
        else:
            if direction(name) == 0:
                raise InputError(f"decide: nothing says which way {name!r} points; it needs calibration runs")
            better = x[:, 0] * direction(name)
            outcome = None if correlation is None else _assumed(better, correlation, noise)
            ranking = stats.rankdata(-better, method="min")
        outcomes.append(outcome)
        rankings.append(ranking)
    weights = _weights(np.array(densities), rng) if densities else np.full(len(predictors), 1 / len(predictors))
    parts = [
        _table(candidates, name, weight, ranking, outcome, confidence, scored=bool(densities))
        for name, weight, ranking, outcome in zip(predictors, weights, rankings, outcomes, strict=True)
    ]
    if len(predictors) > 1:
        mixed = None
        if outcomes[0] is not None:
            source = rng.choice(len(predictors), p=weights, size=draws)
            mixed = np.stack(outcomes)[source, np.arange(draws)]
        overall = np.mean(rankings, axis=0) if mixed is None else -mixed.mean(axis=0)
        ranking = stats.rankdata(overall, method="min")
        parts.append(_table(candidates, COMBINED, 1.0, ranking, mixed, confidence, scored=bool(densities)))
        if mixed is None:  # no chances to go by: take every predictor's favourite
            parts[-1]["shortlist"] = (np.array(rankings) == 1).any(axis=0)[np.argsort(ranking, kind="stable")]
    return pd.concat(parts, ignore_index=True)


def advice(decision: pd.DataFrame) -> str:
    """Say in a few sentences what a decision comes to, and what to do where its predictors disagree."""
    favourites = decision[decision["rank"] == 1].groupby("predictor", sort=False)["run"].agg(", ".join)
    last = decision["predictor"].iloc[-1]
    overall = decision[decision["predictor"] == last]
    take = overall.loc[overall["shortlist"], "run"]
    words = []
    single = favourites.drop(COMBINED, errors="ignore")
    if single.nunique() > 1:
        words.append("The predictors disagree: " + "; ".join(f"{p} puts {r} first" for p, r in single.items()) + ".")
    elif len(single) > 1:
        words.append(f"All predictors put {single.iloc[0]} first.")
    if overall["p_best"].isna().all():
        words.append(
            f"Nothing here tells how far to trust them: take {', '.join(take)}, and use the results to calibrate."
        )
        return " ".join(words)
    best = overall.iloc[0]
    words.append(f"Take {best['run']} if one: its chance to be best is {best['p_best']:.0%}.")
    covered = overall.loc[overall["shortlist"], "p_best"].sum()
    words.append(f"Take {len(take)} ({', '.join(take)}) for a chance of {covered:.0%} to have the best among them.")
    return " ".join(words)


def _of_family(calibration: pd.DataFrame | None, family: str, predictors: tuple[str, ...]) -> pd.DataFrame | None:
    """Keep the calibration runs that can be used: of this family, with an RL result and every predictor."""
    if calibration is None:
        return None
    columns = list(dict.fromkeys(c for name in predictors for c in columns_of(name)))
    need(calibration, ["family", "run", "post_rl", *columns], "calibration")
    usable = calibration[(calibration["family"] == family) & calibration[["post_rl", *columns]].notna().all(axis=1)]
    if usable.empty:
        raise InputError(
            f"decide: no calibration run of family {family!r} has a post_rl and {', '.join(columns)}; a line from "
            "another family is not carried over: leave calibration out, and assume a correlation if you will"
        )
    return usable


def _features(
    name: str, candidates: pd.DataFrame, calibration: pd.DataFrame | None
) -> tuple[np.ndarray, Sample | None]:
    """Give the candidates' features (n, p) and, with calibration, the sample to fit; standardised together."""
    known = 0 if calibration is None else len(calibration)
    sample = sample_of(pd.concat([calibration, candidates], ignore_index=True), name, None)
    if sample.left_out:
        raise InputError(f"decide: {name} is missing for {', '.join(sample.left_out)}")
    if not known:
        return sample.x, None
    y = calibration["post_rl"].to_numpy(float)
    return sample.x[known:], Sample(sample.x[:known], y, sample.groups[:known], calibration, [])


def _calibrated(
    name: str, x: np.ndarray, known: Sample, noise: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Draw the candidates' RL results (draws, n) from the fitted line, flat prior; and how well the line foretells.

    The second array (calibration runs,) is each calibration run's log density as predicted from the others.
    """
    note = unfit(known, name, "post_rl")
    design = np.column_stack([np.ones(len(known.y)), known.x])
    free = len(known.y) - design.shape[1]
    if note is None and free < FEWEST_FREE:
        note = f"{len(known.y)} calibration runs are too few for {name}; it needs {FEWEST_FREE + design.shape[1]}"
    if note is not None:
        raise InputError(f"decide: calibration: {note}")
    inverse = np.linalg.pinv(design.T @ design, hermitian=True)
    slopes = inverse @ design.T @ known.y
    residual = known.y - design @ slopes
    squares = residual @ residual
    sigma = np.sqrt(squares / rng.chisquare(free, len(noise)))[:, None]
    wobble = rng.multivariate_normal(np.zeros(len(slopes)), inverse, len(noise), method="eigh")
    outcome = (slopes + sigma * wobble) @ np.column_stack([np.ones(len(x)), x]).T + sigma * noise

    free_less = free - 1
    leverage = np.clip(np.einsum("ij,jk,ik->i", design, inverse, design), 0, 1 - 1e-9)
    spread = np.sqrt(np.maximum(squares - residual**2 / (1 - leverage), 1e-30) / free_less / (1 - leverage))
    return outcome, stats.t.logpdf(residual / (1 - leverage), free_less, scale=spread)


def _assumed(better: np.ndarray, correlation: float, noise: np.ndarray) -> np.ndarray:
    """Draw standardised RL results (draws, n) that correlate with the predictor as assumed."""
    spread = better.std(ddof=1)
    standard = (better - better.mean()) / spread if spread > 0 else np.zeros_like(better)
    return correlation * standard + np.sqrt(1 - correlation**2) * noise


def _weights(densities: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Weigh predictors (p,) by leave-one-out densities (p, runs): pseudo-BMA+ (Yao, Vehtari, Simpson, Gelman 2018)."""
    runs = densities.shape[1]
    share = rng.dirichlet(np.ones(runs), 1000)  # Bayesian bootstrap: a few runs do not settle which is best
    log = runs * share @ densities.T
    weights = np.exp(log - log.max(axis=1, keepdims=True))
    return (weights / weights.sum(axis=1, keepdims=True)).mean(axis=0)


def _table(
    candidates: pd.DataFrame,
    name: str,
    weight: float,
    ranking: np.ndarray,
    outcome: np.ndarray | None,
    confidence: float,
    *,
    scored: bool,
) -> pd.DataFrame:
    table = pd.DataFrame(
        {"predictor": name, "weight": weight, "family": candidates["family"], "run": candidates["run"]}
    )
    table["value"] = candidates[name].to_numpy(float) if name in candidates else np.nan
    table["rank"] = ranking.astype(int)
    table[["predicted", "low", "high", "p_best", "expected_regret"]] = np.nan
    table["shortlist"] = table["rank"] == 1
    if outcome is not None:
        if scored:
            table["predicted"] = outcome.mean(axis=0)
            table["low"], table["high"] = np.quantile(outcome, [0.025, 0.975], axis=0)
        chance = np.bincount(outcome.argmax(axis=1), minlength=len(table)) / len(outcome)
        table["p_best"] = chance
        table["expected_regret"] = (outcome.max(axis=1, keepdims=True) - outcome).mean(axis=0)
        order = np.argsort(-chance, kind="stable")
        needed = int(np.searchsorted(np.cumsum(chance[order]), confidence)) + 1
        table["shortlist"] = np.isin(np.arange(len(table)), order[:needed])
    return table.sort_values("rank", kind="stable", ignore_index=True)
