"""From tables to judgements: known answers, and input that must be refused or marked by name."""

from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from simulated import study

from sftrl.errors import InputError
from sftrl.predict import (
    analyse,
    compare,
    judge,
    measures,
    noise_ceiling,
    order,
    pools,
    predictor_names,
    regret,
    runs_table,
)
from sftrl.predict.comparison import expected_regret
from sftrl.predict.features import Sample, sample_of, singles
from sftrl.predict.judge import halves, max_t_p, permutation_p, permutations
from sftrl.predict.order import benchmarks_of
from sftrl.predict.runs import core_results
from sftrl.predict.uncertainty import bootstrap_interval, fisher_z
from sftrl.recipes import Judging
from sftrl.tables import PREDICTORS, Predictor, direction, headline, label

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
    assert np.allclose(runs["pass@64_rl"], of_rl["pass@64"])
    assert {"pass@1_rl", "signal_share_rl", "pass@64_rl"} <= set(predictor_names(runs))
    judged = analyse(results, predictors, names=["pass@1_rl"], judging=Judging(resamples=50), splits=5)["judged"]
    assert "benchmark:chains" in set(judged["pool"])
    assert "benchmark:rl" not in set(judged["pool"])


@pytest.mark.parametrize(
    ("column", "value"),
    [("temperature", 0.6), ("samples", 64), ("verifier_version", "2"), ("max_tokens", 2048), ("top_p", 0.95)],
)
def test_runs_from_other_evaluation_settings_are_refused_by_name(tables, column, value):
    results, predictors = tables[0].copy(), tables[1]
    odd = results["run"].unique()[4]
    results.loc[(results["run"] == odd) & (results["phase"] == "post_sft"), column] = value
    with pytest.raises(InputError, match=f"{odd}.*{column} {value}"):
        runs_table(results, predictors)


def test_other_settings_of_one_benchmark_are_refused_there_and_in_the_average_alone(tables):
    results = tables[0].copy()
    odd = results["run"].unique()[4]
    results.loc[(results["run"] == odd) & (results["benchmark"] == "chains"), "temperature"] = 0.6
    for benchmark in ("chains", "average"):
        with pytest.raises(InputError, match=f"{odd}: temperature 0.6, most have 1.0 .post_rl, chains., and 1 more"):
            runs_table(results[results["rl_seed"] != 1], benchmark=benchmark)
    assert odd in set(runs_table(results, benchmark="equations")["run"])


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
    assert not [name for name in pools(runs.drop_duplicates("family")) if "/" in name]  # one run is no pool
    some = pools(runs, live=0.3)["live"]
    assert len(some) == (runs["post_sft"] >= 0.3).sum() < len(runs)
    assert "live" not in pools(runs, live=1.0)
    with pytest.raises(InputError, match="no pool 'datasets'"):
        analyse(*study(4), only=("datasets",))


def test_families_of_one_run_cannot_be_judged_and_it_is_said():
    found = analyse(*study(1, tuple("abcde")), splits=5, judging=Judging(resamples=20))
    for name in ("judged", "compared", "regret"):
        assert set(found[name]["pool"]) == {"all", "dataset", "benchmark:chains", "benchmark:equations"}
    row = found["judged"].query("pool == 'all' and predictor == 'pass@1' and target == 'post_rl'").iloc[0]
    assert row["n"] == 0
    assert row["left_out"].count(",") == 4
    assert row["note"].endswith("; missing for a random-100-1ep-0, b random-100-1ep-0, c random-100-1ep-0 and 2 more")
    assert "decision" not in found


