"""Decide whether two scalar trees have the same value: exactly by rational arithmetic, else by enough digits.

Expressions with variables are compared at sample points. For rational functions the points are large integers and the
arithmetic exact, so that unequal is proved and equal is wrong with a chance of about the degree in ten thousand a point
(three points are used). Factorials and floors are compared at 61 integers, other closed forms with mpmath. Values
differ if their difference is the same at two precisions. They are equal if they agree to 90 digits more than three
times the span of the numbers met on the way: `(2+\\sqrt3)^{100}` is near an integer by its inverse, so 57 digits on the
way ask for 260. Where that is more than `MAX_DIGITS`, nothing is decided.
"""

import contextlib
import zlib
from collections.abc import Iterable, Iterator
from fractions import Fraction

from sftrl.verify.trees import CONSTANTS, kinds, symbols, times
from sftrl.verify.units import read_unit, split_unit, unit_factors
from sftrl.verify.values import DIGITS, NoValue, TooLarge, bounded, exact, measured, power

MAX_DIGITS = 2_000, 1_000  # of constants, and at sample points, of which there are nine
CLOSE = 1e-90  # relative: two numbers this close are one
_INTEGRAL = {"factorial", "factorial2", "binomial"}  # their variables are integers
_STEPPED = _INTEGRAL | {"floor", "ceil"}  # at home on the integers, if their variables are some
_INTEGRAL_NAMES = set("ijklmnpqrstNMK")


def equal(gold: tuple, answer: tuple) -> bool | None:
    """Say whether two scalars are equal; None if unsure. Raises NoValue if one of them is no scalar."""
    if gold == answer:
        return True
    names, functions = symbols(gold) | symbols(answer), kinds(gold) | kinds(answer)
    if not names - CONSTANTS:
        return _same_number(gold, answer, {})
    if "i" not in names and _is_rational(gold) and _is_rational(answer):
        return _agree(gold, answer, ({name: _large(name, k) for name in names} for k in range(3)), 3)
    names = sorted(names - CONSTANTS)
    if functions & _STEPPED and all(name[0] in _INTEGRAL_NAMES or name in _whole(gold) for name in names):
        return _agree(gold, answer, _steps(names, 0), 31)
    found = _equal_sampled(gold, answer, names)
    return _agree(gold, answer, _steps(names, Fraction(1, 3)), 31) if found and functions & _STEPPED else found


def _whole(tree: tuple) -> frozenset[str]:
    """The names that stand under a factorial or in a binomial: integers."""
    if tree[:1] == ("fn",) and tree[1] in _INTEGRAL:
        return symbols(tree)
    return frozenset().union(*(_whole(part) for part in tree if type(part) is tuple))


def _is_rational(tree: tuple) -> bool:
    """Say whether a tree has no functions, and no exponents but integers."""
    if tree[:1] == ("fn",) or (tree[:1] == ("^",) and symbols(tree[2])):
        return False
    return all(_is_rational(part) for part in tree if type(part) is tuple)


def _large(name: str, k: int) -> Fraction:
    return Fraction(1009 + zlib.crc32(f"{name}{k}".encode()) % 9973)


def _steps(names: list[str], shift: Fraction | int) -> Iterator[dict[str, Fraction]]:
    """Points at or beside integers, small ones and, for the sake of `\\lfloor n/50 \\rfloor`, large ones."""
    for k in range(61):
        step, size = (1, 41) if k < 41 else (37, 2003)
        yield {name: Fraction(1 + k * step * (2 * j + 1) % size) + shift for j, name in enumerate(names)}


def _agree(gold: tuple, answer: tuple, points: Iterable[dict], least: int) -> bool | None:
    """Compare at points; None if neither differs anywhere, and fewer than `least` tell."""
    told = 0
    for point in points:
        found = None
        with contextlib.suppress(NoValue, TooLarge):
            found = _same_number(gold, answer, point)
        if found is False:
            return False
        told += bool(found)
    return True if told >= least else None


def _equal_sampled(gold: tuple, answer: tuple, names: list[str]) -> bool | None:
    """Compare at points of three sorts: positive, integer, and general (negative and complex)."""
    noise = [{name: zlib.crc32(f"{name}{k}".encode()) % 997 / 997 for name in names} for k in range(3)]
    positive = [{name: 0.2 + 0.7 * k + u / 3 for name, u in each.items()} for k, each in enumerate(noise)]
    integer = [
        {name: Fraction(1 + (k + 3 * j + int(4 * u)) % 7) for j, (name, u) in enumerate(each.items())}
        for k, each in enumerate(noise)
    ]
    general = [{name: complex(-0.3 - u, 0.4 * k) for name, u in each.items()} for k, each in enumerate(noise)]
    found = [_agree(gold, answer, points, 1) for points in (positive, integer)]
    if found == [False, False]:
        return False
    return (all(found) and _agree(gold, answer, general, 1)) or None


