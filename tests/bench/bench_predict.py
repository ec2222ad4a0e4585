"""The analysis of a 40-run study with 10,000 resamples on one core; a permutation test beside scipy's; and how often
each kind of interval covers.

    python tests/bench/bench_predict.py
    python tests/bench/bench_predict.py docs/coverage.csv    # the coverage alone, as a table

The promise: the whole analysis of one pool (every predictor judged for two targets, compared, priced) in under 30 s.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import statistics
import sys
import time
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import get_args

import numpy as np
import pandas as pd
from scipy import stats

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from simulated import related, study

from sftrl.files import write_table
from sftrl.predict import analyse, compare, judge, measures, noise_ceiling, regret, runs_table
from sftrl.predict.features import sample_of
from sftrl.predict.judge import permutation_p
from sftrl.predict.uncertainty import bootstrap_interval, correlation_interval
from sftrl.recipes import Intervals, Judging

RESAMPLES = 10_000
REPEATS = 3


def seconds(work: Callable[[], object]) -> tuple[float, float]:
    """Wall and processor seconds of one call: on a busy machine, they differ."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


def coverage(studies: int = 3000, bootstrapped: int = 300, resamples: int = 1000) -> pd.DataFrame:
    """How often 95 % intervals hold the true correlation, %: least and most over relations of 0, 0.5, 0.75 and 0.92."""
    rng = np.random.default_rng(0)
    measured = {"pearson": measures.pearson, "spearman": measures.spearman, "kendall": measures.kendall}
    rows = []
    for (kind, measure), noise, n in product(measured.items(), ("even", "uneven", "outlier"), (8, 12, 20, 40)):
        held: dict[str, list[float]] = {how: [] for how in get_args(Intervals)}
        for rho in (0.0, 0.5, 0.75, 0.92):
            many = related(200_000, 1, rho, noise, seed=1)
            truth = stats.kendalltau(*many).statistic if kind == "kendall" else measure(*many)[0]
            x, y = related(n, studies, rho, noise, seed=n)
            others = [[j for j in range(n) if j != i] for i in range(n)]
            values, less = measure(x, y), measure(x[:, others], y[:, others])
            drawn = rng.integers(0, n, (resamples, n))
            again = [measure(x[i][drawn], y[i][drawn]) for i in range(bootstrapped)]
            for how, covered in held.items():
                if how == "bootstrap":
                    ends = [bootstrap_interval(*each) for each in zip(values, again, less, strict=False)]
                else:
                    each = zip(values, less, strict=True)
                    ends = [correlation_interval(kind, v, w, n, how=how) for v, w in each]
                covered.append(100 * np.mean([low <= truth <= high for low, high in ends]))
        row = {"measure": kind, "noise": noise, "n": n}
        for how, covered in held.items():
            row |= {f"{how}_least": round(min(covered), 1), f"{how}_most": round(max(covered), 1)}
        rows.append(row)
        print(row, flush=True)
    return pd.DataFrame(rows)


def main() -> None:
    """Print the tables."""
    results, predictors = study(40, seeds=2)
    runs = runs_table(results, predictors)
    parts = {
        "judge, post_rl": lambda: judge(runs, resamples=RESAMPLES),
        "judge, gain": lambda: judge(runs, target="gain", resamples=RESAMPLES),
        "compare": lambda: compare(runs, resamples=RESAMPLES),
        "regret": lambda: regret(runs),
        "noise_ceiling": lambda: noise_ceiling(runs),
        "analyse, one pool": lambda: analyse(
            results, predictors, only=("all",), per_benchmark=False, judging=Judging(resamples=RESAMPLES)
        ),
    }
    print(f"40 runs, {len(judge(runs, resamples=10))} predictors, {RESAMPLES} resamples, median of {REPEATS}")
    print(f"{'part':20}{'wall s':>10}{'cpu s':>10}")
    for name, work in parts.items():
        taken = [seconds(work) for _ in range(REPEATS)]
        wall, cpu = (statistics.median(t[i] for t in taken) for i in (0, 1))
        print(f"{name:20}{wall:10.2f}{cpu:10.2f}")

    sample = sample_of(runs, "pass@1", "post_rl")
    x, y = sample.x[:, 0], sample.y

    def scipys() -> float:
        ranks = stats.rankdata(x)
        test = stats.permutation_test(
            (stats.rankdata(y),),
            lambda r, axis: np.abs(((r - r.mean(axis=axis, keepdims=True)) * (ranks - ranks.mean())).sum(axis=axis)),
            permutation_type="pairings",
            n_resamples=RESAMPLES,
            vectorized=True,
            alternative="greater",
            rng=np.random.default_rng(0),
        )
        return float(test.pvalue)

    ours, theirs = [], []
    for _ in range(5):
        ours.append(seconds(lambda: permutation_p(sample, RESAMPLES, 0))[1])
        theirs.append(seconds(scipys)[1])
    ours_s, theirs_s = statistics.median(ours), statistics.median(theirs)
    print("\npermutation test of one predictor (ours: Pearson and Spearman; scipy.stats.permutation_test: Spearman)")
    print(f"ours {ours_s:.3f} s, scipy {theirs_s:.3f} s, ratio {theirs_s / ours_s:.1f}")
    print(f"p: ours {permutation_p(sample, RESAMPLES, 0)['p_spearman']:.4f}, scipy {scipys():.4f}")
    coverage()


if __name__ == "__main__":
    if sys.argv[1:]:
        write_table(coverage(), sys.argv[1])
    else:
        main()
