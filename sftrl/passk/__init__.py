"""Pass@k from counts of right samples: the unbiased estimate, its uncertainty, and what else the same counts tell.

values = pass_at_k(n, c, [1, 4, 16])               # each problem: (problems, 3)
score = pass_at_k_interval(n, c, 16)               # their mean: score.estimate, score.low, score.high
gain = pass_at_k_difference((n, n), (c, later), 16)    # paired, on the same problems
average = average_intervals([pass_at_k_interval(n, c, 16) for n, c in benchmarks])
forecast = extrapolate_pass_at_k(n, c, 256)        # from 16 samples a problem or more
forecasts = extrapolate_together(16, counts, 256)  # of several checkpoints: counts is (checkpoints, problems)
"""

from sftrl.passk.bootstrap import bootstrap_pass_at_k
from sftrl.passk.estimator import pass_at_k
from sftrl.passk.extrapolation import extrapolate_pass_at_k
from sftrl.passk.intervals import Interval, average_intervals, pass_at_k_difference, pass_at_k_interval
from sftrl.passk.together import extrapolate_together
from sftrl.passk.votes import majority_at_k, signal_share

__all__ = [
    "Interval",
    "average_intervals",
    "bootstrap_pass_at_k",
    "extrapolate_pass_at_k",
    "extrapolate_together",
    "majority_at_k",
    "pass_at_k",
    "pass_at_k_difference",
    "pass_at_k_interval",
    "signal_share",
]
