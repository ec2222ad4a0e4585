"""`Store`: open a folder of samples for one key and one shard, ask what is missing, append what was sampled.

A killed process leaves complete parts and at most one hidden temporary file. A part that was truncated or changed later
is detected by its hash when the store is next opened, renamed to `*.damaged`, and only its rows are missing again. An
open store keeps one bit per row in memory.
"""

import contextlib
import errno
import fcntl
import hashlib
import os
import socket
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd
import pyarrow as pa

from sftrl.errors import InputError
from sftrl.files import flat, read_json, write_json
from sftrl.generations.parts import is_whole, read_part, write_part

SCHEMA = pa.schema(
    {
        "benchmark": pa.string(),
        "problem_id": pa.string(),
        "sample_index": pa.int32(),
        "seed": pa.int64(),
        "response": pa.string(),
        "n_tokens": pa.int32(),
        "finish_reason": pa.string(),
    }
)
Problem = tuple[str, str]  # benchmark, problem_id


def sample_seed(base: int, benchmark: str, problem_id: str, sample_index: int) -> int:
    """Derive the seed of one sample, 63 bits: its own whatever else is sampled beside it, before it or after it."""
    name = f"{base}\0{benchmark}\0{problem_id}\0{sample_index}".encode()
    return int.from_bytes(hashlib.sha256(name).digest()[:8]) >> 1


class Store:
    """A folder of samples. `Store(folder)` reads it; `Store.open(folder, key, ...)` adds to it.

    Attributes:
        folder: where it lies.
        key: what was sampled from what, as its `store.json` holds it.
        next_part: the number of the part that `append` writes next; never that of one that was ever there.

    Raises:
        InputError: the folder holds no store.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        self.key = read_json(self.folder / "store.json")
        self._have: dict[Problem, int] = {}
        self._shard: Path | None = None
        self._siblings = ""
        self._by = ""
        self.next_part = 0

    @classmethod
    @contextlib.contextmanager
    def open(cls, folder: str | Path, key: dict, *, shard: int = 0, of: int = 1, by: str = "") -> Iterator["Store"]:
        """Open a store to add to its shard, made if absent, and hold the shard's lock until the block ends.

        Args:
            folder: the store's folder.
            key: what is to be sampled from what: a JSON value.
            shard, of: this process fills shard `shard` of `of`. Any number of processes may fill different shards
                at once; they must agree on `of`, because it says which problems are whose.
            by: what draws, with its version. It is no part of the key: every part has it in its Parquet metadata.

        Raises:
            InputError: the folder's key differs (the fields are named); another process holds the shard, or fills
                the store as another number of shards; the file system has no locks.
        """
        folder = Path(folder)
        if not 0 <= shard < of:
            raise InputError(f"shard: {shard} is not one of 0 to {of - 1}")
        with _locked(folder, shard, of):
            store = cls._with_key(folder, key)
            store._shard = folder / "samples" / f"{shard}-of-{of}"
            store._shard.mkdir(parents=True, exist_ok=True)
            store._siblings = f"-of-{of}"
            store._by = by
            store._load()
            yield store

    @classmethod
    def _with_key(cls, folder: Path, key: dict) -> "Store":
        if not (folder / "store.json").exists():
            write_json(folder / "store.json", key)
        store = cls(folder)
        theirs, ours = flat(store.key), flat(key)
        differing = [
            f"{name} is {theirs.get(name, 'absent')!r} there and {ours.get(name, 'absent')!r} here"
            for name in sorted(theirs.keys() | ours.keys())
            if theirs.get(name, "absent") != ours.get(name, "absent")
        ]
        if differing:
            raise InputError(f"{folder}: holds samples of something else: {'; '.join(differing)}. Use another folder")
        return store

    def _load(self) -> None:
        """Learn which samples are there, setting damaged parts aside."""
        for folder in (self._shard, *self.folder.glob(f"grades/*/{self._shard.name}")):
            for left in folder.glob(".*"):
                left.unlink()  # what a killed process was writing
        damaged = []
        for path in self.own_parts():
            if is_whole(path):
                self._count(read_part(path, ["benchmark", "problem_id", "sample_index"]))
            else:
                path.rename(path.with_suffix(".parquet.damaged"))
                damaged.append(path)
        if damaged:
            warnings.warn(
                f"damaged, set aside, their samples are drawn anew: {', '.join(map(str, damaged))}",
                stacklevel=4,
            )
        numbers = [int(path.name.split("-")[0]) for path in self._shard.iterdir()]
        self.next_part = max(numbers, default=-1) + 1

    def _count(self, rows: pd.DataFrame) -> None:
        for benchmark, problem_id, index in zip(
            rows["benchmark"], rows["problem_id"], rows["sample_index"].tolist(), strict=True
        ):
            self._have[benchmark, problem_id] = self._have.get((benchmark, problem_id), 0) | 1 << index

    def missing(self, problems: Sequence[Problem], n: int | Sequence[int]) -> list[tuple[str, str, int]]:
        """List the samples still to be drawn, as (benchmark, problem_id, sample_index).

        Args:
            problems: (benchmark, problem_id) pairs.
            n: how many samples each problem shall have: one number, or one for each problem.
        """
        wanted = [n] * len(problems) if isinstance(n, int) else n
        return [
            (*problem, index)
            for problem, count in zip(problems, wanted, strict=True)
            for index in range(count)
            if (*problem, index) not in self
        ]

    def __contains__(self, sample: tuple[str, str, int]) -> bool:
        benchmark, problem_id, index = sample
        return bool(self._have.get((benchmark, problem_id), 0) >> index & 1)

    def append(self, rows: pd.DataFrame) -> Path:
        """Add finished rows as one new part, on disk when this returns; a sample already there is an error.

        Args:
            rows: the columns of `SCHEMA`.

        Returns:
            The part's path.

        Raises:
            InputError: the part cannot be written (disk full); what was there stays as it was.
            RuntimeError: the store is open for reading only, or a sample would be doubled.
        """
        if self._shard is None:
            raise RuntimeError(f"{self.folder}: open it with Store.open to add to it")
        names = list(zip(rows["benchmark"], rows["problem_id"], rows["sample_index"].tolist(), strict=True))
        if len(set(names)) < len(names) or any(name in self for name in names):
            raise RuntimeError(f"{self.folder}: a sample would be stored twice")
        path = write_part(self._shard, f"{self.next_part:06d}", rows, SCHEMA.with_metadata({"drawn_by": self._by}))
        self.next_part += 1
        self._count(rows)
        return path

    def parts(self) -> list[Path]:
        """List the parts of all shards, in the order of their names."""
        return sorted(self.folder.glob("samples/*/[0-9]*.parquet"))

    def own_parts(self) -> list[Path]:
        """List the parts that may hold samples of this shard's problems: all but those of the shards beside it."""
        return [
            path for path in self.parts() if path.parent == self._shard or not path.parent.name.endswith(self._siblings)
        ]

    def read(self, columns: list[str] | None = None) -> pd.DataFrame:
        """Read all samples, by default with all columns, sorted by benchmark, problem and sample.

        Raises:
            InputError: a part is damaged.
        """
        order = ["benchmark", "problem_id", "sample_index"]
        wanted = [field.name for field in SCHEMA if columns is None or field.name in {*columns, *order}]
        tables = [read_part(path, wanted) for path in self.parts()]
        table = pd.concat(tables, ignore_index=True) if tables else SCHEMA.empty_table().to_pandas()[wanted]
        return table.sort_values(order, ignore_index=True)[columns or wanted]


