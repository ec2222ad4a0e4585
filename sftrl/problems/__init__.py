"""Problems and SFT examples from anywhere, in one schema.

    problems = load_problems("math500")                                     # from the hub
    problems = load_problems({"benchmark": "math500", "path": "math.jsonl"})  # the same set, a copy on disk
    examples = load_examples({"source": "mine", "path": "sft.parquet",
                              "columns": {"prompt": "question", "response": "boxed_solution"}})

A spec names a set of the benchmark table (`sftrl.problems.table`), whose entry its own keys then override, or describes
a new one. Either way it comes down to where the rows are (`hub` or `path`), and which of their columns ours are read
from, by which rule.
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
from sftrl.problems.spec import SPEC_KEYS, complete_spec, map_columns, read_rows
from sftrl.problems.table import BENCHMARKS, PAPER_LISTS, RL_PROBLEMS, SFT_EXAMPLES

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
    "load_examples",
    "load_problems",
    "with_choices",
]

PROBLEM_KEYS = ("benchmark", *SPEC_KEYS, "answer_type", "tolerance", "images")
EXAMPLE_KEYS = ("source", *SPEC_KEYS)


def load_problems(spec: str | dict) -> pd.DataFrame:
    """Load a benchmark or RL set in the schema of `check_problems`.

    Args:
        spec: a name of the benchmark table, or a dict with `benchmark` and any of: `hub` with `config` (one or a list),
            `split`, `revision`, `data_dir`; or `path`; `columns` and `where` as in the table; `answer_type` (one for
            all, or a dict that translates the published types); `limit` (read only the first so many rows); `sample`
            (keep a random draw of so many of the rows, by `seed`); `expected` (rows that must be there; None for any);
            `incomplete` ("error", or "drop" for rows without problem or answer).

    Rows without an id of their own get one from the hash of their problem's text, which does not change when rows are
    added or moved.

    Raises:
        InputError: an unknown key, set or rule, a missing file or column, a row that is no problem, or an unexpected
            number of rows; named.
    """
    spec = complete_spec(spec, "benchmark", {**BENCHMARKS, **RL_PROBLEMS}, PROBLEM_KEYS)
    if spec.get("images") == "needed":
        raise InputError(
            f"{spec['benchmark']}: its questions are about images, which a model that reads text alone cannot see; "
            "`images: ignore` loads the questions without them"
        )
    rows, name = read_rows(spec)
    mapped = map_columns(rows, spec["columns"], name, ("problem", "answer"), (*PROBLEM_COLUMNS, "several"))
    mapped["benchmark"] = spec["benchmark"]
    mapped["answer_type"] = _answer_types(mapped, spec.get("answer_type"), name)
    mapped["tolerance"] = spec.get("tolerance")
    for column in ("solution", "level"):
        mapped[column] = mapped.get(column, pd.Series("", mapped.index)).map(lambda value: text(value) or None)
    mapped = _complete(mapped, ["problem", "answer"], spec, name)
    mapped["id"] = mapped["id"].map(text) if "id" in mapped else _text_ids(mapped, ["problem"])
    return check_problems(mapped.reindex(columns=PROBLEM_COLUMNS), name, mapped.index + 1)


def load_examples(spec: str | dict) -> pd.DataFrame:
    """Load SFT examples in the schema of `check_examples`.

    Args:
        spec: a name of the table's SFT sets, or a dict with `source` and the keys that `load_problems` takes, those
            about answers' types aside. `columns` maps `prompt` and `response`, and `answer` if the source has one.

    Raises:
        InputError: as `load_problems`.
    """
    spec = complete_spec(spec, "source", SFT_EXAMPLES, EXAMPLE_KEYS)
    rows, name = read_rows(spec)
    mapped = map_columns(rows, spec["columns"], name, ("prompt", "response"), EXAMPLE_COLUMNS)
    mapped["source"] = mapped["source"].map(text) if "source" in mapped else spec["source"]
    if "answer" in mapped:
        mapped["answer"] = mapped["answer"].map(lambda value: value or None)
    mapped = _complete(mapped, ["prompt", "response"], spec, name)
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


def _complete(mapped: pd.DataFrame, needed: list[str], spec: dict, name: str) -> pd.DataFrame:
    """Drop rows that lack a needed text, with a warning, if the spec says so."""
    if spec.get("incomplete", "error") == "error":
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
