"""Beyond the estimate: forecasts for k > n against a known truth; majority votes and GRPO signal by counting."""

from collections import Counter
from itertools import combinations
from math import comb
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import optimize, special, stats

from sftrl.errors import InputError
from sftrl.passk import (
    average_intervals,
    extrapolate_pass_at_k,
    extrapolation,
    majority_at_k,
    pass_at_k,
    reward_variance,
    signal_share,
    success_variance,
)

POPULATIONS = {
    "beta": lambda random, size: random.beta(0.15, 1, size),
    "U-shaped": lambda random, size: random.beta(0.2, 0.2, size),
    "log-normal": lambda random, size: np.minimum(1, np.exp(random.normal(-4, 2, size))),
    "half never solved": lambda random, size: random.beta(0.5, 1, size) * (random.random(size) < 0.5),
    "two kinds": lambda random, size: np.where(
        random.random(size) < 0.4, random.beta(8, 2, size), random.beta(0.4, 15, size)
    ),
}


@pytest.mark.parametrize("population", POPULATIONS)
def test_forecast_of_four_times_the_samples(population):
    random = np.random.default_rng(0)
    errors, plain = [], []
    for _ in range(10):
        p = POPULATIONS[population](random, 400)
        c = random.binomial(64, p)
        truth = (1 - (1 - p) ** 256).mean()
        errors.append(extrapolate_pass_at_k(64, c, 256).estimate - truth)
        plain.append((c > 0).mean() - truth)
    errors, plain = (np.sqrt(np.mean(np.square(x))) for x in (errors, plain))
    # A share of problems that no number of samples solves cannot be told from rates that are merely small.
    assert errors < (0.04 if population == "half never solved" else 0.35 * plain)


@pytest.mark.parametrize("population", POPULATIONS)
def test_forecast_interval(population):
    random = np.random.default_rng(1)
    truth = (1 - (1 - POPULATIONS[population](random, 400_000)) ** 256).mean()
    held, widths = 0, []
    for _ in range(60):
        interval = extrapolate_pass_at_k(64, random.binomial(64, POPULATIONS[population](random, 100)), 256)
        held += interval.low <= truth <= interval.high
        widths.append(interval.high - interval.low)
    assert held >= 54
    assert np.mean(widths) < 0.3


@pytest.mark.parametrize(
    ("n", "c", "level"),
    [
        (64, [0] * 30, 0.95),
        (64, [64] * 30, 0.95),
        (16, [0, 0, 0, 0, 1, 1, 2, 3, 5, 9, 16, 16], 0.8),
        (20, [0] * 90 + [1] * 20 + [2] * 10 + [4] * 5 + [7] * 5 + [8] * 5 + [12] * 20, 0.9),
        (5, [0, 0, 1, 2, 5, 5, 5], 0.5),
        ([16] * 20 + [40] * 20, [0] * 10 + [1] * 5 + [6] * 5 + [0] * 5 + [2] * 5 + [20] * 10, 0.95),
    ],
)
def test_forecast_agrees_with_a_slow_posterior(n, c, level):
    """On another grid, with scipy's beta-binomial: the prior, the censored counts, the trust in them and the ends."""
    n, c = np.broadcast_to(n, np.shape(c)), np.array(c)
    log_a, logit = (x.ravel() for x in np.meshgrid(np.linspace(-4.7, 3.5, 107), np.linspace(-14.1, 12.1, 128)))
    a, b = np.exp(log_a), np.exp(log_a - logit)
    likelihood = np.zeros(len(a))
    for (size, right), times in Counter(zip(n.tolist(), c.tolist(), strict=True)).items():
        chances = stats.betabinom.pmf(np.arange(8 if right >= 8 else right + 1)[:, None], size, a, b)
        chance = chances[right] if right < min(8, size) else 1 - chances[: min(8, size)].sum(axis=0)
        likelihood += times * np.log(np.maximum(chance, 1e-12))
    fewest = n.min()
    unsolved = 1 - pass_at_k(n, c, int(fewest)).mean()
    z, total = stats.norm.ppf((1 + level) / 2), len(c)
    least, most = np.sort(np.roots([1 + z * z / total, -2 * unsolved - z * z / total, unsolved**2]).real)
    trust = min(1, 50 / total)
    for k in (2 * fewest, 16 * fewest):
        stay = np.exp(special.betaln(a, b + k) - special.betaln(a, b + fewest))
        order, found = np.argsort(stay), []
        for power, at in ((1, 0.5), (trust, 0.5 + level / 2), (trust, 0.5 - level / 2)):
            weight = np.exp(stats.norm.logpdf(log_a, np.log(0.7)) + power * (likelihood - likelihood.max()))
            about = np.linspace(at - min(at, 1 - at) / 2, at + min(at, 1 - at) / 2, 1001)
            found.append(np.interp(about, np.cumsum(weight[order]) / weight.sum(), stay[order]).mean())
        want = 1 - np.array([unsolved, most, least]) * found
        got = extrapolate_pass_at_k(n, c, int(k), level)
        np.testing.assert_allclose([got.estimate, got.low, got.high], want, atol=0.002)
        assert (got.level, got.over) == (level, "both")


