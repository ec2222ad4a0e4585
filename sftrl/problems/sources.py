"""Read a set's rows where they are: a dataset on the hub, or a file of JSON, JSON lines, CSV or Parquet.

Nothing is converted on the way in: a CSV cell "None" stays that text, an integer of forty digits stays that integer.
What the fields mean is for `sftrl.problems` to say.
"""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from sftrl.errors import InputError


def read_file(path: str | Path) -> pd.DataFrame:
    """Read a file's records, one row each, every column as the objects found there.

    Raises:
        InputError: no such file, an unknown ending, or a broken record, named by its line where there is one.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    readers = {".json": _read_json, ".jsonl": _read_json_lines, ".csv": _read_csv, ".parquet": _read_parquet}
    if path.suffix not in readers:
        raise InputError(f"{path}: a file of records is one of {', '.join(readers)}")
    try:
        return readers[path.suffix](path)
    except (UnicodeDecodeError, pa.ArrowInvalid, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from None


def _records(records: list, places: list[str]) -> pd.DataFrame:
    for record, place in zip(records, places, strict=True):
        if not isinstance(record, dict):
            raise InputError(f"{place}: a record is a JSON object, not {type(record).__name__}")
    return pd.DataFrame(records, dtype=object)


def _read_json(path: Path) -> pd.DataFrame:
    try:
        records = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise InputError(f"{path}: not JSON: {error} (a file of JSON lines ends in .jsonl)") from None
    if not isinstance(records, list):
        raise InputError(f"{path}: a JSON file of records is a list, not {type(records).__name__}")
    return _records(records, [f"{path}, record {i}" for i in range(1, len(records) + 1)])


def _read_json_lines(path: Path) -> pd.DataFrame:
    records, places = [], []
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                try:
                    records.append(json.loads(line))
                except json.JSONDecodeError as error:
                    raise InputError(f"{path}, line {number}: not JSON: {error}") from None
                places.append(f"{path}, line {number}")
    return _records(records, places)


def _read_csv(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, dtype=str, keep_default_na=False).astype(object)


def _read_parquet(path: Path) -> pd.DataFrame:
    return _from_arrow(pq.read_table(path))


def _from_arrow(table: pa.Table) -> pd.DataFrame:
    # Whole numbers stay whole beside missing ones; pandas would make them floats, and an id 17 would become 17.0.
    return table.to_pandas(integer_object_nulls=True, ignore_metadata=True).astype(object)


def read_hub(
    hub: str,
    columns: list[str],
    pick: Callable[[pd.DataFrame], np.ndarray],
    picked_by: list[str],
    *,
    config: str | list[str] | None = None,
    split: str,
    revision: str | None = None,
    data_dir: str | None = None,
    limit: int | None = None,
) -> pd.DataFrame:
    """Read rows of a dataset of the hub (or of a folder of data files, which `load_dataset` takes as well).

    Args:
        hub: its name, or a folder's path.
        columns: the columns that could be wanted; those that are there come back, others (images, say) stay unread.
        pick: given the columns `picked_by` of all rows, returns the positions of the rows wanted. Only these rows'
            other columns are brought into memory.
        config: one configuration, or several whose rows are put one after another.
        limit: read no more than so many rows, and with the hub's streaming fetch no more: for sets of many gigabytes.

    Returns:
        The rows picked, indexed by their positions.

    Raises:
        InputError: the dataset, configuration, split or revision cannot be loaded.
    """
    import datasets  # slow to import, and not needed to read a file

    parts, left = [], limit
    for name in config if isinstance(config, list) else [config]:
        try:
            data = datasets.load_dataset(
                hub, name, split=split, revision=revision, data_dir=data_dir, streaming=limit is not None
            )
            if left is not None:
                data = datasets.Dataset.from_list(list(data.take(left)))
                left -= len(data)
            parts.append(data.select_columns([column for column in columns if column in data.column_names]))
        except (ValueError, OSError, RuntimeError, datasets.exceptions.DatasetsError) as error:
            asked = hub + (f" ({name})" if name else "") + f", split {split}"
            reason = str(error).strip().splitlines() or [type(error).__name__]
            raise InputError(f"{asked}: cannot be loaded: {reason[0]}") from error
    data = datasets.concatenate_datasets(parts)
    shown = data.select_columns([column for column in picked_by if column in data.column_names])
    positions = pick(_in_memory(shown) if picked_by else pd.DataFrame(index=range(len(data))))
    return _in_memory(data.select(positions)).set_axis(positions)


def _in_memory(data) -> pd.DataFrame:
    return _from_arrow(data.with_format("arrow")[:])


def as_list(value: object) -> list | None:
    """Return a list cell as a list, however the file format brought it; nothing (None, NaN) is None."""
    if isinstance(value, list | tuple | np.ndarray):
        return list(value)
    return None if value is None or value != value else value
