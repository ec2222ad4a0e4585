"""Pass@k from counts of right samples: the unbiased estimate, its uncertainty, and what else the same counts tell.

values = pass_at_k(n, c, [1, 4, 16])                  # (problems, 3)
score = pass_at_k_interval(n, c, 16)                  # mean over problems: score.estimate, score.low, score.high
average = average_intervals([pass_at_k_interval(n, c, 16) for n, c in benchmarks])
"""

from sftrl.passk.estimator import pass_at_k
from sftrl.passk.intervals import Interval, average_intervals, pass_at_k_difference, pass_at_k_interval

__all__ = ["Interval", "average_intervals", "pass_at_k", "pass_at_k_difference", "pass_at_k_interval"]
