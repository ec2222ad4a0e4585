"""Intervals: against a slow reference, held as often as they say, and never broken.

Coverage here is a small fixed-seed check that catches a wrong variance; `tests/bench/bench_passk.py coverage` measures
it in full.
"""

from itertools import product
from math import comb
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from sftrl.errors import InputError
from sftrl.passk import Interval, average_intervals, pass_at_k, pass_at_k_interval

PYTHIA = Path(__file__).parents[2] / "shared/data/counts/pythia_math_half.csv"


def rates(random, problems):
    """Most near 0, a long tail."""
    return random.beta(0.3, 0.9, problems)


def kish(parts):
    parts = np.array(parts)
    return parts.sum() ** 2 / (parts**2).sum() if parts.any() else 0.0


def slow_stand_in(n, c, k):
    """Both variances for beta distributed rates, by sums over every count and an integral over every rate."""
    n, c = np.array(n), np.array(c)
    mean, many = np.clip((c / n).mean(), 1e-6, 1 - 1e-6), n > 1
    square = (c[many] * (c[many] - 1) / (n[many] * (n[many] - 1))).mean() if many.any() else 0.0
    most = mean * (1 - mean)
    size = most / np.clip(square - (c / n).mean() ** 2, 1e-4 * most, 0.99 * most) - 1
    beta = stats.beta(mean * size, (1 - mean) * size)

    def fail(draws):  # the mean of (1 - p)^draws
        return np.prod([(beta.args[1] + i) / (size + i) for i in range(draws)])

    of_size = []
    for total in n:
        right = np.arange(total + 1)
        fails = np.array([comb(int(total - x), k) / comb(int(total), k) for x in right])
        of_size.append(stats.betabinom.pmf(right, total, *beta.args) @ fails**2 - fail(2 * k))
    return np.mean(of_size), fail(2 * k) - fail(k) ** 2


def slow_interval(n, c, k, level, over):
    problems = len(n)
    fails = np.array([comb(a - b, k) / comb(a, k) for a, b in zip(n, c, strict=True)])
    estimate = 1 - fails.mean()
    noise, between = slow_stand_in(n, c, k)
    weight = 0.0
    if 2 * k <= min(n):
        each = fails**2 - [comb(a - b, 2 * k) / comb(a, 2 * k) for a, b in zip(n, c, strict=True)]
        weight = kish(each)
        noise = (weight * each.mean() + 2 * noise) / (weight + 2)
    variance, freedom, trials = noise, np.inf, sum(a / k for a in n)
    if over != "samples":
        weight, spread = kish(np.round(fails - fails.mean(), 12) ** 2), fails.var(ddof=1)
        freedom = problems - 1
        if 0 < weight < problems:
            freedom = np.clip(2 / (1 / weight - 1 / problems), min(3, problems - 1), problems - 1)
        trials = problems
        variance = (weight * spread + 2 * max(spread, between + noise)) / (weight + 2)
        if over == "problems":
            share = min(noise / variance, 1)
            variance *= 1 - share + share**2
    t = stats.t.ppf((1 + level) / 2, freedom)
    if 0 < estimate < 1:
        trials = estimate * (1 - estimate) / (variance / problems)
    # Wilson's ends are the roots x of (x - estimate)^2 = t^2 x (1 - x) / trials.
    low, high = np.sort(np.roots([1 + t**2 / trials, -2 * estimate - t**2 / trials, estimate**2]).real)
    return estimate, low, high


@st.composite
def benchmark(draw, most=12):
    n = draw(st.lists(st.integers(1, 40), min_size=2, max_size=most))
    return n, [draw(st.integers(0, x)) for x in n], draw(st.integers(1, min(n)))


@settings(deadline=None, max_examples=100)
@example(([15, 15], [3, 3], 3), "both", 0.9, True)  # all alike, where rounding is no spread
@example(([12, 12], [5, 5], 3), "both", 0.9, False)
@example(([10] * 6, [0, 10] * 3, 3), "both", 0.9, False)  # rates of 0 and 1 alone
@example(([1] * 4, [0, 1, 1, 0], 1), "problems", 0.9, False)  # a single sample
@example(([8] * 5, [0, 0, 0, 0, 1], 2), "problems", 0.9, False)  # one right response of all
@example(([8] * 5, [8, 8, 8, 8, 7], 2), "problems", 0.9, False)  # one wrong
@example(([40] * 5, [40, 40, 40, 40, 0], 39), "samples", 0.9, False)
@given(benchmark(), st.sampled_from(["samples", "problems", "both"]), st.floats(0.5, 0.99), st.booleans())
def test_intervals_agree_with_a_slow_reference(counts, over, level, ragged):
    n, c, k = counts
    if ragged:  # the stand-in looks at 17 quantiles of n: all of them, for 17 problems
        n, c = (np.resize(x, 17).tolist() for x in (n, c))
    else:
        n = [max(n)] * len(n)
    assume(over != "problems" or 0 < sum(c) < sum(n))
    found = pass_at_k_interval(n, c, k, level=level, over=over)
    want = slow_interval(n, c, k, level, over)
    # Where a variance is a difference of nearly equal numbers, both lose digits.
    assert (found.estimate, found.low, found.high) == pytest.approx(want, abs=1e-5)
    assert (found.level, found.over) == (level, over)


