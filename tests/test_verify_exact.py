"""The exact layer against exact references: Fractions, sympy's own rewritings, and random text."""

import itertools
from decimal import Decimal
from fractions import Fraction

import pytest
import sympy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sftrl.verify import extract_answer, verify_many
from sftrl.verify.exact import compare
from sftrl.verify.extract import MAX_LENGTH
from sftrl.verify.grammar import readings

fractions = st.builds(Fraction, st.integers(-999, 999), st.integers(1, 60))
SIGNS = (
    r"\frac \sqrt \boxed{ \text{ { } ( ) [ ] , ; 1 2 30 x y n pi \pi e i ^ _ + - * / = < > \le \cup \infty \{ \} ! % $ "
    r"| & \\ \begin{pmatrix} \end{pmatrix} \left \right \circ \pm \in \mathbb{R} \sin \log and or cm : . 1,000 \binom "
    r"\lfloor '"
)
soup = st.lists(st.sampled_from(SIGNS.split()), max_size=25).map(" ".join)


def spellings(value: Fraction) -> list[str]:
    """Ways to write a rational number."""
    top, bottom = value.numerator, value.denominator
    found = [
        rf"\frac{{{top}}}{{{bottom}}}",
        f"{top}/{bottom}",
        rf"\dfrac{{{3 * top}}}{{{3 * bottom}}}",
        rf"x={top}/{bottom}",
    ]
    if bottom == 1:
        found += [str(top), f"{top:,}", f"{top}.0", rf"{top}\text{{ apples}}"]
    if not set(sympy.factorint(bottom)) - {2, 5}:
        found.append(f"{Decimal(top) / bottom:f}")
    if value > 1 and bottom > 1:
        found.append(rf"{top // bottom}\frac{{{top % bottom}}}{{{bottom}}}")
    return found


@settings(max_examples=50, deadline=None, derandomize=True)
@given(fractions, fractions)
def test_rational_numbers_in_every_spelling(value, other):
    for gold, answer in itertools.product(spellings(value), spellings(other)):
        assert compare(gold, answer) == ("correct" if value == other else "incorrect"), (gold, answer)


@settings(deadline=None, derandomize=True)
@given(st.lists(st.integers(-50, 50), min_size=2, max_size=6), st.randoms(use_true_random=False))
def test_lists_are_unordered_and_tuples_ordered(items, random):
    shuffled = items[:]
    random.shuffle(shuffled)
    assert compare(", ".join(map(str, items)), ", ".join(map(str, shuffled))) == "correct"
    pair = [f"({', '.join(map(str, numbers))})" for numbers in (items, shuffled)]
    assert compare(*pair) == ("correct" if items == shuffled else "incorrect")
    sets = [rf"\{{{', '.join(map(str, numbers))}\}}" for numbers in (items, sorted(set(items)))]
    assert compare(*sets) == "correct"


@given(
    st.integers(-9, 9),
    st.integers(1, 9),
    st.sampled_from(["()", "(]", "[)", "[]"]),
    st.sampled_from(["()", "(]", "[)", "[]"]),
)
def test_intervals_differ_by_their_brackets(low, width, brackets, others):
    high = low + width
    gold = f"{brackets[0]}{low}, {high}{brackets[1]}"
    same = "correct" if brackets == others else "incorrect"
    assert compare(gold, rf"\left{others[0]}{2 * low}/2, {high}\right{others[1]}", "interval") == same
    signs = [r"\le" if bracket in "[]" else "<" for bracket in others]
    assert compare(gold, rf"{low} {signs[0]} x {signs[1]} {high}", "interval") == same


def expressions() -> st.SearchStrategy[sympy.Expr]:
    x, y = sympy.symbols("x y")
    leaves = st.one_of(st.integers(-9, 9).map(sympy.Integer), st.sampled_from([x, y]))
    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            st.builds(lambda a, b: a + b, inner, inner),
            st.builds(lambda a, b: a * b, inner, inner),
            st.builds(lambda a, b: a - 2 * b, inner, inner),
            st.builds(lambda a, n: a**n, inner, st.integers(2, 3)),
        ),
        max_leaves=8,
    )


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(expressions(), expressions())
def test_polynomials_as_sympy_sees_them(first, second):
    same = "correct" if sympy.expand(first - second) == 0 else "incorrect"
    assert compare(sympy.latex(first), sympy.latex(sympy.expand(first))) == "correct"
    assert compare(sympy.latex(first), sympy.latex(sympy.expand(second))) == same
    assert compare(sympy.latex(first), sympy.latex(sympy.expand(first + 1))) == "incorrect"


