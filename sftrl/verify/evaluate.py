"""Decide whether two scalar trees have the same value: exactly by rational arithmetic, else to 100 digits.

Expressions with variables are compared at sample points. For rational functions the points are large integers and the
arithmetic exact, so that unequal is proved and equal is wrong with a chance of about the degree in ten thousand a point
(three points are used). Other closed forms are evaluated with mpmath: values that agree to 90 digits are taken as
equal, values whose difference shows at two precisions as different, anything else is left to the next layer.
"""

import threading
import zlib
from fractions import Fraction
from functools import lru_cache
from math import comb, factorial, gcd, isqrt, lcm, prod

MAX_BITS = 20_000  # of an exact number: room for 2000!, and a millisecond for a gcd
MAX_FACTORIAL = 2_000
MAX_EXPONENT = 10**9  # of a numeric power, and of e
DIGITS = 100
CLOSE = 1e-90  # relative: two numbers this close are one
CONSTANTS = {"pi", "e", "i"}
_INTEGRAL = {"floor", "ceil", "factorial", "factorial2", "binomial", "gcd", "lcm"}  # at home on the integers
_INTEGRAL_NAMES = set("ijklmnpqrstNMK")


class NoValue(ArithmeticError):
    """The tree is no scalar, or is undefined here."""


class TooLarge(NoValue):
    """The value is out of bounds: no layer will compute it in time."""


@lru_cache(maxsize=8192)
def symbols(tree: tuple) -> frozenset[str]:
    """The names of the variables and constants in a tree."""
    if tree and tree[0] == "sym":
        return frozenset((tree[1],))
    return frozenset().union(*(symbols(part) for part in tree if isinstance(part, tuple)))


@lru_cache(maxsize=8192)
def kinds(tree: tuple) -> frozenset[str]:
    """The kinds of node and names of function in a tree; `power` for an exponent that is no small integer."""
    found = frozenset(part for part in tree if isinstance(part, str)).union(
        *(kinds(part) for part in tree if isinstance(part, tuple))
    )
    if tree and tree[0] == "^":
        try:
            power = exact(tree[2], {})
        except NoValue:
            return found | {"power"}
        if power.denominator != 1:
            return found | {"power"}
    return found


def equal(gold: tuple, answer: tuple) -> bool | None:
    """Say whether two scalars are equal; None if unsure. Raises NoValue if one of them is no scalar."""
    if gold == answer:
        return True
    names = symbols(gold) | symbols(answer)
    used = kinds(gold) | kinds(answer)
    if not names - CONSTANTS:
        if not names:
            try:
                return exact(gold, {}) == exact(answer, {})
            except NoValue:
                pass
        return _same_number(gold, answer, {})
    if not used & {"fn", "power"} and "i" not in names:
        found = _equal_rational(gold, answer, names)
        if found is not None:
            return found
    return _equal_sampled(gold, answer, names, bool(used & _INTEGRAL))


def proportional(gold: tuple, answer: tuple) -> Fraction | None:
    """The constant c with gold = c * answer, if there is one and rational arithmetic shows it."""
    names = symbols(gold) | symbols(answer)
    ratio = None
    for k in range(3):
        point = {name: _large(name, k) for name in names}
        try:
            ours = exact(gold, point) / exact(answer, point)
        except (NoValue, ZeroDivisionError):
            return None
        if ours == 0 or ratio not in (None, ours):
            return None
        ratio = ours
    return ratio


def same_zeros(gold: tuple, answer: tuple) -> bool | None:
    """Say whether two expressions vanish at the same points, as two equations of one curve do; None if unsure.

    Where the gold is linear or quadratic in a variable, points of its curve are found by solving for that one at random
    values of the others: the answer must vanish there too; and the other way round.
    """
    if proportional(gold, answer):
        return True
    names = sorted((symbols(gold) | symbols(answer)) - CONSTANTS)
    within = [_zeros_within(first, second, names) for first, second in ((gold, answer), (answer, gold))]
    return False if False in within else (None if None in within else True)


def _zeros_within(first: tuple, second: tuple, names: list[str]) -> bool | None:
    """Say whether the second vanishes wherever the first does, by three points found in the first usable variable."""
    for name in names:
        try:
            for k in range(3):
                point = {other: _large(other, k) for other in names}
                at = [exact(first, {**point, name: Fraction(x)}) for x in range(4)]
                curve = (at[2] - 2 * at[1] + at[0]) / 2
                slope = at[1] - at[0] - curve
                if at[3] - 3 * at[2] + 3 * at[1] - at[0] != 0 or curve == slope == 0:
                    raise NoValue("neither linear nor quadratic")
                if curve == 0:
                    zero = exact(second, {**point, name: -at[0] / slope}) == 0
                else:
                    root = ("fn", "root", (("num", slope**2 - 4 * curve * at[0]), ("num", Fraction(2))))
                    top = ("+", (("num", -slope), root))
                    zero = _is_zero_at(second, point, name, ("/", top, ("num", 2 * curve)))
                if not zero:
                    return False
            return True
        except NoValue:
            continue
    return None


