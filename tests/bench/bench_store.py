"""A store as large as a study of real models makes it: grading, counting and adding in bounded memory and minutes.

    python tests/bench/bench_store.py [PROBLEMS SAMPLES]

Default: 3,811 problems x 256 samples, responses of 1 to 8 KB whose last line holds the answer: right ones, wrong ones
in several forms, some that cannot be read and some without any. Each step runs in a process of its own; printed are
its CPU seconds and its peak memory, those of its children included.
"""

import contextlib
import random
import resource
import string
import sys
import tempfile
import time

import numpy as np
import pandas as pd
import psutil

from sftrl.generations import Store, grade, summarise

PART = 1024  # rows of a part, as the engines hand them over
KEY = {"made by": "bench_store"}


def problems(count: int) -> pd.DataFrame:
    golds = [str(3 * i + 1) if i % 4 else f"\\frac{{{i + 1}}}{{{i + 2}}}" for i in range(count)]
    names = [f"b{i % 7}" for i in range(count)]
    return pd.DataFrame({"benchmark": names, "id": [str(i) for i in range(count)], "problem": "?", "answer": golds})


def generate(folder: str, table: pd.DataFrame, samples: int) -> None:
    draw = random.Random(0)
    letters = string.ascii_lowercase
    words = ["".join(draw.choices(letters, k=draw.randint(1, 8))) for _ in range(5000)] + [
        "\\frac{1}{2}",
        "x = 3",
        "\n",
    ]
    prose = " ".join(draw.choices(words, weights=[1 / rank for rank in range(1, len(words) + 1)], k=2_000_000))
    rates = np.random.default_rng(0).beta(0.4, 0.6, len(table)).tolist()
    with Store.open(folder, KEY) as store:
        rows = []
        for name, problem, gold, rate in zip(table["benchmark"], table["id"], table["answer"], rates, strict=True):
            for i in range(samples):
                at, length = draw.randrange(len(prose) - 8192), draw.randrange(1024, 8192)
                if draw.random() < rate:
                    end = f"so the answer is $\\boxed{{{gold}}}$."
                else:
                    wrong = (
                        f"\\boxed{{{draw.randrange(60)}}}",
                        f"\\boxed{{x^{draw.randrange(9)} + 1}}",
                        "\\boxed{?}",
                        "",
                    )
                    end = draw.choice(wrong)
                cut = "length" if not end else "stop"
                rows.append((name, problem, i, i, f"{prose[at : at + length]}\n{end}", length // 4, cut))
                if len(rows) == PART:
                    _append(store, rows)
        if rows:
            _append(store, rows)


def _append(store: Store, rows: list) -> None:
    columns = ["benchmark", "problem_id", "sample_index", "seed", "response", "n_tokens", "finish_reason"]
    store.append(pd.DataFrame(rows, columns=columns))
    rows.clear()


def resume(folder: str, table: pd.DataFrame, samples: int) -> None:
    with Store.open(folder, KEY) as store:
        names = list(zip(table["benchmark"], table["id"], strict=True))
        assert sum(len(store.missing([name], samples)) for name in names) == 0


def count(folder: str, table: pd.DataFrame, samples: int) -> None:
    summary = summarise(folder, table, n=samples)
    print(summary.benchmarks.drop(columns=["timed_out", "partial"]).round(3).to_string(index=False))
    print(f"{len(summary.answers):,} distinct answers")


def grade_all(folder: str, table: pd.DataFrame, samples: int) -> None:
    grade(folder, table)


STEPS = {
    "nothing": lambda *_: None,
    "write": generate,
    "grade": grade_all,
    "grade again": grade_all,
    "see what is missing": resume,
    "summarise": count,
}


def measured(name: str, *given) -> None:
    """Run a step in a process of its own; print what it says, its CPU seconds and the most memory it had at a time.

    Memory is the resident sizes of the process and its children together, looked at ten times a second: pages that
    they share count twice.
    """
    before, began, peak = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter(), 0
    with psutil.Popen([sys.executable, __file__, name, *map(str, given)]) as run:
        while run.poll() is None:
            resident = 0
            for process in [run, *run.children(recursive=True)]:
                with contextlib.suppress(psutil.Error):
                    resident += process.memory_info().rss
            peak = max(peak, resident)
            time.sleep(0.1)
    if run.returncode:
        sys.exit(f"{name}: status {run.returncode}")
    after, wall = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter() - began
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(f"{name:<24}{cpu:>8,.1f} s CPU{wall:>8,.1f} s{peak / 2**20:>8,.0f} MiB", flush=True)


def main() -> None:
    number, samples = map(int, sys.argv[1:]) if len(sys.argv) == 3 else (3811, 256)
    with tempfile.TemporaryDirectory() as folder:
        for name in STEPS:
            measured(name, folder, number, samples)
            if name == "write":
                parts = Store(folder).parts()
                size = sum(path.stat().st_size for path in parts) / 2**30
                print(f"{number * samples:,} responses in {len(parts):,} parts, {size:.1f} GiB")


if __name__ == "__main__":
    if len(sys.argv) == 5:
        _, step, folder, number, samples = sys.argv
        STEPS[step](folder, problems(int(number)), int(samples))
    else:
        main()
