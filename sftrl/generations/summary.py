"""`summarise`: the counts that Pass@k and majority vote are computed from, and the rates that stand beside a score."""

import math
import warnings
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from sftrl.errors import InputError
from sftrl.generations.grades import Grader
from sftrl.generations.parts import read_part
from sftrl.generations.store import Store

TRUNCATED_WARNING = 0.05
COUNTS = ["n", "c", "truncated", "empty", "unparseable", "timed_out", "tokens"]


@dataclass(frozen=True)
class Summary:
    """Counts over a store, three tables; rates are shares of samples, NaN where imported samples do not tell.

    Attributes:
        benchmarks: one row a benchmark: `benchmark, problems, samples` (the smallest n of its problems), `partial`
            (whether that is less than was asked for), `truncated, empty, unparseable, timed_out, mean_tokens`.
        problems: one row a problem, in the given order: `benchmark, problem_id, n, c, truncated, empty, unparseable,
            timed_out` (all counts) and `mean_tokens`.
        answers: one row a distinct answer of a problem, most frequent first: `benchmark, problem_id, answer, correct,
            count`. Samples without an answer are not among them. Right answers of different form are one answer.
    """

    benchmarks: pd.DataFrame
    problems: pd.DataFrame
    answers: pd.DataFrame
    verifier_version: str = "2.0"


def summarise(
    folder: str | Path,
    problems: pd.DataFrame,
    *,
    n: int | None = None,
    partial: bool = False,
    start: int = 0,
    stop: int | None = None,
) -> Summary:
    """Count the graded samples of a store.

    Args:
        folder: the store.
        problems: the problem rows that count; other problems of the store are left out.
        n: how many samples every problem must have; by default, at least one.
        partial: report a benchmark that has fewer as partial, instead of refusing it.
        start, stop: count only samples with start <= index < stop. After adaptive sampling, start is the size of its
            pilot, whose samples decided and may not count.

    Returns:
        The counts. Nothing is divided by the asked-for n: only by the samples that are there.

    Raises:
        InputError: a problem has too few samples, a part is damaged or not graded; the message names it.
    """
    grader = Grader(problems)
    counts = {name: [0] * len(COUNTS) for name in grader.golds}
    answers: dict[tuple[str, str, bool, str], int] = {}
    for part in Store(folder).parts():
        rows = read_part(part, ["benchmark", "problem_id", "sample_index", "n_tokens", "finish_reason"])
        names = list(zip(rows["benchmark"], rows["problem_id"], strict=True))
        if counts.keys().isdisjoint(names):
            continue  # another shard's, perhaps not graded yet
        grades = grader.read(part)
        if grades is None:
            raise InputError(f"{part}: not graded by this verifier with these gold answers; run grade first")
        rows = rows[["sample_index", "n_tokens", "finish_reason"]].join(grades[["verdict", "answer", "empty"]])
        for name, row in zip(names, rows.itertuples(index=False), strict=True):
            if name not in counts or not start <= row.sample_index < (stop or math.inf):
                continue
            if row.verdict == "unparseable_gold":
                raise InputError(
                    f"problems: {name[0]} {name[1]}: the gold answer {grader.golds[name][0]!r} cannot be read"
                )
            correct = row.verdict == "correct"
            values = (
                1,
                correct,
                math.nan if row.finish_reason is None else row.finish_reason == "length",
                row.empty,
                row.verdict == "unparseable_response",
                row.verdict == "timed_out",
                row.n_tokens,
            )
            counts[name] = [count + value for count, value in zip(counts[name], values, strict=True)]
            if row.answer is not None:
                answer = (*name, correct, grader.golds[name][0] if correct else row.answer)
                answers[answer] = answers.get(answer, 0) + 1
    return _tables(counts, answers, n or 1, partial, folder)


def _tables(counts: dict, answers: dict, n: int, partial: bool, folder: str | Path) -> Summary:
    table = pd.DataFrame(
        [(*name, *count) for name, count in counts.items()], columns=["benchmark", "problem_id", *COUNTS]
    )
    short = table[table["n"] < n]
    if len(short) and not partial:
        first = short.iloc[0]
        raise InputError(
            f"{folder}: {len(short)} of {len(table)} problems have fewer than {n} samples, "
            f"first {first.benchmark} {first.problem_id} with {first.n}; finish the evaluation or pass partial=True"
        )
    grouped = table.groupby("benchmark", sort=False)
    total = grouped[COUNTS].agg(lambda column: column.sum(skipna=False))
    benchmarks = pd.DataFrame({"problems": grouped.size(), "samples": grouped["n"].min()})
    benchmarks["partial"] = benchmarks["samples"] < n
    for column in ("truncated", "empty", "unparseable", "timed_out", "tokens"):
        benchmarks["mean_tokens" if column == "tokens" else column] = total[column] / total["n"]
    table["mean_tokens"] = table.pop("tokens") / table["n"]
    found = pd.DataFrame(
        [(b, p, answer, correct, count) for (b, p, correct, answer), count in answers.items()],
        columns=["benchmark", "problem_id", "answer", "correct", "count"],
    ).sort_values(
        ["benchmark", "problem_id", "count", "answer"], ascending=[True, True, False, True], ignore_index=True
    )
    cut = benchmarks.loc[benchmarks["truncated"] > TRUNCATED_WARNING, "truncated"]
    if len(cut):
        named = ", ".join(f"{share:.0%} of {name}" for name, share in cut.items())
        warnings.warn(f"many responses were cut off at max_tokens: {named}", stacklevel=3)
    return Summary(benchmarks.reset_index(), table, found)