def _is_zero_at(tree: tuple, point: dict, name: str, root: tuple) -> bool:
    """Say whether a tree vanishes where `name` has an irrational value: its rounding error shrinks with more digits."""
    once, again = (
        abs(numeric(tree, {**point, name: numeric(root, {}, digits)}, digits)) for digits in (DIGITS, DIGITS + 50)
    )
    return bool(again <= once * 1e-40)


def _large(name: str, k: int) -> Fraction:
    return Fraction(1009 + zlib.crc32(f"{name}{k}".encode()) % 9973)


def _equal_rational(gold: tuple, answer: tuple, names: frozenset[str]) -> bool | None:
    seen = 0
    for k in range(3):
        point = {name: _large(name, k) for name in names}
        try:
            if exact(gold, point) != exact(answer, point):
                return False
        except NoValue:
            continue
        seen += 1
    return True if seen == 3 else None


def _equal_sampled(gold: tuple, answer: tuple, names: frozenset[str], integral: bool) -> bool | None:
    """Compare at points of three sorts: positive, integer, and general (negative and complex)."""
    names = sorted(names - CONSTANTS)
    found: dict[str, list[bool | None]] = {"positive": [], "integer": [], "general": []}
    for k in range(3):
        noise = {name: zlib.crc32(f"{name}{k}".encode()) % 997 / 997 for name in names}
        positive = {name: 0.2 + 0.7 * k + u / 3 for name, u in noise.items()}
        integer = {name: Fraction(1 + (k + 3 * j + int(4 * u)) % 7) for j, (name, u) in enumerate(noise.items())}
        found["positive"].append(_same_at(gold, answer, positive))
        found["integer"].append(_same_at(gold, answer, integer))
        if False in found["positive"] and False in found["integer"]:
            return False
        general = {name: complex(-0.3 - u, 0.4 * k) for name, u in noise.items()}
        found["general"].append(_same_at(gold, answer, general))
    good = {sort: False not in seen and True in seen for sort, seen in found.items()}
    if all(good.values()):
        return True
    if integral and good["integer"] and all(name[0] in _INTEGRAL_NAMES for name in names):
        points = ({name: Fraction(1 + k * (2 * j + 1) % 41) for j, name in enumerate(names)} for k in range(41))
        seen = [_same_at(gold, answer, point) for point in points]
        return False if False in seen else (True if seen.count(True) > 20 else None)
    return None


def _same_at(gold: tuple, answer: tuple, point: dict) -> bool | None:
    try:
        return _same_number(gold, answer, point)
    except NoValue:
        return None


def _same_number(gold: tuple, answer: tuple, point: dict) -> bool | None:
    """Compare two values: agreement to 90 digits is equality, a difference must be the same at two precisions."""
    values = []
    for digits in (DIGITS, DIGITS + 50):
        a, b = numeric(gold, point, digits), numeric(answer, point, digits)
        if abs(a - b) <= max(abs(a), abs(b)) * CLOSE:
            return True
        values.append((a, b))
    zeros = []
    for once, again in zip(*values, strict=True):
        # What is nothing but rounding error shrinks with more digits; a value, however small, stays.
        zero = abs(again) <= abs(once) * 1e-40
        if not zero and abs(again - once) > abs(once) * CLOSE:
            return None
        zeros.append(zero)
    return all(zeros)


def exact(tree: tuple, point: dict[str, Fraction]) -> Fraction:
    """The exact rational value of a tree at a point; NoValue if it is irrational, undefined or too large."""
    kind = tree[0]
    if kind == "num":
        return tree[1]
    if kind == "sym":
        if tree[1] not in point:
            raise NoValue(tree[1])
        return point[tree[1]]
    if kind == "+":
        return _bounded(sum(exact(term, point) for term in tree[1]))
    if kind == "*":
        product = Fraction(1)
        for factor in tree[1]:
            product = _bounded(product * exact(factor, point))
        return product
    if kind == "/":
        bottom = exact(tree[2], point)
        if bottom == 0:
            raise NoValue("division by zero")
        return _bounded(exact(tree[1], point) / bottom)
    if kind == "^":
        return _power(exact(tree[1], point), exact(tree[2], point))
    if kind == "fn":
        return _function(tree[1], [exact(argument, point) for argument in tree[2]])
    if kind == "unit" and tree[2] in ("%", "dollar"):
        return exact(tree[1], point) / (100 if tree[2] == "%" else 1)
    if kind == "group" and len(tree[2]) == 1:
        return exact(tree[2][0], point)
    raise NoValue(kind)