def test_core_is_the_average_of_its_benchmarks(tables):
    results, predictors = tables[0].copy(), tables[1]
    results.loc[results["benchmark"] == "equations", ["pass@1", "pass@64"]] /= 2
    core = runs_table(core_results(results, ["chains", "equations"]), predictors, benchmark="core")
    alone = runs_table(results, predictors, benchmark="chains")
    for column in ("pass@1", "pass@64", "post_rl", "gain"):
        assert np.allclose(core[column], 0.75 * alone[column])
    assert (core["generalization_loss"] == alone["generalization_loss"]).all()
    rl = results[(results["phase"] == "post_sft") & (results["benchmark"] == "chains")].assign(benchmark="rl")
    results = pd.concat([results, rl], ignore_index=True).assign(sampled_tokens=100)
    both = runs_table(core_results(results, ["chains", "equations"]), predictors, benchmark="core")
    assert np.allclose(both["pass@1_rl"], alone["pass@1"])  # RL problems are no part of the average, and not lost
    assert set(both["sampled_tokens"]) == {200}  # what both cost
    assert set(both["sampled_tokens_rl"]) == {100}
    with pytest.raises(InputError, match="core: no benchmark 'aime'"):
        core_results(results, ["chains", "aime"])
    live = Judging(resamples=10, live=0.3, core=["chains", "equations"])
    judged = analyse(results, predictors, judging=live, names=["pass@1"], splits=5)["judged"]
    n = judged[judged["target"] == "post_rl"].set_index("pool")["n"]
    assert n["core"] == n["all"] > n["core/live"] == n["live"]  # the same runs, though their average is lower here


# ---- predictors: one list


def test_a_new_predictor_needs_one_line(tables, monkeypatch):
    results, predictors = tables
    new = Predictor(r"luck", -1, "luck", headline=True)
    monkeypatch.setattr("sftrl.tables.PREDICTORS", (*PREDICTORS, new))
    predictors = predictors.assign(luck=np.linspace(0, 1, len(predictors)))
    runs = runs_table(results, predictors)
    assert "luck" in predictor_names(runs)
    assert "luck" in headline(predictor_names(runs))
    assert (direction("luck"), label("luck")) == (-1, "luck")
    assert "luck" in set(regret(runs)["predictor"])


def test_predictors_have_direction_label_and_headline():
    assert [direction(n) for n in ("pass@8", "generalization_loss", "entropy", "average(entropy, pass@8)")] == [
        1,
        -1,
        0,
        1,
    ]
    assert direction("pass@1 + generalization_loss") == 0
    assert label("average(generalization_loss, pass@64)") == "average(loss, Pass@64)"
    assert label("extrapolated_pass@256") == "forecast Pass@256"
    assert label("random choice") == "random choice"
    assert headline(["pass@1", "pass@2", "pass@8", "entropy", "majority@8"]) == ["pass@1", "pass@8", "entropy"]
    assert headline(["pass@1", "pass@64", "pass@128"]) == ["pass@1", "pass@64"]


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
    none = noise_ceiling(runs_table(*study(8, seeds=1))).iloc[0]
    assert none["note"] == "noise ceiling unknown: no run has two RL seeds"
    assert none["repeated"] == 0
    results, predictors = study(8, seeds=2)
    few = results[(results["rl_seed"] != 1) | results["run"].isin(results["run"].unique()[:3])]
    row = noise_ceiling(runs_table(few, predictors)).iloc[0]
    assert row["note"] == "noise ceiling unknown: only 2 repeated RL seeds"
    assert row[["r2", "r2_low", "r2_high", "spearman"]].isna().all()
    assert row["seed_sd_low"] < row["seed_sd"] < row["seed_sd_high"]
    same = noise_ceiling(frame(post_rl=np.full(6, 0.3) + 1e-3 * np.arange(6), post_rl_sd=0.1, n_seeds=2)).iloc[0]
    assert same["r2"] == 0
    assert "nothing here can be predicted" in same["note"]


@pytest.mark.parametrize("sign", [1, -1])
def test_the_p_value_of_r2_has_two_sides(sign):
    rng = np.random.default_rng(5)
    x, groups = rng.normal(size=9), np.zeros(9, int)
    y = sign * x + rng.normal(size=9)
    orders = np.vstack([np.arange(9), permutations(groups, 400, np.random.default_rng(0))])
    seen = np.array([abs(np.corrcoef(x, y[order])[0, 1]) for order in orders])
    p = permutation_p(Sample(x[:, None], y, groups, None, []), 400, 0)["p_r2"]
    assert p == np.mean(seen >= seen[0] - 1e-9) < 0.2


def test_a_family_of_two_runs_takes_part_and_one_of_a_single_run_does_not():
    rows = frame(**{"pass@1": [0.1, 0.2, 0.3, 0.4, 0.5], "post_rl": [0.2, 0.4, 0.3, 0.5, 0.6]})
    sample = sample_of(rows.assign(family=["a", "a", "b", "b", "c"]), "pass@1", "post_rl")
    assert (sample.groups.tolist(), len(sample.left_out)) == ([0, 0, 1, 1], 1)


