"""The value of a scalar tree at a point: exactly, as a Fraction, or to a number of digits, as an mpmath number.

Both are bounded: an exact number has at most `MAX_BITS` bits, and what no number of digits can hold is `TooLarge`.
"""

import operator
import threading
from fractions import Fraction
from functools import reduce
from math import comb, factorial, isqrt, prod

from sftrl.verify.trees import kinds
from sftrl.verify.units import CURRENCIES, DEGREE, PERCENT

MAX_BITS = 65_536  # of an exact number: room for 5000!, and a few milliseconds for a gcd
MAX_FACTORIAL = 5_000
MAX_EXPONENT = 10**9  # of a numeric power, and of e
DIGITS = 100
_JOINED = {"+": operator.add, "*": operator.mul}


class NoValue(ArithmeticError):
    """The tree is no scalar, or is undefined here."""


class TooLarge(ArithmeticError):
    """The value is out of bounds: no layer will compute it in time."""


def exact(tree: tuple, point: dict[str, Fraction]) -> Fraction:
    """The exact rational value of a tree at a point; NoValue if it is irrational, undefined or too large."""
    kind = tree[0]
    if kind == "num":
        return tree[1]
    if kind == "sym":
        if tree[1] not in point:
            raise NoValue(tree[1])
        return point[tree[1]]
    if kind in _JOINED:  # one after the other: a long sum of large fractions must not grow
        return reduce(lambda a, b: bounded(_JOINED[kind](a, b)), (exact(part, point) for part in tree[1]))
    if kind == "/":
        bottom = exact(tree[2], point)
        if bottom == 0:
            raise NoValue("division by zero")
        return bounded(exact(tree[1], point) / bottom)
    if kind == "^":
        return power(exact(tree[1], point), exact(tree[2], point))
    if kind == "fn":
        return _function(tree[1], [exact(argument, point) for argument in tree[2]])
    if kind == "unit" and tree[2] in (PERCENT, *CURRENCIES.values()):
        return exact(tree[1], point) / (100 if tree[2] == PERCENT else 1)
    if kind == "group" and len(tree[2]) == 1:
        return exact(tree[2][0], point)
    raise NoValue(kind)


def bounded(value: Fraction) -> Fraction:
    """The value itself, unless it is too large to go on with."""
    if max(value.numerator.bit_length(), value.denominator.bit_length()) > MAX_BITS:
        raise NoValue("too large")
    return value


def power(base: Fraction, exponent: Fraction) -> Fraction:
    """A power, if it is rational and not too large."""
    if exponent.denominator != 1:
        return power(_root(base, exponent.denominator), Fraction(exponent.numerator))
    size = max(base.numerator.bit_length(), base.denominator.bit_length())
    if abs(exponent) > MAX_BITS or size * abs(exponent) > MAX_BITS or (base == 0 and exponent <= 0):
        raise NoValue("power")
    return base ** int(exponent)


def _root(value: Fraction, degree: int) -> Fraction:
    if value < 0 or not 1 <= degree <= 64:
        raise NoValue("root")
    roots = []
    for part in (value.numerator, value.denominator):
        low = isqrt(part) if degree == 2 else round(part ** (1 / degree)) if part < 2**52 else -1
        if low < 0 or low**degree != part:
            raise NoValue("irrational")
        roots.append(low)
    return Fraction(*roots)


def _function(name: str, values: list[Fraction]) -> Fraction:
    first = values[0]
    if name == "root" and values[1].denominator == 1:
        return _root(first, int(values[1]))
    if name == "abs":
        return abs(first)
    if name in ("floor", "ceil"):
        return Fraction(first.__floor__() if name == "floor" else first.__ceil__())
    if any(value.denominator != 1 for value in values):
        raise NoValue(name)
    whole = [int(value) for value in values]
    if name == "factorial" and 0 <= first <= MAX_FACTORIAL:
        return Fraction(factorial(whole[0]))
    if name == "factorial2" and 0 <= first <= MAX_FACTORIAL:
        return Fraction(prod(range(whole[0], 0, -2)))
    if name == "binomial" and 0 <= values[1] <= first:
        if min(values[1], first - values[1]) * whole[0].bit_length() > MAX_BITS:
            raise NoValue("too large")
        return Fraction(comb(*whole))
    raise NoValue(name)


_local = threading.local()


