"""Pass@k, its intervals, forecasts and votes over a grid of counts: the numbers that were there when last read."""

import itertools

import golden
import numpy as np

from sftrl.errors import InputError
from sftrl.passk import (
    average_intervals,
    extrapolate_pass_at_k,
    majority_at_k,
    pass_at_k,
    pass_at_k_interval,
    reward_variance,
    signal_share,
    success_variance,
)

COUNTS = {  # samples of each problem, and how many were right
    "mixed": (16, [0, 0, 1, 2, 5, 16, 16, 3, 9]),
    "uneven": ([8, 16, 24, 64, 9], [1, 0, 24, 3, 8]),
    "never": (12, [0, 0, 0]),
    "always": (12, [12, 12, 12, 12]),
    "once": (40, [0] * 19 + [1]),
    "all but once": (40, [40] * 19 + [39]),
    "two": (9, [4, 5]),
    "one": (9, [4]),
    "single samples": (1, [0, 1, 1]),
    "many": (512, list(range(0, 513, 27))),
}


def tried(work, *given):
    """An interval's estimate and ends, or why there is none."""
    try:
        found = work(*given)
    except InputError as error:
        return str(error)
    return [found.estimate, found.low, found.high]


def made() -> dict:
    found: dict = {}
    for name, (n, c) in COUNTS.items():
        ks = [k for k in (1, 2, 3, 5, 8) if k <= np.min(n)]
        one = found[name] = {"values": pass_at_k(n, c, ks)}
        for over, level in itertools.product(("samples", "problems", "both"), (0.5, 0.95)):
            one[f"{over} {level}"] = tried(pass_at_k_interval, n, c, ks, level, over)
        beyond = [int(np.min(n) * factor) for factor in (1, 2, 7, 16)]
        one["beyond"] = [tried(extrapolate_pass_at_k, n, c, beyond, level) for level in (0.6, 0.95)]
        one["shares"] = [signal_share(n, c, max(ks)), reward_variance(n, c), success_variance(n, c)]
    whole = [pass_at_k_interval(n, c, [1, 4]) for n, c in (COUNTS["mixed"], COUNTS["uneven"], COUNTS["many"])]
    found["average"] = tried(average_intervals, whole)
    votes = [[5, 3, 3, 1], [4, 4, 4], [1] * 9, [7, 2], [6], [2, 2, 3, 3, 1]]
    right = [[1, 0, 1, 0], [0, 1, 0], [1, *[0] * 8], [0, 1], [1], [0, 1, 0, 1, 0]]
    found["votes"] = [majority_at_k(votes, right, [1, 2, 3, 4, 6], n) for n in (None, [14, 13, 9, 12, 8, 11])]
    return found


def test_no_number_has_changed():
    assert not golden.changed("passk", golden.plain(made()))
