"""From a source to rows: complete it by the table, read what it points at, and map the published columns to ours."""

import difflib
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pandas as pd
from pydantic import ValidationError

from sftrl.errors import InputError
from sftrl.problems.rules import RULES, text
from sftrl.problems.sources import draw, read_file, read_hub
from sftrl.recipes import Source

HUB_KEYS = ("hub", "config", "data_dir", "data_files", "split", "revision")


def complete(given: str | dict | Source, naming: str, recipe: type[Source], known: dict, columns: dict) -> Source:
    """Complete a source by the table, and check it as far as that goes without reading anything.

    Args:
        given: a name of the table, or a source as a mapping or a recipe.
        naming: the key that names the set.
        recipe: what the source is checked by.
        known: the table.
        columns: our columns; whether a source must say where each is read from.

    Raises:
        InputError: an unknown key, set, rule or column, or a value of a wrong type.
    """
    if isinstance(given, Source):
        given = given.model_dump(exclude_unset=True)
    given = {naming: given} if isinstance(given, str) else dict(given)
    if not given.get(naming):
        raise InputError(f"the source {given} does not say which {naming} it is")
    name = given[naming]
    _check(given, name, recipe)
    entry = known.get(name, {})
    if given.get("path") is not None:
        of_hub = [key for key in HUB_KEYS if given.get(key) is not None]
        if of_hub:
            raise InputError(f"{name}: `{of_hub[0]}` is for a dataset of the hub, and `path` for a file: give one")
        # A copy on disk has no configurations, and as many rows as it has.
        entry = {key: value for key, value in entry.items() if key not in (*HUB_KEYS, "expected")}
    elif given.get("hub") not in (None, entry.get("hub")):  # another copy, with commits and files of its own
        entry = {key: value for key, value in entry.items() if key not in ("revision", "data_files")}
    elif not entry and given.get("hub") is None:
        raise InputError(f"unknown {naming} {name!r}{_near(name, known)}")
    source = _check({**entry, **given}, name, recipe)
    if source.path is None and not source.split:
        raise InputError(f"{name}: `split` is missing")
    if not source.columns:
        raise InputError(f"{name}: `columns` must say which of the published columns ours are read from")
    for ours in (*(ours for ours, needed in columns.items() if needed), *source.columns):
        if ours not in columns:
            raise InputError(f"{name}: unknown column {ours!r} in `columns`{_near(ours, columns)}")
        if ours not in source.columns:
            raise InputError(f"{name}: `columns` does not say where {ours!r} is read from")
    for column in (*source.columns.values(), *(source.where or {})):
        _alternatives(column)
    return source


def _check(values: dict, name: str, recipe: type[Source]) -> Source:
    try:
        return recipe.model_validate(values)
    except ValidationError as error:
        wrong = error.errors()[0]
        key = str(wrong["loc"][0]) if wrong["loc"] else ""
        if wrong["type"] == "extra_forbidden":
            raise InputError(f"{name}: unknown key {key!r}{_near(key, recipe.model_fields)}") from None
        message = wrong["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
        where = f"`{key}` is {wrong['input']!r} and should be " if key else ""
        raise InputError(f"{name}: {where}{message}") from None


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


def read_rows(source: Source) -> tuple[pd.DataFrame, str]:
    """Read the rows a source wants, indexed by their place in it; return the name that errors call it by too."""
    name = str(Path(source.path)) if source.path else source.hub
    where = source.where or {}

    def keep(rows: pd.DataFrame) -> np.ndarray:
        kept = np.ones(len(rows), dtype=bool)
        for column, values in where.items():
            rule, published = _present(column, rows, name, "where")
            kept &= rows[published].map(rule).isin([text(value) for value in values]).to_numpy(bool)
        return kept

    if source.path:
        rows = read_file(source.path).head(source.limit)
        kept = keep(rows)
        count = int(kept.sum())
        _check_count(source, count, name)
        return rows[draw(kept, source.sample, np.random.default_rng(source.seed))], name

    def published(columns: Iterable[str]) -> list[str]:
        return list(dict.fromkeys(found for column in columns for _, found in _alternatives(column)[0]))

    wanted = published([*source.columns.values(), *where])
    rows, count, name = read_hub(source, wanted, published(where), keep)
    _check_count(source, count, name)
    return rows, name


def _check_count(source: Source, count: int, name: str) -> None:
    """Raise unless as many rows are there, of those that `where` keeps, as the source expects."""
    if count == 0:
        raise InputError(f"{name}: no rows" + (f" where {source.where}" if source.where else ""))
    whole = source.limit is None and source.shards is None
    if source.expected is not None and whole and count != source.expected:
        raise InputError(
            f"{name}: {count} rows, where {source.expected} are expected: if this copy is the one you mean, "
            f"set `expected: {count}` or pin its `revision`"
        )
    if source.sample is not None and source.sample > count:
        raise InputError(f"{name}: cannot draw a sample of {source.sample} from {count} rows")


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


def map_columns(rows: pd.DataFrame, columns: dict[str, str], name: str) -> pd.DataFrame:
    """Read our columns from the published ones; the index still counts the published rows, for errors."""
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
