"""Curation at scale: decontamination against the usual any-shared-n-gram rule, and a million examples end to end.

    python tests/bench/bench_curate.py

The peer is the rule that most training repositories use: a training text is dropped if it shares one 8-gram of words
with any benchmark problem. A tenth of the texts ends in a phrase that benchmarks end in, too; 1 in 500 is a copy of a
benchmark problem behind an instruction. Time, what is found, and what is dropped for nothing.
"""

import resource
import statistics
import time

import numpy as np
import pandas as pd

from sftrl.curate import decontaminate, deduplicate, select, split

ENDING = "express your answer as a common fraction in lowest terms"
INSTRUCTION = "solve the following problem and put the final answer in a box"
ROWS, PEER_ROWS, PROBLEMS, REPEATS = 1_000_000, 100_000, 5_000, 3


def sentences(rng: np.random.Generator, n: int) -> list[str]:
    words = np.array([f"w{chr(97 + i // 676)}{chr(97 + i // 26 % 26)}{chr(97 + i % 26)}" for i in range(8_000)])
    drawn = words[np.minimum(rng.zipf(1.3, (n, 45)), 8_000) - 1]
    return [f"{' '.join(row)} {ENDING}" if i % 10 == 0 else " ".join(row) for i, row in enumerate(drawn)]


def make(rows: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    rng = np.random.default_rng(0)
    problems = sentences(rng, PROBLEMS)
    prompts = sentences(rng, rows)
    for i in range(7, rows, 500):
        prompts[i] = f"{INSTRUCTION} {problems[i % PROBLEMS]}"
    examples = pd.DataFrame({"id": [f"e{i}" for i in range(rows)], "prompt": prompts, "response": "r"})
    examples["n_tokens"] = rng.integers(10, 10_000, rows)
    return examples, pd.DataFrame({"id": [f"p{i}" for i in range(PROBLEMS)], "benchmark": "b", "problem": problems})


def any_shared_ngram(examples: pd.DataFrame, problems: pd.DataFrame, n: int = 8) -> pd.DataFrame:
    def grams(text):
        words = text.split()
        return {" ".join(words[i : i + n]) for i in range(len(words) - n + 1)}

    known = set().union(*map(grams, problems["problem"]))
    return examples[[known.isdisjoint(grams(prompt)) for prompt in examples["prompt"]]]


def main() -> None:
    examples, problems = make(PEER_ROWS)
    planted = set(examples["id"][7::500])
    rules = {
        "sftrl": lambda: decontaminate(examples, problems)[0],
        "any 8-gram": lambda: any_shared_ngram(examples, problems),
    }
    seconds, kept = {name: [] for name in rules}, {}
    for _ in range(REPEATS):
        for name, rule in rules.items():
            begin = time.process_time()
            kept[name] = set(rule()["id"])
            seconds[name].append(time.process_time() - begin)
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    print(f"{PEER_ROWS:,} prompts against {PROBLEMS:,} problems, {len(planted)} copies planted")
    print(f"{'rule':<12}{'CPU s':>9}{'ratio':>7}{'copies found':>14}{'dropped for nothing':>21}")
    for name, median in medians.items():
        dropped = set(examples["id"]) - kept[name]
        found, lost = len(dropped & planted), len(dropped - planted)
        print(f"{name:<12}{median:>9.2f}{median / medians['sftrl']:>7.2f}{found:>14,}{lost:>21,}")

    examples, problems = make(ROWS)
    print(f"\n{ROWS:,} examples\n{'step':<24}{'CPU s':>9}{'rows left':>12}")
    steps = {
        "deduplicate": lambda table: deduplicate(table)[0],
        "decontaminate": lambda table: decontaminate(table, problems)[0],
        "split 1,000": lambda table: split(table, 1_000, seed=0)[0],
        "select 100,000 random": lambda table: select(table, 100_000, "random", seed=0),
        "select 20,000 mixed": lambda table: select(table, 20_000, "mixed", seed=0),
    }
    for name, step in steps.items():
        begin = time.process_time()
        examples = step(examples)
        print(f"{name:<24}{time.process_time() - begin:>9.1f}{len(examples):>12,}")
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.1f} GiB")


if __name__ == "__main__":
    main()
