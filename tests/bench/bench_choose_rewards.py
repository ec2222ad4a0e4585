"""A race fed with training reward, for finished studies that kept no probes: does it choose better than Pass@1?

    PYTHONPATH=tests python tests/bench/bench_choose_rewards.py [folder of tables, figures/cpu]

A probe is the mean reward of the six steps before it, and before RL Pass@1 on the RL problems: free but unpaired, since
every run met its own problems. Runs with a Pass@1 of .08 or more before RL; the outcome is the score after RL on the
benchmarks. `replay` of `rl_probes.csv` is what to look at where a study has one.
"""

import sys
from pathlib import Path

import numpy as np

from sftrl.choose import replay
from sftrl.choose.policies import Finished
from sftrl.files import read_table

STEPS = np.array([0, 6, 12, 18, 24, 36, 48, 60])
WINDOW, LIVE = 6, 0.08
ROLLOUTS = 128  # of a step; a window's are spread over as many made-up problems of 16 samples, all alike
PARTS, SAMPLES = WINDOW * ROLLOUTS // 16, 16


def spread(score: float) -> np.ndarray:
    """Give the correct samples of each made-up problem (PARTS,) that make a mean score."""
    right = round(score * PARTS * SAMPLES)
    counts = np.full(PARTS, right // PARTS)
    counts[: right % PARTS] += 1
    return counts


def read(folder: Path) -> Finished:
    """Read a study's live runs."""
    results, curves = read_table(folder / "results.csv"), read_table(folder / "rl_curves.csv")
    before = results[results["phase"] == "post_sft"].set_index(["benchmark", "run"])
    after = results[(results["phase"] == "post_rl") & (results["benchmark"] == "average")].set_index(["run", "rl_seed"])
    runs = {}
    for (run, seed), log in curves.groupby(["run", "rl_seed"]):
        if run != "base" and before.loc[("average", run), "pass@1"] >= LIVE:
            means = [log[log["step"].between(t - WINDOW + 1, t)]["reward"].mean() for t in STEPS[1:]]
            counts = [spread(score) for score in (before.loc[("rl", run), "pass@1"], *means)]
            tokens = [ROLLOUTS * log[log["step"] <= t]["mean_length"].sum() for t in STEPS]
            first = 4 * PARTS * before.loc[("rl", run), "mean_tokens"]  # as if 4 samples of each had been drawn
            runs[f"{run}/{seed}"] = counts, tokens, [first, *[1e-9] * len(means)], after.loc[(run, seed), "pass@1"]
    counts, tokens, probing, outcome = (np.array(part) for part in zip(*runs.values(), strict=True))
    problems = [str(i) for i in range(PARTS)]
    return Finished(folder.name, list(runs), STEPS, problems, counts, SAMPLES, probing, tokens, outcome)


if __name__ == "__main__":
    runs = read(Path(sys.argv[1] if len(sys.argv) > 1 else "figures/cpu"))
    table = replay([runs], budgets=(0.05, 0.10), samples=SAMPLES, subsets=60)
    shown = [c for c in table if c not in ("family", "candidates", "samples", "subsets")]
    print(f"{runs.family}: {len(runs.runs)} runs and seeds, subsets of {table['candidates'][0]}")
    print(table[shown].round(4).to_string())
