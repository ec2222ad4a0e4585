"""Intervals over runs for correlations, made for 8 to 40 runs rather than for many.

What they cover: the correlation that an endless supply of runs, made and measured like these, would show. Three kinds,
by the names that `recipes.Judging` takes; all work on Fisher's z = arctanh(r), and each holds its estimate:

* `normal-theory`, the textbooks': z +- q e, with e² = 1 / (n - 3) for Pearson (Fisher 1921), (1 + r²/2) / (n - 3) for
  Spearman (Bonett and Wright 2000), 0.437 / (n - 4) for Kendall (Fieller, Hartley and Pearson 1957);
* `jackknife-normal`, the default: the jackknife's reach, with Student's t, which sees outliers and uneven noise,
  joined with normal theory's, which is steady where eight runs agree by accident. Pearson: the larger of the
  jackknife's and 0.95 times normal theory's. Ranks: the root of a mean of both squared, the jackknife's with a weight
  of 0.15, because it jumps where one run decides whether the others are in perfect order. Both shares were chosen
  here, by measured coverage (docs/statistics.md);
* `bootstrap`: BCa (Efron 1987). For a dozen runs it is too short for Pearson.
"""

import numpy as np
from scipy import optimize, special, stats

from sftrl.recipes import Intervals
from sftrl.tables import DECIMALS

JACKKNIFE_SHARE = 0.15  # of the squared reach of a rank correlation
NORMAL_SHARE = 0.95  # of normal theory's reach that Pearson's has at least


def correlation_interval(
    kind: str, value: float, without: np.ndarray, n: int, level: float = 0.95, how: Intervals = "jackknife-normal"
) -> tuple[float, float]:
    """Interval for a correlation, by normal theory, alone or joined with the jackknife.

    Args:
        kind: "pearson", "spearman" or "kendall".
        value: the correlation of all runs.
        without: the same with each run left out in turn, (runs,).
        n: runs, less one for each family beyond the first; at least 4.
        level: nominal coverage.
        how: "jackknife-normal" or "normal-theory".

    Returns:
        (low, high) with low <= value <= high; NaN where the correlation is undefined.
    """
    if not np.isfinite(value):
        return float("nan"), float("nan")
    z = float(fisher_z(kind, value, n))
    reach = stats.norm.ppf(0.5 + level / 2) * normal_error(kind, value, n)
    if how == "jackknife-normal":
        jackknife = stats.t.ppf(0.5 + level / 2, n - 2) * jackknife_error(kind, without, n)
        if kind == "pearson":
            reach = max(jackknife, NORMAL_SHARE * reach)
        else:
            reach = np.sqrt(JACKKNIFE_SHARE * jackknife**2 + (1 - JACKKNIFE_SHARE) * reach**2)
    return holding(value, np.tanh(z - reach), np.tanh(z + reach))


def holding(value: float, low: float, high: float) -> tuple[float, float]:
    """Widen an interval to its estimate where that lies outside: a perfect correlation, a skewed bootstrap."""
    return float(min(low, value)), float(max(high, value))


def bootstrap_interval(
    value: float, drawn: np.ndarray, without: np.ndarray, level: float = 0.95
) -> tuple[float, float]:
    """Interval for a correlation by the bootstrap over runs: bias-corrected and accelerated (BCa, Efron 1987).

    Args:
        value: the correlation of all runs.
        drawn: the same of each resample of the runs; resamples without variation (NaN) have no part.
        without: the same with each run left out in turn.
        level: nominal coverage. The measured one is less (docs/statistics.md).

    Returns:
        (low, high) with low <= value <= high; NaN where the correlation is undefined.
    """
    drawn, without = (np.asarray(x)[np.isfinite(x)] for x in (drawn, without))
    if not np.isfinite(value) or not len(drawn):
        return float("nan"), float("nan")
    above = np.round(drawn - value, DECIMALS)  # resamples that tie are ties on every machine
    below = np.mean((above < 0) + 0.5 * (above == 0))
    bias = stats.norm.ppf(np.clip(below, 1 / len(drawn), 1 - 1 / len(drawn)))
    away = without.mean() - without
    spread = (away**2).sum() ** 1.5
    skew = float((away**3).sum() / (6 * spread)) if spread > 0 else 0.0
    z = bias + stats.norm.ppf([0.5 - level / 2, 0.5 + level / 2])
    return holding(value, *np.quantile(drawn, stats.norm.cdf(bias + z / (1 - skew * z))))


def jackknife_error(kind: str, without: np.ndarray, n: int) -> float:
    """Jackknife standard error of Fisher's z, from the correlations with each run left out."""
    less = fisher_z(kind, np.asarray(without)[np.isfinite(without)], n - 1)
    return float(np.sqrt((len(less) - 1) * less.var())) if len(less) else 0.0


def fisher_z(kind: str, value: np.ndarray | float, n: int) -> np.ndarray:
    """Fisher's z, with values of 1 moved half a step inwards: the step is that of a rank correlation of n runs."""
    step = {"pearson": 1e-6, "spearman": 6 / (n * (n**2 - 1)), "kendall": 2 / (n * (n - 1))}[kind]
    return np.arctanh(np.clip(value, step - 1, 1 - step))


def normal_error(kind: str, value: float, n: int) -> float:
    """Standard error of z under a bivariate normal: Fisher, Bonett and Wright, Fieller; their inputs are `n` runs."""
    if kind == "kendall":
        return float(np.sqrt(0.437 / max(n - 4, 1)))
    return float(np.sqrt((1 + (value**2 / 2 if kind == "spearman" else 0)) / (n - 3)))


def multiple_r2_interval(r2: float, n: int, features: int, level: float = 0.95) -> tuple[float, float]:
    """Interval for the squared multiple correlation of a regression on several features, normal theory.

    The sample value is pulled up by every feature, so the exact interval may lie wholly below it: it is then widened to
    hold it. Found by inverting the sampling distribution: R²/(1-R²) is ((z + t c)² + d) / e, with z standard normal,
    c², d and e chi-squared with n-1, features-1 and n-1-features degrees of freedom, and t² = rho²/(1-rho²). z, c and d
    are drawn, once for all.
    """
    rest = n - 1 - features
    if not np.isfinite(r2) or rest < 1:
        return float("nan"), float("nan")
    rng = np.random.default_rng(0)
    z, c = rng.standard_normal(1000), np.sqrt(rng.chisquare(n - 1, 1000))
    d = rng.chisquare(features - 1, 1000) if features > 1 else 0.0
    ratio = r2 / max(1 - r2, 1e-12)

    def below(rho2: float) -> float:
        """Chance of a sample value below the one seen, if rho2 were true."""
        explained = (z + np.sqrt(rho2 / (1 - rho2)) * c) ** 2 + d
        return float(special.chdtrc(rest, explained / max(ratio, 1e-12)).mean())

    def end(chance: float) -> float:
        low, high = 0.0, 1 - 1e-9
        if below(low) <= chance:
            return 0.0
        if below(high) >= chance:
            return 1.0
        return float(optimize.brentq(lambda rho2: below(rho2) - chance, low, high, xtol=1e-4))

    return holding(r2, end(0.5 + level / 2), end(0.5 - level / 2))
