"""From counts to the rows of `results.csv`: Pass@k with intervals and the rates beside it, per benchmark and averaged."""

from collections.abc import Iterable, Sequence

import pandas as pd

from sftrl.errors import InputError
from sftrl.generations import Summary
from sftrl.passk import average_intervals, majority_at_k, pass_at_k_interval, signal_share

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
        group_size: rollouts of a GRPO group, for `signal_share`: the expected share of groups whose rewards differ.
        left_out_of_average: benchmarks with a row of their own but no part in `average`, such as multiple choice,
            which is solved by guessing at large k.

    Returns:
        Columns `benchmark, problems, samples`, then `pass@k, pass@k_low, pass@k_high` (95 %, over problems and
        samples) and `majority@k` for each k, `signal_share, truncated, unparseable, empty, mean_tokens`. The
        average's `problems` is the sum over its benchmarks, its `samples` the smallest.

    Raises:
        InputError: a benchmark to leave out that is not there, or none is left.
    """
    known = set(summary.benchmarks["benchmark"])
    absent = sorted(set(left_out_of_average) - known)
    if absent:
        raise InputError(f"left_out_of_average: {absent[0]!r} is not one of the benchmarks {sorted(known)}")
    rows, intervals = [], {}
    for name, group in summary.problems.groupby("benchmark", sort=False):
        n, c = group["n"].to_numpy(), group["c"].to_numpy()
        intervals[name] = pass_at_k_interval(n, c, k)
        rates = summary.benchmarks.set_index("benchmark").loc[name]
        answers = summary.answers[summary.answers["benchmark"] == name]
        rows.append(
            {"benchmark": name, "problems": len(group), "samples": int(n.min())}
            | _pass_columns(intervals[name], k)
            | {f"majority@{size}": float(_majority(group, answers, size).mean()) for size in k}
            | {"signal_share": float(signal_share(n, c, min(group_size, int(n.min()))).mean())}
            | {rate: float(rates[rate]) for rate in RATES}
        )
    table = pd.DataFrame(rows)
    averaged = table[~table["benchmark"].isin(list(left_out_of_average))]
    if averaged.empty:
        raise InputError("left_out_of_average: no benchmark is left to average")
    means = averaged.drop(columns=["benchmark", "problems", "samples"]).mean().to_dict()
    interval = average_intervals([intervals[name] for name in averaged["benchmark"]])
    average = means | _pass_columns(interval, k)
    average |= {"benchmark": "average", "problems": averaged["problems"].sum(), "samples": averaged["samples"].min()}
    return pd.concat([table, pd.DataFrame([average])], ignore_index=True)
