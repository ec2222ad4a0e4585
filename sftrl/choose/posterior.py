"""What is believed of every candidate's score at the end of RL, from probes on the way: exact sums over grids.

On the logit scale candidate i's mean score on the probe problems is z_i(t) = a_i + (b_i - a_i) h_i(t), with t the share
of the horizon, a_i the score before RL, b_i the score at the horizon and h_i a rise from 0 to 1: saturating,
h = 1 - exp(-t / tau) over its value at 1; late, a logistic step; or flat, a run that RL does not move (b_i = a_i). With
A the candidates' mean score before RL,

    b_i = A + gain + slope (a_i - A) + spread e_i,  e_i ~ N(0, 1)

so that a slope below 1 lets weak candidates catch up. Gain, slope, spread and the usual time tau are common to a
family; each has a grid. Given them and its rise, a candidate's (a_i, e_i) is normal in closed form, and the candidates
are independent: their likelihoods are summed over rises, multiplied over candidates, and draws are exact and
independent. All candidates answer the same problems, so problem difficulty cancels between them, and what is left of
it, that a problem suits one candidate, enters as `suits`. The grids and the shares of the rises are chosen here.
"""

import functools
from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logit, logsumexp

GAIN = np.linspace(-0.6, 3.0, 13)  # logits, of a candidate of average score
SLOPE = np.linspace(0, 1.2, 7)
SPREAD = np.array([0.05, 0.1, 0.2, 0.35, 0.6, 1.0])
USUAL = np.array([0.05, 0.1, 0.2, 0.4, 0.8])  # median tau, as a share of the horizon
TAU = np.geomspace(0.02, 2.0, 13)
TAU_SD = 0.6  # of log tau around the usual one
LATE = np.array([0.2, 0.35, 0.5, 0.65, 0.8])  # middle of a late rise
LATE_WIDTH = 0.08
SHARES = {"saturating": 0.75, "late": 0.15, "flat": 0.1}
FLAT_SD = 0.1  # of b - a where RL moves nothing
START_SD = 2.0  # of a_i around A
WOBBLE = 0.1  # sd of a curve about its rise at a probe, beyond the probe's own sampling


@dataclass(frozen=True, eq=False)
class Probed:
    """One candidate's probes (k,): `t` shares of the horizon, ascending from 0; `z` logits, `noise` their variances."""

    t: np.ndarray
    z: np.ndarray
    noise: np.ndarray


def probed(t: np.ndarray, counts: np.ndarray, samples: int) -> Probed:
    """Turn counts of correct samples (k, problems), of `samples` each, into logits of the mean with their variances."""
    problems = counts.shape[1]
    score = (counts.sum(axis=1) + 0.5) / (problems * samples + 1)
    each = (counts + score[:, None]) / (samples + 1)  # a pseudo-sample: one that is always solved has noise too
    variance = (each * (1 - each)).sum(axis=1) / samples / problems**2 / (score * (1 - score)) ** 2
    return Probed(np.asarray(t, float), logit(score), variance + np.where(np.asarray(t) > 0, WOBBLE**2, 0))


def suits(counts: np.ndarray, samples: int) -> float:
    """Return the variance, on the scale of scores, of a candidate's mean over new problems, less what is common.

    Args:
        counts: of every candidate on every problem at one step (candidates, problems), two or more of each.
        samples: of each.
    """
    rate = counts / samples
    rest = rate - rate.mean(axis=1, keepdims=True) - rate.mean(axis=0) + rate.mean()
    n, problems = rate.shape
    total = (rest**2).sum() / ((n - 1) * (problems - 1))
    luck = (rate * (1 - rate)).mean() / max(samples - 1, 1)
    return max(total - luck, 0.0) / problems


def rises(t: np.ndarray) -> np.ndarray:
    """Return h (rises, *t.shape) of every rise on the grid: the saturating ones, the late ones, the flat one last."""
    t = np.asarray(t, float)[None]
    tau, middle = (grid.reshape(-1, *[1] * (t.ndim - 1)) for grid in (TAU, LATE))
    saturating = np.expm1(-t / tau) / np.expm1(-1 / tau)
    low, high = expit(-middle / LATE_WIDTH), expit((1 - middle) / LATE_WIDTH)
    late = (expit((t - middle) / LATE_WIDTH) - low) / (high - low)
    return np.concatenate([saturating, late, t])


