"""Memory and disk that SFT's tokens take: 100,000 examples of 6,000 tokens, written and then read as a trainer does.

`python tests/bench/bench_train.py [examples] [tokens]` prints one line. The encoding itself is left out: the ids of any
tokenizer take the same room.
"""

import resource
import sys
import tempfile
import time
from pathlib import Path
from unittest import mock

import numpy as np
import pandas as pd

from sftrl.train import arrow


def main(examples: int = 100_000, tokens: int = 6_000) -> None:
    """Write and read so many examples of so many tokens."""
    ids = np.random.default_rng(0).integers(0, 150_000, tokens).tolist()
    table = pd.DataFrame({"id": np.arange(examples), "prompt": "p", "response": "r"})
    before, started = _resident(), time.process_time()
    with tempfile.TemporaryDirectory() as folder, mock.patch.object(arrow, "encode_example", return_value=(ids, 200)):
        path = Path(folder) / arrow.NAME
        arrow.write_examples(None, table, path, max_length=tokens, context=None)
        size = path.stat().st_size
        data = arrow.read_examples(path, 32, processes=1)
        for row in np.random.default_rng(1).permutation(examples)[:1000].tolist():
            assert len(data[row]["labels"]) == tokens
    print(
        f"{examples:,} x {tokens:,} tokens: {size / 1e9:.2f} GB on disk, {size / examples / tokens:.2f} bytes a token, "
        f"{(_resident() - before) / 1e9:.2f} GB of memory at most, {time.process_time() - started:.0f} s"
    )


def _resident() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