def _same_number(gold: tuple, answer: tuple, point: dict) -> bool | None:
    """Compare two values, exactly where both are rational."""
    if not any(isinstance(value, float | complex) for value in point.values()):
        with contextlib.suppress(NoValue):
            return exact(gold, point) == exact(answer, point)
    values = []
    for digits in (DIGITS, DIGITS + 50):
        (a, first), (b, second) = measured(gold, point, digits), measured(answer, point, digits)
        values.append((a, b))
        scale = max(abs(a), abs(b))
        if abs(a - b) <= scale * CLOSE:
            break
    else:
        zeros = []
        for once, again in zip(*values, strict=True):
            # What is nothing but rounding error shrinks with more digits; a value, however small, stays.
            zero = abs(again) <= abs(once) * 1e-40
            if not zero and abs(again - once) > abs(once) * CLOSE:
                return None
            zeros.append(zero)
        if not all(zeros):
            return False
        scale = 1
    span = int(max(first, second) * 0.302)
    if 4 * span > MAX_DIGITS[bool(point)]:
        raise TooLarge("digits")
    if span:
        a, b = (measured(tree, point, DIGITS + 4 * span)[0] for tree in (gold, answer))
    return bool(abs(a - b) * 10 ** (90 + 3 * span) <= scale)


# -- equations


def same_zeros(gold: tuple, answer: tuple) -> bool:
    """Say whether two equations, as differences of their sides, are the same but for a factor that is a number.

    Fractions are cleared first (`y/x = 2` is `y = 2x`). Each function or power that is not rational counts as one more
    variable. `x = y` is not `x^2 = y^2`, and `x - 6 = 0` not `(x - 6)(x - 3) = 0`.
    """
    return proportional(lambda tree, point: _over(tree, point)[0], gold, answer) is not None


def proportional(evaluate, gold: tuple, answer: tuple) -> Fraction | None:
    """The number c with gold = c * answer at three points, if there is one."""
    ratio = None
    for k in range(3):
        point = {name: _large(name, k) for name in symbols(gold) | symbols(answer)}
        try:
            ours, theirs = evaluate(gold, point), evaluate(answer, point)
        except NoValue:
            return None
        if ours == 0 or theirs == 0 or ratio not in (None, ours / theirs):
            return None
        ratio = ours / theirs
    return ratio


def _over(tree: tuple, point: dict[str, Fraction]) -> tuple[Fraction, Fraction]:
    """Numerator and denominator of a tree at a point, as polynomials."""
    kind = tree[0]
    if kind == "+":
        top, bottom = Fraction(0), Fraction(1)
        for term in tree[1]:
            above, below = _over(term, point)
            if below == bottom:
                top = bounded(top + above)
            else:
                top, bottom = bounded(top * below + above * bottom), bounded(bottom * below)
        return top, bottom
    if kind == "*":
        top, bottom = Fraction(1), Fraction(1)
        for factor in tree[1]:
            above, below = _over(factor, point)
            top, bottom = bounded(top * above), bounded(bottom * below)
        return top, bottom
    if kind == "/":
        (top, under), (bottom, over) = _over(tree[1], point), _over(tree[2], point)
        return bounded(top * over), bounded(under * bottom)
    if kind == "^" and tree[2][0] == "num" and tree[2][1].denominator == 1 and 0 <= tree[2][1] <= 64:
        top, bottom = _over(tree[1], point)
        return power(top, tree[2][1]), power(bottom, tree[2][1])
    try:
        return exact(tree, point), Fraction(1)
    except NoValue:
        return _large(repr(tree), 0), Fraction(1)  # sin x, \\sqrt 2: one more variable


# -- quantities


def same_quantity(gold: tuple, answer: tuple, tolerance: float | None) -> bool | None:
    """Compare two scalars with or without units. Raises NoValue if one of them is no scalar."""
    (gold, gold_unit), (answer, answer_unit) = split_unit(gold), split_unit(answer)
    if gold_unit and not answer_unit and answer[0] == "*" and answer[1][-1][0] == "sym":  # `5 m`, beside `5 meters`
        answer_unit = read_unit(answer[1][-1][1], False)
        answer = ("*", answer[1][:-1]) if answer_unit else answer
    share = _is_share(gold)
    factors = unit_factors(gold_unit, answer_unit, share, "pi" in symbols(gold), "pi" in symbols(answer))
    scaled = (answer if factor == ("num", Fraction(1)) else times(answer, factor) for factor in factors)
    return some(within(gold, value, tolerance) or equal(gold, value) for value in scaled)


def _is_share(tree: tuple) -> bool:
    """A proper fraction, which is no number of percent."""
    with contextlib.suppress(NoValue):
        value = exact(tree, {})
        return abs(value) < 1 and value.denominator != 1
    return False


def within(gold: tuple, answer: tuple, tolerance: float | None) -> bool:
    """Say whether two constants differ by no more than a relative tolerance; None allows nothing."""
    if tolerance is not None:
        with contextlib.suppress(NoValue):
            gold, answer = (measured(split_unit(tree)[0], {})[0] for tree in (gold, answer))
            return bool(abs(answer - gold) <= tolerance * abs(gold))
    return False


# -- three-valued logic


def some(found: Iterable[bool | None]) -> bool | None:
    """True if one is; else None if one may be."""
    unsure = False
    for each in found:
        if each:
            return True
        unsure |= each is None
    return None if unsure else False


def every(found: Iterable[bool | None]) -> bool | None:
    wrong = some(None if each is None else not each for each in found)
    return None if wrong is None else not wrong
