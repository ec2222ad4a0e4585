"""Decisions: closed forms for what draws estimate, refits for what algebra shortens, and what no shortlist may do."""

import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from simulated import study

from sftrl.errors import InputError
from sftrl.predict import advice, answer, decide, replay, runs_table
from sftrl.predict.comparison import expected_regret
from sftrl.predict.decide import metrics_of
from sftrl.predict.forecast import left_out_density, replayed_regret
from sftrl.predict.ranking import differences, with_the_alike


@pytest.fixture(scope="module")
def runs():
    return runs_table(*study(12))


def frame(**columns) -> pd.DataFrame:
    """A runs frame of one family with the columns given; names with @ come in a dict."""
    size = len(next(iter(columns.values())))
    return pd.DataFrame({"family": "f", "run": [f"r{i}" for i in range(size)]} | columns)


def overall(decision: pd.DataFrame) -> pd.DataFrame:
    """The rows to go by, by run."""
    return decision[decision["predictor"] == decision["predictor"].iloc[-1]].set_index("run")


# ---- a ranking only


def test_without_calibration_both_favourites_are_taken():
    candidates = frame(**{"pass@64": [0.6, 0.9, 0.7], "generalization_loss": [0.2, 0.5, 0.4]})
    decision = decide(candidates)
    first = decision[decision["rank"] == 1].set_index("predictor")["run"]
    assert (first["pass@64"], first["generalization_loss"]) == ("r1", "r0")
    assert decision[["p_best", "predicted"]].isna().all(axis=None)
    assert {"r0", "r1"} <= set(overall(decision).query("shortlist").index)
    assert advice(decision).startswith("Take r")
    assert "too few runs have been through RL" in advice(decision)
    assert "Ranked by Pass@64, loss." in advice(decision)


def test_difference_of_measured_metrics_is_movers():
    runs = frame(**{"pass@1": [0.5, 0.4], "pass@1_low": [0.4, 0.35], "pass@1_high": [0.55, 0.48]})
    row = decide(runs, predictors=("pass@1",)).set_index("run").loc["r1"]
    assert row["behind"] == pytest.approx(0.1)
    assert row["behind_low"] == pytest.approx(0.1 - np.hypot(0.1, 0.08))
    assert row["behind_high"] == pytest.approx(0.1 + np.hypot(0.05, 0.05))
    assert not row["apart"]
    assert row["shortlist"]
    loss = {"generalization_loss": [0.5, 0.4], "generalization_loss_low": [0.4, 0.35]}
    loss |= {"generalization_loss_high": [0.55, 0.48]}
    row = decide(frame(**loss), predictors=("generalization_loss",)).set_index("run").loc["r0"]
    assert row["behind"] == pytest.approx(0.1)  # r1 leads: its loss is lower
    assert row["behind_low"] == pytest.approx(0.1 - np.hypot(0.08, 0.1))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(0.05, 0.95), min_size=2, max_size=8), st.floats(0, 0.2), st.floats(0.3, 0.99), st.integers(0, 9)
)
def test_no_shortlist_drops_one_that_cannot_be_told_from_one_it_keeps(values, width, confidence, seed):
    value = np.array(values)
    candidates = frame(**{"pass@16": value, "pass@16_low": value - width, "pass@16_high": value + width})
    rng = np.random.default_rng(seed)
    known = frame(**{"pass@16": rng.uniform(0.1, 0.9, 6)})
    known["post_rl"] = 0.5 * known["pass@16"] + rng.normal(0, 0.05, 6)
    alike = differences(candidates, "pass@16").alike
    for calibration in (None, known):
        decision = overall(
            decide(candidates, calibration, predictors=("pass@16",), confidence=confidence, draws=200)
        ).loc[candidates["run"]]
        kept = decision["shortlist"].to_numpy()
        assert kept.any()
        assert not (alike & kept[:, None] & ~kept).any()


def test_a_shortlist_follows_chains_of_the_alike_and_no_further():
    alike = np.array([[1, 1, 0, 0], [1, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 1]], bool)
    assert with_the_alike(np.array([True, False, False, False]), alike).tolist() == [True, True, True, False]


def test_runs_whose_intervals_of_the_difference_leave_out_0_are_apart():
    value = np.array([0.2, 0.9])
    candidates = frame(**{"pass@16": value, "pass@16_low": value - 0.1, "pass@16_high": value + 0.1})
    assert differences(candidates, "pass@16").alike.tolist() == [[True, False], [False, True]]


