"""Intervals: they hold the truth as often as they say, they are paired where they say, and they never break.

Coverage here is a small fixed-seed check that catches a wrong variance; `tests/bench/bench_passk.py coverage` measures
it in full.
"""

from itertools import product

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sftrl.errors import InputError
from sftrl.passk import average_intervals, bootstrap_pass_at_k, pass_at_k, pass_at_k_difference, pass_at_k_interval


def rates(random, problems):
    """Most near 0, a long tail."""
    return random.beta(0.3, 0.9, problems)


def share_held(draw, truth, level=0.9, repeats=600):
    held = [interval.low <= truth_now <= interval.high for interval, truth_now in (draw(truth) for _ in range(repeats))]
    assert abs(np.mean(held) - level) < 0.04  # three standard errors of 600 repeats


@pytest.mark.parametrize("over", ["samples", "problems", "both"])
@pytest.mark.parametrize("k", [1, 8])
def test_coverage(over, k):
    random = np.random.default_rng(20 + k)
    population = (1 - (1 - rates(random, 400_000)) ** k).mean()

    def draw(population):
        p = rates(random, 80)
        these = (1 - (1 - p) ** k).mean()
        interval = pass_at_k_interval(32, random.binomial(32, p), k, level=0.9, over=over)
        # Over problems, the samples' error stays as it fell.
        truth = {"samples": these, "both": population, "problems": population + interval.estimate - these}
        return interval, truth[over]

    share_held(draw, population)


def test_coverage_of_a_paired_difference():
    random = np.random.default_rng(5)

    def both(problems):
        p = rates(random, problems)
        return p, np.minimum(1, 1.5 * p)

    first, second = both(400_000)

    def draw(truth):
        pair = tuple(random.binomial(32, p) for p in both(80))
        return pass_at_k_difference((32, 32), pair, 8, level=0.9), truth

    share_held(draw, ((1 - first) ** 8 - (1 - second) ** 8).mean())


def test_coverage_of_an_average():
    # A benchmark of 15 problems and one of 400 weigh the same, so the small one decides the width.
    random = np.random.default_rng(6)
    mean = (1 - (1 - rates(random, 400_000)) ** 4).mean()

    def draw(truth):
        parts = [pass_at_k_interval(16, random.binomial(16, rates(random, size)), 4, level=0.9) for size in (15, 400)]
        return average_intervals(parts), truth

    share_held(draw, mean)


def test_sampling_variance_has_no_bias():
    # The mean over every outcome of F_k^2 - F_2k is the exact variance: seen through `samples` of many problems.
    random = np.random.default_rng(1)
    n, k, p = 20, 5, rates(random, 30)
    c = random.binomial(n, p, size=(20_000, 30))
    spread = pass_at_k(n, c.ravel(), k).reshape(c.shape).mean(axis=1).std()
    told = np.sqrt(np.mean([pass_at_k_interval(n, row, k, over="samples").standard_error ** 2 for row in c[:300]]))
    assert told == pytest.approx(spread, rel=0.1)


def test_what_the_parts_add_up_to():
    random = np.random.default_rng(2)
    c = random.binomial(64, rates(random, 200))
    parts = {over: pass_at_k_interval(64, c, [1, 4, 16], over=over) for over in ("samples", "problems", "both")}
    squares = {over: np.square(interval.standard_error) for over, interval in parts.items()}
    np.testing.assert_allclose(squares["samples"] + squares["problems"], squares["both"], rtol=0.02)
    np.testing.assert_allclose(parts["both"].estimate, pass_at_k(64, c, [1, 4, 16]).mean(axis=0))


def test_pairing_narrows_a_difference():
    random = np.random.default_rng(3)
    p = rates(random, 200)
    first, second = random.binomial(64, p), random.binomial(64, np.minimum(1, 1.2 * p))
    paired = pass_at_k_difference((64, 64), (first, second), 4)
    apart = [pass_at_k_interval(64, c, 4) for c in (first, second)]
    assert paired.estimate == pytest.approx(apart[1].estimate - apart[0].estimate)
    assert paired.standard_error < 0.5 * np.hypot(*(x.standard_error for x in apart))
    assert paired.low > 0


