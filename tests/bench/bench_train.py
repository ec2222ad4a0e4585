"""Memory and disk that SFT's data take: 100,000 examples of 6,000 tokens and four times as many characters.

`python tests/bench/bench_train.py [examples] [tokens]` prints two lines: after the examples' text was read, as 02_sft
reads it, and after their tokens were written and read, as a trainer does. The encoding itself is left out: the ids of
any tokenizer take the same room.
"""

import resource
import sys
import tempfile
import time
from pathlib import Path
from unittest import mock

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sftrl.files import read_table
from sftrl.train import arrow


def main(examples: int = 100_000, tokens: int = 6_000) -> None:
    """Write and read so many examples of so many tokens."""
    ids = np.random.default_rng(0).integers(0, 150_000, tokens).tolist()
    before, started = _resident(), time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        _write(Path(folder) / "sft.parquet", examples, 4 * tokens)
        table = read_table(Path(folder) / "sft.parquet")
    print(f"{table['response'].str.len().sum() / 1e9:.2f} GB of text: {(_resident() - before) / 1e9:.2f} GB of memory")
    with tempfile.TemporaryDirectory() as folder, mock.patch.object(arrow, "encode_example", return_value=(ids, 200)):
        path = Path(folder) / arrow.NAME
        arrow.write_examples(None, table, path, max_length=tokens, context=None)
        size = path.stat().st_size
        data = arrow.read_examples(path, 32, processes=1)
        for row in np.random.default_rng(1).permutation(examples)[:1000].tolist():
            assert len(data[row]["labels"]) == tokens
    print(
        f"{examples:,} x {tokens:,} tokens: {size / 1e9:.2f} GB on disk, {size / examples / tokens:.2f} bytes a token, "
        f"{(_resident() - before) / 1e9:.2f} GB of memory at most with the text, {time.process_time() - started:.0f} s"
    )


def _write(path: Path, examples: int, characters: int) -> None:
    """Write examples with responses of random letters."""
    letters, block = np.random.default_rng(2), 1000
    schema = pa.schema({name: pa.string() for name in ("id", "prompt", "response")})
    with pq.ParquetWriter(path, schema) as file:
        for first in range(0, examples, block):
            ids = [str(i) for i in range(first, min(first + block, examples))]
            text = letters.integers(97, 123, size=len(ids) * characters, dtype=np.uint8).tobytes().decode()
            responses = [text[i * characters : (i + 1) * characters] for i in range(len(ids))]
            file.write_table(pa.table({"id": ids, "prompt": ids, "response": responses}, schema))


def _resident() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
