"""What would RL make of these checkpoints? Three ways to look at them, each a list of views, a metric a view.

`rank` orders them by what was measured, and no more. `assume` adds chances, with a correlation that the user is ready
to assume. `predict` learns from calibration runs, SFT runs of the same family that have been through RL: each metric
gets a line, and each candidate a predictive distribution, for the line, for the noise around it, and for how little a
few runs tell of both.

A line may not slope against what its metric means (a higher Pass@1 is not held to be worse): it is then taken as flat,
which is `NO_METRIC`. Over few runs such slopes cost more than they give (docs/preregistration.md, H11).

Which metric to believe is decided by replay: every calibration run is predicted from the others, and metrics
are weighed by how well they predicted it. The mean of the calibration runs competes with them as `NO_METRIC`: where it
wins, nothing that was measured tells.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from sftrl.errors import InputError
from sftrl.predict.features import Sample, columns_of, sample_of, unfit
from sftrl.tables import POST_RL, direction, need

COMBINED, NO_METRIC = "combined", "no metric"
FEWEST_FREE = 2  # degrees of freedom around the line, below which a prediction says nothing; chosen here
FEWEST = FEWEST_FREE + 2  # calibration runs that a line on one metric needs


class View(NamedTuple):
    """How one metric, or all of them combined, sees n candidates."""

    predictor: str
    weight: float  # among the metrics
    score: np.ndarray  # (n,) to rank by, higher being better; the mean of the outcome, if there is one
    outcome: np.ndarray | None = None  # (draws, n) joint draws of the RL results; None where there is only a ranking


def rank(candidates: pd.DataFrame, metrics: tuple[str, ...]) -> list[View]:
    """Rank by each metric, and, if there are several, by the mean of their ranks."""
    scores = [_score(name, candidates) for name in metrics]
    views = [View(name, 1 / len(metrics), score) for name, score in zip(metrics, scores, strict=True)]
    together = np.mean([stats.rankdata(score) for score in scores], axis=0)
    return views + ([View(COMBINED, 1.0, together)] if len(views) > 1 else [])


def assume(
    candidates: pd.DataFrame, metrics: tuple[str, ...], correlation: float, draws: int, rng: np.random.Generator
) -> list[View]:
    """Draw standardised RL results that correlate with each metric as assumed; combined, each metric is as likely."""
    noise = rng.standard_normal((draws, len(candidates)))
    views = []
    for name in metrics:
        score = _score(name, candidates)
        spread = score.std(ddof=1)
        standard = (score - score.mean()) / spread if spread > 0 else np.zeros_like(score)
        expected = correlation * standard
        outcome = expected + np.sqrt(1 - correlation**2) * noise
        views.append(View(name, 1 / len(metrics), expected, outcome))
    return views + ([_combined(views, rng)] if len(views) > 1 else [])


def predict(
    candidates: pd.DataFrame,
    calibration: pd.DataFrame,
    metrics: tuple[str, ...],
    draws: int,
    rng: np.random.Generator,
) -> list[View]:
    """Draw what RL would give the candidates, from each metric's line over the calibration runs, and combined.

    Args:
        candidates: one row per checkpoint, with the metrics' columns.
        calibration: rows of the same family, with the metrics' columns and `post_rl`.
        metrics: names as `judge` takes them.
        draws: joint draws.
        rng: of the draws.

    Returns:
        A view per metric, one of `NO_METRIC`, and the combined one last; weights are those of the replay.

    Raises:
        InputError: too few calibration runs, or a metric or their results that do not vary.
    """
    noise = rng.standard_normal((draws, len(candidates)))  # the same for every metric: only their lines differ
    y = calibration[POST_RL].to_numpy(float)
    means = np.empty((len(candidates), 0)), np.empty((len(y), 0))
    designs = {name: _sloping(name, *_features(name, candidates, calibration), y) for name in metrics}
    designs[NO_METRIC] = means
    drawn = {name: _drawn(x, known, y, noise, rng) for name, (x, known) in designs.items()}
    weights = _weights(np.array([left_out_density(known, y) for _, known in designs.values()]), rng)
    views = [
        View(name, weight, expected, outcome)
        for (name, (expected, outcome)), weight in zip(drawn.items(), weights, strict=True)
    ]
    return [*views, _combined(views, rng)]


def replayed_regret(
    features: dict[str, np.ndarray], y: np.ndarray, candidates: int, sets: int, rng: np.random.Generator
) -> float:
    """Return the mean regret of choosing among `candidates` runs by the combined view, learned from all other runs.

    The candidates of a set are predicted from the same runs. Runs of which each is predicted from all others cannot be
    compared: the mean of the others is the lower, the better a run is.

    Args:
        features: of each metric, by name, (n, p); those of `NO_METRIC` are left to this function.
        y: results (n,).
        sets: random sets of candidates; one in which a metric does not vary over the other runs is left out.

    Returns:
        The regret in the units of `y`; NaN where fewer than two candidates are left beside the runs that a line needs.
    """
    learned = len(y) - candidates
    if candidates < 2 or learned - 1 - max(x.shape[1] for x in features.values()) < FEWEST_FREE:
        return float("nan")
    costs = []
    for _ in range(sets):
        drawn = rng.permutation(len(y))
        held, known = drawn[:candidates], drawn[candidates:]
        if any(np.ptp(x[known], axis=0).min() == 0 for x in features.values()):
            continue
        centred = {name: x - x[known].mean(axis=0) for name, x in features.items()}
        about = [_sloping(name, x, x[known], y[known])[0] for name, x in centred.items()] + [np.empty((len(y), 0))]
        weights = _weights(np.array([left_out_density(x[known], y[known]) for x in about]), rng)
        designs = [np.column_stack([np.ones(len(y)), x]) for x in about]
        lines = [np.linalg.lstsq(design[known], y[known])[0] for design in designs]
        score = weights @ [np.clip(design[held] @ line, 0, 1) for design, line in zip(designs, lines, strict=True)]
        costs.append(y[held].max() - y[held][score == score.max()].mean())
    return float(np.mean(costs)) if costs else float("nan")


def _combined(views: list[View], rng: np.random.Generator) -> View:
    """Mix the views' draws by their weights: where metrics disagree, each keeps its share of the chance."""
    weights = np.array([view.weight for view in views])
    outcomes = np.stack([view.outcome for view in views])
    source = rng.choice(len(views), p=weights / weights.sum(), size=outcomes.shape[1])
    mixed = outcomes[source, np.arange(outcomes.shape[1])]
    return View(COMBINED, 1.0, weights @ [view.score for view in views], mixed)


