"""What decontamination finds on published sets: the two tables of docs/data.md.

    python tests/bench/bench_overlap.py [FOLDER]

FOLDER holds published copies, by default the data kept beside a developer's checkout. First the overlaps of training
sets with benchmarks; then every MATH-500 problem is changed and hidden among MATH's training problems, and counted as
found if its pair is named.
"""

import re
import sys
import warnings
from pathlib import Path

import numpy as np
import pandas as pd

from sftrl.curate import contamination_table, overlaps
from sftrl.problems import load_problems

FOLDER = Path(__file__).resolve().parents[2].parent / "shared" / "data"
BENCHMARKS = {
    "math500": "math500.jsonl", "aime_1983_2024": "aime_1983_2023.json", "aime_2024": "aime24.jsonl",
    "gsm8k": "gsm8k_test.jsonl", "amc": "amc.json", "olympiadbench": "olympiadbench.jsonl",
    "minerva": "minerva_math.jsonl", "mmlu_math": "mmlu_stem.jsonl", "imo_answerbench": "imo_answerbench_v2.csv",
    "tal_scq5k_en": "tal_scq5k_en_test.jsonl",
}  # fmt: skip
TRAINING = {
    "gsm8k": "sft/gsm8k_train.jsonl",
    "math": "sft/math_test_with_solutions.jsonl",
    "math_train": "rl/math_train.json",
}
PREFIX = "Solve the following math problem. Make sure to put the answer (and only answer) inside \\boxed{}.\n\n"


def edits(rng: np.random.Generator, words: list[str]) -> dict:
    def every(k: int):
        def edit(text: str) -> str:
            parts = text.split(" ")
            for i in range(int(rng.integers(k)), len(parts), k):
                parts[i] = words[rng.integers(len(words))]
            return " ".join(parts)

        return edit

    def respell(text: str) -> str:
        for plain, other in [("\\frac", "\\dfrac"), ("(", "\\left( "), (")", " \\right)"), (",", " , ")]:
            text = text.replace(plain, other)
        return text

    def renumber(text: str) -> str:
        return re.sub(r"\d+", lambda found: str(int(found[0]) + 1 + int(rng.integers(5))), text)

    return {
        "prefix": lambda t: PREFIX + t,
        "respelt": respell,
        "1 in 20": every(20),
        "1 in 10": every(10),
        "numbers": renumber,
    }


def main(folder: Path) -> None:
    if not folder.is_dir():
        print(f"no published copies in {folder}: nothing to measure")
        return
    warnings.simplefilter("ignore")  # rows without an answer
    bench = {
        name: load_problems({"benchmark": name, "path": folder / "benchmarks" / file})
        for name, file in BENCHMARKS.items()
    }
    sets = {name: load_problems({"benchmark": name, "path": folder / file}) for name, file in TRAINING.items()}
    problems = pd.concat(bench.values(), ignore_index=True)
    table, _ = contamination_table({f"train:{name}": table for name, table in sets.items()}, problems)
    print(table[table["rows"] > 0].round(3).to_string(index=False))
    table, _ = contamination_table(bench, problems.head(0))
    print("\nbenchmarks with each other\n" + table[table["rows"] > 0].round(3).to_string(index=False))

    train, math500 = sets["math_train"][["id", "problem"]], bench["math500"]
    words = sorted({word for text in train["problem"] for word in text.split() if word.isalpha()})
    print("\nMATH-500 hidden in MATH train: share found")
    for n, share in [(8, 0.3), (8, 0.5), (8, 0.7), (13, 0.3), (13, 0.5)]:
        found = {
            "n": n,
            "share": share,
            "not hidden": overlaps(train, math500, n=n, share=share)["problem_id"].nunique(),
        }
        for name, edit in edits(np.random.default_rng(0), words).items():
            hidden = pd.DataFrame({"id": "hidden-" + math500["id"], "problem": math500["problem"].map(edit)})
            pairs = overlaps(pd.concat([train, hidden]), math500, n=n, share=share)
            found[name] = (pairs["training_id"] == "hidden-" + pairs["problem_id"]).sum() / len(math500)
        print("  ".join(f"{name} {value:.3g}" for name, value in found.items()))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)