def test_up_to_the_samples_it_is_what_was_measured():
    n, c = [16, 20, 16], [3, 0, 16]
    found = extrapolate_pass_at_k(n, c, [1, 15, 16])
    np.testing.assert_allclose(found.estimate, pass_at_k(n, c, [1, 15, 16]).mean(axis=0), rtol=1e-12)


def test_forecasts_of_tables_stay():
    """Another grid is as good, within the tolerance of the slow posterior; the tables were made with this one."""
    found = extrapolate_pass_at_k(64, [0] * 20 + list(range(21)), [256, 1024])
    made = [[0.5803774, 0.65615872], [0.4028654, 0.45758017], [0.75010902, 0.82957364]]
    np.testing.assert_allclose([found.estimate, found.low, found.high], made, atol=1e-6)


@st.composite
def benchmark(draw):
    sizes = draw(st.lists(st.integers(1, 70), min_size=1, max_size=2))
    n = draw(st.lists(st.sampled_from(sizes), min_size=1, max_size=30))
    return n, [draw(st.sampled_from([0, x, min(1, x), draw(st.integers(0, x))])) for x in n]


@settings(deadline=None, max_examples=50)
@given(benchmark(), st.floats(0.5, 0.99))
def test_forecasts_rise_with_k_and_never_lie_below_what_was_measured(counts, level):
    n, c = counts
    fewest = min(n)
    ks = sorted({1, (fewest + 1) // 2, fewest, fewest + 1, 2 * fewest, 3 * fewest, 15 * fewest, 16 * fewest})
    found = extrapolate_pass_at_k(n, c, ks, level)
    for values in (found.estimate, found.low, found.high):
        assert np.all(np.diff(values) >= -1e-12)
        assert np.all((values >= 0) & (values <= 1))
    assert np.all((found.low <= found.estimate) & (found.estimate <= found.high))
    inside = [k for k in ks if k <= fewest]
    np.testing.assert_allclose(found.estimate[: len(inside)], pass_at_k(n, c, inside).mean(axis=0), atol=1e-12)
    assert np.all(found.high > found.low)
    # Of two benchmarks, the average's ends rise too.
    both = average_intervals([found, extrapolate_pass_at_k(16 * n, [0] * 16 * len(n), ks, level)])
    assert np.all(np.diff(both.low) >= -1e-12)
    assert np.all(np.diff(both.high) >= -1e-12)


def test_forecasts_at_the_edges_are_continuous_in_the_counts():
    """0 of 120 problems solved had an upper end of 29 %, 1 of 120 of 8 %; all of them solved, the interval [0, 1]."""
    found = [extrapolate_pass_at_k(64, [1] * solved + [0] * (120 - solved), 256) for solved in range(30)]
    for end in ("estimate", "low", "high"):
        values = np.array([getattr(x, end) for x in found])
        assert np.all(np.diff(values) > -1e-12)
        assert np.diff(values).max() < 0.08
    assert found[0].high < 0.1
    for problems in (16, 24, 120):
        for solved in (1, 2, 8, 63, 64):  # every problem, the last one at so many times
            top = extrapolate_pass_at_k(64, [64] * (problems - 1) + [solved], 256)
            assert top.estimate == top.high == 1
            assert 1 - top.low < 3.85 / problems  # that of Wilson for none of so many
    for right in range(10):  # one sample more or less
        pair = [extrapolate_pass_at_k(64, [x, *range(40)], 256) for x in (right, right + 1)]
        assert all(abs(getattr(pair[1], end) - getattr(pair[0], end)) < 0.05 for end in ("estimate", "low", "high"))


@pytest.mark.parametrize("c", [[0] * 40, [64] * 40, [0] * 39 + [1], list(range(40)), [0, 64] * 20])
def test_forecasts_are_the_same_on_every_machine(c, monkeypatch):
    """Another library's last digits do not show: no optimiser wanders where the likelihood is flat."""
    before = extrapolate_pass_at_k(64, c, [65, 128, 256, 1024])
    random, betaln = np.random.default_rng(0), special.betaln
    monkeypatch.setattr(
        extrapolation.special, "betaln", lambda a, b: (x := betaln(a, b)) * (1 + 1e-15 * random.normal(size=x.shape))
    )
    extrapolation._chances.cache_clear()
    after = extrapolate_pass_at_k(64, c, [65, 128, 256, 1024])
    extrapolation._chances.cache_clear()
    for end in ("estimate", "low", "high"):
        np.testing.assert_allclose(getattr(after, end), getattr(before, end), atol=1e-6)


def test_order_of_problems_does_not_matter():
    random = np.random.default_rng(1)
    n = random.integers(16, 40, 50)
    c = random.binomial(n, random.beta(0.3, 2, 50))
    order = random.permutation(50)
    again = extrapolate_pass_at_k(n[order], c[order], [32, 64])
    np.testing.assert_allclose(extrapolate_pass_at_k(n, c, [32, 64]).low, again.low, atol=1e-9)


def test_forecast_of_a_large_benchmark():
    random = np.random.default_rng(4)
    p = random.beta(0.4, 3, 12_000)
    forecast = extrapolate_pass_at_k(16, random.binomial(16, p), 64)
    assert forecast.estimate == pytest.approx((1 - (1 - p) ** 64).mean(), abs=0.01)
    assert forecast.high - forecast.low < 0.3


def test_forecast_takes_ragged_samples():
    random = np.random.default_rng(3)
    p = random.beta(0.3, 0.9, 600)
    n = random.integers(16, 64, 600)
    forecast = extrapolate_pass_at_k(n, random.binomial(n, p), 256)
    assert isinstance(forecast.estimate, float)
    assert forecast.estimate == pytest.approx((1 - (1 - p) ** 256).mean(), abs=0.04)


def beta_fit(n, c, k):
    """Plain maximum likelihood (Kazdan et al. 2025, arXiv 2510.05197)."""

    def loss(logs):
        a, b = np.exp(logs)
        return -(special.betaln(a + c, b + n - c) - special.betaln(a, b)).sum()

    a, b = np.exp(optimize.minimize(loss, [-1.0, 0.0], method="L-BFGS-B", bounds=[(-7, 9)] * 2).x)
    return 1 - np.exp(special.betaln(a, b + k) - special.betaln(a, b))


def real(name):
    """Return counts of right samples by model and benchmark, and of how many."""
    if name == "checkpoints":
        table = pd.read_csv(Path(__file__).parent / "data/passk_checkpoint_counts.csv")
        parts = [rows.drop(columns=["benchmark", "problem_id"]) for _, rows in table.groupby("benchmark")]
        return [[part[model].to_numpy() for part in parts] for model in parts[0]], 256
    path = Path(__file__).parents[2] / "shared/data/counts/pythia_math_half.csv"
    if not path.exists():
        pytest.skip(f"{path.name} is not there: shared data")
    return [[rows["c"].to_numpy()] for _, rows in pd.read_csv(path).groupby("model")], 10_000


@pytest.mark.parametrize(("name", "n", "draws", "most"), [("checkpoints", 64, 1, 0.95), ("pythia", 16, 20, 0.85)])
def test_forecasts_of_real_counts_err_less_than_a_plain_fit(name, n, draws, most):
    models, samples = real(name)
    random, errors = np.random.default_rng(0), []
    for _ in range(draws):
        for benchmarks in models:
            counts = [random.hypergeometric(c, samples - c, n) for c in benchmarks]
            truth = np.mean([pass_at_k(samples, c, 256).mean() for c in benchmarks])
            ours = average_intervals([extrapolate_pass_at_k(n, c, 256) for c in counts]).estimate
            errors.append([ours - truth, np.mean([beta_fit(n, c, 256) for c in counts]) - truth])
    ours, plain = np.sqrt(np.mean(np.square(errors), axis=0))
    assert ours < most * plain


@pytest.mark.parametrize(
    ("n", "c", "k", "options", "says"),
    [
        (16, [3] * 100, 257, {}, "problem 0: k = 257 is more than 16 times its n = 16 samples"),
        ([16, 8], [3] * 2, [8, 129], {}, "problem 1: k = 129 is more than 16 times its n = 8"),
        (16, [3, 17], 64, {}, "problem 1: c > n"),
        (16, [3] * 20, 0, {}, "k = 0"),
        (16, [3] * 20, 64, {"level": 95}, "a level lies between 0 and 1"),
    ],
)
def test_what_cannot_be_forecast_is_refused(n, c, k, options, says):
    with pytest.raises(InputError, match=says):
        extrapolate_pass_at_k(n, c, k, **options)


def test_sixteen_times_the_samples_is_not_too_far():
    assert extrapolate_pass_at_k([16], [3], 256).estimate == 1


def vote(counts, correct, silent, k):
    """Hold every vote there could be."""
    samples = [answer for answer, count in enumerate(counts) for _ in range(count)] + [None] * silent
    total = 0.0
    for drawn in combinations(range(len(samples)), k):
        tally = Counter(samples[i] for i in drawn if samples[i] is not None)
        first = [answer for answer, votes in tally.items() if votes == max(tally.values())]
        total += sum(correct[answer] for answer in first) / max(1, len(first))
    return total / comb(len(samples), k)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=1, max_size=5), st.integers(0, 3), st.data())