def measured(tree: tuple, point: dict, digits: int = DIGITS) -> tuple:
    """The value of a tree to about `digits` digits, as an mpmath number; NoValue if undefined or out of bounds.

    With it the span of what was added on the way: how many bits the farthest from 1 had.
    """
    if not hasattr(_local, "context"):  # mpmath's own context is shared by all threads and not safe in them
        import mpmath

        _local.context = mpmath.MPContext()
    mp = _local.context
    mp.dps = digits + 15
    met = [0]
    try:
        value = _numeric(mp, tree, point, met)
    except (ZeroDivisionError, ValueError, OverflowError, TypeError, MemoryError, mp.NoConvergence) as error:
        raise NoValue(str(error)) from None
    if not mp.isfinite(value):
        raise NoValue("not finite")
    return value, max(met)


def _numeric(mp, tree: tuple, point: dict, met: list[int]):
    kind = tree[0]
    if kind == "num":
        return mp.mpmathify(tree[1])
    if kind == "sym":
        if tree[1] in point:
            return mp.mpmathify(point[tree[1]])
        constant = {"pi": +mp.pi, "e": +mp.e, "i": mp.mpc(0, 1)}.get(tree[1])
        if constant is None:
            raise NoValue(tree[1])
        return constant
    if kind == "+":
        terms = [_numeric(mp, term, point, met) for term in tree[1]]
        met.extend(abs(int(mp.mag(term))) for term in terms if term and mp.isfinite(term))
        return mp.fsum(terms)
    if kind == "*":
        return mp.fprod(_numeric(mp, factor, point, met) for factor in tree[1])
    if kind == "/":
        return _numeric(mp, tree[1], point, met) / _numeric(mp, tree[2], point, met)
    if kind == "^":
        base, exponent = _numeric(mp, tree[1], point, met), _numeric(mp, tree[2], point, met)
        if abs(exponent) > MAX_EXPONENT:
            raise TooLarge("exponent")
        value = mp.power(base, exponent)
        if "+" in kinds(tree[1]) and value and mp.isfinite(value):
            met.append(abs(int(mp.mag(value))))
        return value
    if kind == "fn":
        values = [_numeric(mp, argument, point, met) for argument in tree[2]]
        if values[0] and mp.isfinite(values[0]) and tree[1] not in ("root", "ln", "log", "abs"):
            met.append(abs(int(mp.mag(values[0]))))  # sin(10^{-99}) is near 10^{-99}, and tanh 99 near 1
            met.append(int(1.45 * abs(values[0])) if tree[1] in ("sinh", "cosh", "tanh") and met[-1] < 30 else 0)
        return _numeric_function(mp, tree[1], values)
    if kind == "unit" and tree[2] in (PERCENT, DEGREE, *CURRENCIES.values()):
        return _numeric(mp, tree[1], point, met) * {PERCENT: mp.mpf(1) / 100, DEGREE: mp.pi / 180}.get(tree[2], 1)
    if kind == "group" and len(tree[2]) == 1:
        return _numeric(mp, tree[2][0], point, met)
    raise NoValue(kind)


_SAME_NAME = "sin cos tan cot sec csc sinh cosh tanh exp floor ceil factorial binomial"
_MPMATH = {name: name for name in _SAME_NAME.split()} | {"factorial2": "fac2", "abs": "fabs"}
_MPMATH |= {"arcsin": "asin", "arccos": "acos", "arctan": "atan", "arccot": "acot"}


def _numeric_function(mp, name: str, values: list):
    first = values[0]
    if first and mp.mag(first) > 1000 and name not in ("root", "ln", "log", "abs"):
        raise TooLarge("too large")  # sine, floor and the rest would need all its digits
    if name in ("factorial", "factorial2", "binomial", "exp") and any(abs(value) > 10**6 for value in values):
        raise TooLarge("too large")
    if name in ("factorial", "factorial2", "binomial") and not all(map(mp.isint, values)):
        raise NoValue(name)
    if name == "root":
        if values[1] == 3 and not mp.im(first) and mp.re(first) < 0:  # the real cube root, as in school
            return -mp.root(-first, 3)
        return mp.sqrt(first) if values[1] == 2 else mp.power(first, 1 / values[1])
    if name in ("ln", "log"):
        return mp.log(first) / mp.log(values[1]) if len(values) == 2 else mp.log(first)
    plain = _MPMATH.get(name)
    if plain is None or (name in ("floor", "ceil") and mp.im(first)):
        raise NoValue(name)
    return getattr(mp, plain)(*values)
