"""Atomic files, written to a temporary name and then renamed; and hashes of what was read."""

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from sftrl.errors import InputError


@contextlib.contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it onto `path` if the block succeeds, remove it if not.

    The bytes reach the disk before the name does, so that a crash leaves the old file or the new one.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.stem}.", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    os.chmod(name, 0o644)  # mkstemp makes private files; results are for everyone who can read the folder
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def whole_folder(path: str | Path) -> Iterator[Path]:
    """Yield a temporary folder beside `path`; put it in the place of `path` if the block succeeds, remove it if not."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    os.chmod(temporary, 0o755)
    try:
        yield temporary
        if path.exists():
            shutil.rmtree(path)
        os.replace(temporary, path)
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_json(path: str | Path, value: object) -> None:
    """Write `value` as indented JSON, atomically. NaN is an error: JSON has none."""
    with whole_file(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, allow_nan=False, default=str) + "\n")


def read_json(path: str | Path) -> dict:
    """Read a JSON file; `InputError` names the file if it is absent or broken."""
    try:
        return json.loads(Path(path).read_text())
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except json.JSONDecodeError as error:
        raise InputError(f"{path}: not JSON: {error}") from None


def write_table(table: pd.DataFrame, path: str | Path, digits: int = 10) -> None:
    """Write a table as `.csv`, `.parquet` or `.jsonl` by the name's suffix, atomically.

    CSV floats keep `digits` significant digits: 10 are more than any number here is known to, and the same bytes
    every time.
    """
    path = Path(path)
    with whole_file(path) as temporary:
        if path.suffix == ".csv":
            table.to_csv(temporary, index=False, float_format=f"%.{digits}g", lineterminator="\n")
        elif path.suffix == ".parquet":
            table.to_parquet(temporary, index=False)
        elif path.suffix == ".jsonl":
            table.to_json(temporary, orient="records", lines=True, force_ascii=False)
        else:
            raise InputError(f"{path}: a table is .csv, .parquet or .jsonl")


def read_table(path: str | Path) -> pd.DataFrame:
    """Read what `write_table` wrote, or `cut` into parts; `InputError` names the file if it is absent or broken."""
    path = Path(path)
    if not path.is_file():
        if parts := sorted(path.parent.glob(f"{path.stem}.*{path.suffix}")):
            return pd.concat([read_table(part) for part in parts], ignore_index=True)
        raise InputError(f"{path}: no such file")
    try:
        if path.suffix == ".csv":
            return pd.read_csv(path)
        if path.suffix == ".parquet":
            return _read_parquet(path)
        if path.suffix == ".jsonl":
            return pd.read_json(path, orient="records", lines=True, dtype=False, convert_dates=False)
    except (ValueError, OSError) as error:  # pyarrow's own errors are kinds of both
        raise InputError(f"{path}: cannot be read: {error}") from None
    raise InputError(f"{path}: a table is .csv, .parquet or .jsonl")


def read_tables(folder: str | Path) -> dict[str, pd.DataFrame]:
    """Read every CSV table of a folder, by its name."""
    folder = Path(folder)
    return {name: read_table(folder / f"{name}.csv") for name in sorted({table_name(p) for p in folder.glob("*.csv")})}


def table_name(path: Path) -> str:
    """Return the name of the table that a file holds, all of it or a part."""
    return path.name.partition(".")[0]


def cut(path: Path, most: int) -> None:
    """Cut a CSV table into `results.1.csv`, `results.2.csv` and so on, as few as have at most `most` bytes each.

    They have as many rows each; a part of one row may be larger.
    """
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    rows = len(table)
    for parts in range(-(-path.stat().st_size // most), rows + 1):
        size = -(-rows // parts)
        pieces = [table[start : start + size] for start in range(0, rows, size)]
        if size == 1 or max(len(piece.to_csv(index=False).encode()) for piece in pieces) <= most:
            break
    for number, piece in enumerate(pieces, 1):
        write_table(piece, path.with_suffix(f".{number}.csv"))
    path.unlink()


def _read_parquet(path: Path) -> pd.DataFrame:
    """Read a Parquet file in blocks of rows, so that long texts are in memory once, where pandas has them twice."""
    import pyarrow.parquet as pq  # a while to import

    file = pq.ParquetFile(path, pre_buffer=False, buffer_size=2**20)
    blocks = [rows.to_pandas() for rows in file.iter_batches(1024, use_threads=False)]
    return pd.concat(blocks, ignore_index=True) if blocks else file.schema_arrow.empty_table().to_pandas()


def hash_value(value: object) -> str:
    """16 hex digits of the SHA-256 of a JSON value, the same whatever the order of its keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:16]


def sha256(path: str | Path) -> str:
    """The SHA-256 of a file's bytes, as hex digits."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hash_path(path: str | Path) -> str:
    """16 hex digits of the SHA-256 of a file's bytes, or of a folder's file names and bytes."""
    path = Path(path)
    if path.is_file():
        return sha256(path)[:16]
    if not path.is_dir():
        raise InputError(f"{path}: no such file or folder")
    files = sorted(p for p in path.rglob("*") if p.is_file())
    return hash_value({str(p.relative_to(path)): hash_path(p) for p in files})


def is_path(model: str) -> bool:
    """Return whether a model can only be a folder: a hub name has one slash at most and starts with none of `./~`."""
    return model.startswith((".", "/", "~")) or model.count("/") > 1


def flat(value: dict, prefix: str = "") -> dict:
    """Turn nested dicts into one with dotted names."""
    found = {}
    for name, inner in value.items():
        found |= flat(inner, f"{prefix}{name}.") if isinstance(inner, dict) else {prefix + name: inner}
    return found