def _shares() -> np.ndarray:
    """Chance of each rise, given the usual time (usual, rises)."""
    near = np.exp(-0.5 * (np.log(TAU / USUAL[:, None]) / TAU_SD) ** 2)
    near *= SHARES["saturating"] / near.sum(axis=1, keepdims=True)
    late = np.full((len(USUAL), len(LATE)), SHARES["late"] / len(LATE))
    return np.column_stack([near, late, np.full(len(USUAL), SHARES["flat"])])


RISE = _shares()
FLAT = np.arange(RISE.shape[1]) == RISE.shape[1] - 1
# The family's grid: gain, slope and spread (families,); the usual time is a second axis.
FAMILY = tuple(grid.ravel() for grid in np.meshgrid(GAIN, SLOPE, SPREAD, indexing="ij"))
FACTOR = np.interp(FAMILY[1], SLOPE, np.linspace(-2.1, 2.1, len(SLOPE)))  # with a forecast, in the place of the slope
UNIFORM = np.full((len(FAMILY[0]), len(USUAL)), 1 / (len(FAMILY[0]) * len(USUAL)))


@dataclass(frozen=True, eq=False)
class Forecast:
    """What `decide` predicts from calibration runs of the family, in logits: middle_i + f load_i + spread_i e_i.

    All are (n,); f and e_i are standard normal, f the same for all candidates: how steep the line is that tells them
    apart.
    """

    middle: np.ndarray
    load: np.ndarray
    spread: np.ndarray

    @classmethod
    def of(cls, outcome: np.ndarray) -> "Forecast":
        """Match `decide`'s joint draws (draws, n) of the scores: their first principal factor is f."""
        z = logit(np.clip(outcome, 0.005, 0.995))
        n = z.shape[1]  # what moves all alike chooses none of them, and takes 1 / n of each one's own with it
        rest = z - z.mean(axis=1, keepdims=True)
        low, high = np.quantile(rest, [0.16, 0.84], axis=0)
        normal = (high - low) / 2 / rest.std(axis=0)  # its tails are a t distribution's: the middle counts
        apart = np.cov(rest * normal, rowvar=False) * n / (n - 1)
        values, vectors = np.linalg.eigh(apart)
        load = vectors[:, -1] * np.sqrt(max(values[-1] - np.median(values[1:]), 0))
        return cls(z.mean(axis=0), load, np.sqrt(np.maximum(np.diag(apart) - load**2, 1e-4)))

    def only(self, kept: list[int]) -> "Forecast":
        """Keep some of the candidates."""
        return Forecast(self.middle[kept], self.load[kept], self.spread[kept])


@dataclass(frozen=True)
class Draws:
    """Joint draws (draws, n): logits at the start and at the horizon, the rise's index, and the score at the end."""

    start: np.ndarray
    end: np.ndarray
    rise: np.ndarray
    score: np.ndarray

    def at(self, i: int, t: np.ndarray) -> np.ndarray:
        """Return candidate i's logits (draws, len(t)) at shares `t` of the horizon."""
        h = rises(t)[self.rise[:, i]]
        return self.start[:, [i]] * (1 - h) + self.end[:, [i]] * h


def weigh(candidates: list[Probed], forecast: Forecast | None = None, prior: np.ndarray = UNIFORM) -> np.ndarray:
    """Return the chances (families, usual) of the family's gain, slope, spread and usual time, given all probes."""
    centre = _centre(candidates)
    parts = [_posterior(candidate, centre, forecast, i) for i, candidate in enumerate(candidates)]
    log = _log(prior, forecast) + sum(alone for _, alone, _ in parts)
    return np.exp(log - logsumexp(log))


def draw(
    candidates: list[Probed],
    *,
    unsure: float = 0.0,
    forecast: Forecast | None = None,
    prior: np.ndarray = UNIFORM,
    draws: int = 4000,
    seed: int = 0,
) -> Draws:
    """Draw what the candidates' curves may be, given all probes.

    Args:
        candidates: each with a probe before RL at least.
        unsure: variance of a mean score over other problems (`suits`).
        forecast: in the place of the regression on the score before RL.
        prior: chances of the family's grid, as `learn` gives them.
        draws, seed: of the draws.
    """
    rng = np.random.default_rng(seed)
    centre = _centre(candidates)
    parts = [_posterior(candidate, centre, forecast, i) for i, candidate in enumerate(candidates)]
    log = _log(prior, forecast) + sum(alone for _, alone, _ in parts)
    chance = np.exp(log - log.max()).ravel()
    family, usual = np.unravel_index(rng.choice(chance.size, draws, p=chance / chance.sum()), log.shape)
    start, end, score = np.empty((3, draws, len(candidates)))
    rise = np.empty(start.shape, int)
    for i, (likelihood, _, solve) in enumerate(parts):
        most = likelihood.max(axis=1, keepdims=True)
        within = np.cumsum(np.exp(likelihood - most)[family] * RISE[usual], axis=1)
        rise[:, i] = (rng.random(draws)[:, None] * within[:, -1:] > within).sum(axis=1)
        start[:, i], end[:, i] = solve(family, rise[:, i], rng.standard_normal((2, draws)))
        # Probes and the forecast's problems may be of another difficulty: the forecast's level is kept.
        level = forecast.middle.mean() - centre - FAMILY[0][family] if forecast else 0
        score[:, i] = expit(end[:, i] + level) + np.sqrt(unsure) * rng.standard_normal(draws)
    return Draws(start, end, rise, score.clip(0, 1))