def test_ceiling_needs_three_runs():
    rows = frame(post_rl=[0.1, 0.5, 0.9], post_rl_sd=0.01, n_seeds=3)
    assert noise_ceiling(rows).iloc[0][["note", "run_sd"]].tolist() == ["", pytest.approx(0.4)]
    assert noise_ceiling(rows[:2]).iloc[0]["note"] == "noise ceiling unknown: only 2 runs"


def test_noise_of_seeds_and_of_draws_is_that_of_a_plain_loop():
    about = {"family": "f", "selection": "random", "examples": [10, 10, 20, 20, 20, 30], "epochs": 1}
    after = np.array([0.3, 0.5, 0.2, 0.3, 0.4, 0.9])
    seeds = {"post_rl_sd": [0.01, np.nan, 0.03, 0.02, np.nan, np.nan], "n_seeds": [2, 1, 3, 2, 1, 1]}
    runs = pd.DataFrame(about | seeds | {"data_seed": [0, 1, 0, 1, 2, 0], "post_rl": after})
    row = noise_ceiling(runs).iloc[0]
    free, noise = 4, (0.01**2 + 2 * 0.03**2 + 0.02**2) / 4
    assert row["repeated"] == free
    assert row["seed_sd"] == pytest.approx(np.sqrt(noise), abs=1e-7)
    low, high = np.sqrt(noise * free / stats.chi2.ppf([0.975, 0.025], free))
    assert (row["seed_sd_low"], row["seed_sd_high"]) == pytest.approx((low, high), abs=1e-7)
    assert row["draws"] == 3
    squares = np.var(after[:2]) * 2 + np.var(after[2:5]) * 3
    assert row["draw_sd"] == pytest.approx(np.sqrt(squares / 3), abs=1e-7)
    assert row["note"].endswith("draw noise hardly known: 3 repeated draws of the examples")


def test_ceiling_is_a_ratio_of_variances():
    rng = np.random.default_rng(0)
    runs = frame(post_rl=rng.uniform(0, 1, 9), post_rl_sd=0.1, n_seeds=2)
    row = noise_ceiling(runs).iloc[0]
    share = 0.01 / 2 / runs["post_rl"].var()
    f_low, f_high = stats.f.ppf([0.025, 0.975], 8, 9)
    expected = np.clip([1 - share, 1 - share * f_high, 1 - share * f_low], 0, 1)
    assert row[["r2", "r2_low", "r2_high"]].to_list() == pytest.approx(expected, abs=1e-7)
    assert row["spearman"] == pytest.approx(6 / np.pi * np.arcsin(np.sqrt(1 - share) / 2), abs=1e-7)


def test_draws_are_told_by_name_where_no_column_says_them(tables):
    results, predictors = tables
    two = results[results["run"] == results["run"].iloc[-1]].assign(run=lambda t: t["run"] + "-d1")
    twin = predictors[predictors["run"] == results["run"].iloc[-1]].assign(run=two["run"].iloc[0])
    runs = runs_table(pd.concat([results, two]), pd.concat([predictors, twin]))
    assert runs["data_seed"].tolist() == [0] * 12 + [1]
    assert noise_ceiling(runs)["draws"].iloc[0] == 1
    named = runs_table(results.assign(data_seed=7), predictors)
    assert set(named["data_seed"]) == {7}


def test_comparison_is_that_of_a_plain_loop():
    rng = np.random.default_rng(3)
    one, two, y = rng.standard_normal((3, 9))
    y = y + one
    row = compare(frame(**{"pass@1": one, "pass@8": two, "post_rl": y}), ["pass@8"], **QUICK).iloc[0]

    def gap(keep):
        z = [np.arctanh(stats.spearmanr(x[keep], y[keep]).statistic) for x in (two, one)]
        return z[0] - z[1]

    whole = gap(np.arange(9))
    less = np.array([gap(np.delete(np.arange(9), i)) for i in range(9)])
    error = np.sqrt(8 / 9 * ((less - less.mean()) ** 2).sum())
    reach = stats.t.ppf(0.975, 7) * error
    assert row["z_difference"] == pytest.approx(whole, abs=1e-7)
    assert (row["z_low"], row["z_high"]) == pytest.approx((whole - reach, whole + reach), abs=1e-7)
    assert row["p_value"] == pytest.approx(2 * stats.t.sf(abs(whole) / error, 7), abs=1e-7)


