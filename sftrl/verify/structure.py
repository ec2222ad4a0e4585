"""Compare two trees by their structure: lists, tuples, sets, intervals, equations, matrices, quantities.

Three answers: True and False where sure, None where the limits of exact arithmetic are reached, or two expressions
agree at some points and not at others. Conventions, chosen here:

* A bare list is unordered (`1, -2`), a tuple ordered; a tuple and a bare list are compared in order.
* `(1, 2)` and `[1, 2]` differ, as intervals do, unless the answer type is `tuple`; with three or more items, or with a
  vector on the other side, brackets say nothing.
* `x = 5` and `5` are the same answer; `x = 5` and `y = 5` are not.
* An equation may be rearranged, unless the gold is solved for its variable: `x^2 - 9x + 18 = 0` is not `x = 6`.
"""

import contextlib
from fractions import Fraction

from sftrl.verify.scalars import equal, every, same_quantity, same_zeros, some, within
from sftrl.verify.sets import is_real_set, same_inequality, same_set
from sftrl.verify.tokens import SYMBOLS
from sftrl.verify.trees import INFINITY, expanded, kinds, less, renamed, symbols, variables, without_in
from sftrl.verify.values import NoValue, TooLarge

ROUNDING = 0.02  # relative; a rounded value written after an exact one must be this close
MAX_SET = 40  # items of a set: each is compared with each


def same(gold: tuple, answer: tuple, kind: str | None = None, tolerance: float | None = None) -> bool | None:
    """Compare gold and answer trees; `kind` is the answer type. None if that is not decided."""
    try:
        gold, answer = expanded(gold), expanded(answer)
        stranger = variables(answer) and not variables(gold)  # u(t, x) is not 0
        found = _same(gold, answer, kind, tolerance)
        return False if found is None and stranger else found
    except (TooLarge, RecursionError):
        return None
    except NoValue:
        return False  # 0/0 is not 0


def _same(gold: tuple, answer: tuple, kind: str | None, tolerance: float | None, strict: bool = False) -> bool | None:
    """As `same`; `strict` inside of a list, where names tell the items apart."""
    if gold == answer:
        return True
    if kind == "interval" or is_real_set(gold) or is_real_set(answer):
        return _same_sets(gold, answer, kind, tolerance)
    gold, answer = without_in(gold), without_in(answer)
    if "rel" in (gold[0], answer[0]) and "list" not in (gold[0], answer[0]):
        return _same_relation(gold, answer, kind, tolerance, strict)
    if "ratio" in (gold[0], answer[0]):
        return _same_ratio(gold, answer)
    if "base" in kinds(gold) | kinds(answer):
        return False  # equal ones are equal trees: another base is another numeral, and no base is another number
    if {gold[0], answer[0]} & {"group", "list", "matrix"}:
        return _same_collection(gold, answer, kind, tolerance)
    if INFINITY in (gold, answer):
        return False
    return same_quantity(gold, answer, tolerance)


def _same_sets(gold: tuple, answer: tuple, kind: str | None, tolerance: float | None) -> bool | None:
    with contextlib.suppress(NoValue):
        gold, answer = (_alternatives(tree) for tree in (gold, answer))
        return same_set(gold, answer)
    if gold[0] == answer[0] == "rel":
        return same_inequality(gold, answer)
    return _same_collection(gold, answer, kind, tolerance) if gold[0] == answer[0] in ("group", "list") else False


def _alternatives(tree: tuple) -> tuple:
    """`x < -2, x > 3` means either, since nothing is both."""
    if tree[0] == "list" and tree[2] == "," and same_set(tree, ("empty",)):
        return (*tree[:2], "or")
    return tree


# -- ratios and relations


def _same_ratio(gold: tuple, answer: tuple) -> bool | None:
    """1:2 = 2:4, and 1:2 = 1/2."""
    if {gold[0], answer[0]} & {"group", "list", "matrix"}:
        return False
    one = ("num", Fraction(1))
    parts = [tree[1] if tree[0] == "ratio" else tree[1:] if tree[0] == "/" else (tree, one) for tree in (gold, answer)]
    if len(parts[0]) != len(parts[1]):
        return False
    if ("num", Fraction(0)) in parts[0] + parts[1]:  # a time of day, as 8:00
        return _in_order(*parts, None)
    (first, *rest), (other_first, *others) = parts
    return every(
        same_quantity(("*", (g, other_first)), ("*", (a, first)), None) for g, a in zip(rest, others, strict=True)
    )