def _bounded(value: Fraction) -> Fraction:
    if max(value.numerator.bit_length(), value.denominator.bit_length()) > MAX_BITS:
        raise TooLarge("too large")
    return value


def _power(base: Fraction, power: Fraction) -> Fraction:
    if power.denominator != 1:
        return _power(_root(base, power.denominator), Fraction(power.numerator))
    size = max(base.numerator.bit_length(), base.denominator.bit_length())
    if abs(power) > MAX_BITS or size * abs(power) > MAX_BITS or (base == 0 and power <= 0):
        raise NoValue("power")
    return base ** int(power)


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
    if name in ("max", "min"):
        return max(values) if name == "max" else min(values)
    if any(value.denominator != 1 for value in values):
        raise NoValue(name)
    if name == "factorial" and 0 <= first <= MAX_FACTORIAL:
        return Fraction(factorial(int(first)))
    if name == "factorial2" and 0 <= first <= MAX_FACTORIAL:
        return Fraction(prod(range(int(first), 0, -2)))
    if name == "binomial" and 0 <= values[1] <= first <= MAX_FACTORIAL:
        return Fraction(comb(int(first), int(values[1])))
    if name in ("gcd", "lcm"):
        return Fraction((gcd if name == "gcd" else lcm)(*map(int, values)))
    raise NoValue(name)


_local = threading.local()


def numeric(tree: tuple, point: dict, digits: int = DIGITS):
    """The value of a tree to about `digits` digits, as an mpmath number; NoValue if undefined or out of bounds."""
    if not hasattr(_local, "context"):  # mpmath's own context is shared by all threads and not safe in them
        import mpmath

        _local.context = mpmath.MPContext()
    mp = _local.context
    mp.dps = digits + 15
    try:
        value = _numeric(mp, tree, point)
    except (ZeroDivisionError, ValueError, OverflowError, TypeError, MemoryError, mp.NoConvergence) as error:
        raise NoValue(str(error)) from None
    if not mp.isfinite(value):
        raise NoValue("not finite")
    return value


def _numeric(mp, tree: tuple, point: dict):
    kind = tree[0]
    if kind == "num":
        return mp.mpf(tree[1].numerator) / tree[1].denominator
    if kind == "sym":
        if tree[1] in point:
            value = point[tree[1]]
            return mp.mpf(value.numerator) / value.denominator if isinstance(value, Fraction) else mp.mpmathify(value)
        constant = {"pi": +mp.pi, "e": +mp.e, "i": mp.mpc(0, 1)}.get(tree[1])
        if constant is None:
            raise NoValue(tree[1])
        return constant
    if kind == "+":
        return mp.fsum(_numeric(mp, term, point) for term in tree[1])
    if kind == "*":
        return mp.fprod(_numeric(mp, factor, point) for factor in tree[1])
    if kind == "/":
        return _numeric(mp, tree[1], point) / _numeric(mp, tree[2], point)
    if kind == "^":
        base, power = _numeric(mp, tree[1], point), _numeric(mp, tree[2], point)
        if abs(power) > MAX_EXPONENT:
            raise TooLarge("exponent")
        return mp.power(base, power)
    if kind == "fn":
        return _numeric_function(mp, tree[1], [_numeric(mp, argument, point) for argument in tree[2]])
    if kind == "unit" and tree[2] in ("%", "degree", "dollar"):
        return _numeric(mp, tree[1], point) * {"%": mp.mpf(1) / 100, "degree": mp.pi / 180, "dollar": 1}[tree[2]]
    if kind == "group" and len(tree[2]) == 1:
        return _numeric(mp, tree[2][0], point)
    raise NoValue(kind)


_MPMATH = {
    name: name for name in ("sin", "cos", "tan", "cot", "sec", "csc", "sinh", "cosh", "tanh", "exp", "floor", "ceil")
}
_MPMATH |= {"arcsin": "asin", "arccos": "acos", "arctan": "atan", "arccot": "acot", "abs": "fabs"}
_MPMATH |= {"factorial": "factorial", "factorial2": "fac2", "binomial": "binomial"}


def _numeric_function(mp, name: str, values: list):
    first = values[0]
    if first and mp.mag(first) > 1000 and name not in ("root", "ln", "log", "abs"):
        raise TooLarge("too large")  # sine, floor and the rest would need all its digits
    if name in ("factorial", "factorial2", "binomial", "exp") and any(abs(value) > 10**6 for value in values):
        raise TooLarge("too large")
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
