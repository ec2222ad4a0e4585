"""From counts to rows of `results.csv`: Pass@k with intervals and the rates beside it, by benchmark and averaged."""

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from sftrl.errors import InputError
from sftrl.generations import Summary
from sftrl.passk import (
    Interval,
    average_intervals,
    extrapolate_pass_at_k,
    majority_at_k,
    pass_at_k,
    pass_at_k_interval,
    reward_variance,
    signal_share,
    success_variance,
)

BEYOND = 4  # times the largest k, where Pass@k is forecast: docs/passk-and-loss.md has the error there
DRAWS = 16  # to which the number of distinct solutions is rarefied, so that it does not hang on how many were drawn
RATES = ["truncated", "unparseable", "empty", "mean_tokens"]


def powers_of_two(samples: int) -> list[int]:
    """Return 1, 2, 4, ... up to `samples`: the k at which Pass@k is kept."""
    return [2**i for i in range(samples.bit_length())]


def score_table(
    summary: Summary, *, k: Sequence[int], group_size: int, left_out_of_average: Iterable[str] = ()
) -> pd.DataFrame:
    """Return a row for each benchmark, and the row `average`: the unweighted mean over benchmarks.

    Args:
        summary: the counts of one checkpoint.
        k: the k of `pass@k` and `majority@k`; none may exceed the samples of a problem.
        group_size: rollouts of a GRPO group, g, for `signal_share`, the expected share of groups whose rewards differ,
            and `reachable_share`, the share of problems solved more often than p*(g) = 1 - 2^(-1/g), above which a
            group more likely than not holds a right rollout (arXiv 2606.18487).
        left_out_of_average: benchmarks with a row of their own but no part in `average`, such as multiple choice,
            which is solved by guessing at large k.

    Returns:
        Columns `benchmark, problems, samples`, then `pass@k, pass@k_low, pass@k_high` (95 %, over problems and
        samples; over samples alone where a benchmark has one problem) and `majority@k` for each k, a forecast of Pass@K
        at four times the largest k (`extrapolated_pass@K` and its ends), `signal_share, reachable_share,
        reward_variance, success_variance` (both empty where there are too few samples or problems to tell),
        `distinct_correct` (mean number of distinct right responses among 16 samples of a problem; empty where there
        are fewer), `truncated, unparseable, empty, mean_tokens`, and `sampled_tokens`, what all this cost. The
        average's `problems` and `sampled_tokens` are sums over its benchmarks, its `samples` the smallest.

    Raises:
        InputError: a benchmark to leave out that is not there, or none is left.
    """
    known = set(summary.benchmarks["benchmark"])
    absent = sorted(set(left_out_of_average) - known)
    if absent:
        raise InputError(f"left_out_of_average: {absent[0]!r} is not one of the benchmarks {sorted(known)}")
    rows, intervals, forecasts = [], {}, {}
    rates = summary.benchmarks.set_index("benchmark")
    # A shard may hold a single problem of a benchmark, which says nothing of how problems differ.
    over = "both" if summary.problems.groupby("benchmark").size().min() > 1 else "samples"
    for name, group in summary.problems.groupby("benchmark", sort=False):
        n, c = group["n"].to_numpy(), group["c"].to_numpy()
        intervals[name] = pass_at_k_interval(n, c, k, over=over)
        forecasts[name] = extrapolate_pass_at_k(n, c, BEYOND * max(k))
        votes = _votes(group, summary.answers[summary.answers["benchmark"] == name], k)
        solutions = summary.solutions[summary.solutions["benchmark"] == name]
        rows.append(
            {"benchmark": name, "problems": len(group), "samples": int(n.min())}
            | _pass_columns(intervals[name], k)
            | _forecast_columns(forecasts[name], BEYOND * max(k))
            | {f"majority@{size}": value for size, value in zip(k, votes, strict=True)}
            | {"signal_share": signal_share(n, c, min(group_size, int(n.min())))}
            | {"reachable_share": float(np.mean(c > n * (1 - 2 ** (-1 / group_size))))}
            | {"reward_variance": reward_variance(n, c), "success_variance": success_variance(n, c)}
            | {"distinct_correct": _distinct(group, solutions)}
            | rates.loc[name, RATES].astype(float).to_dict()
            | {"sampled_tokens": float((n * group["mean_tokens"]).sum(skipna=False))}
        )
    table = pd.DataFrame(rows)
    averaged = table[~table["benchmark"].isin(list(left_out_of_average))]
    if averaged.empty:
        raise InputError("left_out_of_average: no benchmark is left to average")
    # Not over the benchmarks that happen to have a value: the average is of all, or empty.
    average = averaged.drop(columns=["benchmark", "problems", "samples"]).mean(skipna=False).to_dict()
    average |= _pass_columns(average_intervals([intervals[name] for name in averaged["benchmark"]]), k)
    mean = average_intervals([forecasts[name] for name in averaged["benchmark"]])
    average |= _forecast_columns(mean, BEYOND * max(k))
    average |= {"benchmark": "average", "problems": averaged["problems"].sum(), "samples": averaged["samples"].min()}
    average |= {"sampled_tokens": averaged["sampled_tokens"].sum(skipna=False)}
    return pd.concat([table, pd.DataFrame([average])], ignore_index=True)


def _pass_columns(interval: Interval, k: Sequence[int]) -> dict[str, float]:
    columns = {}
    for i, size in enumerate(k):
        for suffix, values in (("", interval.estimate), ("_low", interval.low), ("_high", interval.high)):
            columns[f"pass@{size}{suffix}"] = float(values[i])
    return columns


def _forecast_columns(interval: Interval, k: int) -> dict[str, float]:
    ends = {"": interval.estimate, "_low": interval.low, "_high": interval.high}
    return {f"extrapolated_pass@{k}{suffix}": float(value) for suffix, value in ends.items()}


def _distinct(group: pd.DataFrame, solutions: pd.DataFrame) -> float:
    """Return the mean number of distinct right responses among `DRAWS` samples of a problem; NaN with fewer samples.

    A response found m times among n samples is among `DRAWS` of them with the chance that Pass@k gives: rarefaction
    (Hurlbert 1971).
    """
    if group["n"].min() < DRAWS:
        return float("nan")
    if solutions.empty:
        return 0.0
    n = solutions["problem_id"].map(group.set_index("problem_id")["n"])
    return float(pass_at_k(n, solutions["count"], DRAWS).sum() / len(group))


def _votes(group: pd.DataFrame, answers: pd.DataFrame, k: Sequence[int]) -> list[float]:
    """Return the mean majority@k over problems, of which some may have no answer at all."""
    given = dict(list(answers.groupby("problem_id")))
    none = answers.iloc[:0]
    found = [given.get(name, none) for name in group["problem_id"]]
    counts, correct = ([rows[column].to_numpy() for rows in found] for column in ("count", "correct"))
    return majority_at_k(counts, correct, list(k), n=group["n"].to_numpy()).mean(axis=0).tolist()
