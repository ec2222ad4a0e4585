"""Problems and SFT examples from anywhere, in one schema.

    problems = load_problems("math500")                                     # from the hub
    problems = load_problems({"benchmark": "math500", "path": "math.jsonl"})  # the same set, a copy on disk
    examples = load_examples({"source": "mine", "path": "sft.parquet",
                              "columns": {"prompt": "question", "response": "boxed_solution"}})

A spec names a set of the benchmark table (`sftrl.problems.table`), whose entry its own keys then override, or describes
a new one. Either way it comes down to where the rows are (`hub` or `path`), and which of their columns ours are read
from, by which rule.
"""

import difflib
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd

from sftrl.errors import InputError
from sftrl.problems.rules import RULES, text
from sftrl.problems.schema import (
    ANSWER_TYPES,
    EXAMPLE_COLUMNS,
    PROBLEM_COLUMNS,
    check_examples,
    check_problems,
    with_choices,
)
from sftrl.problems.sources import read_file, read_hub
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
    "tolerance",
    "with_choices",
]

HUB_KEYS = ("hub", "config", "data_dir", "split", "revision")
SPEC_KEYS = (*HUB_KEYS, "path", "columns", "where", "limit", "expected", "incomplete")
PROBLEM_KEYS = ("benchmark", *SPEC_KEYS, "answer_type", "tolerance", "images")
EXAMPLE_KEYS = ("source", *SPEC_KEYS)


def load_problems(spec: str | dict) -> pd.DataFrame:
    """Load a benchmark or RL set in the schema of `check_problems`.

    Args:
        spec: a name of the benchmark table, or a dict with `benchmark` and any of: `hub` with `config` (one or a list),
            `split`, `revision`, `data_dir`; or `path`; `columns` and `where` as in the table; `answer_type` (one for
            all, or a dict that translates the published types); `limit` (read only so many rows); `expected` (rows that
            must come out; None for any); `incomplete` ("error", or "drop" for rows without problem or answer).

    Rows without an id of their own get one from the hash of their problem's text, which does not change when rows are
    added or moved.

    Raises:
        InputError: an unknown key, set or rule, a missing file or column, a row that is no problem, or an unexpected
            number of rows; named.
    """
    spec = _spec(spec, "benchmark", {**BENCHMARKS, **RL_PROBLEMS}, PROBLEM_KEYS)
    if spec.get("images") == "needed":
        raise InputError(
            f"{spec['benchmark']}: its questions are about images, which a model that reads text alone cannot see; "
            "`images: ignore` loads the questions without them"
        )
    rows, name = _read(spec)
    mapped = _map(rows, spec["columns"], name, ("problem", "answer"), (*PROBLEM_COLUMNS, "several"))
    mapped["benchmark"] = spec["benchmark"]
    mapped["answer_type"] = _answer_types(mapped, spec.get("answer_type"), name)
    for column in ("solution", "level"):
        mapped[column] = mapped.get(column, pd.Series("", mapped.index)).map(lambda value: text(value) or None)
    mapped = _complete(mapped, ["problem", "answer"], spec, name)
    mapped["id"] = mapped["id"].map(text) if "id" in mapped else _text_ids(mapped, ["problem"])
    return check_problems(mapped.reindex(columns=PROBLEM_COLUMNS), name, mapped.index + 1)


def tolerance(spec: str | dict) -> float | None:
    """Return the relative error that a benchmark allows a number, for `sftrl.verify`; None is exact."""
    return _spec(spec, "benchmark", {**BENCHMARKS, **RL_PROBLEMS}, PROBLEM_KEYS).get("tolerance")


def load_examples(spec: str | dict) -> pd.DataFrame:
    """Load SFT examples in the schema of `check_examples`.

    Args:
        spec: a name of the table's SFT sets, or a dict with `source` and the keys that `load_problems` takes, those
            about answers' types aside. `columns` maps `prompt` and `response`, and `answer` if the source has one.

    Raises:
        InputError: as `load_problems`.
    """
    spec = _spec(spec, "source", SFT_EXAMPLES, EXAMPLE_KEYS)
    rows, name = _read(spec)
    mapped = _map(rows, spec["columns"], name, ("prompt", "response"), EXAMPLE_COLUMNS)
    mapped["source"] = mapped["source"].map(text) if "source" in mapped else spec["source"]
    if "answer" in mapped:
        mapped["answer"] = mapped["answer"].map(lambda value: value or None)
    mapped = _complete(mapped, ["prompt", "response"], spec, name)
    mapped["id"] = mapped["id"].map(text) if "id" in mapped else _text_ids(mapped, ["prompt", "response"])
    return check_examples(mapped.reindex(columns=EXAMPLE_COLUMNS), name, mapped.index + 1)