@pytest.mark.parametrize(
    "expression",
    [
        "sqrt(2)+sqrt(3)", "sqrt(8)/3", "cos(pi/5)", "sin(x)**2", "exp(2*x)/x", "log(8)/log(2)", "(1+sqrt(5))/2",
        "2**(k-1)", "binomial(2*n,n)", "(x**2-1)/(x-1)", "sqrt(x+1)", "tan(x)*cos(x)", "pi**2/6", "factorial(n)/n",
        "sinh(x)", "I**3+2*I",
        "exp(I*pi/3)", "root(7,3)", "atan(2)+atan(3)", "floor(n/2)+1", "x**y/y", "log(x*y)",
    ],
)  # fmt: skip
def test_closed_forms_as_sympy_rewrites_them(expression):
    n, k = sympy.symbols("n k", positive=True, integer=True)
    value = sympy.sympify(expression, locals={"n": n, "k": k})
    gold = sympy.latex(value)
    for rewriting in (sympy.simplify, sympy.expand, sympy.factor, sympy.nsimplify):
        assert compare(gold, sympy.latex(rewriting(value))) == "correct", rewriting
    for other in (value + sympy.Rational(1, 10**9), 2 * value, value + sympy.sqrt(7)):
        assert compare(gold, sympy.latex(other)) != "correct", other


@pytest.mark.parametrize(
    ("gold", "answer"),
    [
        (r"\sqrt{x^2}", "x"),  # equal for positive x only
        (r"\ln(x^2)", r"2\ln x"),
        (r"\int_0^1 2x\,dx", "1"),  # not in the grammar
        (r"2\frac{7}{3}", "13/3"),  # an improper mixed number, or a product
        ("12 34", "1234"),
    ],
)
def test_what_is_not_sure_is_left_to_the_next_layer(gold, answer):
    assert compare(gold, answer) is None


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (r"e^{\pi\sqrt{163}}", "262537412640768744"),  # they agree to 30 digits
        (r"\frac{1}{2004!}", r"\frac{1}{2006!}"),
        ("10^{-400}", "0"),
        ("10^{60}", "10^{60}+1"),
        (r"10^{60}+\pi-10^{60}", "e"),  # cancellation
        (r"\sqrt{10^{40}+1}", "10^{20}"),
    ],
)
def test_near_misses(first, second):
    assert compare(first, second) == "incorrect"
    assert compare(second, first) == "incorrect"


@settings(max_examples=400, deadline=None, derandomize=True)
@given(st.one_of(st.text(max_size=80), soup), st.one_of(st.text(max_size=80), soup))
def test_no_text_raises(gold, response):
    answer = extract_answer(response)
    assert answer is None or (0 < len(answer) <= MAX_LENGTH)
    statuses = {"correct", "incorrect", "unparseable_response", "unparseable_gold", "timed_out", None}
    for kind in (
        None,
        "integer",
        "number",
        "expression",
        "tuple",
        "set",
        "interval",
        "equation",
        "matrix",
        "choice",
        "text",
    ):
        assert compare(gold, answer, kind, ("1", gold) if kind == "choice" else None) in statuses
        assert compare(gold, response, kind) in statuses
        assert compare(gold, response, kind, None, 0.01) in statuses


@settings(max_examples=150, deadline=None, derandomize=True)
@given(soup)
def test_what_is_read_equals_itself(text):
    for tree in readings(text):
        assert compare(text, f" {text} ") == "correct" or not text.strip(" .,;:*_"), tree


@settings(max_examples=15, deadline=None, derandomize=True)
@given(st.lists(st.tuples(soup, soup), min_size=1, max_size=5))
def test_no_batch_raises(pairs):
    verdicts = verify_many([rf"\boxed{{{a}}}" for a, _ in pairs], [g for _, g in pairs], timeout=0.3)
    assert len(verdicts) == len(pairs)
