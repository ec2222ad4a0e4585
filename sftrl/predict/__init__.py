"""Which SFT checkpoint should go to RL? Predictors measured after SFT, judged by the score after RL.

    runs = runs_table(results, predictors)      # one row per run
    for name, pool in pools(runs).items():
        judge(pool, pool=name)                  # every predictor: correlations with intervals, p-values, out of sample
        compare(pool, pool=name)                # is it better than Pass@1, on the same runs
        regret(pool, pool=name)                 # what choosing by it costs
        noise_ceiling(pool, pool=name)          # how good a perfect predictor could look
    analyse(results, predictors)                # all of the above, as tables by name
    decide(candidates, calibration=runs)        # for checkpoints that have not been through RL

The parts: `runs` (from the study's files to runs), `measures` and `intervals` (correlations, and what they are worth
at 8 to 40 runs), `judge` (the protocols), `compare`, `ceiling`, `decide`. Statistics are explained, and their coverage
is measured, in docs/statistics.md.
"""

from sftrl.predict.analyse import analyse
from sftrl.predict.ceiling import noise_ceiling
from sftrl.predict.compare import compare, regret
from sftrl.predict.decide import advice, decide
from sftrl.predict.judge import judge, predictor_names
from sftrl.predict.runs import pools, runs_table

__all__ = [
    "advice",
    "analyse",
    "compare",
    "decide",
    "judge",
    "noise_ceiling",
    "pools",
    "predictor_names",
    "regret",
    "runs_table",
]
