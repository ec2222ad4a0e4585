"""Which SFT checkpoint should go to RL? Predictors measured after SFT, judged by the score after RL.

    runs = runs_table(results, predictors)              # one row per run
    for name, pool in pools(runs).items():
        judge(pool, pool=name)                          # every predictor, with intervals, permutation p, leave-one-out

The parts: `table` (from the study's files to runs), `measures` and `intervals` (correlations and what they are worth
at 8 to 40 runs), `judge` (the protocols).
"""

from sftrl.predict.judge import judge, predictor_names
from sftrl.predict.table import pools, runs_table

__all__ = ["judge", "pools", "predictor_names", "runs_table"]
