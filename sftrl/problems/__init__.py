"""Problems and SFT examples from anywhere, in one schema.

    problems = load_problems("math500")                                     # from the hub
    problems = load_problems({"benchmark": "math500", "path": "math.jsonl"})  # the same set, a copy on disk
    examples = load_examples({"source": "mine", "path": "sft.parquet",
                              "columns": {"prompt": "question", "response": "boxed_solution"}})

A source names a set of the benchmark table (`sftrl.problems.table`), whose entry its own keys then override, or
describes a new one. Either way it comes down to where the rows are (`hub` or `path`), and which of their columns ours
are read from, by which rule. Its keys are those of the recipes `ProblemSource` and `ExampleSource`.
"""

import warnings

import pandas as pd

from sftrl.errors import InputError
from sftrl.problems.rules import text
from sftrl.problems.schema import (
    ANSWER_TYPES,
    EXAMPLE_COLUMNS,
    PROBLEM_COLUMNS,
    check_examples,
    check_problems,
    with_choices,
)
from sftrl.problems.spec import complete, map_columns, read_rows
from sftrl.problems.table import BENCHMARKS, PAPER_LISTS, RL_PROBLEMS, SFT_EXAMPLES
from sftrl.recipes import ExampleSource, ProblemSource, Source

__all__ = [
    "ANSWER_TYPES",
    "BENCHMARKS",
    "EXAMPLE_COLUMNS",
    "PAPER_LISTS",
    "PROBLEM_COLUMNS",
    "RL_PROBLEMS",
    "SFT_EXAMPLES",
    "check_examples",
    "check_problems",
    "example_source",
    "load_examples",
    "load_problems",
    "problem_source",
    "with_choices",
]

# Our columns that a source may fill, and whether it must.
PROBLEM_INPUTS = {**dict.fromkeys((*PROBLEM_COLUMNS, "several"), False), "problem": True, "answer": True}
EXAMPLE_INPUTS = {**dict.fromkeys(EXAMPLE_COLUMNS, False), "prompt": True, "response": True}


def problem_source(spec: str | dict | ProblemSource) -> ProblemSource:
    """Complete a problem source by the table, and check it as far as that goes without reading anything.

    Raises:
        InputError: an unknown key, set, rule or column, a value of a wrong type, or questions that need images.
    """
    source = complete(spec, "benchmark", ProblemSource, {**BENCHMARKS, **RL_PROBLEMS}, PROBLEM_INPUTS)
    if source.images == "needed":
        raise InputError(
            f"{source.benchmark}: its questions are about images, which a model that reads text alone cannot see; "
            "`images: ignore` loads the questions without them"
        )
    return source


def example_source(spec: str | dict | ExampleSource) -> ExampleSource:
    """As `problem_source`, for SFT examples."""
    return complete(spec, "source", ExampleSource, SFT_EXAMPLES, EXAMPLE_INPUTS)


def load_problems(spec: str | dict | ProblemSource) -> pd.DataFrame:
    """Load a benchmark or RL set in the schema of `check_problems`.

    Args:
        spec: a name of the benchmark table, or a `ProblemSource`, whose keys override the table's entry of that name.

    Rows without an id of their own get one from the hash of their problem's text, which does not change when rows are
    added or moved.

    Raises:
        InputError: as `problem_source`; a missing file or column, a row that is no problem, or an unexpected number of
            rows; named.
    """
    source = problem_source(spec)
    rows, name = read_rows(source)
    mapped = map_columns(rows, source.columns, name)
    mapped["benchmark"] = source.benchmark
    mapped["answer_type"] = _answer_types(mapped, source.answer_type, name)
    mapped["tolerance"] = source.tolerance
    for column in ("solution", "level"):
        mapped[column] = mapped.get(column, pd.Series("", mapped.index)).map(lambda value: text(value) or None)
    mapped = _complete(mapped, ["problem", "answer"], source, name)
    mapped["id"] = mapped["id"].map(text) if "id" in mapped else _text_ids(mapped, ["problem"])
    return check_problems(mapped.reindex(columns=PROBLEM_COLUMNS), name, mapped.index + 1)


def load_examples(spec: str | dict | ExampleSource) -> pd.DataFrame:
    """Load SFT examples in the schema of `check_examples`.

    Args:
        spec: a name of the table's SFT sets, or an `ExampleSource`. `columns` maps `prompt` and `response`,
            and `answer` if the set has one.

    Raises:
        InputError: as `load_problems`.
    """
    source = example_source(spec)
    rows, name = read_rows(source)
    mapped = map_columns(rows, source.columns, name)
    mapped["source"] = mapped["source"].map(text) if "source" in mapped else source.source
    if "answer" in mapped:
        mapped["answer"] = mapped["answer"].map(lambda value: value or None)
    mapped = _complete(mapped, ["prompt", "response"], source, name)
    mapped["id"] = mapped["id"].map(text) if "id" in mapped else _text_ids(mapped, ["prompt", "response"])
    return check_examples(mapped.reindex(columns=EXAMPLE_COLUMNS), name, mapped.index + 1)


def _answer_types(mapped: pd.DataFrame, answer_type: str | dict | None, name: str) -> pd.Series:
    """Return each row's answer type: the same for all, or the published one in our words."""
    if not isinstance(answer_type, dict):
        published = mapped.get("answer_type") if answer_type is None else None
        types = pd.Series(answer_type, mapped.index, dtype=object) if published is None else published
        return types.map(lambda value: text(value) or None)
    published = mapped["answer_type"]
    unknown = ~published.isin(list(answer_type))
    if unknown.any():
        row = unknown.idxmax()
        raise InputError(
            f"{name}, row {row + 1}: answer type {published[row]!r} is not one of {', '.join(answer_type)}"
        )
    types = published.map(answer_type)
    if "several" in mapped:
        types = types.where(mapped["several"] != "True", answer_type["several"])
    return types


def _complete(mapped: pd.DataFrame, needed: list[str], source: Source, name: str) -> pd.DataFrame:
    """Drop rows that lack a needed text, with a warning, if the source says so."""
    if source.incomplete == "error":
        return mapped
    whole = (mapped[needed] != "").all(axis=1)
    if not whole.all():
        left_out = f"{int((~whole).sum())} of {len(whole)} rows left out, without {' or '.join(needed)}"
        warnings.warn(f"{name}: {left_out}", stacklevel=3)
    return mapped[whole]


def _text_ids(mapped: pd.DataFrame, columns: list[str]) -> pd.Series:
    """Name each row by the hash of its text; the second row of the same text is `...-2`."""
    joined = mapped[columns[0]].str.cat([mapped[column] for column in columns[1:]], sep="\x00")
    ids = pd.Series([f"{value:016x}" for value in pd.util.hash_array(joined.to_numpy(object))], mapped.index)
    occurrence = ids.groupby(ids).cumcount()
    return ids.where(occurrence == 0, ids + "-" + (occurrence + 1).astype(str))
