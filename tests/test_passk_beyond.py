"""Beyond the estimate: forecasts for k > n against a known truth; majority votes and GRPO signal by counting."""

from collections import Counter
from itertools import combinations
from math import comb

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from sftrl.errors import InputError
from sftrl.passk import extrapolate_pass_at_k, extrapolate_together, majority_at_k, pass_at_k, signal_share

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
    assert np.sqrt(np.mean(np.square(errors))) < 0.035
    assert np.sqrt(np.mean(np.square(errors))) < 0.6 * np.sqrt(np.mean(np.square(plain)))


@pytest.mark.parametrize("population", POPULATIONS)
def test_forecast_interval(population):
    random = np.random.default_rng(1)
    truth = (1 - (1 - POPULATIONS[population](random, 400_000)) ** 256).mean()
    held, widths = 0, []
    for _ in range(40):
        interval = extrapolate_pass_at_k(64, random.binomial(64, POPULATIONS[population](random, 100)), 256)
        held += interval.low <= truth <= interval.high
        widths.append(interval.high - interval.low)
    assert np.mean(widths) < 0.4
    assert held >= 33  # of 40: at 90 % coverage, less happens once in 24


def test_forecast_agrees_with_the_estimate_up_to_n():
    random = np.random.default_rng(2)
    c = random.binomial(64, random.beta(0.3, 0.9, 500))
    ks = [1, 4, 16, 64]
    forecast = extrapolate_pass_at_k(64, c, ks)
    np.testing.assert_allclose(forecast.estimate, pass_at_k(64, c, ks).mean(axis=0), atol=0.01)
    later = extrapolate_pass_at_k(64, c, [64, 128, 512, 1024]).estimate
    assert np.all(np.diff(later) > 0)
    assert later[-1] < 1


def test_forecast_takes_ragged_samples():
    random = np.random.default_rng(3)
    p = random.beta(0.3, 0.9, 600)
    n = random.integers(16, 64, 600)
    forecast = extrapolate_pass_at_k(n, random.binomial(n, p), 256)
    assert isinstance(forecast.estimate, float)
    assert forecast.estimate == pytest.approx((1 - (1 - p) ** 256).mean(), abs=0.04)


@pytest.mark.parametrize(
    ("n", "c", "k", "says"),
    [
        (16, [0] * 100, 64, "only 0 of 100 problems"),
        (16, [16] * 100, 64, "only 0 of 100 problems"),
        (16, [3] * 9 + [0] * 91, 64, "only 9 of 100 problems"),
        (16, [3] * 100, 257, "k = 257 is more than 16 times the 16 samples"),
        (16, [3, 17], 64, "problem 1: c > n"),
    ],
)
def test_forecasts_that_the_data_cannot_support_are_refused(n, c, k, says):
    with pytest.raises(InputError, match=says):
        extrapolate_pass_at_k(n, c, k)


def checkpoints(random, many, sizes):
    """Rates (checkpoints, problems) of checkpoints that differ in ability and sharpness, and the benchmark of each."""
    ability, sharpness = random.uniform(-4, -1, (many, 1)), random.uniform(1.5, 3, (many, 1))
    labels = np.repeat(np.arange(len(sizes)), sizes)
    difficulty = random.normal(random.uniform(-0.5, 0.5, len(sizes))[labels], 1)
    logits = ability - sharpness * difficulty + random.normal(0, 1, (many, len(labels)))
    return 1 / (1 + np.exp(-logits)), labels


def test_checkpoints_forecast_together_err_less_and_rank_better():
    random = np.random.default_rng(0)
    errors, ranks, held = [], [], []
    for _ in range(4):
        p, labels = checkpoints(random, 12, [60, 150, 300])
        parts = [labels == i for i in range(3)]
        truth = np.mean([(1 - (1 - p[:, part]) ** 256).mean(axis=1) for part in parts], axis=0)
        c = random.binomial(16, p)
        found = extrapolate_together(16, c, 256, benchmarks=labels)["average"]
        together = np.array([x.estimate for x in found])
        held += [x.low <= t <= x.high for x, t in zip(found, truth, strict=True)]
        alone = np.mean([[extrapolate_pass_at_k(16, row[part], 256).estimate for row in c] for part in parts], axis=0)
        errors.append([np.square(x - truth).mean() for x in (together, alone)])
        ranks.append([spearmanr(x, truth).statistic for x in (together, alone)])
    together, alone = np.sqrt(np.mean(errors, axis=0))
    assert together < 0.75 * alone
    assert np.mean(ranks, axis=0)[0] > max(0.9, np.mean(ranks, axis=0)[1])
    assert np.mean(held) > 0.85


def test_order_of_checkpoints_and_problems_does_not_matter():
    random = np.random.default_rng(1)
    p, labels = checkpoints(random, 4, [40, 50])
    c = random.binomial(16, p)
    found = extrapolate_together(16, c, [32, 64], benchmarks=labels)
    rows, columns = random.permutation(4), random.permutation(90)
    again = extrapolate_together(np.full((4, 90), 16), c[rows][:, columns], [32, 64], benchmarks=labels[columns])
    assert found.keys() == again.keys() == {0, 1, "average"}
    for name, intervals in found.items():
        for i, row in enumerate(rows):
            np.testing.assert_allclose(again[name][i].estimate, intervals[row].estimate, atol=2e-3)
            np.testing.assert_allclose(again[name][i].low, intervals[row].low, atol=5e-3)
    for i in range(4):
        mean = (found[0][i].estimate + found[1][i].estimate) / 2
        np.testing.assert_allclose(found["average"][i].estimate, mean)


def test_a_hopeless_checkpoint_is_told_from_the_others():
    """Alone it has too few counts for a forecast; together it gets one, low and wide."""
    random = np.random.default_rng(2)
    c = np.vstack([random.binomial(16, random.beta(0.4, 2, (3, 80))), np.zeros((1, 80), int)])
    with pytest.raises(InputError, match="only 0 of 80"):
        extrapolate_pass_at_k(16, c[3], 64)
    found = extrapolate_together(16, c, 64)["average"]
    assert found[3].estimate < 0.2 < min(x.estimate for x in found[:3])
    assert found[3].low < found[3].estimate < found[3].high


@pytest.mark.parametrize(
    ("n", "c", "options", "says"),
    [
        (16, [[3] * 20], {}, "checkpoints: 1 given; one alone is a case for extrapolate_pass_at_k"),
        (16, [[3] * 20, [3] * 19], {}, r"must have the same problems: they have \[20, 19\]"),
        ([[16] * 20], [[3] * 20, [3] * 20], {}, "n holds 1 checkpoints and c 2"),
        (16, [[3] * 20, [3] * 19 + [17]], {}, "checkpoint 1: problem 19: c > n"),
        (16, [[3] * 20, [3] * 20], {"benchmarks": ["a"] * 19}, "one for each of the 20 problems is needed, not 19"),
        (16, [[3] * 20] * 2, {"benchmarks": ["a"] * 19 + ["average"]}, "cannot be one of them"),
        (16, [[3] * 20, [0] * 20], {"level": 95}, "a level lies between 0 and 1"),
        (16, [[3] * 19 + [0], [0] * 20], {}, "only 9.5 of 20 problems a checkpoint"),
    ],
)
def test_what_cannot_be_forecast_together_is_refused(n, c, options, says):
    with pytest.raises(InputError, match=says):
        extrapolate_together(n, c, 64, **options)


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