def _score(name: str, candidates: pd.DataFrame) -> np.ndarray:
    if direction(name) == 0:
        raise InputError(f"decide: nothing says which way {name!r} points; it needs calibration runs")
    return direction(name) * _features(name, candidates)[0][:, 0]


def _features(
    name: str, candidates: pd.DataFrame, calibration: pd.DataFrame | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Give the features of candidates and of calibration runs, (n, p) each, about the mean of the calibration runs."""
    known = 0 if calibration is None else len(calibration)
    both = pd.concat([calibration, candidates], ignore_index=True)
    need(both, columns_of(name), f"decide, {name}")
    empty = both[both[columns_of(name)].isna().any(axis=1)]
    if len(empty):
        raise InputError(f"decide: {name} is missing for {', '.join(empty['family'] + ' ' + empty['run'])}")
    x = sample_of(both, name, None).x if len(both) > 1 else both[columns_of(name)].to_numpy(float)
    if known:
        free = known - 1 - x.shape[1]
        learned = Sample(x[:known], calibration[POST_RL].to_numpy(float), np.zeros(known, int), calibration, [])
        note = unfit(learned, name, POST_RL)
        if note is None and free < FEWEST_FREE:
            note = f"{known} calibration runs are too few for {name}; it needs {FEWEST_FREE + 1 + x.shape[1]}"
        if note:
            raise InputError(f"decide: calibration: {note}")
        x = x - x[:known].mean(axis=0)
    return x[known:], x[:known]


def _sloping(name: str, x: np.ndarray, known: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the features of candidates and of calibration runs; none where the line slopes against the metric's sense.

    A metric of which no one knows which way it points, and a regression on several columns, may slope as they will.
    """
    against = known.shape[1] == 1 and direction(name) * (known[:, 0] @ (y - y.mean())) < 0
    return (x[:, :0], known[:, :0]) if against else (x, known)


def _drawn(
    x: np.ndarray, known: np.ndarray, y: np.ndarray, noise: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Mean (n,) and draws (draws, n) of the candidates' RL results: a line through the calibration runs, flat prior.

    Scores are shares: what a line or a long tail puts below 0 or above 1 is moved there.
    """
    design = np.column_stack([np.ones(len(y)), known])
    inverse = np.linalg.inv(design.T @ design)
    slopes = inverse @ design.T @ y
    residual = y - design @ slopes
    sigma = np.sqrt(residual @ residual / rng.chisquare(len(y) - len(slopes), len(noise)))[:, None]
    # By Cholesky's factor, which is unique: eigenvectors have a sign that differs between machines.
    wobble = rng.standard_normal((len(noise), len(slopes))) @ np.linalg.cholesky(inverse).T
    at = np.column_stack([np.ones(len(x)), x]).T
    return np.clip(slopes @ at, 0, 1), np.clip((slopes + sigma * wobble) @ at + sigma * noise, 0, 1)


def left_out_density(known: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Log density (n,) of each calibration run's result as predicted from the others: Student's t about their line.

    Args:
        known: features (n, p); p may be 0, for the mean alone.
        y: results (n,).
    """
    design = np.column_stack([np.ones(len(y)), known])
    inverse = np.linalg.inv(design.T @ design)
    residual = y - design @ (inverse @ design.T @ y)
    free = len(y) - 1 - design.shape[1]
    rest = 1 - np.clip(np.einsum("ij,jk,ik->i", design, inverse, design), 0, 1 - 1e-9)  # 1 - leverage
    squares = np.maximum(residual @ residual - residual**2 / rest, 1e-30)  # around the line without the run
    return stats.t.logpdf(residual / rest, free, scale=np.sqrt(squares / free / rest))


def _weights(densities: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Weigh metrics (p,) by leave-one-out densities (p, runs): pseudo-BMA+ (Yao, Vehtari, Simpson, Gelman 2018)."""
    runs = densities.shape[1]
    share = rng.dirichlet(np.ones(runs), 1000)  # Bayesian bootstrap: a few runs do not settle which is best
    log = runs * share @ densities.T
    weights = np.exp(log - log.max(axis=1, keepdims=True))
    return (weights / weights.sum(axis=1, keepdims=True)).mean(axis=0)