def test_majority_is_the_mean_of_every_vote(answers, silent, data):
    counts, correct = zip(*answers, strict=True)
    n = sum(counts) + silent
    assume(1 <= n <= 11)
    k = data.draw(st.integers(1, n))
    assert majority_at_k([counts], [correct], k, n=[n])[0] == pytest.approx(vote(counts, correct, silent, k), abs=1e-12)


def test_majority_of_one_vote_is_pass_at_one():
    counts, correct = [[5, 3, 1], [2, 7]], [[False, True, False], [True, False]]
    np.testing.assert_allclose(majority_at_k(counts, correct, 1, n=[12, 9]), pass_at_k([12, 9], [3, 2], 1))
    assert majority_at_k(counts, correct, [1, 9]).shape == (2, 2)
    assert majority_at_k([[200, 56]], [[True, False]], 255)[0] == pytest.approx(1)


@pytest.mark.parametrize(
    ("counts", "correct", "n", "k", "says"),
    [
        ([[1]], [[True], [False]], None, 1, "counts has 1 problems and correct has 2"),
        ([[1], [2, 3]], [[True], [False]], None, 1, "problem 1: 2 answers are counted and 1 judged"),
        ([[1, -1]], [[True, False]], None, 1, "problem 0: an answer's count"),
        ([[3]], [[True]], [2], 1, "problem 0: c > n"),
        ([[3], [2]], [[True], [True]], None, 3, "problem 1: k = 3"),
        ([[0]], [[True]], None, 1, "problem 0: n < 1"),
    ],
)
def test_bad_votes_are_refused_by_name(counts, correct, n, k, says):
    with pytest.raises(InputError, match=says):
        majority_at_k(counts, correct, k, n=n)


