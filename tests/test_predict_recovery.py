"""Do intervals cover, do tests keep their level, do ceilings and shortlists hold? On studies with a known truth."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from simulated import related, study

from sftrl.errors import InputError
from sftrl.predict import compare, decide, judge, measures, noise_ceiling, runs_table
from sftrl.predict.features import sample_of
from sftrl.predict.judge import permutation_p
from sftrl.predict.uncertainty import correlation_interval, multiple_r2_interval

STUDIES = 600
NOMINAL = 0.95
# 3 points, and two standard errors of a share of 0.95 among STUDIES
ALLOWED = 0.03 + 2 * np.sqrt(NOMINAL * (1 - NOMINAL) / STUDIES)


def left_out(x: np.ndarray) -> np.ndarray:
    """Each run left out in turn: (studies, n) -> (studies, n, n - 1)."""
    n = x.shape[1]
    return x[:, [[j for j in range(n) if j != i] for i in range(n)]]


@pytest.mark.parametrize("noise", ["even", "uneven", "outlier"])
@pytest.mark.parametrize("rho", [0.0, 0.5, 0.92], ids=["none", "weak", "strong"])
@pytest.mark.parametrize("n", [8, 16, 40])
def test_intervals_cover_the_true_correlation(n, rho, noise):
    x, y = related(n, STUDIES if n < 40 else 300, rho, noise, seed=n)
    many = related(200_000, 1, rho, noise, seed=1)
    for kind, measure in (("pearson", measures.pearson), ("spearman", measures.spearman)):
        truth = measure(*many)[0]
        values, less = measure(x, y), measure(left_out(x), left_out(y))
        ends = np.array([correlation_interval(kind, v, w, n) for v, w in zip(values, less, strict=True)])
        covered = np.mean((ends[:, 0] <= truth) & (truth <= ends[:, 1]))
        assert abs(covered - NOMINAL) <= ALLOWED, f"{kind}: {covered:.3f}"


@pytest.mark.parametrize("rho", [0.0, 0.75])
@pytest.mark.parametrize("n", [8, 20])
def test_kendall_interval_covers(n, rho):
    x, y = related(n, STUDIES, rho, "even", seed=n)
    truth = 2 / np.pi * np.arcsin(rho)  # of a bivariate normal
    values, less = measures.kendall(x, y), measures.kendall(left_out(x), left_out(y))
    ends = np.array([correlation_interval("kendall", v, w, n) for v, w in zip(values, less, strict=True)])
    assert abs(np.mean((ends[:, 0] <= truth) & (truth <= ends[:, 1])) - NOMINAL) <= ALLOWED


@pytest.mark.parametrize("statistic", [stats.pearsonr, stats.spearmanr, stats.kendalltau])
def test_bootstrap_interval_is_scipys(statistic):
    kind = {"pearsonr": "pearson", "spearmanr": "spearman", "kendalltau": "kendall"}[statistic.__name__]
    results, predictors = study(16, seeds=1, seed_sd=0.1, seed=3)
    runs = runs_table(results, predictors)
    runs = runs[runs["run"] != "base"].reset_index(drop=True)
    row = judge(runs, ["pass@64"], intervals="bootstrap", resamples=4000).iloc[0]
    peer = stats.bootstrap(
        (runs["pass@64"], runs["post_rl"]),
        lambda x, y: statistic(x, y).statistic,
        paired=True,
        vectorized=False,
        n_resamples=4000,
        method="BCa",
        rng=np.random.default_rng(0),
    ).confidence_interval
    np.testing.assert_allclose([row[f"{kind}_low"], row[f"{kind}_high"]], [peer.low, peer.high], atol=0.03)
    assert 0 < row[f"{kind}_low"] < row[f"{kind}_high"] < 1
    with pytest.raises(InputError, match="'percentile' is not one of jackknife-normal, normal-theory, bootstrap"):
        judge(runs, ["pass@64"], intervals="percentile")


@pytest.mark.parametrize("rho2", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("n", [9, 24])
def test_interval_of_a_regression_on_two_features_covers(n, rho2):
    rng = np.random.default_rng(n)
    covered = 0
    for _ in range(150):
        x = rng.standard_normal((n, 2))
        y = np.sqrt(rho2 / 2) * x.sum(axis=1) + np.sqrt(1 - rho2) * rng.standard_normal(n)
        design = np.column_stack([np.ones(n), x])
        fit = design @ np.linalg.lstsq(design, y, rcond=None)[0]
        low, high = multiple_r2_interval(np.var(fit) / np.var(y), n, 2)
        covered += low <= rho2 <= high
    expected = 0.975 if rho2 == 0 else NOMINAL  # no interval misses 0 on the low side
    assert abs(covered / 150 - expected) <= 0.03 + 0.01


def test_a_regression_on_two_features_has_an_interval_with_a_run_to_spare_and_none_without():
    low, high = multiple_r2_interval(0.9, 4, 2)
    assert 0 <= low <= 0.9 <= high <= 1
    assert np.isnan(multiple_r2_interval(0.9, 3, 2)).all()


@pytest.mark.parametrize("families", [1, 2])
def test_permutation_test_keeps_its_level(families):
    rng = np.random.default_rng(families)
    rejected = {"p_r2": 0, "p_spearman": 0}
    studies = 200
    for i in range(studies):
        runs = pd.DataFrame({"run": [f"r{j}" for j in range(12)], "family": [f"f{j % families}" for j in range(12)]})
        shift = 3 * (runs["family"] == "f1")  # a difference between families is no relation
        runs["pass@1"], runs["post_rl"] = rng.standard_normal(12) + shift, rng.standard_normal(12) + shift
        row = permutation_p(sample_of(runs, "pass@1", "post_rl"), 199, i)
        rejected = {p: count + (row[p] <= 0.05) for p, count in rejected.items()}
    low, high = stats.binom.ppf([0.001, 0.999], studies, 0.05)
    assert all(low <= count <= high for count in rejected.values()), rejected


def test_comparison_of_equally_good_predictors_keeps_its_level():
    rng = np.random.default_rng(0)
    rejected = 0
    for i in range(120):
        truth = rng.standard_normal(14)
        runs = pd.DataFrame({"family": "f", "run": [f"r{j}" for j in range(14)], "post_rl": truth})
        for name in ("pass@1", "pass@8"):
            runs[name] = truth + rng.standard_normal(14)
        rejected += compare(runs, ["pass@8"], resamples=10, seed=i)["p_value"].iloc[0] <= 0.05
    assert rejected <= stats.binom.ppf(0.999, 120, 0.05)


def test_a_better_predictor_is_found_better():
    rng = np.random.default_rng(0)
    truth = rng.standard_normal(40)
    runs = pd.DataFrame({"family": "f", "run": [f"r{j}" for j in range(40)], "post_rl": truth})
    runs["pass@1"], runs["pass@8"] = truth + 3 * rng.standard_normal(40), truth + 0.2 * rng.standard_normal(40)
    row = compare(runs, ["pass@8"], resamples=500).iloc[0]
    assert row["z_low"] > 0
    assert row["p_value"] < 0.01
    assert row["share_better"] > 0.99


@pytest.mark.parametrize("seeds", [2, 3])
def test_noise_ceiling_is_what_a_perfect_predictor_reaches(seeds):
    rng = np.random.default_rng(seeds)
    sd, reached, estimated, covered = 0.5, [], [], 0
    for _ in range(300):
        truth = rng.standard_normal(16)
        scores = truth[:, None] + sd * rng.standard_normal((16, seeds))
        runs = pd.DataFrame({"family": "f", "post_rl": scores.mean(axis=1), "post_rl_sd": scores.std(axis=1, ddof=1)})
        row = noise_ceiling(runs.assign(n_seeds=seeds)).iloc[0]
        reached.append((measures.pearson(truth, runs["post_rl"]) ** 2, measures.spearman(truth, runs["post_rl"])))
        estimated.append((row["r2"], row["spearman"]))
        covered += row["r2_low"] <= 1 / (1 + sd**2 / seeds) <= row["r2_high"]
    assert np.abs(np.mean(estimated, axis=0) - np.mean(reached, axis=0)).max() < 0.03
    assert abs(covered / 300 - NOMINAL) <= 0.03 + 0.025


def test_prediction_intervals_and_shortlists_keep_their_word():
    rng = np.random.default_rng(0)
    inside, held, studies = 0, 0, 150
    for i in range(studies):
        runs = pd.DataFrame({"family": "f", "run": [f"r{j}" for j in range(16)]})
        runs["pass@1"] = rng.uniform(0.1, 0.5, 16)
        runs["post_rl"] = 0.2 + 0.8 * runs["pass@1"] + rng.normal(0, 0.06, 16)
        decision = decide(runs[10:], runs[:10], predictors=("pass@1",), draws=2000, seed=i)
        decision = decision[decision["predictor"] == "combined"].set_index("run")
        outcome = runs.set_index("run")["post_rl"][decision.index]
        held += decision["shortlist"][outcome.idxmax()]
        inside += ((decision["low"] <= outcome) & (outcome <= decision["high"])).mean()
    assert abs(inside / studies - 0.95) < 0.03
    assert 0.87 <= held / studies <= 0.99  # the last one taken overshoots the wanted 0.9


def test_the_whole_judgement_finds_what_was_put_in():
    judged = judge(runs_table(*study(30, seeds=3)), resamples=500, splits=200).set_index("predictor")
    assert judged.loc["pass@64", "r2"] > 0.9 > 0.2 > judged.loc["pass@1", "r2"]
    assert judged.loc["pass@64", "p_spearman"] < 0.01 < judged.loc["sft_tokens", "p_spearman"]
    assert judged.loc["generalization_loss", "spearman"] < -0.6
    assert judged.loc["pass@64", "loo_cod"] > 0.9