def test_bootstrap_agrees_and_pairs():
    random = np.random.default_rng(4)
    c = random.binomial(32, rates(random, 300))
    replicates = bootstrap_pass_at_k(32, c, [1, 8], replicates=4000, seed=0)
    interval = pass_at_k_interval(32, c, [1, 8])
    assert replicates.shape == (4000, 2)
    np.testing.assert_allclose(replicates.mean(axis=0), interval.estimate, atol=4 * interval.standard_error[0] / 63)
    np.testing.assert_allclose(replicates.std(axis=0), interval.standard_error, rtol=0.05)
    # The same seed draws the same problems: the whole against itself never differs.
    np.testing.assert_array_equal(replicates[:, 0], bootstrap_pass_at_k(32, c, 1, replicates=4000, seed=0))


@st.composite
def benchmark(draw):
    n = draw(st.lists(st.integers(1, 40), min_size=2, max_size=8))
    return n, [draw(st.integers(0, x)) for x in n], draw(st.integers(1, min(n)))


@settings(deadline=None)
@given(benchmark(), st.sampled_from(["samples", "problems", "both"]), st.floats(0.5, 0.99))
def test_always_an_interval(counts, over, level):
    n, c, k = counts
    interval = pass_at_k_interval(n, c, k, level=level, over=over)
    assert 0 <= interval.low <= interval.estimate <= interval.high <= 1
    difference = pass_at_k_difference((n, n), (c, c[::-1] if n == n[::-1] else c), k, level=level, over=over)
    assert -1 <= difference.low <= difference.estimate <= difference.high <= 1
    average = average_intervals([interval, interval])
    assert average.estimate == pytest.approx(interval.estimate)
    assert 0 <= average.low <= average.estimate <= average.high <= 1


@pytest.mark.parametrize(("c", "over", "k"), product([0, 16], ["samples", "both"], [1, 16]))
def test_all_or_nothing_solved_still_has_a_width(c, over, k):
    interval = pass_at_k_interval([16] * 30, [c] * 30, k, over=over)
    assert interval.estimate == (c > 0)
    assert 0.001 < interval.high - interval.low < 0.4


def test_an_average_of_one_is_itself():
    c = np.arange(20)
    one = pass_at_k_interval(20, c, [1, 4])
    average = average_intervals([one])
    for field in ("estimate", "low", "high", "standard_error", "degrees_of_freedom", "trials"):
        np.testing.assert_allclose(getattr(average, field), getattr(one, field))


def test_one_k_gives_floats():
    interval = pass_at_k_interval([8, 8], [1, 2], 2)
    assert isinstance(interval.low, float)
    assert isinstance(average_intervals([interval, interval]).high, float)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: pass_at_k_interval([4], [1], 1), "needs two problems"),
        (lambda: pass_at_k_interval([4, 4], [1, 1], 1, over="runs"), "over = 'runs'"),
        (lambda: pass_at_k_interval([4, 4], [1, 1], 1, level=95), "level = 95"),
        (lambda: pass_at_k_interval([4, 4], [1, 5], 1), "problem 1: c > n"),
        (lambda: pass_at_k_difference(([4, 4], [4]), ([1, 1], [1]), 1), "2 and 1 given"),
        (lambda: pass_at_k_difference(([4, 4], [4, 2]), ([1, 1], [1, 1]), 3), "problem 1: k = 3"),
        (
            lambda: pass_at_k_difference((4, 4), (pd.Series([1, 1], ["a", "b"]), pd.Series([1, 1], ["b", "a"])), 1),
            "a meets b",
        ),
        (lambda: average_intervals([]), "no benchmarks"),
        (
            lambda: average_intervals([pass_at_k_interval(4, [1, 1], k) for k in (1, [1, 2])]),
            "must agree",
        ),
        (lambda: bootstrap_pass_at_k([4], [1], 1, replicates=0, seed=0), "replicates = 0"),
    ],
)
def test_bad_input_is_refused_by_name(call, says):
    with pytest.raises(InputError, match=says):
        call()