def _centre(candidates: list[Probed]) -> float:
    return float(np.mean([candidate.z[0] for candidate in candidates]))


def _log(prior: np.ndarray, forecast: Forecast | None) -> np.ndarray:
    """Return the log of the prior; with a forecast, slope and spread have no part in it, and the factor is normal."""
    if forecast is None:
        return np.log(prior)
    cube = prior.reshape(len(GAIN), len(SLOPE), len(SPREAD), len(USUAL))
    even = np.broadcast_to(cube.mean(axis=(1, 2), keepdims=True), cube.shape).reshape(prior.shape)
    return np.log(even) - 0.5 * FACTOR[:, None] ** 2


@functools.lru_cache(maxsize=32)  # one candidate changes between two asks
def _posterior(candidate: Probed, centre: float, forecast: Forecast | None, i: int):
    """Return a candidate's log likelihood (families, rises), summed over rises (families, usual), and what draws its
    start and end.

    With v = 1 - h + slope h the probes are z - A = h gain + a v + e spread h + noise, in a = a_i - A and e.
    """
    gain, slope, spread = (grid[:, None] for grid in FAMILY)
    if forecast:  # which has seen flat runs
        gain = gain + forecast.middle[i] - forecast.middle.mean() + forecast.load[i] * FACTOR[:, None] + 0 * FLAT
        slope, spread = 0 * gain, np.full_like(gain, forecast.spread[i])
    else:
        gain, slope, spread = np.where(FLAT, 0, gain), np.where(FLAT, 1, slope), np.where(FLAT, FLAT_SD, spread)
    w, z, h = 1 / candidate.noise, candidate.z - centre, rises(candidate.t)
    s00, s01, s11 = ((w * one).sum(axis=1) for one in ((1 - h) ** 2, (1 - h) * h, h**2))
    z0, z1, zz = (w * z * (1 - h)).sum(axis=1), (w * z * h).sum(axis=1), (w * z**2).sum()
    vh = s01 + slope * s11
    aa = s00 + slope * (s01 + vh) + START_SD**-2
    ae, ee = spread * vh, 1 + spread**2 * s11
    ra, re = z0 + slope * z1 - gain * vh, spread * (z1 - gain * s11)
    rest = zz - 2 * gain * z1 + gain**2 * s11
    det = aa * ee - ae**2
    a, e = (ee * ra - ae * re) / det, (aa * re - ae * ra) / det
    likelihood = -0.5 * (rest - a * ra - e * re + np.log(det * START_SD**2))
    most = likelihood.max(axis=1, keepdims=True)
    alone = np.log(np.exp(likelihood - most) @ RISE.T) + most

    def solve(family: np.ndarray, rise: np.ndarray, normal: np.ndarray):
        """Draw start and end (draws,) given indices of family and rise, and standard normals (2, draws)."""
        at = family, rise
        e_drawn = e[at] + normal[1] * np.sqrt(aa[at] / det[at])
        a_drawn = a[at] - ae[at] / aa[at] * (e_drawn - e[at]) + normal[0] / np.sqrt(aa[at])
        return centre + a_drawn, centre + gain[at] + slope[at] * a_drawn + spread[at] * e_drawn

    return likelihood, alone, solve


def learn(families: list[list[Probed]]) -> np.ndarray:
    """Return the chances of the family's grid after finished families, for another one: `prior` of `draw`.

    The next family may be like any of those, or like none: each has the same share, and so has the uniform grid.
    """
    return np.mean([UNIFORM, *(weigh(candidates) for candidates in families)], axis=0)
