"""What a problem and an SFT example are: their columns, and the checks that name the row that breaks them."""

import string
from collections.abc import Sequence

import numpy as np
import pandas as pd

from sftrl.errors import InputError
from sftrl.problems.sources import as_list

PROBLEM_COLUMNS = ["id", "benchmark", "problem", "answer", "answer_type", "choices", "solution", "level", "tolerance"]
EXAMPLE_COLUMNS = ["id", "prompt", "response", "answer", "source"]
ANSWER_TYPES = (
    "integer", "number", "expression", "tuple", "set", "interval", "equation", "matrix", "choice", "text",
)  # fmt: skip


def check_problems(problems: pd.DataFrame, name: str = "problems", rows: Sequence[int] | None = None) -> pd.DataFrame:
    """Return the problems in the schema's columns, or say which row is not one.

    `id`, `benchmark`, `problem` and `answer` are non-empty text, `id` unique within its benchmark; `answer_type` is one
    of `ANSWER_TYPES` or None for unknown, and an `integer` must be one; `choices` is a list of options, and then the
    answer is the letter of one, or None; `solution` and `level` are text or None; `tolerance` is the relative error
    that a number is allowed, or None for exact. The last five may be absent and are then None.

    Args:
        name: what to call the table in errors: its file, as a rule.
        rows: what to call its rows in errors: their numbers in that file. Counted from 1 if not given.

    Raises:
        InputError: names the table, the row and the column.
    """
    checked = _columns(problems, PROBLEM_COLUMNS, PROBLEM_COLUMNS[:4], name)
    place = _Place(name, rows)
    _no_empty(checked, PROBLEM_COLUMNS[:4], place)
    _no_repeats(checked, ["benchmark", "id"], place)
    unknown = checked["answer_type"].notna() & ~checked["answer_type"].isin(ANSWER_TYPES)
    if unknown.any():
        row = _first(unknown)
        kind = checked.at[row, "answer_type"]
        raise InputError(f"{place(row)}: answer_type {kind!r} is not one of {', '.join(ANSWER_TYPES)}")
    no_integer = (checked["answer_type"] == "integer") & ~checked["answer"].str.fullmatch(r"[+-]?\d+")
    if no_integer.any():
        row = _first(no_integer)
        raise InputError(f"{place(row)}: the answer {checked.at[row, 'answer']!r} is no integer, as answer_type says")
    lax = checked["tolerance"].map(lambda value: value is not None and not _is_tolerance(value)).astype(bool)
    if lax.any():
        row = _first(lax)
        raise InputError(f"{place(row)}: tolerance {checked.at[row, 'tolerance']!r} is not a number between 0 and 1")
    checked["choices"] = pd.Series([as_list(value) for value in checked["choices"]], dtype=object)
    for row in np.flatnonzero(checked["choices"].notna() | (checked["answer_type"] == "choice")):
        problem = _choice_problem(*checked.loc[row, ["answer", "answer_type", "choices"]])
        if problem:
            raise InputError(f"{place(row)}: {problem}")
    return checked


def _is_tolerance(value: object) -> bool:
    return isinstance(value, float | int) and 0 < value < 1


def _choice_problem(answer: str, answer_type: str | None, choices: object) -> str | None:
    """Say what is wrong with a multiple-choice row, if anything."""
    if answer_type not in ("choice", None):
        return f"choices are given, but answer_type is {answer_type!r}, not 'choice'"
    if choices is None:
        letters = string.ascii_uppercase
    elif not isinstance(choices, list) or len(choices) < 2 or not all(isinstance(o, str) and o for o in choices):
        return f"choices must be two or more texts, not {choices!r}"
    else:
        letters = string.ascii_uppercase[: len(choices)]
    if len(answer) != 1 or answer not in letters:
        return f"the answer {answer!r} is not the letter of a choice (A to {letters[-1]})"
    return None


def check_examples(examples: pd.DataFrame, name: str = "examples", rows: Sequence[int] | None = None) -> pd.DataFrame:
    """Return the SFT examples in the schema's columns, further columns after them, or say which row is not one.

    `id` (unique), `prompt` and `response` are non-empty text; `answer` is the response's final answer or None where the
    source has none of its own, `source` names the set or is None. The last two may be absent and are then None.

    Args and errors as in `check_problems`.
    """
    checked = _columns(examples, EXAMPLE_COLUMNS, EXAMPLE_COLUMNS[:3], name)
    place = _Place(name, rows)
    _no_empty(checked, EXAMPLE_COLUMNS[:3], place)
    _no_repeats(checked, ["id"], place)
    return checked


class _Place:
    """Where a row is, in words: the table's name and the row's number."""

    def __init__(self, name: str, rows: Sequence[int] | None):
        self.name, self.rows = name, rows

    def __call__(self, row: int) -> str:
        return f"{self.name}, row {row + 1 if self.rows is None else self.rows[row]}"


def _columns(table: pd.DataFrame, wanted: list[str], needed: list[str], name: str) -> pd.DataFrame:
    missing = [column for column in needed if column not in table.columns]
    if missing:
        raise InputError(f"{name}: no column {missing[0]!r} (there are: {', '.join(map(str, table.columns))})")
    table = table.reset_index(drop=True)
    further = [column for column in table.columns if column not in wanted]
    table = table.reindex(columns=wanted + further).astype({column: object for column in wanted})
    for column in wanted:
        if column != "choices":
            table[column] = table[column].where(table[column].notna(), None)
    return table


def _no_repeats(table: pd.DataFrame, key: list[str], place: _Place) -> None:
    repeated = table.duplicated(key)
    if repeated.any():
        row = _first(repeated)
        before = _first((table[key] == table.loc[row, key]).all(axis=1))
        raise InputError(f"{place(row)}: id {table.at[row, 'id']!r} is already that of {place(before)}")


def _no_empty(table: pd.DataFrame, columns: list[str], place: _Place) -> None:
    for column in columns:
        values = table[column]
        bad = ~values.map(lambda value: isinstance(value, str) and bool(value.strip())).astype(bool)
        if bad.any():
            row = _first(bad)
            value = values[row]
            fault = "is empty" if value is None or isinstance(value, str) else f"is {value!r}, which is not text"
            raise InputError(f"{place(row)}: {column} {fault}")


def _first(rows: pd.Series) -> int:
    return int(np.flatnonzero(rows)[0])


def with_choices(problem: str, choices: list[str] | None) -> str:
    """Return the text a model is asked: the problem, then its options lettered from A, a line each."""
    if not choices:
        return problem
    lines = [f"{letter}. {option}" for letter, option in zip(string.ascii_uppercase, choices, strict=False)]
    return "\n".join([problem, *lines])