@contextlib.contextmanager
def _locked(folder: Path, shard: int, of: int) -> Iterator[None]:
    """Hold the shard's lock. POSIX record locks: freed by the kernel when the process dies, and never inherited.

    (The locks of `flock` live on in a forked worker after its parent was killed.)
    """
    locks = folder / "locks"
    locks.mkdir(parents=True, exist_ok=True)
    ours = locks / f"{shard}-of-{of}"
    with contextlib.ExitStack() as held:
        with (locks / "door").open("a") as door:  # one process at a time looks at the locks and takes its own
            _lock(door, fcntl.LOCK_EX, folder)
            for other in sorted(locks.glob("*-of-*")):
                if not other.name.endswith(f"-of-{of}"):
                    with other.open("r+") as file:
                        _take(file, other)
            file = held.enter_context(ours.open("a+"))
            _take(file, ours)
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()}")
            file.flush()
        yield


def _take(file, path: Path) -> None:
    folder = path.parent.parent
    if not _lock(file, fcntl.LOCK_EX | fcntl.LOCK_NB, folder):
        raise InputError(
            f"{folder}: shard {path.name} is being filled by {path.read_text()}; wait for it or stop it"
        ) from None


def _lock(file, how: int, folder: Path) -> bool:
    """Say whether the lock was taken; another process may hold it."""
    try:
        fcntl.lockf(file, how)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN):
            return False
        raise InputError(
            f"{folder}: its file system refuses locks ({error.strerror}), without which two processes could draw the "
            "same samples; use a folder on another one"
        ) from None
    return True
