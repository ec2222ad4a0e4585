"""What a random draw from a set that is read as a stream costs: memory, and CPU time a gigabyte.

    python tests/bench/bench_stream.py

A set of 1 GB in 8 files of JSON lines or Parquet, responses of 5,000 characters; 5,000 rows are drawn of the half that
`where` keeps. In a child process each, beside the same set loaded whole, as the hub's sets are without `sample`.
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

ROWS, FILES, CHARACTERS, SAMPLE = 200_000, 8, 5000, 5000
SPEC = {"source": "mine", "split": "train", "columns": {"prompt": "q", "response": "a"}, "where": {"k": ["1"]}}


def write(folder: Path, kind: str) -> float:
    """Write the set; return its size in GB."""
    letters = np.random.default_rng(0)
    for i in range(FILES):
        n = ROWS // FILES
        text = letters.integers(97, 123, size=n * CHARACTERS, dtype=np.uint8).tobytes().decode()
        rows = pd.DataFrame({"q": [f"{i} {j}?" for j in range(n)], "k": [str(j % 2) for j in range(n)]})
        rows["a"] = [text[j * CHARACTERS : (j + 1) * CHARACTERS] for j in range(n)]
        path = folder / f"train-{i:05}-of-{FILES:05}.{kind}"
        rows.to_parquet(path) if kind == "parquet" else rows.to_json(path, orient="records", lines=True)
    return sum(path.stat().st_size for path in folder.iterdir()) / 1e9


def measure(folder: str, cache: str, sample: int | None) -> None:
    """Print CPU seconds and the peak resident size of loading, above that of the imports."""
    import datasets

    from sftrl.problems import load_examples

    datasets.config.HF_DATASETS_CACHE = Path(cache)
    datasets.disable_progress_bars()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.process_time()
    rows = load_examples({**SPEC, "hub": folder, "sample": sample})
    peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 / 1e9
    on_disk = sum(path.stat().st_size for path in Path(cache).rglob("*") if path.is_file()) / 1e9
    print(json.dumps([len(rows), time.process_time() - began, peak, on_disk]))


def main() -> None:
    print(f"{'':<26}{'rows':>10}{'CPU s':>10}{'peak GB':>10}{'on disk GB':>12}")
    for kind in ("jsonl", "parquet"):
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch) / "set"
            folder.mkdir()
            size = write(folder, kind)
            for name, sample in (("drawn", SAMPLE), ("whole", None)):
                command = [sys.executable, __file__, str(folder), str(Path(scratch) / name), json.dumps(sample)]
                out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
                rows, cpu, peak, disk = json.loads(out.strip().splitlines()[-1])
                label = f"{kind}, {size:.2f} GB, {name}"
                print(f"{label:<26}{rows:>10,}{cpu:>10.1f}{peak:>10.2f}{disk:>12.2f}", flush=True)


if __name__ == "__main__":
    measure(*sys.argv[1:3], json.loads(sys.argv[3])) if len(sys.argv) > 1 else main()
