"""A decision in words, from tables made by hand: every sentence, and each bound at which it becomes another."""

import pandas as pd
import pytest

from sftrl.predict import advice

COMPARED = ["p_best", "expected_regret", "apart"]


def decision(
    apart: list[bool],
    weights: dict[str, float] | None = None,
    *,
    calibration: int = 6,
    p_best: float = 0.51,
) -> pd.DataFrame:
    """Rows as `decide` gives them: the same order of the runs by each metric, the combined one last."""
    n = len(apart)
    rows = []
    for name, weight in {
        **({"pass@1": 0.6, "no metric": 0.4} if weights is None else weights),
        "combined": 1.0,
    }.items():
        for i in range(n):
            row = {"predictor": name, "weight": weight, "calibration": calibration, "family": "f", "run": f"r{i}"}
            row |= {"p_best": p_best if i == 0 else 0.1, "expected_regret": 0.0234, "apart": apart[i]}
            rows.append(row)
    return pd.DataFrame(rows)


@pytest.mark.parametrize(
    ("alike", "named"),
    [(1, "r1"), (4, "r1, r2, r3, r4"), (5, "r1, r2, r3, r4 and 1 more"), (6, "r1, r2, r3, r4 and 2 more")],
)
def test_four_runs_are_named_and_the_others_counted(alike, named):
    told = advice(decision([False, *[False] * alike, True]))
    assert f"{alike} of {alike + 1} other runs cannot be distinguished from it ({named})." in told
    assert told.endswith(f"To settle it, take {named} through RL as well.")


def test_where_all_are_apart_nothing_is_left_to_settle():
    assert advice(decision([False, True, True])) == (
        "Take r0 (f) to RL: 51% chance to be best, expected regret 2.3 points. Its interval is apart from that of "
        "every other run. The prediction weighs Pass@1 60%, no metric 40%, by leave-one-out error on 6 other runs. "
        "Nothing is left to settle."
    )


def test_metrics_of_a_twentieth_are_mentioned_the_heaviest_first():
    weights = {"pass@1": 0.05, "pass@8": 0.0499, "pass@64": 0.7, "no metric": 0.2001}
    assert "weighs Pass@64 70%, no metric 20%, Pass@1 5%, by" in advice(decision([False, False], weights))


@pytest.mark.parametrize(("weight", "told"), [(0.5, "To settle it, take r1"), (0.51, "No metric predicts better than")])
def test_the_mean_must_weigh_more_than_half_to_be_the_better(weight, told):
    assert told in advice(decision([False, False], {"pass@1": 1 - weight, "no metric": weight}))


def test_without_calibration_a_chance_is_told_only_where_one_was_assumed():
    told = advice(decision([False, False], {"pass@1": 0.5, "pass@64": 0.5}, calibration=0))
    assert told == (
        "Take r0 (f) to RL: 51% chance to be best, if the assumed correlation holds. 1 of 1 other runs cannot be "
        "distinguished from it (r1). Ranked by Pass@1, Pass@64. RL of at least 4 runs of this family would say how far."
    )
    assert "how far to trust that is unknown" in advice(decision([False, False], calibration=0, p_best=float("nan")))


def test_a_replay_says_what_came_of_the_predictions_and_what_choosing_so_costs():
    replayed = replay(post_rl=[0.5, 0.7, 0.6], value=[0.3, 0.4, 0.2])
    # By Pass@1 r1 of all three, the best. At random .7 less the mean. Predicted .45 to .65: two of three.
    told = (
        "All 3 runs (f) have been through RL; r1 ended best. Of the results, each predicted from all others, 2 lie in "
        "their 95 % intervals."
    )
    weights = " The prediction weighs Pass@1 60%, no metric 40%, by leave-one-out error on 2 other runs."
    costs = (
        " Choosing among 3 by what the others taught costs 4.5 points on average, by Pass@1 alone 0.0, at random 10.0."
    )
    assert advice(replayed) == told + costs + weights
    for without in (replayed.assign(replayed_regret=float("nan")), replayed.drop(columns=["tried", "replayed_regret"])):
        assert advice(without) == told + weights  # too few runs for it; judged by an earlier version
    by_the_loss = replayed.replace({"predictor": {"pass@1": "generalization_loss"}})
    assert "costs 4.5 points on average, at random 10.0." in advice(by_the_loss)


def test_a_replay_of_six_prices_the_choice_of_five():
    replayed = replay(post_rl=[0.6, 0.5, 0.4, 0.3, 0.2, 0.1], value=[0.1, 0.2, 0.3, 0.4, 0.5, 0.6], tried=5)
    # At random: the best of five, .6 in five subsets of six and .5 in one, less the mean, .35. By Pass@1 the last of
    # them, .1 in five and .2 in one.
    assert "costs 4.5 points on average, by Pass@1 alone 46.7, at random 23.3." in advice(replayed)


def replay(post_rl: list[float], value: list[float], tried: int = 3) -> pd.DataFrame:
    """Rows as `replay` gives them: no ranks and no chances."""
    table = decision([False] * len(post_rl), calibration=len(post_rl) - 1).drop(columns=COMPARED)
    rows = [
        table[table["predictor"] == name].assign(value=value, post_rl=post_rl) for name in table["predictor"].unique()
    ]
    return pd.concat(rows).assign(low=0.45, high=0.65, tried=tried, replayed_regret=0.045)


def test_families_are_told_one_after_another():
    two = pd.concat([decision([False, True]).assign(family="b"), decision([False, True]).assign(family="a")])
    assert [part.split(")")[0] for part in advice(two).split("Take r0 (")[1:]] == ["b", "a"]