# ---- an assumed correlation


def test_assumed_correlation_gives_chances_and_regret_in_closed_form():
    candidates = frame(**{"pass@64": [0.6, 0.9]})
    for correlation in (0.2, 0.5, 0.9):
        table = decide(candidates, predictors=("pass@64",), correlation=correlation, draws=200_000).set_index("run")
        lead = correlation * np.sqrt(2)  # of two standardised scores, which are apart by that much
        spread = np.sqrt(2 * (1 - correlation**2))
        assert table.loc["r1", "p_best"] == pytest.approx(stats.norm.cdf(lead / spread), abs=0.005)
        # E max(0, other - this), the other's lead being normal
        for run, behind in (("r1", -lead), ("r0", lead)):
            lost = spread * stats.norm.pdf(behind / spread) + behind * stats.norm.cdf(behind / spread)
            assert table.loc[run, "expected_regret"] == pytest.approx(lost, abs=0.01)
        assert table["behind"].to_dict() == pytest.approx({"r0": lead, "r1": 0})
        ends = lead + spread * stats.norm.ppf([0.025, 0.975])
        assert table.loc["r0", ["behind_low", "behind_high"]].to_list() == pytest.approx(ends, abs=0.03)


# ---- calibration runs


def test_left_out_density_is_that_of_a_refit():
    rng = np.random.default_rng(2)
    for features in (0, 1, 2):
        x = rng.standard_normal((8, features))
        y = x.sum(axis=1) + rng.standard_normal(8)
        expected = []
        for i in range(8):
            design = np.column_stack([np.ones(7), np.delete(x, i, axis=0)])
            slopes, squares, *_ = np.linalg.lstsq(design, np.delete(y, i), rcond=None)
            free = 7 - design.shape[1]
            at = np.append(1, x[i])
            scale = np.sqrt(squares[0] / free * (1 + at @ np.linalg.inv(design.T @ design) @ at))
            expected.append(stats.t.logpdf(y[i], free, loc=at @ slopes, scale=scale))
        assert left_out_density(x, y) == pytest.approx(np.array(expected))


def test_prediction_is_the_lines_with_its_t_interval():
    rng = np.random.default_rng(1)
    known = frame(**{"pass@1": rng.uniform(0.2, 0.8, 9)})
    known["post_rl"] = 0.2 + 0.5 * known["pass@1"] + rng.normal(0, 0.03, 9)
    candidates = frame(**{"pass@1": [0.3, 0.55]})
    table = decide(candidates, known, predictors=("pass@1",), draws=200_000)
    table = table[table["predictor"] == "pass@1"].set_index("run").loc[["r0", "r1"]]
    fit = stats.linregress(known["pass@1"], known["post_rl"])
    x = candidates["pass@1"].to_numpy()
    assert table["predicted"].to_numpy() == pytest.approx(fit.intercept + fit.slope * x, abs=1e-7)
    residual = known["post_rl"] - fit.intercept - fit.slope * known["pass@1"]
    around = (x - known["pass@1"].mean()) ** 2 / ((known["pass@1"] - known["pass@1"].mean()) ** 2).sum()
    reach = stats.t.ppf(0.975, 7) * np.sqrt((residual**2).sum() / 7 * (1 + 1 / 9 + around))
    assert (table["high"] - table["predicted"]).to_numpy() == pytest.approx(reach, rel=0.03)
    assert (table["predicted"] - table["low"]).to_numpy() == pytest.approx(reach, rel=0.03)


def test_the_metric_that_predicts_the_calibration_runs_decides(runs):
    """Pass@64 tells the result in these studies, and Pass@1 does not."""
    decision = decide(runs[8:], runs[:8], predictors=("pass@1", "pass@64"))
    weight = decision.groupby("predictor")["weight"].first()
    assert weight.drop("combined").sum() == pytest.approx(1)
    assert weight["pass@64"] == weight.drop("combined").max()
    assert decision.groupby("predictor")["p_best"].sum().to_numpy() == pytest.approx(1)
    table = overall(decision)
    assert ((table["low"] < table["predicted"]) & (table["predicted"] < table["high"])).all()
    assert table.index[0] == runs[8:].set_index("run")["post_rl"].idxmax()
    assert table.loc[table["shortlist"], "p_best"].sum() >= 0.9
    told = advice(decision)
    assert re.match(
        rf"Take {table.index[0]} \(llama\) to RL: \d+% chance to be best, expected regret \d\.\d points\. ", told
    )
    assert "The prediction weighs Pass@64" in told


