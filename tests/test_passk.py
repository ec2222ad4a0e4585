"""The unbiased estimate: exact against rational arithmetic, and bad counts refused by the problem's name."""

from fractions import Fraction
from math import comb

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sftrl.errors import InputError
from sftrl.passk import pass_at_k


def exact(n: int, c: int, k: int) -> float:
    return float(1 - Fraction(comb(n - c, k), comb(n, k)))


@st.composite
def counts(draw, most: int):
    n = draw(st.integers(1, most))
    return n, draw(st.integers(0, n)), draw(st.integers(1, n))


@settings(deadline=None)
@given(st.lists(counts(most=10_000), min_size=1, max_size=4))
def test_exact_up_to_ten_thousand_samples(problems):
    k = min(k for _, _, k in problems)
    n, c = np.array([(n, c) for n, c, _ in problems if n >= k]).T
    got = pass_at_k(n, c, k)
    assert got == pytest.approx([exact(int(a), int(b), k) for a, b in zip(n, c, strict=True)], abs=1e-12)


@pytest.mark.parametrize("n", [1, 2, 7, 256, 9_999, 10_000])
def test_exact_at_the_corners(n):
    cs = sorted({0, min(1, n), n // 2, n - 1, n})
    for k in sorted({1, max(1, n // 2), max(1, n - 1), n}):
        assert pass_at_k([n] * len(cs), cs, k) == pytest.approx([exact(n, c, k) for c in cs], abs=1e-12)


def test_shapes():
    n, c = [8, 8, 12], [0, 3, 12]
    assert pass_at_k(n, c, 4).shape == (3,)
    assert pass_at_k(n, c, [4]).shape == (3, 1)
    several = pass_at_k(n, c, [1, 4, 8])
    assert several.shape == (3, 3)
    np.testing.assert_array_equal(several[:, 1], pass_at_k(n, c, 4))
    np.testing.assert_array_equal(pass_at_k(8, [0, 3], 4), several[:2, 1])  # one n for all


@settings(deadline=None)
@given(counts(most=200), st.integers(1, 200))
def test_more_draws_never_lower_it(count, more):
    n, c, k = count
    low, high = pass_at_k([n], [c], [k, min(n, k + more)])[0]
    assert 0 <= low <= high <= 1


def test_unbiased():
    # The mean over all samples of size n from a rate p is 1 - (1-p)^k, for every k up to n.
    n, p = 12, 0.17
    c = np.arange(n + 1)
    chance = np.array([comb(n, x) * p**x * (1 - p) ** (n - x) for x in c])
    for k in range(1, n + 1):
        assert chance @ pass_at_k(n, c, k) == pytest.approx(1 - (1 - p) ** k, abs=1e-12)


@pytest.mark.parametrize(
    ("n", "c", "k", "says"),
    [
        ([], [], 1, "no problems"),
        ([4, 4], [1], 1, "counts 2 problems and c counts 1"),
        ([[4, 4]], [[1, 1]], 1, "shapes"),
        ([4, 4], [[1, 1]], 1, "shapes"),
        ([[4, 4]], [1, 1], 1, "shapes"),
        ([8, 4], [1, 1], [1, 5], "problem 1: k = 5 draws cannot be taken from its n = 4"),
        ([4, 0, 4], [1, 0, 1], 1, "problem 1: n < 1"),
        ([4, 4], [1, 5], 1, r"problem 1: c > n \(n = 4, c = 5\)"),
        ([4, 4], [-1, 2], 1, "problem 0: c < 0"),
        ([4, 4], [1, 1.5], 1, "problem 1: c is not a whole number"),
        ([4, float("nan")], [1, 1], 1, "problem 1: n is not a whole number"),
        ([4, 4], [1, "two"], 1, "not a number"),
        ([8, 4, 8], [1, 1, 1], 5, "problem 1: k = 5 draws cannot be taken from its n = 4"),
        ([4], [1], 0, "k = 0: k must be"),
        ([4], [1], [1, 0], "k = 0: k must be"),
        ([4], [1], 1.5, "k = 1.5: k must be"),
        ([4], [1], [], "non-empty"),
    ],
)
def test_bad_counts_are_refused_by_name(n, c, k, says):
    with pytest.raises(InputError, match=says):
        pass_at_k(n, c, k)


def test_an_index_names_the_problem():
    with pytest.raises(InputError, match="problem aime-7: c > n"):
        pass_at_k([4, 4], pd.Series([2, 5], index=["aime-6", "aime-7"]), 1)
