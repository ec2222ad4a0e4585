"""From a spec to rows: complete it by the table, read what it points at, and map the published columns to ours."""

import difflib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from sftrl.errors import InputError
from sftrl.problems.rules import RULES, text
from sftrl.problems.sources import read_file, read_hub

HUB_KEYS = ("hub", "config", "data_dir", "split", "revision")
SPEC_KEYS = (*HUB_KEYS, "path", "columns", "where", "limit", "sample", "seed", "expected", "incomplete")


def complete_spec(spec: str | dict, naming: str, known: dict[str, dict], keys: tuple[str, ...]) -> dict:
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
    for key in ("limit", "sample"):
        if full.get(key) is not None and (not isinstance(full[key], int) or full[key] < 1):
            raise InputError(f"{spec[naming]}: `{key}` must be a positive number of rows, not {full[key]!r}")
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


def read_rows(spec: dict) -> tuple[pd.DataFrame, str]:
    """Read the rows a spec wants, indexed by their place in the source; return the name that errors call it by too."""
    name = str(Path(spec["path"])) if "path" in spec else f"{spec['hub']}, split {spec['split']}"
    where = spec.get("where") or {}
    for column, values in where.items():
        if isinstance(values, str) or not isinstance(values, Sequence):
            raise InputError(f"{name}: `where` gives {column!r} a list of values, not {values!r}")

    def pick(rows: pd.DataFrame) -> np.ndarray:
        kept = np.ones(len(rows), dtype=bool)
        for column, values in where.items():
            rule, published = _present(column, rows, name, "where")
            kept &= rows[published].map(rule).isin([text(value) for value in values]).to_numpy(bool)
        places = np.flatnonzero(kept)
        _check_count(spec, len(places), name)
        if spec.get("sample") is None:
            return places
        return np.sort(np.random.default_rng(spec.get("seed", 0)).choice(places, spec["sample"], replace=False))

    if "path" in spec:
        rows = read_file(spec["path"]).head(spec.get("limit"))
        return rows.iloc[pick(rows)], name

    def published(columns: Iterable[str]) -> list[str]:
        return list(dict.fromkeys(found for column in columns for _, found in _alternatives(column)[0]))

    wanted = published([*spec["columns"].values(), *where])
    options = {key: spec.get(key) for key in (*HUB_KEYS[1:], "limit")}
    return read_hub(spec["hub"], wanted, pick, published(where), **options), name


def _check_count(spec: dict, count: int, name: str) -> None:
    """Raise unless a source has as many rows as its spec expects."""
    where, expected, sample = spec.get("where"), spec.get("expected"), spec.get("sample")
    if count == 0:
        raise InputError(f"{name}: no rows" + (f" where {where}" if where else ""))
    if expected is not None and spec.get("limit") is None and count != expected:
        raise InputError(
            f"{name}: {count} rows, where {expected} are expected: if this copy is the one you mean, "
            f"set `expected: {count}` or pin its `revision`"
        )
    if sample is not None and sample > count:
        raise InputError(f"{name}: cannot draw a sample of {sample} from {count} rows")


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


def map_columns(rows: pd.DataFrame, columns: dict, name: str, needed: tuple[str, ...], known) -> pd.DataFrame:
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
