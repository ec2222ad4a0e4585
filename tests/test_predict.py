"""From tables to judgements: known answers, and input that must be refused or marked by name."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from simulated import study

from sftrl.errors import InputError
from sftrl.predict import advice, analyse, compare, decide, judge, measures, noise_ceiling, pools, regret, runs_table
from sftrl.predict.compare import expected_regret
from sftrl.predict.judge import halves, permutations

QUICK = {"resamples": 200, "seed": 0}


@pytest.fixture(scope="module")
def tables():
    return study(12)


@pytest.fixture(scope="module")
def runs(tables):
    return runs_table(*tables)


def frame(**columns) -> pd.DataFrame:
    """A runs frame of one family with the columns given; names with @ or + come in a dict."""
    size = len(next(iter(columns.values())))
    return pd.DataFrame({"family": "f", "run": [f"r{i}" for i in range(size)]} | columns)


# ---- measures: the arithmetic, against scipy


@settings(max_examples=60, deadline=None)
@given(st.integers(3, 12), st.integers(0, 10_000), st.booleans())
def test_measures_agree_with_scipy_ties_included(n, seed, ties):
    rng = np.random.default_rng(seed)
    x, y = rng.integers(0, 4, (2, n)).astype(float) if ties else rng.standard_normal((2, n))
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return
    assert measures.pearson(x, y) == pytest.approx(stats.pearsonr(x, y)[0])
    assert measures.spearman(x, y) == pytest.approx(stats.spearmanr(x, y)[0])
    assert measures.kendall(x, y) == pytest.approx(stats.kendalltau(x, y)[0])


def test_undefined_correlations_are_nan_not_zero():
    assert np.isnan(measures.pearson([1.0, 1, 1], [1, 2, 3]))
    assert np.isnan(measures.spearman([0.3, 0.3, 0.3], [1, 2, 3]))
    assert np.isnan(measures.kendall([1.0, 1, 1], [1, 2, 3]))


def test_equal_scores_stay_equal_after_arithmetic():
    y = np.array([0.1 + 0.2, 0.3, 0.5, 0.7])
    assert y[0] != y[1]
    assert measures.ranks(y).tolist() == [-1.0, -1.0, 0.5, 1.5]
    tau = stats.kendalltau([1, 1, 2, 3], [2, 1, 3, 4]).statistic
    assert measures.kendall(y, np.array([2.0, 1.0, 3.0, 4.0])) == pytest.approx(tau)


def test_equal_values_have_no_rest_by_rounding():
    for value in (0.01, 1 / 3, 1e9 / 7, -0.1):
        for groups in (None, np.array([0, 0, 0, 1, 1, 1, 1])):
            assert (measures.centred(np.full((2, 7), value), groups) == 0).all()
    nearly = np.array([0.1, 0.1 + 2e-17, 0.1 - 2e-17, 0.1])  # as another machine's mean leaves them
    assert (measures.centred(nearly) == 0).all()


def test_measures_within_groups_ignore_differences_between_them():
    groups = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    x, y = np.array([1.0, 2, 3, 4, 11, 12, 13, 14]), np.array([4.0, 3, 2, 1, 94, 93, 92, 91])
    assert measures.spearman(x, y, groups) == pytest.approx(-1)
    assert measures.kendall(x, y, groups) == pytest.approx(-1)
    assert measures.pearson(measures.centred(x, groups), measures.centred(y, groups)) == pytest.approx(-1)


def test_permutations_and_halves_stay_within_groups():
    groups = np.array([1, 0, 1, 0, 0, 1, 0, 1, 0])
    rng = np.random.default_rng(0)
    drawn = permutations(groups, 500, rng)
    assert (np.sort(drawn, axis=1) == np.arange(9)).all()
    assert (groups[drawn] == groups).all()
    assert len({tuple(d) for d in drawn}) > 300
    fit = halves(groups, 200, rng)
    assert (fit[:, groups == 0].sum(axis=1) == 2).all()
    assert (fit[:, groups == 1].sum(axis=1) == 2).all()


# ---- runs_table


def test_one_row_a_run_with_the_mean_over_seeds(tables, runs):
    results, _ = tables
    assert len(runs) == 12
    one = runs.iloc[3]
    rows = results[(results["run"] == one["run"]) & (results["benchmark"] == "average")]
    after = rows.loc[rows["phase"] == "post_rl", "pass@1"]
    assert one["post_rl"] == pytest.approx(after.mean())
    assert one["post_rl_sd"] == pytest.approx(after.std())
    assert one["n_seeds"] == 2
    assert one["gain"] == pytest.approx(after.mean() - one["pass@1"])
    assert "generalization_loss" in runs
    assert "base" not in set(runs["run"])
    assert "base" in set(runs_table(*tables, base=True)["run"])


def test_a_run_without_rl_is_kept_without_an_outcome(tables):
    results, predictors = tables
    name = results["run"].iloc[-1]
    runs = runs_table(results[(results["run"] != name) | (results["phase"] == "post_sft")], predictors)
    last = runs[runs["run"] == name].iloc[0]
    assert last["n_seeds"] == 0
    assert np.isnan(last["post_rl"])


def test_scores_on_rl_problems_are_predictors_and_no_benchmark(tables):
    results, predictors = tables
    rl = results[(results["phase"] == "post_sft") & (results["benchmark"] == "chains")]
    rl = rl.assign(benchmark="rl", signal_share=np.linspace(0.1, 0.9, len(rl)), **{"pass@1": rl["pass@1"] / 2})
    results = pd.concat([results, rl], ignore_index=True)
    runs = runs_table(results, predictors)
    of_rl = rl.set_index("run").loc[runs["run"]]
    assert np.allclose(runs["pass@1_rl"], of_rl["pass@1"])
    assert np.allclose(runs["signal_share_rl"], of_rl["signal_share"])
    largest = [c for c in runs if c.endswith("_rl") and c.startswith("pass@")][-1]
    assert np.allclose(runs[largest], of_rl[largest.removesuffix("_rl")])
    judged = analyse(results, predictors, resamples=50, splits=5)["judged"]
    assert {"pass@1_rl", "signal_share_rl", largest} <= set(judged["predictor"])
    assert "benchmark:rl" not in set(judged["pool"])


@pytest.mark.parametrize(
    ("column", "value"),
    [("temperature", 0.6), ("samples", 64), ("verifier_version", "2"), ("max_tokens", 2048), ("top_p", 0.95)],
)
def test_runs_from_other_evaluation_settings_are_refused_by_name_or_marked(tables, column, value):
    results, predictors = tables[0].copy(), tables[1]
    odd = results["run"].unique()[4]
    results.loc[(results["run"] == odd) & (results["phase"] == "post_sft"), column] = value
    with pytest.raises(InputError, match=f"{odd}.*{column} {value}"):
        runs_table(results, predictors)
    runs = runs_table(results, predictors, mixed="mark")
    assert list(runs.loc[runs["marked"] != "", "run"]) == [odd]
    assert odd in judge(runs, ["pass@1"], **QUICK)["note"].iloc[0]


def test_verifier_that_changed_between_sft_and_rl_is_refused(tables):
    results = tables[0].copy()
    results.loc[results["phase"] == "post_rl", "verifier_version"] = "2"
    with pytest.raises(InputError, match="verifier_version"):
        runs_table(results)


def test_average_over_other_benchmarks_is_refused(tables):
    results = tables[0]
    odd = results["run"].unique()[4]
    with pytest.raises(InputError, match=f"{odd}: benchmarks"):
        runs_table(results[(results["run"] != odd) | (results["benchmark"] != "chains")])


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda r: r.drop(columns="pass@1"), "no column 'pass@1'"),
        (lambda r: pd.concat([r, r.iloc[-3:]]), "more than one row"),
        (lambda r: r.replace({"phase": {"post_sft": "sft"}}), "phase 'sft'"),
        (lambda r: r[r["phase"] == "post_rl"], "no post_sft row"),
    ],
)
def test_broken_results_are_refused(tables, spoil, words):
    with pytest.raises(InputError, match=words):
        runs_table(spoil(tables[0]))
    with pytest.raises(InputError, match="no benchmark 'aime'"):
        runs_table(tables[0], benchmark="aime")


def test_pools_by_name():
    runs = runs_table(*study(12, ("llama", "qwen")))
    found = pools(runs)
    assert len(found["all"]) == 24
    assert set(found["dataset"]["selection"]) == {"random"}
    for _, recipe in found["instance/llama"].groupby(["epochs", "learning_rate"]):
        assert recipe["selection"].nunique() > 1
    assert set(found["all/qwen"]["family"]) == {"qwen"}
    with pytest.raises(InputError, match="no pool 'datasets'"):
        pools(runs, ("datasets",))


# ---- judge: what cannot be judged is marked by name


def test_a_missing_loss_names_the_run_and_the_rest_is_judged(tables):
    results, predictors = tables[0], tables[1].copy()
    predictors.loc[5, "generalization_loss"] = np.nan
    row = judge(runs_table(results, predictors), ["generalization_loss"], **QUICK).iloc[0]
    assert row["n"] == 11
    assert row["left_out"] == f"llama {predictors['run'][5]}"
    assert np.isfinite(row["r2"])


def test_all_equal_predictor_and_target_are_marked():
    runs = frame(**{"pass@1": np.full(6, 0.3), "pass@8": np.arange(6.0), "post_rl": np.arange(6.0)})
    row = judge(runs, ["pass@1"], **QUICK).iloc[0]
    assert row["note"] == "pass@1 is the same for all runs"
    assert np.isnan(row["r2"])
    assert judge(runs, ["pass@8"], target="pass@1", **QUICK)["note"].iloc[0] == "pass@1 is the same for all runs"


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_handful_of_runs_is_marked_not_judged(count):
    runs = frame(**{"pass@1": np.arange(count) / 10, "post_rl": np.arange(count) / 5})
    for table in (judge(runs, ["pass@1"], **QUICK), regret(runs, ["pass@1"])):
        assert f": {count}; at least 4 are needed" in table["note"].iloc[-1]
    assert np.isnan(judge(runs, ["pass@1"], **QUICK)["r2"].iloc[0])


def test_text_in_a_predictor_and_unknown_columns_are_refused(runs):
    with pytest.raises(InputError, match="'entropie'"):
        judge(runs, ["entropie"], **QUICK)
    with pytest.raises(InputError, match="must be numbers"):
        judge(runs, ["selection"], **QUICK)


def test_the_same_seed_gives_the_same_table(runs):
    names = ["pass@1", "pass@1 + generalization_loss"]
    pd.testing.assert_frame_equal(judge(runs, names, **QUICK), judge(runs, names, **QUICK))


def test_order_of_runs_changes_nothing_but_the_draws(runs):
    exact = ["r2", "r2_low", "r2_high", "spearman", "spearman_low", "kendall", "loo_cod", "loo_spearman"]
    one, other = (judge(r, ["pass@8", "generalization_loss"], **QUICK) for r in (runs, runs.iloc[::-1]))
    pd.testing.assert_frame_equal(one[exact], other[exact])


def test_leave_one_out_and_halves_match_a_plain_loop():
    rng = np.random.default_rng(0)
    x = rng.standard_normal(10)
    y = x + 0.5 * rng.standard_normal(10)
    row = judge(frame(**{"pass@1": x, "post_rl": y}), ["pass@1"], splits=300, **QUICK).iloc[0]
    predicted = [np.polyval(np.polyfit(np.delete(x, i), np.delete(y, i), 1), x[i]) for i in range(10)]
    means = [np.delete(y, i).mean() for i in range(10)]
    assert row["loo_cod"] == pytest.approx(1 - np.sum((y - predicted) ** 2) / np.sum((y - means) ** 2))
    r2, cod = [], []
    for fit in halves(np.zeros(10, int), 300, np.random.default_rng(0)):
        guess = np.polyval(np.polyfit(x[fit], y[fit], 1), x[~fit])
        r2.append(np.corrcoef(guess, y[~fit])[0, 1] ** 2)
        cod.append(1 - np.sum((y[~fit] - guess) ** 2) / np.sum((y[~fit] - y[~fit].mean()) ** 2))
    assert row["halves_r2"] == pytest.approx(np.mean(r2))
    assert row["halves_r2_sd"] == pytest.approx(np.std(r2))
    assert row["halves_cod"] == pytest.approx(np.mean(cod))


def test_two_features_and_the_average_of_standardised():
    rng = np.random.default_rng(1)
    score, loss = rng.standard_normal((2, 12))
    runs = frame(**{"pass@64": score, "generalization_loss": loss, "post_rl": score - loss})
    both, average = judge(
        runs, ["pass@64 + generalization_loss", "average(generalization_loss, pass@64)"], **QUICK
    ).to_dict("records")
    assert both["features"] == 2
    assert both["r2"] == pytest.approx(1)
    z = (score - score.mean()) / score.std(ddof=1) - (loss - loss.mean()) / loss.std(ddof=1)
    assert average["pearson"] == pytest.approx(np.corrcoef(z, score - loss)[0, 1])


def test_families_have_their_own_mean():
    x = np.tile(np.arange(6.0), 2)
    family = np.repeat(["a", "b"], 6)
    runs = frame(**{"pass@1": x + 10 * (family == "b"), "post_rl": -x + 50 * (family == "b")}).assign(family=family)
    row = judge(runs, ["pass@1"], **QUICK).iloc[0]
    assert row["pearson"] == pytest.approx(-1)
    assert row["loo_cod"] == pytest.approx(1)


# ---- compare, regret, ceiling


def test_a_predictor_against_its_twin():
    runs = runs_table(*study(10)).assign(**{"pass@2": lambda r: 2 * r["pass@1"]})
    row = compare(runs, ["pass@2"], **QUICK).iloc[0]
    assert (row["z_difference"], row["p_value"], row["share_better"]) == (0, 1, 0.5)


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 7), st.integers(1, 7), st.integers(0, 10_000))
def test_expected_regret_is_the_mean_over_all_subsets(n, size, seed):
    from itertools import combinations

    size = min(size, n)
    score, y = np.random.default_rng(seed).standard_normal((2, n))
    subsets = [list(s) for s in combinations(range(n), size)]
    by_hand = np.mean([y[s].max() - y[s][score[s].argmax()] for s in subsets])
    assert expected_regret(score, y, size) == pytest.approx(by_hand, abs=1e-12)


def test_regret_of_ties_is_that_of_a_draw_between_them():
    assert expected_regret(np.zeros(4), np.array([0.0, 1, 2, 3]), 4) == pytest.approx(1.5)


def test_regret_orders_predictors_as_they_are(runs):
    table = regret(runs, ["pass@1", "pass@64", "generalization_loss"]).set_index("predictor")["regret"]
    assert table["pass@64"] < table["generalization_loss"] < table["random choice"]


def test_ceiling_says_when_there_is_nothing_to_go_by():
    assert noise_ceiling(runs_table(*study(8, seeds=1)))["note"].iloc[0] == "no noise ceiling: no run has two RL seeds"
    results, predictors = study(8, seeds=2)
    few = results[(results["rl_seed"] != 1) | results["run"].isin(results["run"].unique()[:3])]
    row = noise_ceiling(runs_table(few, predictors)).iloc[0]
    assert row["note"] == "only 2 repeated RL seeds: the ceiling is hardly known"
    assert row["r2_low"] < row["r2"] < row["r2_high"]
    same = noise_ceiling(frame(post_rl=np.full(6, 0.3) + 1e-3 * np.arange(6), post_rl_sd=0.1, n_seeds=2)).iloc[0]
    assert same["r2"] == 0
    assert "nothing here can be predicted" in same["note"]


# ---- decide


def test_decision_without_calibration_ranks_and_takes_both_favourites():
    candidates = frame(**{"pass@64": [0.6, 0.9, 0.7], "generalization_loss": [0.2, 0.5, 0.4]})
    decision = decide(candidates)
    first = decision[decision["rank"] == 1].set_index("predictor")["run"]
    assert (first["pass@64"], first["generalization_loss"]) == ("r1", "r0")
    assert decision["p_best"].isna().all()
    combined = decision[decision["predictor"] == "combined"]
    assert set(combined.loc[combined["shortlist"], "run"]) == {"r0", "r1"}
    assert "disagree" in advice(decision)
    assert "calibrate" in advice(decision)


def test_assumed_correlation_gives_chances():
    candidates = frame(**{"pass@64": [0.6, 0.9, 0.7, 0.65]})
    chances = [
        decide(candidates, predictors=("pass@64",), correlation=c).set_index("run")["p_best"] for c in (0.0, 0.5, 0.99)
    ]
    assert chances[0].to_numpy() == pytest.approx(0.25, abs=0.02)
    assert chances[0]["r1"] < chances[1]["r1"] < chances[2]["r1"]
    assert chances[2]["r1"] > 0.97


def test_decision_with_calibration_predicts_and_weighs(runs):
    decision = decide(runs[8:], runs[:8])
    assert decision.groupby("predictor")["p_best"].sum().to_numpy() == pytest.approx(1)
    weight = decision.groupby("predictor")["weight"].first()
    assert weight["pass@64"] > weight["generalization_loss"]
    combined = decision[decision["predictor"] == "combined"].set_index("run")
    assert (combined["low"] < combined["predicted"]).all()
    assert combined["predicted"].idxmax() == runs[8:].set_index("run")["post_rl"].idxmax()
    assert combined.loc[combined["shortlist"], "p_best"].sum() >= 0.9
    assert "%" in advice(decision)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"candidates": frame(**{"pass@64": [0.5]})}, "nothing to decide"),
        ({"predictors": ("entropy",)}, "which way 'entropy' points"),
        ({"correlation": 1.5}, "not between 0 and 1"),
        ({"calibration": frame(**{"pass@64": [0.1, 0.2, 0.3], "post_rl": [0.1, 0.2, 0.3]})}, "at least 4"),
        ({"calibration": frame(**{"pass@64": [0.1], "post_rl": [0.1]}).assign(family="g")}, "family 'f'"),
        ({"candidates": frame(**{"pass@64": [0.5, np.nan]})}, "missing for f r1"),
    ],
)
def test_decisions_that_cannot_be_made_are_refused(change, words):
    how = {"candidates": frame(**{"pass@64": [0.5, 0.6], "entropy": [0.1, 0.2]}), "predictors": ("pass@64",)} | change
    with pytest.raises(InputError, match=words):
        decide(how.pop("candidates"), how.pop("calibration", None), **how)


# ---- analyse


def test_analyse_gives_every_table_for_every_pool(tables):
    found = analyse(*tables, names=["pass@1", "pass@64"], splits=20, **QUICK)
    assert set(found) == {"runs", "judged", "compared", "regret", "ceiling"}
    assert {"all", "dataset", "instance", "benchmark:chains"} <= set(found["judged"]["pool"])
    assert set(found["judged"]["target"]) == {"post_rl", "gain"}
