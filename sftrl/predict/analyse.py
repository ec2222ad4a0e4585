"""The whole analysis of a study in one call: the tables that its figures are drawn from."""

import pandas as pd

from sftrl.predict.ceiling import noise_ceiling
from sftrl.predict.compare import compare, regret
from sftrl.predict.judge import Intervals, judge
from sftrl.predict.runs import pools, runs_table


def analyse(
    results: pd.DataFrame,
    predictors: pd.DataFrame | None = None,
    *,
    names: list[str] | None = None,
    only: tuple[str, ...] | None = None,
    per_benchmark: bool = True,
    mixed: str = "refuse",
    level: float = 0.95,
    splits: int = 1000,
    resamples: int = 10_000,
    intervals: Intervals = "fisher",
    seed: int = 0,
) -> dict[str, pd.DataFrame]:
    """Judge every predictor in every pool, compare with Pass@1, and price the choice.

    Args:
        results: rows of `results.csv`.
        predictors: rows of `predictors.csv`, or None.
        names: predictors to judge; default: all that the tables hold.
        only: pools to use, by name; default: all.
        per_benchmark: also judge each benchmark on its own (predictor and outcome both of that benchmark), as pool
            `benchmark:NAME`, over all runs.
        mixed: what to do with runs from different evaluation settings, as in `runs_table`.
        level, splits, resamples, intervals, seed: as in `judge`.

    Returns:
        Tables by name: `runs`, `judged` (targets `post_rl` and `gain`), `compared`, `regret`, `ceiling`.
    """
    runs = runs_table(results, predictors, mixed=mixed)
    found = pools(runs, only)
    if per_benchmark:
        after = results.loc[results["phase"] == "post_rl", "benchmark"]  # RL problems are not sampled again after RL
        several = [b for b in pd.unique(after) if b != "average"]
        for name in several if len(several) > 1 else []:
            found[f"benchmark:{name}"] = runs_table(results, predictors, benchmark=name, mixed=mixed)
    how = {"level": level, "resamples": resamples, "seed": seed}
    judged, compared, regrets, ceilings = [], [], [], []
    for name, pool in found.items():
        for target in ("post_rl", "gain"):
            judged.append(judge(pool, names, target=target, pool=name, splits=splits, intervals=intervals, **how))
        compared.append(compare(pool, names, pool=name, **how))
        regrets.append(regret(pool, names, pool=name, level=level))
        ceilings.append(noise_ceiling(pool, pool=name, level=level))
    tables = {"judged": judged, "compared": compared, "regret": regrets, "ceiling": ceilings}
    return {"runs": runs} | {name: pd.concat(parts, ignore_index=True) for name, parts in tables.items()}