def test_regret_and_its_interval_are_those_of_a_plain_loop():
    rng = np.random.default_rng(4)
    y = rng.uniform(0.2, 0.6, 8)
    x = y + rng.normal(0, 0.1, 8)
    row = regret(frame(**{"pass@1": x, "post_rl": y}), ["pass@1"], candidates=3).iloc[1]

    def cost(keep):
        subsets = [list(s) for s in combinations(keep, 3)]
        return np.mean([y[s].max() - y[s][x[s].argmax()] for s in subsets])

    whole = cost(range(8))
    less = np.array([cost([j for j in range(8) if j != i]) for i in range(8)])
    reach = stats.t.ppf(0.975, 7) * np.sqrt(7 / 8 * ((less - less.mean()) ** 2).sum())
    assert row["regret"] == pytest.approx(whole, abs=1e-7)
    assert row["regret_low"] == pytest.approx(max(0, whole - reach), abs=1e-7)
    assert row["regret_high"] == pytest.approx(whole + reach, abs=1e-7)
    assert row["regret_of_all"] == pytest.approx(y.max() - y[x.argmax()], abs=1e-7)
    high = regret(frame(**{"pass@1": -y, "post_rl": y}), ["pass@1"], candidates=3).iloc[1]
    assert 0 < high["regret_low"] < high["regret"] < high["regret_high"]


def test_the_difference_of_regrets_has_the_jackknife_of_the_difference():
    rng = np.random.default_rng(5)
    y = rng.uniform(0.2, 0.6, 8)
    x = {"pass@1": y + rng.normal(0, 0.1, 8), "pass@8": y + rng.normal(0, 0.2, 8)}
    rows = regret(frame(**x, post_rl=y), list(x), candidates=3).set_index("predictor")

    def cost(name, keep):
        subsets = [list(s) for s in combinations(keep, 3)]
        return np.mean([y[s].max() - y[s][x[name][s].argmax()] for s in subsets])

    whole = cost("pass@8", range(8)) - cost("pass@1", range(8))
    kept = [[j for j in range(8) if j != i] for i in range(8)]
    less = np.array([cost("pass@8", keep) - cost("pass@1", keep) for keep in kept])
    reach = stats.t.ppf(0.975, 7) * np.sqrt(7 / 8 * ((less - less.mean()) ** 2).sum())
    assert rows.loc["pass@8", "difference"] == pytest.approx(whole, abs=1e-7)
    assert rows.loc["pass@8", "difference_low"] == pytest.approx(whole - reach, abs=1e-7)
    assert rows.loc["pass@8", "difference_high"] == pytest.approx(whole + reach, abs=1e-7)
    assert list(rows.loc["pass@1", ["difference", "difference_low", "difference_high"]]) == [0, 0, 0]


# ---- intervals


@settings(max_examples=30, deadline=None)
@given(st.integers(4, 12), st.integers(0, 10_000), st.sampled_from(["plain", "ties", "perfect"]))
@pytest.mark.parametrize("how", ["jackknife-normal", "normal-theory", "bootstrap"])
def test_an_interval_holds_its_estimate(how, n, seed, kind):
    rng = np.random.default_rng(seed)
    x, y = rng.integers(0, 4, (2, n)).astype(float) if kind == "ties" else rng.standard_normal((2, n))
    runs = frame(
        **{"pass@1": x, "generalization_loss": rng.standard_normal(n), "post_rl": x if kind == "perfect" else y}
    )
    judged = judge(runs, ["pass@1", "pass@1 + generalization_loss"], intervals=how, splits=2, resamples=30)
    for measure in ("r2", "pearson", "spearman", "kendall"):
        seen = judged[judged[f"{measure}_low"].notna()]
        assert (seen[f"{measure}_low"] <= seen[measure]).all()
        assert (seen[measure] <= seen[f"{measure}_high"]).all()
    priced = regret(runs, ["pass@1"])
    priced = priced[priced["regret"].notna()]
    assert (priced["regret_low"] <= priced["regret"]).all()
    assert (priced["regret"] <= priced["regret_high"]).all()