def test_the_slow_reference_of_the_stand_in_is_right():
    """Its closed means against integrals over the rates."""
    n, c, k = [12] * 5, [0, 1, 4, 7, 12], 3
    noise, between = slow_stand_in(n, c, k)
    mean, square = np.mean(c) / 12, np.mean([x * (x - 1) / 132 for x in c])
    size = mean * (1 - mean) / (square - mean**2) - 1
    beta = stats.beta(mean * size, (1 - mean) * size)
    q = [integrate.quad(lambda p, j=j: (1 - p) ** (j * k) * beta.pdf(p), 0, 1, limit=500)[0] for j in (1, 2)]
    assert between == pytest.approx(q[1] - q[0] ** 2, rel=1e-4)
    random = np.random.default_rng(0)
    right = random.binomial(12, beta.rvs(400_000, random_state=1))
    assert noise == pytest.approx(np.mean((1 - pass_at_k(12, right, k)) ** 2) - q[1], rel=0.05)


def share_held(draw, level=0.9, repeats=600):
    """Return how many of the intervals hold the truth, in standard errors above the level."""
    held = [interval.low <= truth <= interval.high for interval, truth in (draw() for _ in range(repeats))]
    return (np.mean(held) - level) / np.sqrt(level * (1 - level) / repeats)


@pytest.mark.parametrize("over", ["samples", "problems", "both"])
@pytest.mark.parametrize("k", [1, 8])
def test_coverage(over, k):
    random = np.random.default_rng(20 + k)
    population = (1 - (1 - rates(random, 400_000)) ** k).mean()

    def draw():
        p = rates(random, 80)
        these = (1 - (1 - p) ** k).mean()
        interval = pass_at_k_interval(32, random.binomial(32, p), k, level=0.9, over=over)
        # Over problems, the samples' error stays as it fell.
        truth = {"samples": these, "both": population, "problems": population + interval.estimate - these}
        return interval, truth[over]

    assert abs(share_held(draw)) < 3.5


def weak(random, problems):
    """Rates of a model that hardly solves anything: log-uniform between 1e-4 and 1e-2."""
    return 10 ** random.uniform(-4, -2, problems)


def pythia(name):
    def draw(random, problems):
        if not PYTHIA.exists():
            pytest.skip(f"{PYTHIA.name} is not there: shared data")
        table = pd.read_csv(PYTHIA)
        return random.choice((table["c"] / table["n"])[table["model"] == name].to_numpy(), problems)

    return draw


