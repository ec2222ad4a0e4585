"""Compare two trees by their structure: lists, tuples, sets, intervals, equations, matrices, quantities.

Three answers: True and False where sure, None where not (the next layer is asked). Conventions, chosen here:

* A bare list is unordered (`1, -2`), a tuple ordered; a tuple and a bare list are compared in order.
* `(1, 2)` and `[1, 2]` differ, as intervals do, unless the answer type is `tuple`; with three or more items, or with a
  vector on the other side, brackets say nothing.
* `x = 5` and `5` are the same answer; `x = 5` and `y = 5` are two lines. An equation may be multiplied by a constant.
"""

from fractions import Fraction

from sftrl.verify.evaluate import NoValue, TooLarge, proportional, same_zeros, symbols
from sftrl.verify.sets import is_real_set, same_set
from sftrl.verify.units import same_quantity, within

_NO_SETS = {"num", "sym", "+", "*", "/", "^", "fn", "unit", "list", "matrix", "ratio", "base"}
_COORDINATES = {"x", "y", "z"}
ROUNDING = 0.02  # relative; a rounded value written after an exact one must be this close
MAX_SET = 40  # items of a set: each is compared with each


def same(gold: tuple, answer: tuple, kind: str | None = None, tolerance: float | None = None) -> bool | None:
    """Compare gold and answer trees; `kind` is the answer type. Raises TooLarge if a value is out of bounds."""
    try:
        return _same(_expand(gold), _expand(answer), kind, tolerance, False)
    except TooLarge:
        raise
    except (NoValue, RecursionError):
        return None


def _expand(tree: tuple) -> tuple:
    """`a \\pm b` is the list of its two readings, inside a list or braces too. All signs of one answer go together."""
    if tree[0] == "list" or (tree[0] == "group" and tree[1] == "{}"):
        items = tree[1] if tree[0] == "list" else tree[2]
        flat = []
        for item in items:
            item = _expand(item)
            flat += item[1] if item[0] == "list" else [item]
        return ("list", tuple(flat), tree[2]) if tree[0] == "list" else ("group", "{}", tuple(flat))
    if not _has_sign(tree):
        return tree
    return ("list", (_signed(tree, True), _signed(tree, False)), "or")


def _has_sign(tree: tuple) -> bool:
    return bool(tree) and (tree[0] == "pm" or any(isinstance(part, tuple) and _has_sign(part) for part in tree))


def _signed(tree: tuple, up: bool) -> tuple:
    if tree and tree[0] == "pm":
        term = _signed(tree[2], up)
        return term if (tree[1] == r"\pm") == up else ("*", (("num", Fraction(-1)), term))
    return tuple(_signed(part, up) if isinstance(part, tuple) else part for part in tree)


def _same(gold: tuple, answer: tuple, kind: str | None, tolerance: float | None, strict: bool) -> bool | None:
    if gold == answer:
        return True
    if kind == "interval" or is_real_set(gold) or is_real_set(answer):
        return _same_sets(gold, answer, kind, tolerance)
    gold, answer = _without_in(gold), _without_in(answer)
    if "rel" in (gold[0], answer[0]) and "list" not in (gold[0], answer[0]):
        return _same_relation(gold, answer, tolerance, strict)
    if "ratio" in (gold[0], answer[0]):
        return _same_ratio(gold, answer)
    if "base" in (gold[0], answer[0]):
        return False  # equal ones are equal trees: another base is another numeral, and no base is another number
    if {gold[0], answer[0]} & {"group", "list", "matrix"}:
        return _same_collection(gold, answer, kind, tolerance)
    if ("inf",) in (gold, answer):
        return False
    return same_quantity(gold, answer, tolerance)


def _same_sets(gold: tuple, answer: tuple, kind: str | None, tolerance: float | None) -> bool | None:
    try:
        return same_set(gold, answer)
    except NoValue:
        pass
    if gold[0] == answer[0] == "rel":
        return _same_inequality(gold, answer)
    if gold[0] == answer[0] == "group" and gold[1] == answer[1] and len(gold[2]) == len(answer[2]):
        return _in_order(gold[2], answer[2], tolerance)
    if gold[0] == answer[0] == "union" and all(g[0] == a[0] for g, a in zip(gold[1:], answer[1:], strict=True)):
        return _all([_same(g, a, kind, tolerance, False) for g, a in zip(gold[1:], answer[1:], strict=True)]) or None
    if gold[0] == answer[0] == "list":
        return _unordered(gold[1], answer[1], tolerance)
    return False if {gold[0], answer[0]} & _NO_SETS else None


