"""`summarise`: the counts for Pass@k and majority vote, and the rates reported beside a score."""

import warnings
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from sftrl.errors import InputError
from sftrl.generations.grades import Grader
from sftrl.generations.parts import read_part
from sftrl.generations.store import Store
from sftrl.verify import VERIFIER_VERSION

TRUNCATED_WARNING = 0.05
COUNTS = ["n", "c", "truncated", "empty", "unparseable", "timed_out", "tokens"]


@dataclass(frozen=True)
class Summary:
    """Counts over a store, four tables; rates are shares of samples, NaN where imported samples do not tell.

    Attributes:
        benchmarks: one row a benchmark: `benchmark, problems, samples` (the smallest n of its problems), `partial`
            (whether that is less than requested), `truncated, empty, unparseable, timed_out, mean_tokens`.
        problems: one row a problem, in the given order: `benchmark, problem_id, n, c, truncated, empty, unparseable,
            timed_out` (all counts) and `mean_tokens`.
        answers: one row a distinct answer of a problem, most frequent first: `benchmark, problem_id, answer, correct,
            count`. Samples without an answer are not among them. Right answers of different form are one answer.
        solutions: one row a distinct right response of a problem, told apart by its text, white space around it left
            out: `benchmark, problem_id, count`.
        verifier_version: what graded, as the grades themselves say.
    """

    benchmarks: pd.DataFrame
    problems: pd.DataFrame
    answers: pd.DataFrame
    solutions: pd.DataFrame
    verifier_version: str


def summarise(
    folder: str | Path,
    problems: pd.DataFrame,
    *,
    n: int | None = None,
    partial: bool = False,
    start: int = 0,
    stop: int | None = None,
) -> Summary:
    """Count the graded samples of a store. Of the samples, one part at a time is in memory.

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
        InputError: a problem has too few samples, a part is damaged or not graded, or graded by another version of the
            verifier than the others; the message names it.
    """
    grader = Grader(problems)
    known = pd.MultiIndex.from_tuples(list(grader.golds), names=["benchmark", "problem_id"])
    golds = np.array([gold.answer for gold in grader.golds.values()], dtype=object)
    counts = np.zeros((len(known), len(COUNTS)))
    answers: Counter[tuple[int, bool, str]] = Counter()
    solutions = [np.empty((0, 2), dtype=np.uint64)]  # problem and hash of each correct response: 16 bytes a sample
    version = None
    for part in Store(folder).parts():
        rows = read_part(part, ["benchmark", "problem_id", "sample_index", "n_tokens", "finish_reason", "response"])
        place = known.get_indexer(pd.MultiIndex.from_frame(rows[["benchmark", "problem_id"]]))
        if (place < 0).all():
            continue  # another shard's, perhaps not graded yet
        grades = grader.read(part)
        if grades is None:
            raise InputError(f"{part}: not graded by verifier {VERIFIER_VERSION} with these golds; run grade first")
        for found in grades["verifier_version"].unique():
            version = version or found
            if found != version:
                raise InputError(f"{part}: graded by verifier {found}, and parts before it by {version}; grade anew")
        rows = rows.drop(columns=["benchmark", "problem_id"]).join(grades[["verdict", "answer", "empty"]])
        here = (place >= 0) & (rows["sample_index"] >= start)
        if stop is not None:
            here &= rows["sample_index"] < stop
        rows, place = rows[here], place[here]
        unreadable = place[rows["verdict"] == "unparseable_gold"]
        if len(unreadable):
            name, gold = known[unreadable[0]], golds[unreadable[0]]
            raise InputError(f"problems: {name[0]} {name[1]}: the gold answer {gold!r} cannot be read")
        correct = (rows["verdict"] == "correct").to_numpy()
        values = {
            "n": 1,
            "c": correct,
            "truncated": (rows["finish_reason"] == "length").where(rows["finish_reason"].notna()),
            "empty": rows["empty"],
            "unparseable": rows["verdict"] == "unparseable_response",
            "timed_out": rows["verdict"] == "timed_out",
            "tokens": rows["n_tokens"],
        }
        for column, name in enumerate(COUNTS):
            np.add.at(counts[:, column], place, np.asarray(values[name], dtype=float))
        texts = pd.util.hash_array(rows.loc[correct, "response"].str.strip().to_numpy(object), categorize=False)
        solutions.append(np.column_stack([place[correct].astype(np.uint64), texts]))
        given = rows["answer"].notna().to_numpy()
        texts = np.where(correct, golds[place], rows["answer"])
        answers.update(zip(place[given].tolist(), correct[given].tolist(), texts[given], strict=True))
    table = pd.DataFrame(counts, index=known, columns=COUNTS).reset_index()
    whole = {name: "int64" for name in COUNTS if not table[name].isna().any()}  # NaN: imported, and not known
    benchmarks = _benchmarks(table := table.astype(whole), n or 1, partial, folder)
    table["mean_tokens"] = table.pop("tokens") / table["n"]
    found = pd.DataFrame(
        [(*known[place], answer, correct, count) for (place, correct, answer), count in answers.items()],
        columns=["benchmark", "problem_id", "answer", "correct", "count"],
    ).sort_values(
        ["benchmark", "problem_id", "count", "answer"], ascending=[True, True, False, True], ignore_index=True
    )
    pairs, times = np.unique(np.concatenate(solutions), axis=0, return_counts=True)
    distinct = known.take(pairs[:, 0].astype(int)).to_frame(index=False).assign(count=times)
    return Summary(benchmarks, table, found, distinct, version or VERIFIER_VERSION)


def _benchmarks(table: pd.DataFrame, n: int, partial: bool, folder: str | Path) -> pd.DataFrame:
    """Return the rates of each benchmark; refuse too few samples, unless `partial`, and warn of many cut off."""
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
    cut = benchmarks.loc[benchmarks["truncated"] > TRUNCATED_WARNING, "truncated"]
    if len(cut):
        named = ", ".join(f"{share:.0%} of {name}" for name, share in cut.items())
        warnings.warn(f"many responses were cut off at max_tokens: {named}", stacklevel=3)
    return benchmarks.reset_index()
