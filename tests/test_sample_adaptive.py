"""Adaptive sampling: unbiased, cheaper than equal numbers for the same width, and as wide as was asked for."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from test_sample import PROBLEMS
from tiny import tiny_folder

from sftrl.errors import InputError
from sftrl.generations import Store, summarise
from sftrl.passk import pass_at_k, pass_at_k_interval
from sftrl.recipes import Adaptive, Checkpoint, Sampling
from sftrl.sample import fill
from sftrl.sample.adaptive import allocate, expected_variance

RATES = np.random.default_rng(0).beta(0.25, 0.6, size=60)  # many problems never or always solved, as in real benchmarks


def simulate(adaptive, most, repeats):
    """Return errors of the mean Pass@k, without and with the pilot counted, and half widths."""
    random = np.random.default_rng(1)
    truth = np.mean(1 - (1 - RATES) ** adaptive.k)
    errors, naive, widths = [], [], []
    for _ in range(repeats):
        pilot = random.binomial(adaptive.pilot, RATES)
        n = allocate(pilot, len(RATES), adaptive, most)
        c = random.binomial(n, RATES)
        errors.append(pass_at_k(n, c, adaptive.k).mean() - truth)
        naive.append(pass_at_k(n + adaptive.pilot, c + pilot, adaptive.k).mean() - truth)
        interval = pass_at_k_interval(n, c, adaptive.k, over="samples")
        widths.append((interval.high - interval.low) / 2)
    return np.array(errors), np.array(naive), np.array(widths)


def bias(errors):
    """Return the mean error in units of its standard error."""
    return errors.mean() / (errors.std(ddof=1) / len(errors) ** 0.5)


def test_unbiased_and_as_wide_as_asked_for():
    adaptive = Adaptive(k=1, half_width=0.012, pilot=8)
    errors, naive, widths = simulate(adaptive, 512, 800)
    assert abs(bias(errors)) < 3.5
    assert abs(bias(naive)) > 4  # counting the pilot would be wrong, and this simulation is long enough to tell
    assert np.quantile(widths, [0.1, 0.9]) / adaptive.half_width == pytest.approx(0.92, abs=0.15)
    assert 1.96 * errors.std() / adaptive.half_width == pytest.approx(1, abs=0.1)


def test_large_k():
    adaptive = Adaptive(k=8, half_width=0.02, pilot=8)
    errors, _, widths = simulate(adaptive, 512, 200)
    assert abs(bias(errors)) < 3.5
    assert np.quantile(widths, [0.1, 0.9]) / adaptive.half_width == pytest.approx(0.95, abs=0.15)
    assert 1.96 * errors.std() / adaptive.half_width == pytest.approx(1, abs=0.2)


def sampling_variance(n, k, p):
    right = np.arange(n + 1)
    return stats.binom.pmf(right, n, p) @ (1 - pass_at_k(n, right, k)) ** 2 - (1 - p) ** (2 * k)


def test_cheaper_than_equal_numbers():
    random, adaptive = np.random.default_rng(3), Adaptive(k=16, half_width=0.01, pilot=16)
    n = allocate(random.binomial(adaptive.pilot, RATES), len(RATES), adaptive, 4096)
    total = n.mean() + adaptive.pilot  # the pilot is paid for
    ours = sum(sampling_variance(size, 16, p) for size, p in zip(n, RATES, strict=True))
    equal = sum(sampling_variance(int(total / 0.75), 16, p) for p in RATES)
    assert ours < equal  # equal numbers are worse even with a third more samples


def test_expected_variance_is_that_of_a_simulation():
    random = np.random.default_rng(2)
    p = random.beta(2.5, 6.5, size=200_000)
    estimates = pass_at_k(16, random.binomial(16, p), 4)
    simulated = np.mean((estimates - (1 - (1 - p) ** 4)) ** 2)
    assert expected_variance(2, 8, 4, 16) == pytest.approx(simulated, rel=0.02)


def test_allocation_follows_the_uncertainty():
    n = allocate([0, 4, 8], 3, Adaptive(k=1, half_width=0.05, pilot=8), 1024)
    assert n[1] > 1.5 * n[0]
    assert n[0] == n[2]
    assert (allocate([0, 4, 8], 3, Adaptive(k=4, half_width=0.9, pilot=8), 100) == 8).all()  # 2k at least
    assert (allocate([0, 4, 8], 3, Adaptive(k=4, half_width=1e-4, pilot=8), 100) == 100).all()  # no more than most
    with pytest.raises(InputError, match="n: 7 is less than adaptive sampling needs, 2k = 8"):
        fill("x", Checkpoint(model="x"), PROBLEMS, Sampling(adaptive=Adaptive(k=4, half_width=0.1)), n=7, seed=0)


@pytest.mark.filterwarnings("ignore:.*cut off")
def test_a_store_is_filled_in_two_stages(tmp_path):
    torch.set_num_threads(1)
    adaptive = Adaptive(k=2, half_width=0.2, pilot=4)
    what = Checkpoint(model=str(tiny_folder(tmp_path / "model"))), PROBLEMS, Sampling(max_tokens=8, adaptive=adaptive)
    options = {"n": 12, "seed": 0, "progress": None}
    drawn = fill(tmp_path / "store", *what, **options)
    assert drawn.samples == len(Store(tmp_path / "store").read())
    fresh = summarise(tmp_path / "store", PROBLEMS, n=2, start=4).problems
    pilot = summarise(tmp_path / "store", PROBLEMS, n=4, stop=4).problems
    assert (pilot["n"] == 4).all()
    for name, group in pilot.groupby("benchmark"):
        expected = allocate(group["c"], len(group), adaptive, 12)
        assert list(fresh.loc[fresh["benchmark"] == name, "n"]) == list(expected)
    assert fill(tmp_path / "store", *what, **options).samples == 0  # the same plan again
    # In shards, each makes its own plan.
    for shard in range(2):
        fill(tmp_path / "two", *what, shard=shard, of=2, **options)
    assert (summarise(tmp_path / "two", PROBLEMS, n=2, start=4).problems["n"] >= 2).all()
    a, b = (Store(tmp_path / name).read() for name in ("store", "two"))
    both = pd.merge(a, b, on=["benchmark", "problem_id", "sample_index"])
    assert (both["response_x"] == both["response_y"]).all()