def _assignment(tree: tuple) -> tuple[tuple, tuple] | None:
    """(name, value) of `x = 5`, `5 = x`, `f(x) = 2x`, `A = b c = 5`; None if the relation names nothing."""
    sides, signs = tree[1], tree[2]
    if any(sign != "=" for sign in signs):
        return None
    for name, value in ((sides[0], sides[-1]), (sides[-1], sides[0])):
        if _is_name(name) and not ({_head(name)} & symbols(value)):
            return name, value
    return None


def _is_name(tree: tuple) -> bool:
    if tree[0] == "sym":
        return True
    return tree[0] == "*" and tree[1][0][0] == "sym" and all(part[0] in ("sym", "group", "num") for part in tree[1])


def _head(name: tuple) -> str:
    return name[1] if name[0] == "sym" else name[1][0][1]


def _same_relation(gold: tuple, answer: tuple, kind: str | None, tolerance: float | None, strict: bool) -> bool | None:
    for tree, other in ((gold, answer), (answer, gold)):
        if tree[0] == "rel" and r"\approx" in tree[2]:
            return _same_rounded(tree, other, tolerance, strict, turned=tree is answer)
    if answer[0] == "rel" and set(answer[2]) == {"="}:
        numbers = [side for side in answer[1] if not symbols(side)]
        if not all(_same(numbers[-1], number, None, None) for number in numbers):
            return False  # 7 = 5 is not 5
    if gold[0] != "rel":
        found = _assignment(answer)
        value = found[1] if found else answer[1][-1]
        if not found and (variables(value) & variables(*answer[1][:-1]) or _is_normal_form(answer)):
            return False  # x = 2x - 5 is still to be solved
        return _same(gold, value, None, tolerance)
    if not symbols(gold):
        return _same(gold[1][-1], answer, None, tolerance)
    named = _assignment(gold)
    if answer[0] != "rel":
        return _same(named[1], answer, None, tolerance) if named else False
    other = _assignment(answer)
    if named and other:
        found = _same_assignment(named, other, tolerance, strict)
        if found is not None:
            return found
    solved = named and named[0][0] == "sym" and not variables(named[1])
    if len(gold[1]) != 2 or len(answer[1]) != 2 or gold[2] != ("=",) or answer[2] != ("=",):
        return False
    if solved and kind != "equation":
        return False  # an equation that is still to be solved
    first = less(*gold[1])
    with contextlib.suppress(NoValue):
        return same_zeros(first, less(*answer[1])) or some(
            equal(first, less(*sides)) for sides in (answer[1], answer[1][::-1])
        )
    return False


def _is_normal_form(tree: tuple) -> bool:
    """`x^2 - 5x + 6 = 0`, `x/2 + y/3 = 1`: what any equation can be turned into says nothing of its solution."""
    return tree[1][-1] in (("num", Fraction(0)), ("num", Fraction(1))) and any(
        "+" in kinds(side) and variables(side) for side in tree[1][:-1]
    )


def _same_rounded(tree: tuple, other: tuple, tolerance: float | None, strict: bool, turned: bool) -> bool | None:
    """`x = 2/3 \\approx 0.67` is 2/3, and 0.67; the two must agree: `2/3 \\approx 1.67` is neither."""
    value, rounded = tree[1][tree[2].index(r"\approx")], tree[1][-1]
    if variables(value):
        value = rounded
    elif not within(value, rounded, ROUNDING):
        return False
    pairs = ((other, side) if turned else (side, other) for side in (value, rounded))
    return some(_same(*pair, None, tolerance, strict) for pair in pairs)


def _same_assignment(gold: tuple, answer: tuple, tolerance: float | None, strict: bool) -> bool | None:
    """Compare two (name, value) pairs; None where other names may hide an equation rearranged."""
    (gold_name, gold_value), (name, value) = gold, answer
    if gold_name == name or (gold_name[0] == name[0] == "sym" and not strict and _shortened(gold_name[1], name[1])):
        return _same(gold_value, value, None, tolerance)
    if gold_name[0] == name[0] == "*" and len(gold_name[1]) == len(name[1]) == 2:  # f(x) = 2x, g(t) = 2t
        if gold_name[1][0] != name[1][0] and (strict or _head(gold_name).strip("'") == _head(name).strip("'")):
            return False  # f' is not f
        if name[1][1] != gold_name[1][1] and symbols(gold_name[1][1]) & symbols(value):
            return False
        return _same(gold_value, renamed(value, name[1][1], gold_name[1][1]), None, tolerance)
    if gold_name[0] == name[0] == "sym" and not (_is_word(gold_name[1]) or _is_word(name[1])):
        return None if variables(gold_value) or variables(value) else False  # x = 5, y = 5
    return False if strict else _same(gold_value, value, None, tolerance) or None


def _is_word(name: str) -> bool:
    """`Volume` may be what `V` stands for."""
    return len(name) > 2 and name.isalpha() and name not in SYMBOLS