def _spec(spec: str | dict, naming: str, known: dict[str, dict], keys: tuple[str, ...]) -> dict:
    """Complete a spec from the table and check its keys."""
    spec = {naming: spec} if isinstance(spec, str) else dict(spec)
    for key in spec:
        if key not in keys:
            raise InputError(f"unknown key {key!r} in the {naming} spec {spec}{_near(key, keys)}")
    if not spec.get(naming):
        raise InputError(f"the spec {spec} does not say which {naming} it is")
    entry = known.get(spec[naming], {})
    if "path" in spec:
        of_hub = [key for key in HUB_KEYS if key in spec]
        if of_hub:
            raise InputError(
                f"{spec[naming]}: `{of_hub[0]}` is for a dataset of the hub, and `path` for a file: give one"
            )
        # A copy on disk has no configurations, and as many rows as it has.
        entry = {key: value for key, value in entry.items() if key not in (*HUB_KEYS, "expected")}
    if not entry and not {"hub", "path"} & set(spec):
        raise InputError(f"unknown {naming} {spec[naming]!r}{_near(spec[naming], known)}")
    full = {**entry, **spec}
    if "path" not in full and not full.get("split"):
        raise InputError(f"{spec[naming]}: `split` is missing")
    if not isinstance(full.get("columns"), dict):
        raise InputError(f"{spec[naming]}: `columns` must say which of the published columns ours are read from")
    if full.get("incomplete", "error") not in ("error", "drop"):
        raise InputError(f"{spec[naming]}: `incomplete` is 'error' or 'drop', not {full['incomplete']!r}")
    limit = full.get("limit")
    if limit is not None and (not isinstance(limit, int) or limit < 1):
        raise InputError(f"{spec[naming]}: `limit` must be a positive number of rows, not {limit!r}")
    return full


def _near(word: str, known) -> str:
    near = difflib.get_close_matches(str(word), list(known), n=1)
    return f": did you mean {near[0]!r}?" if near else f" (known: {', '.join(known)})"


def _alternatives(column: str) -> tuple[list[tuple[Callable, str]], bool]:
    """Split `rule:column|rule:column?` into its alternatives, and whether all of them may be absent."""
    optional = column.endswith("?")
    parsed = []
    for part in column.removesuffix("?").split("|"):
        rule, _, name = part.strip().rpartition(":")
        if rule and rule not in RULES:
            raise InputError(f"unknown rule {rule!r} in {column!r}{_near(rule, RULES)}")
        parsed.append((RULES[rule or "text"], name))
    return parsed, optional


def _read(spec: dict) -> tuple[pd.DataFrame, str]:
    """Read the rows a spec wants; return them with the name that errors call them by."""
    where = spec.get("where") or {}
    if "path" in spec:
        name = str(Path(spec["path"]))
        rows = read_file(spec["path"]).head(spec.get("limit"))
    else:
        name = f"{spec['hub']}, split {spec['split']}"
        read = [*spec["columns"].values(), *where]
        wanted = [published for column in read for _, published in _alternatives(column)[0]]
        options = {key: spec.get(key) for key in (*HUB_KEYS[1:], "limit")}
        rows = read_hub(spec["hub"], list(dict.fromkeys(wanted)), **options)
    for column, values in where.items():
        if isinstance(values, str) or not isinstance(values, Sequence):
            raise InputError(f"{name}: `where` gives {column!r} a list of values, not {values!r}")
        rule, present = _present(column, rows, name, "where")
        rows = rows[rows[present].map(rule).isin([text(value) for value in values])]
    if rows.empty:
        raise InputError(f"{name}: no rows" + (f" where {where}" if where else ""))
    expected = spec.get("expected")
    if expected is not None and spec.get("limit") is None and len(rows) != expected:
        raise InputError(
            f"{name}: {len(rows)} rows, where {expected} are expected: if this copy is the one you mean, "
            f"set `expected: {len(rows)}` or pin its `revision`"
        )
    return rows, name


def _present(column: str, rows: pd.DataFrame, name: str, ours: str) -> tuple[Callable, str] | None:
    """Return the rule and the first alternative that is a column of `rows`, or None where it may be absent."""
    parsed, optional = _alternatives(column)
    for rule, published in parsed:
        if published in rows.columns:
            return rule, published
    if optional:
        return None
    tried = " or ".join(repr(published) for _, published in parsed)
    raise InputError(f"{name}: no column {tried} for {ours} (there are: {', '.join(map(str, rows.columns))})")


def _map(rows: pd.DataFrame, columns: dict, name: str, needed: tuple[str, ...], known) -> pd.DataFrame:
    """Read our columns from the published ones; the index still counts the published rows, for errors."""
    for ours in (*needed, *columns):
        if ours not in known:
            raise InputError(f"{name}: unknown column {ours!r} in `columns`{_near(ours, known)}")
        if ours not in columns:
            raise InputError(f"{name}: `columns` does not say where {ours!r} is read from")
    mapped = pd.DataFrame(index=rows.index)
    for ours, column in columns.items():
        found = _present(column, rows, name, ours)
        if found is None:
            continue
        rule, published = found
        values = []
        for row, value in zip(rows.index, rows[published], strict=True):
            try:
                values.append(rule(value))
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                reason = error if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
                raise InputError(
                    f"{name}, row {row + 1}, column {published!r}: {reason} (rule {rule.__name__!r})"
                ) from None
        mapped[ours] = pd.Series(values, index=rows.index, dtype=object)
    return mapped


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