def test_normal_theory_is_the_textbooks():
    rng = np.random.default_rng(5)
    x = rng.standard_normal(12)
    y = x + rng.standard_normal(12)
    row = judge(frame(**{"pass@1": x, "post_rl": y}), ["pass@1"], intervals="normal-theory", **QUICK).iloc[0]
    fisher = stats.pearsonr(x, y).confidence_interval()
    assert (row["pearson_low"], row["pearson_high"]) == pytest.approx((fisher.low, fisher.high), abs=1e-7)
    q = stats.norm.ppf(0.975)
    for kind, value, error in (
        ("spearman", stats.spearmanr(x, y).statistic, lambda r: np.sqrt((1 + r**2 / 2) / (12 - 3))),
        ("kendall", stats.kendalltau(x, y).statistic, lambda r: np.sqrt(0.437 / (12 - 4))),
    ):
        z = np.arctanh(value)
        ends = np.tanh([z - q * error(value), z + q * error(value)])
        assert (row[f"{kind}_low"], row[f"{kind}_high"]) == pytest.approx(tuple(ends), abs=1e-7)


def test_jackknife_normal_is_what_it_says():
    rng = np.random.default_rng(6)
    x = rng.standard_normal(9)
    y = x + rng.standard_normal(9)
    row = judge(frame(**{"pass@1": x, "post_rl": y}), ["pass@1"], **QUICK).iloc[0]
    q, t = stats.norm.ppf(0.975), stats.t.ppf(0.975, 7)
    for kind, measure in (("pearson", stats.pearsonr), ("spearman", stats.spearmanr), ("kendall", stats.kendalltau)):
        z = np.arctanh([measure(*(np.delete(v, i) for v in (x, y))).statistic for i in range(9)])
        jackknife = t * np.sqrt(8 / 9 * ((z - z.mean()) ** 2).sum())
        r = measure(x, y).statistic
        normal = q * np.sqrt({"pearson": 1 / 6, "spearman": (1 + r**2 / 2) / 6, "kendall": 0.437 / 5}[kind])
        both = np.sqrt(0.15 * jackknife**2 + 0.85 * normal**2)
        reach = max(jackknife, 0.95 * normal) if kind == "pearson" else both
        ends = np.tanh([np.arctanh(r) - reach, np.arctanh(r) + reach])
        assert (row[f"{kind}_low"], row[f"{kind}_high"]) == pytest.approx(tuple(ends), abs=1e-7), kind


@pytest.mark.parametrize(("kind", "step"), [("spearman", 6 / (8 * 63)), ("kendall", 2 / (8 * 7)), ("pearson", 1e-6)])
def test_a_perfect_correlation_is_moved_half_a_step_inwards(kind, step):
    """The next possible rank correlation of 8 runs, below 1, is two such steps away."""
    assert np.tanh(fisher_z(kind, 1.0, 8)) == pytest.approx(1 - step)
    order = np.arange(8)
    swapped = order.copy()
    swapped[[0, 1]] = 1, 0
    next_value = {"spearman": stats.spearmanr, "kendall": stats.kendalltau, "pearson": None}[kind]
    if next_value:
        assert 1 - next_value(order, swapped).statistic == pytest.approx(2 * step)


def test_no_residue_reaches_a_table(runs):
    for table in (judge(runs, **QUICK), compare(runs, **QUICK), regret(runs), noise_ceiling(runs)):
        numbers = table.select_dtypes("float").to_numpy()
        numbers = numbers[np.isfinite(numbers)]
        assert (numbers == np.round(numbers, 8)).all()
        assert not (np.signbit(numbers) & (numbers == 0)).any()


# ---- analyse


def test_analyse_gives_every_table_for_every_pool(tables):
    found = analyse(*tables, names=["pass@1", "pass@64"], splits=20, judging=Judging(resamples=50))
    assert set(found) == {"runs", "judged", "compared", "regret", "ceiling", "order", "decision"}
    assert {"all", "dataset", "instance", "benchmark:chains"} <= set(found["judged"]["pool"])
    assert set(found["judged"]["target"]) == {"post_rl", "gain"}


# ---- many predictors at once: the best of them by chance, and whether their order holds