def test_where_nothing_tells_the_mean_wins_and_advice_says_so():
    rng = np.random.default_rng(0)
    known = frame(**{"pass@1": rng.uniform(0, 1, 14), "post_rl": rng.uniform(0.4, 0.5, 14)})
    known["post_rl"] = known["post_rl"].to_numpy()[np.argsort(np.abs(known["pass@1"] - known["pass@1"].mean()))]
    decision = decide(frame(**{"pass@1": [0.2, 0.5, 0.8]}), known)
    weight = decision.groupby("predictor")["weight"].first()
    if weight["no metric"] > 0.5:
        assert "No metric predicts better than the mean" in advice(decision)
    table = overall(decision)
    assert not table["apart"].any()
    assert table["shortlist"].all()


def test_the_combined_chance_is_the_weighted_mean_of_the_metrics(runs):
    decision = decide(runs[8:], runs[:8], draws=50_000)
    parts = decision[decision["predictor"] != "combined"]
    mixed = parts.assign(part=parts["weight"] * parts["p_best"]).groupby("run")["part"].sum()
    assert overall(decision)["p_best"].loc[mixed.index].to_numpy() == pytest.approx(mixed.to_numpy(), abs=0.01)


def test_four_samples_for_each_draw():
    candidates = frame(**{f"pass@{2**i}": [0.1, 0.2] for i in range(8)}, samples=[64, 64])
    assert metrics_of(candidates) == ("pass@1", "pass@16")
    assert metrics_of(candidates.assign(samples=128)) == ("pass@1", "pass@16", "pass@32")
    assert metrics_of(candidates.assign(samples=2)) == ("pass@1",)
    assert "pass@128" in metrics_of(candidates.drop(columns="samples"))
    with pytest.raises(InputError, match="no metric is measured"):
        metrics_of(candidates[["family", "run"]])


# ---- replay and answer


def test_replay_predicts_each_run_from_the_others(runs):
    metrics = ("pass@1", "pass@64")
    replayed = overall(replay(runs, predictors=metrics))
    assert (replayed["post_rl"] == runs.set_index("run").loc[replayed.index, "post_rl"]).all()
    last = runs.iloc[[11]].drop(columns="post_rl")
    alone = decide(pd.concat([last, last.assign(run="twin")]), runs.iloc[:11], predictors=metrics)
    one, two = (t[t["predictor"] == "pass@64"].set_index("run") for t in (alone, replay(runs, predictors=metrics)))
    assert two.loc[last["run"].iloc[0], "predicted"] == pytest.approx(
        one.loc[last["run"].iloc[0], "predicted"], abs=1e-7
    )
    assert np.corrcoef(replayed["predicted"], replayed["post_rl"])[0, 1] > 0.9
    told = advice(replay(runs))
    assert told.startswith("All 12 runs (llama) have been through RL; ")
    assert "Choosing among 5 by what the others taught costs " in told
    assert replayed["post_rl"].is_monotonic_decreasing
    assert not {"rank", "p_best", "apart"} & set(replayed)  # runs predicted one by one cannot be compared
    with pytest.raises(InputError, match="4 runs of 'llama' have been through RL; it needs 5"):
        replay(runs[:4])


def test_a_replayed_choice_is_priced_on_runs_that_taught_nothing_of_it():
    """Where no metric tells, it costs what chance does: to predict each run from all others ranks the best one last."""
    rng = np.random.default_rng(0)
    told, chance, one_by_one = [], [], []
    for _ in range(30):
        y, metric = rng.normal(0.5, 0.05, 12), rng.normal(size=(12, 1))
        told.append(replayed_regret({"pass@1": metric}, y, 5, 40, rng))
        chance.append(expected_regret(np.zeros(12), y, 5))
        one_by_one.append(expected_regret(-y, y, 5))  # the mean of the others falls with y
    assert np.mean(told) == pytest.approx(np.mean(chance), rel=0.15)
    assert np.mean(one_by_one) > 1.5 * np.mean(chance)