@pytest.mark.parametrize("n", [16, 64])
@pytest.mark.parametrize("population", [weak, pythia("Pythia 70M"), pythia("Pythia 160M")], ids=["weak", "70M", "160M"])
def test_over_problems_holds_where_the_samples_noise_outweighs_them(population, n):
    """Too little noise was left in: 40 to 90 % of nominal 95 % intervals held the truth."""
    random = np.random.default_rng(n)
    ks = np.array([1, n // 4, n])
    truth = (1 - (1 - population(random, 200_000)[:, None]) ** ks).mean(axis=0)
    held = []
    while len(held) < 250:
        p = population(random, 64)
        c = random.binomial(n, p)
        if not c.any():
            with pytest.raises(InputError, match="all responses are alike"):
                pass_at_k_interval(n, c, ks, over="problems")
            continue
        interval = pass_at_k_interval(n, c, ks, over="problems")
        aim = truth + interval.estimate - (1 - (1 - p[:, None]) ** ks).mean(axis=0)
        held.append((interval.low <= aim) & (aim <= interval.high))
    assert np.mean(held, axis=0).min() > 0.92


def test_noise_is_taken_out_of_problems_where_it_is_known():
    random = np.random.default_rng(2)
    c = random.binomial(64, rates(random, 200))
    width = {}
    for over in ("samples", "problems", "both"):
        found = pass_at_k_interval(64, c, [1, 4, 16], over=over)
        width[over] = found.high - found.low
        np.testing.assert_allclose(found.estimate, pass_at_k(64, c, [1, 4, 16]).mean(axis=0))
    np.testing.assert_allclose(width["samples"] ** 2 + width["problems"] ** 2, width["both"] ** 2, rtol=0.05)


def test_coverage_of_an_average():
    # A benchmark of 15 problems and one of 400 weigh the same, so the small one decides the width.
    random = np.random.default_rng(6)
    mean = (1 - (1 - rates(random, 400_000)) ** 4).mean()

    def draw():
        parts = [pass_at_k_interval(16, random.binomial(16, rates(random, size)), 4, level=0.9) for size in (15, 400)]
        return average_intervals(parts), mean

    assert -3.5 < share_held(draw) < 5.5


def test_sampling_variance_has_no_bias():
    # The spread of the estimate over new samples of the same problems is what `samples` tells.
    random = np.random.default_rng(1)
    n, k, p = 20, 5, rates(random, 30)
    c = random.binomial(n, p, size=(20_000, 30))
    spread = pass_at_k(n, c.ravel(), k).reshape(c.shape).mean(axis=1).std()
    found = [pass_at_k_interval(n, row, k, level=0.6827, over="samples") for row in c[:300]]
    assert np.sqrt(np.mean([((x.high - x.low) / 2) ** 2 for x in found])) == pytest.approx(spread, rel=0.1)


@settings(deadline=None)
@given(benchmark(), st.sampled_from(["samples", "problems", "both"]), st.floats(0.5, 0.99))
def test_always_an_interval(counts, over, level):
    n, c, k = counts
    assume(over != "problems" or 0 < sum(c) < sum(n))
    interval = pass_at_k_interval(n, c, k, level=level, over=over)
    assert 0 <= interval.low <= interval.estimate <= interval.high <= 1
    average = average_intervals([interval, interval])
    assert average.estimate == pytest.approx(interval.estimate)
    assert interval.low <= average.low <= average.estimate <= average.high <= interval.high


@pytest.mark.parametrize(("c", "over", "k"), product([0, 16], ["samples", "both"], [1, 16]))
def test_all_or_nothing_solved_still_has_a_width(c, over, k):
    interval = pass_at_k_interval([16] * 30, [c] * 30, k, over=over)
    assert interval.estimate == (c > 0)
    assert 0.001 < interval.high - interval.low < 0.4


def test_sides_of_an_average_add_as_squares():
    first = Interval(0.5, 0.1, 0.8, 0.9, "both")
    second = Interval(0.3, 0.0, 0.7, 0.9, "both")
    found = average_intervals([first, second])
    assert found == Interval(0.4, pytest.approx(0.4 - 0.25), pytest.approx(0.4 + 0.25), 0.9, "both")
    assert average_intervals([first]).low == pytest.approx(0.1)
    assert average_intervals([first]).high == pytest.approx(0.8)
    third = Interval(np.array([0.5, 1.0]), np.array([0.1, 0.8]), np.array([0.8, 1.0]), 0.9, "both")
    both = average_intervals([third, third])
    np.testing.assert_allclose(both.low, [0.5 - 0.4 / 2**0.5, 1 - 0.2 / 2**0.5])
    np.testing.assert_allclose(both.high, [0.5 + 0.3 / 2**0.5, 1])


def test_one_k_gives_floats():
    interval = pass_at_k_interval([8, 8], [1, 2], 2)
    assert isinstance(interval.low, float)
    assert pass_at_k_interval([8, 8], [1, 2], [2]).low.shape == (1,)
    assert isinstance(average_intervals([interval, interval]).high, float)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: pass_at_k_interval([4], [1], 1), 'over = "both" needs two problems'),
        (lambda: pass_at_k_interval([4, 4], [1, 1], 1, over="runs"), "over = 'runs'"),
        (lambda: pass_at_k_interval([4, 4], [1, 1], 1, level=95), "level = 95"),
        (lambda: pass_at_k_interval([4, 4], [1, 1], 1, level=0), "level = 0"),
        (lambda: pass_at_k_interval([4, 4], [1, 1], 1, level=1), "level = 1"),
        (lambda: pass_at_k_interval([4, 4], [1, 5], 1), "problem 1: c > n"),
        (lambda: pass_at_k_interval([4, 2], [1, 1], 3), "problem 1: k = 3"),
        (lambda: pass_at_k_interval([4, 4], [0, 0], 1, over="problems"), "all responses are alike"),
        (lambda: pass_at_k_interval([4, 5], [4, 5], [1, 2], over="problems"), "all responses are alike"),
        (lambda: average_intervals([]), "no benchmarks"),
        (lambda: average_intervals([pass_at_k_interval(4, [1, 1], k) for k in (1, [1, 2])]), "must agree"),
        (lambda: average_intervals([pass_at_k_interval(4, [1, 1], 1, x) for x in (0.9, 0.95)]), "must agree"),
        (
            lambda: average_intervals([pass_at_k_interval(4, [1, 1], 1, over=x) for x in ("both", "samples")]),
            "must agree",
        ),
    ],
)
def test_bad_input_is_refused_by_name(call, says):
    with pytest.raises(InputError, match=says):
        call()


def test_one_problem_will_do_over_samples():
    assert pass_at_k_interval([8], [4], 2, over="samples").estimate == pytest.approx(11 / 14)