def test_max_t_is_that_of_a_plain_loop():
    random = np.random.default_rng(1)
    runs = frame(**{"pass@1": random.random(9), "pass@8": random.random(9), "entropy": random.random(9)})
    runs["post_rl"] = runs["pass@8"] + random.random(9)
    runs.loc[3, "entropy"] = np.nan
    everyone, columns = singles(runs, ["pass@1", "pass@8", "entropy", "pass@1 + entropy"], "post_rl")
    assert list(columns) == ["pass@1", "pass@8", "entropy"]
    found = max_t_p(everyone, columns, 300, 5)
    drawn = np.vstack([np.arange(9), permutations(everyone.groups, 300, np.random.default_rng(5))])
    y, strength = runs["post_rl"].to_numpy(), np.empty((3, 301))
    for row, name in enumerate(columns):
        whole = runs[name].notna().to_numpy()
        for column, order_of in enumerate(drawn):
            rho = stats.spearmanr(runs[name][whole], y[order_of][whole]).statistic
            strength[row, column] = abs(rho) * np.sqrt(whole.sum() - 1)
    best = strength.max(axis=0)
    for row, name in enumerate(columns):
        assert found[name] == pytest.approx(np.mean(best >= strength[row, 0] - 1e-9))
    judged = judge(runs, ["pass@1", "pass@8", "entropy", "pass@1 + entropy"], resamples=300, seed=5, splits=5)
    assert judged["p_max_t"].tolist()[:3] == pytest.approx(list(found.values()), abs=1e-8)
    assert np.isnan(judged["p_max_t"].iloc[3])  # a regression's fit over the runs at hand is none of them
    alone = judge(runs, ["pass@8"], resamples=300, seed=5, splits=5).iloc[0]
    assert alone["p_max_t"] == alone["p_spearman"] <= found["pass@8"]


def test_max_t_keeps_its_level_where_many_predictors_say_nothing():
    random = np.random.default_rng(2)
    low = {"one": 0, "all": 0}
    for seed in range(200):
        runs = frame(**{f"pass@{2**k}": random.random(10) for k in range(10)}, post_rl=random.random(10))
        everyone, columns = singles(runs, predictor_names(runs), "post_rl")
        assert len(columns) == 10
        low["all"] += min(max_t_p(everyone, columns, 199, seed).values()) <= 0.05
        low["one"] += max_t_p(everyone, {"pass@1": columns["pass@1"]}, 199, seed)["pass@1"] <= 0.05
    assert low["all"] <= 20  # of 200, at a level of 5 %: more than 20 come up once in 3,000 times
    assert 1 <= low["one"] <= 20


def test_families_are_relabelled_and_ranked_within():
    random = np.random.default_rng(4)
    runs = frame(**{"pass@1": random.random(12), "post_rl": random.random(12)}).assign(family=["a"] * 5 + ["b"] * 7)
    runs.loc[5:, ["pass@1", "post_rl"]] += 10  # a difference between families is no predictor's
    row = judge(runs, ["pass@1"], resamples=500, splits=5).iloc[0]
    assert row["p_max_t"] == row["p_spearman"] > 0.01


def test_the_order_and_how_far_it_moves():
    ranks = np.arange(8.0)
    runs = frame(**{"pass@1": ranks, "pass@8": ranks[[1, 0, 2, 3, 4, 5, 6, 7]], "generalization_loss": -ranks})
    runs["entropy"] = -ranks[[7, 1, 2, 3, 4, 5, 6, 0]]
    runs["post_rl"] = ranks[[1, 0, 2, 3, 4, 5, 6, 7]]
    other = runs.assign(post_rl=ranks)  # without one benchmark, the result is in another order
    table = order(runs, [runs, other], pool="p").set_index("predictor")
    assert next(iter(table.index)) == "pass@8"
    assert set(table.index) == {"pass@1", "pass@8", "generalization_loss", "entropy"}
    rho = {name: stats.spearmanr(runs[name], runs["post_rl"]).statistic for name in table.index}
    assert table.loc["pass@1", "strength"] == pytest.approx(rho["pass@1"])
    assert table.loc["generalization_loss", "strength"] == pytest.approx(-rho["generalization_loss"])
    assert table.loc["entropy", "strength"] == pytest.approx(abs(rho["entropy"]))  # no direction known beforehand
    assert table["place"].to_dict() == {"pass@8": 1, "pass@1": 2, "generalization_loss": 2, "entropy": 4}
    less = [stats.spearmanr(runs["pass@1"].drop(i), runs["post_rl"].drop(i)).statistic for i in range(8)]
    assert table.loc["pass@1", "strength_without_run_low"] == pytest.approx(min(less))
    assert table.loc["pass@1", "strength_without_run_high"] == pytest.approx(max(less)) == pytest.approx(1)
    assert table.loc["pass@1", ["place_without_run_low", "place_without_run_high"]].tolist() == [1, 2]
    assert table.loc["pass@1", ["place_without_benchmark_low", "place_without_benchmark_high"]].tolist() == [1, 2]
    assert table.loc["pass@8", ["place_without_benchmark_low", "place_without_benchmark_high"]].tolist() == [1, 3]
    assert table.loc["pass@8", "strength_without_benchmark_high"] == 1
    assert set(table["benchmarks"]) == {2}
    assert order(runs, [])["place_without_benchmark_low"].isna().all()
    assert order(runs.assign(post_rl=1.0), []).empty