def _without_in(tree: tuple) -> tuple:
    return tree[1][1] if tree[0] == "rel" and tree[2] == (r"\in",) else tree


# -- relations


def _assignment(tree: tuple) -> tuple[tuple, tuple] | None:
    """(name, value) of `x = 5`, `5 = x`, `f(x) = 2x`, `A = b c = 5`; None if the relation names nothing."""
    sides, signs = tree[1], tree[2]
    if any(sign != "=" for sign in signs):
        return None
    for name, value in ((sides[0], sides[-1]), (sides[-1], sides[0])):
        if name is not value and _is_name(name) and not ({_head(name)} & symbols(value)):
            return name, value
    return None


def _is_name(tree: tuple) -> bool:
    if tree[0] == "sym":
        return True
    return tree[0] == "*" and all(part[0] in ("sym", "group") for part in tree[1]) and tree[1][0][0] == "sym"


def _head(name: tuple) -> str:
    return name[1] if name[0] == "sym" else name[1][0][1]


def _same_relation(gold: tuple, answer: tuple, tolerance: float | None, strict: bool) -> bool | None:
    if answer[0] == "rel" and r"\approx" in answer[2]:
        value, rounded = _last_exact(answer), answer[1][-1]
        if not within(value, rounded, ROUNDING):
            return False  # 2/3 = 1.67 is not 2/3
        return _any([_same(gold, side, None, tolerance, strict) for side in (value, rounded)])
    if gold[0] != "rel":
        found = _assignment(answer)
        value = found[1] if found else answer[1][-1]
        if not all(_same(value, side, None, None, False) for side in answer[1] if not symbols(side)):
            return False  # 7 = 5 is not 5
        return _same(gold, value, None, tolerance, False)
    if r"\approx" in gold[2]:
        return _any([_same(side, answer, None, tolerance, strict) for side in gold[1]])
    if not symbols(gold):
        return _same(gold[1][-1], answer, None, tolerance, False)
    named = _assignment(gold)
    if answer[0] != "rel":
        return _same(named[1], answer, None, tolerance, False) if named else None
    other = _assignment(answer)
    if named and other:
        (gold_name, gold_value), (name, value) = named, other
        if gold_name == name:
            return _same(gold_value, value, None, tolerance, False)
        if gold_name[0] == name[0] == "*" and len(gold_name[1]) == len(name[1]) == 2:  # f(x) = 2x, g(t) = 2t
            if strict and gold_name[1][0] != name[1][0]:
                return False
            if name[1][1] != gold_name[1][1] and symbols(gold_name[1][1]) & symbols(value):
                return False
            return _same(gold_value, _renamed(value, name[1][1], gold_name[1][1]), None, tolerance, False)
        equal_values = _same(gold_value, value, None, tolerance, False)
        if equal_values is not False:
            lines = {_head(gold_name), _head(name)} <= _COORDINATES and gold_name[0] == name[0] == "sym"
            return False if lines or strict else equal_values
    if len(gold[1]) == len(answer[1]) == 2 and gold[2] == answer[2] == ("=",):
        found = same_zeros(_difference(gold), _difference(answer))
        return False if found is None and named and other else found
    return None


def _last_exact(relation: tuple) -> tuple:
    return relation[1][relation[2].index(r"\approx")]


def _any(found: list[bool | None]) -> bool | None:
    return True if True in found else (None if None in found else False)


def _renamed(tree: tuple, old: tuple, new: tuple) -> tuple:
    if tree == old:
        return new
    return tuple(_renamed(part, old, new) if isinstance(part, tuple) else part for part in tree)


def _difference(relation: tuple) -> tuple:
    left, right = relation[1]
    return ("+", (left, ("*", (("num", Fraction(-1)), right))))


def _same_inequality(gold: tuple, answer: tuple) -> bool | None:
    if len(gold[1]) != 2 or len(answer[1]) != 2:
        return None
    turned = {">": "<", ">=": "<="}
    signs = [turned.get(tree[2][0], tree[2][0]) for tree in (gold, answer)]
    ratio = proportional(_difference(gold), _difference(answer))
    if ratio is None or signs[0] != signs[1]:
        return None
    if signs[0] in ("=", "!="):
        return True
    turns = (gold[2][0] in turned) != (answer[2][0] in turned)
    return (ratio < 0) == turns


