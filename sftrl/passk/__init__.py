"""Pass@k from counts of correct samples: the unbiased estimate, its uncertainty, and related estimates.

values = pass_at_k(n, c, [1, 4, 16])               # each problem: (problems, 3)
score = pass_at_k_interval(n, c, 16)               # their mean: score.estimate, score.low, score.high
forecast = extrapolate_pass_at_k(n, c, 256)        # from 16 samples per problem or more
average = average_intervals([pass_at_k_interval(n, c, 16) for n, c in benchmarks])
"""

from sftrl.passk.estimator import pass_at_k
from sftrl.passk.extrapolation import extrapolate_pass_at_k
from sftrl.passk.intervals import Interval, average_intervals, pass_at_k_interval
from sftrl.passk.votes import majority_at_k, reward_variance, signal_share, success_variance

__all__ = [
    "Interval",
    "average_intervals",
    "extrapolate_pass_at_k",
    "majority_at_k",
    "pass_at_k",
    "pass_at_k_interval",
    "reward_variance",
    "signal_share",
    "success_variance",
]
