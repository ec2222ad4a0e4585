"""Scores are the exact Pass@k of the counts, and the average is the unweighted mean of its benchmarks."""

import pandas as pd
import pytest

from sftrl.errors import InputError
from sftrl.generations import Summary
from sftrl.passk import (
    average_intervals,
    extrapolate_pass_at_k,
    majority_at_k,
    pass_at_k,
    pass_at_k_interval,
    signal_share,
)
from sftrl.stages.scores import powers_of_two, score_table


def summary(counts: dict[str, list[tuple[int, int]]]) -> Summary:
    problems, answers, solutions = [], [], []
    for benchmark, pairs in counts.items():
        for i, (n, c) in enumerate(pairs):
            name = {"benchmark": benchmark, "problem_id": f"{benchmark}-{i}"}
            problems.append(name | {"n": n, "c": c, "mean_tokens": 10.0 + i})
            solutions += [name | {"count": part} for part in (c // 2, c - c // 2) if part]  # two texts, half of c each
            answers += [name | {"answer": "1", "correct": True, "count": c}] if c else []
    problems = pd.DataFrame(problems)
    benchmarks = pd.DataFrame({"benchmark": list(counts)})
    for i, rate in enumerate(("truncated", "unparseable", "empty", "mean_tokens")):
        benchmarks[rate] = [0.1 * i + j for j in range(len(counts))]
    columns = ["benchmark", "problem_id", "answer", "correct", "count"]
    solutions = pd.DataFrame(solutions, columns=["benchmark", "problem_id", "count"])
    return Summary(benchmarks, problems, pd.DataFrame(answers, columns=columns), solutions, "v")


COUNTS = {"easy": [(8, 8), (8, 6), (8, 7)], "hard": [(8, 0), (8, 1), (8, 0)], "choice": [(8, 2), (8, 3), (8, 1)]}


def test_rows_are_pass_at_k_of_each_benchmark_and_their_mean():
    table = score_table(summary(COUNTS), k=[1, 2, 8], group_size=8).set_index("benchmark")
    for name, pairs in COUNTS.items():
        n, c = zip(*pairs, strict=True)
        for k in (1, 2, 8):
            assert table.loc[name, f"pass@{k}"] == pytest.approx(pass_at_k(n, c, k).mean())
            low, high = table.loc[name, f"pass@{k}_low"], table.loc[name, f"pass@{k}_high"]
            assert low <= table.loc[name, f"pass@{k}"] <= high
    names = list(COUNTS)
    for column in ("pass@1", "pass@8", "truncated", "mean_tokens", "signal_share"):
        assert table.loc["average", column] == pytest.approx(table.loc[names, column].mean())
    assert (table.loc["average", "problems"], table.loc["average", "samples"]) == (9, 8)


def test_a_benchmark_left_out_keeps_its_row_but_not_its_part():
    table = score_table(summary(COUNTS), k=[1], group_size=8, left_out_of_average=["choice"]).set_index("benchmark")
    assert "choice" in table.index
    assert table.loc["average", "pass@1"] == pytest.approx(table.loc[["easy", "hard"], "pass@1"].mean())
    assert table.loc["average", "problems"] == 6


def test_samples_are_the_smallest_of_a_benchmark():
    table = score_table(summary({"a": [(8, 1), (4, 1)]}), k=[1, 4], group_size=8)
    assert table.loc[0, "samples"] == 4
    with pytest.raises(InputError, match="k = 8"):
        score_table(summary({"a": [(8, 1), (4, 1)]}), k=[8], group_size=8)


def test_a_single_problem_has_an_interval_over_its_samples():
    table = score_table(summary({"a": [(8, 4)], "b": [(8, 2), (8, 6)]}), k=[1], group_size=8)
    assert (table["pass@1_low"] < table["pass@1"]).all()
    assert (table["pass@1"] < table["pass@1_high"]).all()


def test_leaving_out_what_is_not_there_or_all():
    with pytest.raises(InputError, match="'mcq' is not one of"):
        score_table(summary(COUNTS), k=[1], group_size=8, left_out_of_average=["mcq"])
    with pytest.raises(InputError, match="no benchmark is left"):
        score_table(summary(COUNTS), k=[1], group_size=8, left_out_of_average=list(COUNTS))


@pytest.mark.parametrize(("n", "ks"), [(1, [1]), (4, [1, 2, 4]), (6, [1, 2, 4]), (64, [1, 2, 4, 8, 16, 32, 64])])
def test_powers_of_two(n, ks):
    assert powers_of_two(n) == ks


def test_a_forecast_beyond_the_samples_stands_beside_the_scores():
    table = score_table(summary(COUNTS), k=[1, 8], group_size=8, left_out_of_average=["choice"]).set_index("benchmark")
    for name, pairs in COUNTS.items():
        n, c = zip(*pairs, strict=True)
        forecast = extrapolate_pass_at_k(n, c, 32)
        row = table.loc[name]
        assert row["extrapolated_pass@32"] == forecast.estimate
        assert (row["extrapolated_pass@32_low"], row["extrapolated_pass@32_high"]) == (forecast.low, forecast.high)
        assert row["extrapolated_pass@32"] >= row["pass@8"]
    known = [extrapolate_pass_at_k(*zip(*COUNTS[name], strict=True), 32) for name in ("easy", "hard")]
    mean, row = average_intervals(known), table.loc["average"]
    assert row["extrapolated_pass@32"] == pytest.approx(float(mean.estimate))
    assert row["extrapolated_pass@32_low"] == pytest.approx(float(mean.low))
    assert row["extrapolated_pass@32_high"] == pytest.approx(float(mean.high))
    assert [name for name in table if name.startswith("extrapolated") and "_pass@32" not in name] == []


def test_the_averages_interval_is_that_of_the_mean():
    table = score_table(summary(COUNTS), k=[1, 8], group_size=8).set_index("benchmark")
    mean = average_intervals([pass_at_k_interval(*zip(*pairs, strict=True), [1, 8]) for pairs in COUNTS.values()])
    for i, k in enumerate((1, 8)):
        assert table.loc["average", f"pass@{k}_low"] == pytest.approx(mean.low[i])
        assert table.loc["average", f"pass@{k}_high"] == pytest.approx(mean.high[i])


def test_what_the_samples_cost_is_summed_over_the_averages_benchmarks():
    table = score_table(summary(COUNTS), k=[1], group_size=8, left_out_of_average=["choice"]).set_index("benchmark")
    assert table["sampled_tokens"].to_dict() == {"easy": 264, "hard": 264, "choice": 264, "average": 528}


@pytest.mark.parametrize(("group_size", "share"), [(8, 0.75), (2, 0.5), (16, 1.0)])
def test_problems_whose_groups_more_likely_than_not_hold_a_right_rollout(group_size, share):
    counts = [(16, 16), (16, 5), (16, 2), (16, 1)]  # p* is .083 for 8 rollouts, .293 for 2, .042 for 16
    table = score_table(summary({"a": counts}), k=[1], group_size=group_size).set_index("benchmark")
    assert table.loc["a", "reachable_share"] == share
    for n, c in counts:
        assert (1 - (1 - c / n) ** group_size > 0.5) == (c / n > 1 - 2 ** (-1 / group_size))
    few = score_table(summary({"a": [(4, 1), (4, 0)]}), k=[1], group_size=8).set_index("benchmark")
    assert few.loc["a", "signal_share"] == signal_share([4, 4], [1, 0], 4)  # no group is larger than the samples
    assert few.loc["a", "reachable_share"] == 0.5


def test_distinct_solutions_are_rarefied_to_sixteen_samples():
    row = score_table(summary({"a": [(16, 5), (16, 0), (16, 1)]}), k=[1], group_size=8).iloc[0]
    assert row["distinct_correct"] == pytest.approx((2 + 0 + 1) / 3)
    row = score_table(summary({"a": [(32, 10), (32, 0)]}), k=[1], group_size=8).iloc[0]
    assert row["distinct_correct"] == pytest.approx((2 * pass_at_k(32, [5], 16)[0] + 0) / 2)
    assert score_table(summary({"a": [(16, 0)] * 2}), k=[1], group_size=8).iloc[0]["distinct_correct"] == 0
    several = score_table(summary({"a": [(16, 5)] * 2, "b": [(15, 5)] * 2}), k=[1], group_size=8)
    assert several["distinct_correct"].isna().tolist() == [False, True, True]  # the average is of all, or empty


def test_variances_of_rewards_and_of_success_rates():
    n, c = [8, 8, 8], [8, 6, 1]
    row = score_table(summary({"a": list(zip(n, c, strict=True))}), k=[1, 2], group_size=8).iloc[0]
    assert row["reward_variance"] == pytest.approx(row["pass@2"] - row["pass@1"])
    pairs = [c[i] * c[j] / 64 for i in range(3) for j in range(3) if i != j]
    assert row["success_variance"] == pytest.approx(2 * row["pass@1"] - row["pass@2"] - sum(pairs) / 6)
    one = score_table(summary({"a": [(8, 4)]}), k=[1], group_size=8).iloc[0]
    assert one["reward_variance"] == pytest.approx(2 / 7)
    assert pd.isna(one["success_variance"])


def test_votes_are_those_of_the_benchmarks_own_answers():
    table = score_table(summary(COUNTS), k=[1, 4], group_size=8).set_index("benchmark")
    for name, pairs in COUNTS.items():
        counts = [[c] if c else [] for _, c in pairs]  # the summary's only answer is the right one
        votes = majority_at_k(counts, [[True] * len(one) for one in counts], [1, 4], n=[n for n, _ in pairs])
        assert table.loc[name, ["majority@1", "majority@4"]].tolist() == pytest.approx(votes.mean(axis=0))


def test_two_problems_are_enough_for_an_interval_over_both():
    table = score_table(summary({"a": [(8, 4), (8, 1)]}), k=[1], group_size=8)
    both = pass_at_k_interval([8, 8], [4, 1], [1], over="both")
    assert table.loc[0, ["pass@1_low", "pass@1_high"]].tolist() == pytest.approx([both.low[0], both.high[0]])


def test_benchmarks_and_problems_with_unlike_numbers_of_samples():
    table = score_table(summary({"a": [(8, 1)] * 2, "b": [(4, 1)] * 2}), k=[1, 4], group_size=4).set_index("benchmark")
    assert table["samples"].to_dict() == {"a": 8, "b": 4, "average": 4}
    table = score_table(summary({"a": [(16, 5), (15, 5)]}), k=[1], group_size=8)
    assert table["distinct_correct"].isna().all()  # one problem has fewer than sixteen