def test_a_metric_that_tells_all_costs_nothing_and_few_runs_have_no_price():
    y, rng = np.linspace(0.2, 0.8, 12), np.random.default_rng(0)
    exact = y[:, None] + 1e-6 * rng.normal(size=(12, 1))
    assert replayed_regret({"pass@1": exact}, y, 5, 50, rng) == 0
    assert replayed_regret({"pass@1": exact[:6]}, y[:6], 2, 50, rng) == 0
    assert np.isnan(replayed_regret({"pass@1": exact[:5]}, y[:5], 1, 50, rng))  # a single candidate
    assert np.isnan(
        replayed_regret({"epochs + examples": np.hstack([exact, exact**2])[:6]}, y[:6], 2, 50, rng)
    )  # two slopes, four runs
    assert np.isnan(replayed_regret({"pass@1": np.ones((12, 1))}, y, 5, 5, rng))  # it never varies


def test_a_line_against_what_its_metric_means_is_taken_as_flat(runs):
    """Fitted to results that fall with Pass@1, it predicts their mean; a metric of unknown direction may slope."""
    known = runs[:8].assign(**{"post_rl": 0.9 - runs["pass@1"][:8], "epochs": 10 * runs["pass@1"]})
    rows = decide(runs[8:].assign(epochs=3.0), known, predictors=("pass@1", "epochs")).set_index(["predictor", "run"])
    assert rows.loc["pass@1", "predicted"].tolist() == pytest.approx([known["post_rl"].mean()] * 4, abs=1e-7)
    assert rows.loc["pass@1", "predicted"].tolist() == rows.loc["no metric", "predicted"].tolist()
    assert rows.loc["epochs", "predicted"].iloc[0] == pytest.approx(0.6, abs=1e-6)
    y, rng = np.linspace(0.2, 0.8, 12), np.random.default_rng(0)
    chance = expected_regret(np.zeros(12), y, 5)
    assert replayed_regret({"pass@1": -y[:, None]}, y, 5, 400, rng) == pytest.approx(chance, rel=0.05)
    assert replayed_regret({"generalization_loss": -y[:, None]}, y, 5, 50, rng) == 0


def test_answer_decides_where_some_runs_wait_and_replays_where_none_does(runs):
    half = runs.assign(post_rl=runs["post_rl"].where(runs.index < 6))
    assert set(overall(answer(half)).index) == set(runs["run"][6:])
    assert "leave-one-out error on 6 other runs" in advice(answer(half))
    few = runs.assign(post_rl=runs["post_rl"].where(runs.index < 3))
    assert "too few runs" in advice(answer(few))
    assert "each predicted from all others" in advice(answer(runs))
    assert answer(runs[:3]).empty
    both = pd.concat([half, runs.assign(family="qwen")])
    told = advice(answer(both))
    assert "(llama) to RL" in told
    assert "(qwen) have been through RL" in told


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"candidates": frame(**{"pass@64": [0.5]})}, "nothing to decide"),
        ({"predictors": ("entropy",)}, "which way 'entropy' points"),
        ({"correlation": 1.5}, "not between 0 and 1"),
        ({"calibration": frame(**{"pass@64": [0.1, 0.2, 0.3], "post_rl": [0.1, 0.2, 0.3]})}, "at least 4"),
        ({"calibration": frame(**{"pass@64": [0.1], "post_rl": [0.1]}).assign(family="g")}, "family 'f'"),
        ({"candidates": frame(**{"pass@64": [0.5, np.nan]})}, "missing for f r1"),
        ({"candidates": frame(**{"pass@64": [0.5, 0.6]}).assign(family=["f", "g"])}, "one family at a time"),
    ],
)
def test_decisions_that_cannot_be_made_are_refused(change, words):
    how = {"candidates": frame(**{"pass@64": [0.5, 0.6], "entropy": [0.1, 0.2]}), "predictors": ("pass@64",)} | change
    with pytest.raises(InputError, match=words):
        decide(how.pop("candidates"), how.pop("calibration", None), **how)


def test_a_line_needs_four_calibration_runs():
    known = frame(**{"pass@16": [0.1, 0.4, 0.5, 0.8], "post_rl": [0.2, 0.5, 0.4, 0.9]})
    candidates = frame(**{"pass@16": [0.3, 0.6]})
    assert overall(decide(candidates, known, predictors=("pass@16",)))["predicted"].notna().all()
    with pytest.raises(InputError, match="pass@16 and post_rl: 3; at least 4 are needed"):
        decide(candidates, known[:3], predictors=("pass@16",))


def test_a_run_that_alone_decides_a_slope_has_a_finite_density():
    known, y = np.array([[0.0], [0.0], [0.0], [0.0], [1.0]]), np.array([0.1, 0.3, 0.2, 0.4, 0.9])
    assert np.isfinite(left_out_density(known, y)).all()