def test_the_order_of_a_study_leaves_out_each_benchmark_of_the_average(tables):
    assert benchmarks_of(tables[0]) == ["chains", "equations"]
    assert benchmarks_of(tables[0], ("equations",)) == ["chains"]
    how = {"names": ["pass@1", "pass@64"], "splits": 5, "judging": Judging(resamples=50, live=0.2)}
    found = analyse(*tables, **how)["order"]
    assert set(found["pool"]) == {"all", "live"}
    assert set(found["benchmarks"]) == {2}
    assert set(analyse(*tables, left_out_of_average=("equations",), **how)["order"]["benchmarks"]) == {0}


# ---- what measuring a predictor cost


def test_tokens_beside_regret(tables):
    results, predictors = tables[0].assign(sampled_tokens=1000.0), tables[1].assign(held_out_tokens=50)
    rl = results[(results["phase"] == "post_sft") & (results["benchmark"] == "chains")].assign(benchmark="rl")
    results = pd.concat([results, rl.assign(sampled_tokens=300.0)], ignore_index=True)
    runs = runs_table(results, predictors)
    tokens = regret(runs).set_index("predictor")["tokens"]
    assert tokens["random choice"] == tokens["epochs"] == 0
    assert tokens["pass@1"] == tokens["pass@64"] == 1000  # the same samples, paid once
    assert tokens["pass@1_rl"] == 300
    assert tokens["generalization_loss"] == tokens["entropy"] == 50
    assert tokens["pass@1 + generalization_loss"] == 1050
    assert tokens["average(generalization_loss, pass@64)"] == 1050
    untold = regret(runs_table(*tables)).set_index("predictor")["tokens"]
    assert set(untold.dropna().index) == {"random choice", "sft_tokens", "epochs", "examples"}
    assert (untold.dropna() == 0).all()


def test_a_combination_needs_its_columns_and_no_more():
    both = frame(**{"pass@1": [0.1, 0.2], "generalization_loss": [1.0, 2.0]})
    assert predictor_names(both) == ["pass@1", "generalization_loss", "pass@1 + generalization_loss"]
    assert predictor_names(both[["family", "run", "pass@1"]]) == ["pass@1"]


def test_resamples_that_tie_with_the_estimate_count_half_in_the_bootstraps_bias():
    drawn = np.array([0.2, 0.3, 0.4, 0.5, 0.5, 0.5, 0.5, 0.6, 0.7, 0.8])  # three below, four ties, three above: no bias
    found = bootstrap_interval(0.5, drawn, np.array([0.4, 0.5, 0.6]), level=0.5)
    assert found == pytest.approx(tuple(np.quantile(drawn, [0.25, 0.75])))


def test_the_ceilings_note_counts_one_and_more():
    runs = frame(post_rl=[0.1, 0.3, 0.5, 0.4, 0.2], post_rl_sd=[0.01, 0.02, 0, 0, 0], n_seeds=[2, 1, 1, 1, 1])
    assert noise_ceiling(runs)["note"][0] == "noise ceiling unknown: only 1 repeated RL seed"
    assert noise_ceiling(runs.assign(n_seeds=[2, 2, 1, 1, 1]))["note"][0].endswith("only 2 repeated RL seeds")