def _shortened(first: str, second: str) -> bool:
    """`m` is short for `m_{max}`."""
    return first.partition("_")[0] == second or second.partition("_")[0] == first


# -- collections


def _same_collection(gold: tuple, answer: tuple, kind: str | None, tolerance: float | None) -> bool | None:
    gold, answer = _by_name(gold), _by_name(answer)
    gold_set, answer_set = (tree[:2] == ("group", "{}") for tree in (gold, answer))
    if kind == "set" or gold_set or (answer_set and gold[0] not in ("group", "matrix")):
        return _unordered(_distinct(_items(gold)), _distinct(_items(answer)), tolerance)
    ordered = gold[0] != "list" or (_named_apart(gold) and not _named(answer))
    if ordered and (answer_set or (answer[0] == "list" and answer[2] == "or")):
        return False  # (2, 3) is neither {2, 3} nor 2 or 3
    gold, answer = (_in_names(tree) if ordered else tree for tree in (gold, answer))
    if gold[0] == "matrix" or answer[0] == "matrix":
        gold_rows, rows = _rows(gold), _rows(answer)
        shapes = [(len(each), len(each[0])) for each in (gold_rows, rows)]
        if shapes[0] != shapes[1] and (gold[0] == answer[0] or min(shapes[0]) > 1 or min(shapes[1]) > 1):
            return False
        return _in_order(sum(gold_rows, ()), sum(rows, ()), tolerance)  # a vector is a column, a row or a tuple
    gold_items, items = _items(gold), _items(answer)
    if kind == "tuple":
        return _in_order(gold_items, items, tolerance)
    if gold[0] == "list" and gold[2] == "or" and answer[0] != "list" and len(_distinct(gold_items)) == 1:
        return _same(gold_items[0], answer, kind, tolerance)  # 0.5 or 1/2
    if not ordered and answer[0] != "group":
        return _unordered(gold_items, items, tolerance)
    if gold[0] == answer[0] == "group" and len(gold_items) == len(items) == 2 and gold[1] != answer[1]:
        return False  # (0, 9) is not [0, 9)
    return _in_order(gold_items, items, tolerance)


def _by_name(tree: tuple) -> tuple:
    """`(x, y) = (2, 3)` as the list `x = 2, y = 3`."""
    if tree[0] == "rel" and tree[2] == ("=",) and {side[0] for side in tree[1]} == {"group"}:
        names, values = (side[2] for side in tree[1])
        if len(names) == len(values) and all(name[0] == "sym" for name in names):
            return ("list", tuple(("rel", pair, ("=",)) for pair in zip(names, values, strict=True)), ",")
    return tree


def _named(tree: tuple) -> list[tuple[tuple, tuple]]:
    """(name, value) of each item of a list; empty if one has no name."""
    found = [_assignment(item) if item[0] == "rel" else None for item in tree[1]] if tree[0] == "list" else []
    return found if all(found) else []


def _named_apart(tree: tuple) -> bool:
    """`x = 2, y = 3`, unlike `x = 2, x = 3`."""
    return len({name for name, _ in _named(tree)}) > 1


def _in_names(tree: tuple) -> tuple:
    """The values of `x = 2, y = 3`, in the order of coordinates."""
    named = _named(tree)
    if {name for name, _ in named} <= {("sym", axis) for axis in "xyz"}:
        named = sorted(named, key=lambda pair: pair[0])
    return ("list", tuple(value for _, value in named), ",") if named else tree


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


def _in_order(golds: tuple, answers: tuple, tolerance: float | None) -> bool | None:
    if len(golds) != len(answers):
        return False
    return every(_item(g, a, tolerance) for g, a in zip(golds, answers, strict=True))


def _unordered(golds: tuple, answers: tuple, tolerance: float | None) -> bool | None:
    if len(golds) != len(answers):
        return False
    left = list(answers)
    strict = all(_named_apart(("list", items, ",")) for items in (golds, answers))
    unsure = False
    for gold in golds:
        found = [_item(gold, answer, tolerance, strict) for answer in left]
        if True in found:
            left.pop(found.index(True))
        elif None not in found:
            return False
        else:
            unsure = True
    return None if unsure else True


def _distinct(items: tuple) -> tuple:
    if len(items) > MAX_SET:
        raise TooLarge("a large set")
    kept: list[tuple] = []
    for item in items:
        if not any(_item(other, item, None) for other in kept):
            kept.append(item)
    return tuple(kept)


def _item(gold: tuple, answer: tuple, tolerance: float | None, strict: bool = False) -> bool | None:
    try:
        return _same(gold, answer, None, tolerance, strict)
    except NoValue:
        return None
