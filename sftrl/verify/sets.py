r"""Compare sets of real numbers, however written: intervals, unions, differences, points, inequalities, `\mathbb{R}`.

Two such sets are equal if and only if they agree at every endpoint either mentions, and between and beyond them. So no
normal form is needed: collect the endpoints, and ask both sets about each and about the points between.
"""

import itertools
import operator

from sftrl.verify.scalars import CLOSE, proportional
from sftrl.verify.trees import INFINITY, NEGATIVE, less, symbols, times, without_in
from sftrl.verify.values import NoValue, exact, measured

_INFINITE = {INFINITY: 1, times(NEGATIVE, INFINITY): -1}


def is_real_set(tree: tuple) -> bool:
    """Say whether the tree can only be a set of reals: `(1,2)` may be a pair, `[1,2)` and `x > 2` cannot."""
    kind = tree[0]
    if kind in ("union", "minus", "meet", "reals", "empty"):
        return True
    if kind == "group":
        return tree[1] in ("[)", "(]") or (len(tree[2]) == 2 and any(item in _INFINITE for item in tree[2]))
    if kind == "rel":
        return any(sign not in ("=", r"\approx") for sign in tree[2])
    return kind == "list" and all(item[0] == "rel" and is_real_set(item) for item in tree[1])


def same_set(gold: tuple, answer: tuple) -> bool:
    """Compare two sets of reals. Raises NoValue if one of them is none, or its ends are no numbers."""
    ends: list = []
    tests = [_membership(without_in(tree), ends) for tree in (gold, answer)]
    ends.sort()
    points = [ends[0] - 1, ends[-1] + 1] if ends else [0]
    for low, high in itertools.pairwise(ends):
        points += [low, (low + high) / 2] if _order(low, high) else [low]
    points += ends[-1:]
    return all(tests[0](point) == tests[1](point) for point in points)


def _order(a, b) -> int:
    """-1, 0 or 1; two numbers that agree to 90 digits are one."""
    if abs(a - b) <= max(abs(a), abs(b)) * CLOSE:
        return 0
    return -1 if a < b else 1


def _number(tree: tuple):
    value, _ = measured(tree, {})
    if value.imag:
        raise NoValue("complex")
    return value.real


def _membership(tree: tuple, ends: list):
    """A test for one point; adds the tree's endpoints to `ends`. What an inequality bounds may have any name."""
    kind = tree[0]
    if kind in ("reals", "empty"):
        return lambda x: kind == "reals"
    if kind in _JOINED:
        joined, parts = _JOINED[kind], [_membership(part, ends) for part in tree[1:]]
        return lambda x: joined(*(part(x) for part in parts))
    if kind == "group" and tree[1] == "{}":
        points = [_number(item) for item in tree[2]]
        ends += points
        return lambda x: any(_order(x, point) == 0 for point in points)
    if kind == "group" and len(tree[2]) == 2:
        signs = ("<=" if tree[1][0] == "[" else "<", "<=" if tree[1][1] == "]" else "<")
        test = _chain((tree[2][0], None, tree[2][1]), signs, ends)
        if not _INFINITE.keys() & {*tree[2]} and _order(*ends[-2:]) >= (tree[1] == "[]"):
            raise NoValue("no interval")  # (0, 0) is a point of the plane
        return test
    if kind == "list":
        tests = [_membership(without_in(item), ends) for item in tree[1]]
        roots = all(item[0] == "rel" and set(item[2]) == {"="} for item in tree[1])  # x = 1, x = 2
        gather = any if tree[2] == "or" or roots or not all(item[0] == "rel" for item in tree[1]) else all
        return lambda x: gather(test(x) for test in tests)
    if kind == "rel" and all(sign in _HOLDS for sign in tree[2]):
        variables = [side for side in tree[1] if symbols(side)]
        if len(variables) == 1 and (variables[0][0] == "sym" or all(part[0] == "sym" for part in variables[0][1])):
            return _chain(tuple(None if side is variables[0] else side for side in tree[1]), tree[2], ends)
    raise NoValue(kind)


_JOINED = {"union": operator.or_, "meet": operator.and_, "minus": operator.gt}  # of two truth values
_SIGNS = {"<": "lt", ">": "gt", "<=": "le", ">=": "ge", "!=": "ne", "=": "eq"}
_HOLDS = {sign: getattr(operator, name) for sign, name in _SIGNS.items()}  # of an order and 0


def _chain(sides: tuple, signs: tuple, ends: list):
    """A chain of relations in which None stands for the point asked about."""
    at = sides.index(None)
    tests = []
    for i, sign in enumerate(signs):
        if at not in (i, i + 1):
            raise NoValue("a relation without the variable")
        other = sides[i] if at == i + 1 else sides[i + 1]
        turn = 1 if at == i else -1  # order of (point, other), or of (other, point)
        if other in _INFINITE:
            if sign in ("=", "!="):
                raise NoValue("equal to infinity")
            always = _HOLDS[sign](-_INFINITE[other] * turn, 0)
            tests.append(lambda x, always=always: always)
            continue
        ends.append(_number(other))
        tests.append(lambda x, holds=_HOLDS[sign], end=ends[-1], turn=turn: holds(turn * _order(x, end), 0))
    return lambda x: all(test(x) for test in tests)


def same_inequality(gold: tuple, answer: tuple) -> bool | None:
    """`y < x + 1` is `2x > 2y - 2`."""
    if len(gold[1]) != 2 or len(answer[1]) != 2:
        return None
    (sign, first), (other, second) = (_as_less(*tree[1], *tree[2]) for tree in (gold, answer))
    ratio = proportional(exact, first, second)
    return False if sign != other else ratio and (ratio > 0 or sign == "!=")


def _as_less(left: tuple, right: tuple, sign: str) -> tuple[str, tuple]:
    return (sign.replace(">", "<"), less(right, left)) if ">" in sign else (sign, less(left, right))
