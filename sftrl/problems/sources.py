"""Read a set's rows where they are: a dataset on the hub, or a file of JSON, JSON lines, CSV or Parquet.

Nothing is converted on the way in: a CSV cell "None" stays that text, an integer of forty digits stays that integer.
What the fields mean is for `sftrl.problems` to say.
"""

import json
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from sftrl.errors import InputError
from sftrl.progress import Progress
from sftrl.recipes import Source

BATCH = 1000  # rows of a stream looked at together


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


Keep = Callable[[pd.DataFrame], np.ndarray]


def draw(kept: np.ndarray, sample: int | None, chance: np.random.Generator) -> np.ndarray:
    """Return which rows are drawn: of those kept, the `sample` with the smallest random numbers, or all.

    Every row has a number, kept or not, so that what is drawn does not depend on how rows are cut into batches.
    """
    if sample is None:
        return kept
    numbers = np.where(kept, chance.random(len(kept)), np.inf)
    return kept & (numbers <= np.sort(numbers)[min(sample, len(numbers)) - 1])


def read_hub(source: Source, columns: list[str], tested: list[str], keep: Keep) -> tuple[pd.DataFrame, int, str]:
    """Read rows of a dataset of the hub (or of a folder of data files, which `load_dataset` takes as well).

    Without `limit` or `sample` the set is fetched whole and kept in the cache of `datasets`. With one of them it is
    read as a stream, and nothing of it is kept but the rows wanted.

    Args:
        columns: the columns that could be wanted; those that are there come back, others (images, say) stay unread.
        tested: those of them that `keep` looks at.
        keep: tells of some rows which are wanted.

    Returns:
        The rows, indexed by their place in what was read; how many rows `keep` wanted; what to call the set in errors.

    Raises:
        InputError: the dataset, configuration, split or revision cannot be loaded.
    """
    import datasets  # slow to import, and not needed to read a file

    streaming = source.limit is not None or source.sample is not None
    parts, name = [], source.hub
    for config in source.config if isinstance(source.config, list) else [source.config]:
        part, split = _load(datasets, source, config, streaming)
        name = f"{source.hub}, split {split}"
        parts.append(part)
    if source.sample is not None:
        return *_stream(parts, source, columns, tested, keep, name), name
    if source.limit is not None:
        left, taken = source.limit, []
        for part in parts:
            taken.append(datasets.Dataset.from_list(list(part.take(left))))
            left -= len(taken[-1])
        parts = taken
    data = datasets.concatenate_datasets([_only(part, columns) for part in parts])
    shown = _only(data, tested)
    positions = np.flatnonzero(keep(_in_memory(shown) if tested else pd.DataFrame(index=range(len(data)))))
    return _in_memory(data.select(positions)).set_axis(positions), len(positions), name


def _load(datasets, source: Source, config: str | None, streaming: bool):
    """Load one configuration, of the first of the splits that is there; return it and the split's name."""
    splits = source.split if isinstance(source.split, list) else [source.split]
    for split in splits:
        # Files given by pattern are the split: no other file of the set is fetched or prepared.
        files = None if source.data_files is None else {split: source.data_files}
        try:
            data = datasets.load_dataset(
                source.hub, config, split=split, revision=source.revision, data_dir=source.data_dir, data_files=files,
                streaming=streaming,
            )  # fmt: skip
        except (ValueError, OSError, RuntimeError, datasets.exceptions.DatasetsError) as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            if split != splits[-1] and ("Unknown split" in reason or "Bad split" in reason):
                continue
            asked = source.hub + (f" ({config})" if config else "") + f", split {split}"
            raise InputError(f"{asked}: cannot be loaded: {reason}") from error
        if split != splits[0]:
            warnings.warn(f"{source.hub}: split {split!r} is read; there is no {splits[0]!r}", stacklevel=2)
        return data, split
    raise AssertionError("a source has a split")