# -- collections


def _same_collection(gold: tuple, answer: tuple, kind: str | None, tolerance: float | None) -> bool | None:
    if gold[0] == "matrix" or answer[0] == "matrix":
        gold_rows, rows = _rows(gold), _rows(answer)
        if gold[0] == answer[0] or (len(gold_rows) > 1 and len(gold_rows[0]) > 1):
            if len(gold_rows) != len(rows) or len(gold_rows[0]) != len(rows[0]):
                return False
            return _in_order(sum(gold_rows, ()), sum(rows, ()), tolerance)
        if min(len(rows), len(rows[0])) > 1:
            return False
        return _in_order(sum(gold_rows, ()), sum(rows, ()), tolerance)  # a vector, written as column, row or tuple
    gold_items, items = _items(gold), _items(answer)
    if kind == "set" or "{}" in (gold[1], answer[1]):
        return _unordered(gold_items, items, tolerance, distinct=True)
    if kind == "tuple":
        return _in_order(gold_items, items, tolerance)
    if gold[0] == "list" and answer[0] != "group":
        return _unordered(gold_items, items, tolerance)
    if gold[0] == answer[0] == "group" and len(gold_items) == len(items) == 2 and gold[1] != answer[1]:
        return False  # (0, 9) is not [0, 9)
    if gold[0] == "group" and len(gold_items) > 1 and len(items) == 1 and answer[0] == "list":
        return False
    return _in_order(gold_items, items, tolerance)


def _rows(tree: tuple) -> tuple[tuple, ...]:
    if tree[0] == "matrix":
        return tree[1]
    items = _items(tree)
    if tree[0] == "group" and all(item[0] == "group" and item[1] in ("()", "[]") for item in items):
        rows = tuple(item[2] for item in items)
        if len({len(row) for row in rows}) == 1 and rows[0]:
            return rows
    return (items,) if items else ((),)


def _items(tree: tuple) -> tuple:
    if tree[0] == "list":
        return tree[1]
    return tree[2] if tree[0] == "group" else (tree,)


def _all(found: list[bool | None]) -> bool | None:
    if False in found:
        return False
    return None if None in found else True


def _in_order(golds: tuple, answers: tuple, tolerance: float | None) -> bool | None:
    if len(golds) != len(answers):
        return False
    return _all([_item(g, a, tolerance) for g, a in zip(golds, answers, strict=True)])


def _unordered(golds: tuple, answers: tuple, tolerance: float | None, distinct: bool = False) -> bool | None:
    if distinct:
        golds, answers = _distinct(golds), _distinct(answers)
    if len(golds) != len(answers):
        return False
    left = list(answers)
    unsure = False
    for gold in golds:
        found = [_item(gold, answer, tolerance, len(golds) > 1) for answer in left]
        if True in found:
            left.pop(found.index(True))
        elif None in found:
            unsure = True
        else:
            return False
    return None if unsure else True


def _distinct(items: tuple) -> tuple:
    if len(items) > MAX_SET:
        raise NoValue("a large set")
    kept: list[tuple] = []
    for item in items:
        if not any(_item(other, item, None) for other in kept):
            kept.append(item)
    return tuple(kept)


def _item(gold: tuple, answer: tuple, tolerance: float | None, strict: bool = False) -> bool | None:
    try:
        return _same(gold, answer, None, tolerance, strict)
    except TooLarge:
        raise
    except NoValue:
        return None


def _same_ratio(gold: tuple, answer: tuple) -> bool | None:
    """1:2 = 2:4, and 1:2 = 1/2."""
    parts = [tree[1] if tree[0] == "ratio" else _as_ratio(tree) for tree in (gold, answer)]
    if len(parts[0]) != len(parts[1]):
        return False
    if ("num", Fraction(0)) in parts[0] + parts[1]:  # a time of day, as 8:00
        return _in_order(*parts, None)
    (first, *rest), (other_first, *others) = parts
    return _all(
        [same_quantity(("*", (g, other_first)), ("*", (a, first)), None) for g, a in zip(rest, others, strict=True)]
    )


def _as_ratio(tree: tuple) -> tuple:
    return tree[1:] if tree[0] == "/" else (tree, ("num", Fraction(1)))