@pytest.mark.parametrize("p", [0.0, 0.03, 0.5, 1.0])
def test_signal_share_has_no_bias(p):
    n, size = 14, 8
    chance = [comb(n, c) * p**c * (1 - p) ** (n - c) for c in range(n + 1)]
    expected = sum(w * signal_share([n], [c], size) for c, w in enumerate(chance))
    assert expected == pytest.approx(1 - p**size - (1 - p) ** size, abs=1e-12)


def test_signal_share_is_a_mean_over_problems():
    assert signal_share([8, 8], [0, 4], 8) == pytest.approx(0.5)
    with pytest.raises(InputError, match="problem 1: k = 8"):
        signal_share([8, 4], [1, 1], 8)
    with pytest.raises(InputError, match="one group size"):
        signal_share([8, 8], [1, 1], [4, 8])


def test_variances_are_unbiased():
    random = np.random.default_rng(3)
    p = random.beta(0.5, 1, 40)  # of these problems; the variance between them is that of problems drawn from them
    rewards, rates = [], []
    for _ in range(4000):
        drawn = random.choice(p, 6)
        c = random.binomial(4, drawn)
        rewards.append(reward_variance(4, c))
        rates.append(success_variance(4, c))
    assert np.mean(rewards) == pytest.approx((p * (1 - p)).mean(), abs=4 * np.std(rewards) / 4000**0.5)
    assert np.mean(rates) == pytest.approx(p.var(), abs=4 * np.std(rates) / 4000**0.5)
    assert reward_variance(8, [8, 6]) == pytest.approx(np.diff(pass_at_k(8, [8, 6], [1, 2]).mean(axis=0))[0])


@pytest.mark.parametrize(("n", "c"), [(1, [1, 0]), ([1, 4], [1, 2])])
def test_a_single_sample_says_nothing_of_a_variance(n, c):
    with np.errstate(all="raise"):
        assert np.isnan(reward_variance(n, c))
        assert np.isnan(success_variance(n, c))


def test_two_samples_say_something_of_a_variance():
    assert reward_variance(2, [1, 0]) == 0.25
    assert success_variance(2, [2, 0]) == 0.5


def test_one_problem_says_nothing_of_how_problems_differ():
    assert np.isnan(success_variance(4, [2]))
    assert reward_variance(4, [2]) == pytest.approx(1 / 3)
    with pytest.raises(InputError, match="c > n"):
        reward_variance(4, [5])
    with pytest.raises(InputError, match="c > n"):
        success_variance(4, [5, 1])