def _stream(
    parts: list, source: Source, columns: list[str], tested: list[str], keep: Keep, name: str
) -> tuple[pd.DataFrame, int]:
    """Draw `source.sample` of the rows that `keep` wants, each as likely as any other, from streams read once.

    Each row gets a random number, and those with the smallest are drawn: a simple random sample, which holds the sample
    of any smaller size. At most about twice the sample is in memory. With `source.shards`, so many of the files are
    drawn first, and rows from these alone: every row is as likely as before if files are alike in size, and rows of one
    file come or stay away together.
    """
    files = [part.shard(part.num_shards, i) for part in parts for i in range(part.num_shards)]
    seeds = np.random.SeedSequence(source.seed).spawn(len(files) + 1)
    chosen = range(len(files))
    if source.shards is not None:
        if source.shards > len(files):
            raise InputError(f"{name}: `shards` is {source.shards}, and the set has {len(files)} files")
        chosen = np.sort(np.random.default_rng(seeds[-1]).choice(len(files), source.shards, replace=False))
    drawn, count, place, progress = Reservoir(source.sample), 0, 0, Progress(None, f"rows of {name} read")
    for number, i in enumerate(chosen, 1):
        chance = np.random.default_rng(seeds[i])
        for batch in files[i].with_format("arrow").iter(BATCH):
            numbers = chance.random(len(batch))  # for every row, so that `where` does not change whose number is whose
            wanted = keep(_from_arrow(_columns(batch, tested)) if tested else pd.DataFrame(index=range(len(batch))))
            drawn.add(_columns(batch, columns), numbers, wanted, place)
            count, place = count + int(wanted.sum()), place + len(batch)
            progress.at(place, f"{count:,} wanted, file {number} of {len(chosen)}")
    return drawn.rows(), count


class Reservoir:
    """The rows with the smallest numbers of all that were added, and little more."""

    def __init__(self, size: int):
        self.size, self.bound, self.held = size, np.inf, 0
        self.tables: list[pa.Table] = []
        self.numbers: list[np.ndarray] = []
        self.places: list[np.ndarray] = []

    def add(self, table: pa.Table, numbers: np.ndarray, wanted: np.ndarray, first: int) -> None:
        """Take those of a table's rows that are wanted and may belong to the draw; `first` is its first row's place."""
        rows = np.flatnonzero(wanted & (numbers < self.bound))
        if len(rows):
            self.tables.append(table.take(rows))
            self.numbers.append(numbers[rows])
            self.places.append(first + rows)
            self.held += len(rows)
        if self.held > 2 * self.size + BATCH:
            self._shrink()

    def _shrink(self) -> None:
        if not self.tables:
            return
        table = pa.concat_tables(self.tables, promote_options="permissive")
        numbers, places = np.concatenate(self.numbers), np.concatenate(self.places)
        smallest = np.sort(np.argsort(numbers, kind="stable")[: self.size])
        self.tables, self.numbers, self.places = [table.take(smallest)], [numbers[smallest]], [places[smallest]]
        self.held = len(smallest)
        if self.held == self.size:
            self.bound = self.numbers[0].max()

    def rows(self) -> pd.DataFrame:
        """Return the rows drawn, indexed by their places, in whose order they are."""
        self._shrink()
        if not self.tables:
            return pd.DataFrame()
        return _from_arrow(self.tables[0]).set_axis(self.places[0])


def _columns(table: pa.Table, columns: list[str]) -> pa.Table:
    return table.select([column for column in columns if column in table.column_names])


def _only(data, columns: list[str]):
    return data.select_columns([column for column in columns if column in data.column_names])


def _in_memory(data) -> pd.DataFrame:
    return _from_arrow(data.with_format("arrow")[:])


def as_list(value: object) -> list | None:
    """Return a list cell as a list, however the file format brought it; nothing (None, NaN) is None."""
    if isinstance(value, list | tuple | np.ndarray):
        return list(value)
    return None if value is None or value != value else value
