"""Which SFT checkpoint should go to RL? Predictors measured after SFT, judged by the score after RL.

    runs = runs_table(results, predictors)      # one row per run
    for name, pool in pools(runs).items():
        judge(pool, pool=name)                  # every predictor: correlations with intervals, p-values, out of sample
        compare(pool, pool=name)                # is it better than Pass@1, on the same runs
        regret(pool, pool=name)                 # what choosing by it costs
        noise_ceiling(pool, pool=name)          # how good a perfect predictor could look
    decide(candidates, calibration=runs)        # for checkpoints that have not been through RL
    replay(runs)                                # the same for runs whose RL results are known: its worth is seen
    advice(answer(runs))                        # whichever of the two there is, in words
    order(pool, without_benchmark, pool=name)   # the order of predictors with one benchmark, one run left out
    analyse(results, predictors)                # all of the above, as tables by name
    overtraining(results, counts, probes)       # pairs of runs that differ in epochs, before and after RL

The parts: `runs` (from the study's files to runs), `features` and `measures` (what a judgement sees, and correlations),
`uncertainty` (their intervals at 8 to 40 runs), `judge` (the protocols), `comparison`, `order`, `ceiling`, `lines`;
`forecast`, `ranking`, `decide` and `advice`. docs/statistics.md explains the statistics, and measures their coverage.
"""

from sftrl.predict.advice import advice, advice_on_pairs
from sftrl.predict.analyse import analyse
from sftrl.predict.ceiling import noise_ceiling
from sftrl.predict.comparison import compare, regret
from sftrl.predict.decide import answer, decide, replay
from sftrl.predict.features import predictor_names
from sftrl.predict.judge import judge
from sftrl.predict.lines import fit_line
from sftrl.predict.order import order
from sftrl.predict.overtraining import overtraining
from sftrl.predict.runs import pools, runs_table

__all__ = [
    "advice",
    "advice_on_pairs",
    "analyse",
    "answer",
    "compare",
    "decide",
    "fit_line",
    "judge",
    "noise_ceiling",
    "order",
    "overtraining",
    "pools",
    "predictor_names",
    "regret",
    "replay",
    "runs_table",
]
