"""How good is a race on simulated families, and is what it promises true?

    PYTHONPATH=tests python tests/bench/bench_choose.py [families of each kind, 40] [samples, 4]
    PYTHONPATH=tests python tests/bench/bench_choose.py measuring

Families of eight with curves that are known (`tests/races.py`): none is of the model's own shapes. Prints regret by
policy and kind at two budgets, and of the races: `p_best` against how often the best was taken, the regret expected
against the regret found, the share spent. `measuring` prints what more samples and problems before RL buy.
"""

import sys
from dataclasses import replace

import numpy as np
import pandas as pd
from races import KINDS, finished, simulate

from sftrl.choose import measuring
from sftrl.choose.policies import POLICIES, at_random, race

BUDGETS = (0.05, 0.10)


def play(samples: int, kind: str, seed: int) -> list[dict]:
    """Let every policy choose in one simulated family."""
    family, rows = finished(simulate(kind, seed), samples, seed), []
    for budget in BUDGETS:
        for name, policy in POLICIES.items():
            said = []
            chosen, spent = policy(family, budget, **({"trace": said} if policy is race else {}))
            regret = family.outcome.max() - (family.outcome.mean() if policy is at_random else family.outcome[chosen])
            row = {"kind": kind, "budget": budget, "policy": name, "regret": 100 * regret, "spent": spent}
            if said:
                row |= {"p_best": said[0].p_best, "best": regret == 0, "expected": 100 * said[0].expected_regret}
            rows.append(row)
    return rows


def measure() -> None:
    """Print regret and price of the best Pass@1, by problems and samples."""
    kinds = ("saturating", "late", "dead", "mixed")
    families = [
        replace(finished(simulate(kind, seed, runs=16), 16, seed), family=f"{kind}{seed}")
        for kind in kinds
        for seed in range(8)
    ]
    table = measuring(families, samples=(1, 2, 4, 8, 16), problems=(10, 20, 60), subsets=40)
    for value in ("regret", "spent"):
        print((100 * table.pivot_table(index="problems", columns="samples", values=value)).round(2))


def main() -> None:
    """Play and print."""
    families, samples = (int(word) for word in [*sys.argv[1:], *("40", "4")[len(sys.argv) - 1 :]])
    played = [play(samples, kind, seed) for kind in KINDS for seed in range(families)]
    table = pd.DataFrame([row for rows in played for row in rows])
    print(f"regret in points, {families} families of each kind, {samples} samples of each of 60 problems a probe")
    wide = table.pivot_table(index=["budget", "policy"], columns="kind", values="regret", sort=False)
    wide["all"], wide["se"] = wide.mean(axis=1), table.groupby(["budget", "policy"], sort=False)["regret"].sem()
    wide["spent"] = table.groupby(["budget", "policy"], sort=False)["spent"].mean()
    print(wide.round(3).to_string())
    races = table[table["policy"] == "race"].astype({"best": float})
    print("\nraces: promised and found")
    columns = ["p_best", "best", "expected", "regret", "spent"]
    print(races.groupby(["budget", "kind"])[columns].mean().round(3).to_string())
    print(races.groupby("budget")[columns].mean().round(3).to_string())
    print(races.groupby(pd.cut(races["p_best"], [0, 0.3, 0.5, 0.7, 0.9, 1]), observed=True)[columns].mean().round(3))
    print("spent, 99 % and most:", np.round([races["spent"].quantile(0.99), races["spent"].max()], 3))


if __name__ == "__main__":
    measure() if sys.argv[1:] == ["measuring"] else main()
