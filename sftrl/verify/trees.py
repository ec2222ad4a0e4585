r"""Parse trees of answers: nested tuples whose first item is the kind.

`num` (a Fraction), `sym` (name), `+` and `*` (terms), `/` and `^` (two), `fn` (name, arguments), `unit` (value, Unit),
`group` (brackets, items), `matrix` (rows), `union meet minus` (two sets), `rel` (sides, signs), `list` (items, joint),
`pm` (sign, term), `ratio` (terms), `base` (digits, base), `inf`, `reals`, `empty`. Here is what is done to any tree; a
Unit is no plain tuple, and a leaf to all of it.
"""

from fractions import Fraction
from functools import lru_cache

CONSTANTS = frozenset(("pi", "e", "i"))
NEGATIVE = ("num", Fraction(-1))
INFINITY = ("inf",)


def plus(terms: tuple[tuple, ...]) -> tuple:
    """A sum; the unit of `480 + 480\\sqrt3` feet is the whole's."""
    *others, last = terms
    if not others:
        return last
    if last[0] == "unit" and all(term[0] != "unit" for term in others):
        return ("unit", ("+", (*others, last[1])), last[2])
    return ("+", terms)


def times(left: tuple, right: tuple) -> tuple:
    """A flat product: a long one must not be a deep tree. The unit of its last factor is the whole's."""
    if right[0] == "unit" and left[0] != "unit":
        return ("unit", times(left, right[1]), right[2])
    return ("*", (*left[1], right)) if left[0] == "*" else ("*", (left, right))


def over(left: tuple, right: tuple) -> tuple:
    """A quotient; the unit of `270/7^\\circ` is the whole's."""
    if right[0] == "unit":
        return ("unit", ("/", left, right[1]), right[2])
    return ("/", left, right)


def mixed(whole: tuple, part: tuple) -> tuple | None:
    """`2\\frac12`: a sum, if it is a whole number and a proper fraction of two numbers; None for `2\\frac31`."""
    if part[0] == "unit":  # 33\frac13\%
        return (inner := mixed(whole, part[1])) and ("unit", inner, part[2])
    if part[0] != "/" or part[1][0] != "num" or part[2][0] != "num" or whole[1].denominator != 1:
        return times(whole, part)
    return ("num", whole[1] + part[1][1] / part[2][1]) if 0 < part[1][1] < part[2][1] else None


def less(left: tuple, right: tuple) -> tuple:
    """A difference."""
    return ("+", (left, times(NEGATIVE, right)))


@lru_cache(maxsize=8192)
def symbols(tree: tuple) -> frozenset[str]:
    """The names of the variables and constants in a tree."""
    if tree and tree[0] == "sym":
        return frozenset((tree[1],))
    return frozenset().union(*(symbols(part) for part in tree if type(part) is tuple))


@lru_cache(maxsize=8192)
def kinds(tree: tuple) -> frozenset[str]:
    """The kinds of node and the names of functions in a tree."""
    found = frozenset(tree[:2] if tree[:1] == ("fn",) else (part for part in tree[:1] if isinstance(part, str)))
    return found.union(*(kinds(part) for part in tree if type(part) is tuple))


def variables(*trees: tuple) -> frozenset[str]:
    """The names in trees that are no constants."""
    return frozenset().union(*map(symbols, trees)) - CONSTANTS


def without_in(tree: tuple) -> tuple:
    """`x \\in S` is S."""
    return tree[1][1] if tree[0] == "rel" and tree[2] == (r"\in",) else tree


def renamed(tree: tuple, old: tuple, new: tuple) -> tuple:
    """The tree with one part put for another, wherever it stands."""
    if tree == old:
        return new
    return tuple(renamed(part, old, new) if type(part) is tuple else part for part in tree)


def expanded(tree: tuple) -> tuple:
    """`a \\pm b` is the list of its two readings, inside a list or braces too. All signs of one answer go together."""
    if tree[0] == "list" or (tree[0] == "group" and tree[1] == "{}"):
        items = tree[1] if tree[0] == "list" else tree[2]
        flat: list[tuple] = []
        for item in map(expanded, items):
            flat += item[1] if item[0] == "list" else [item]
        return ("list", tuple(flat), tree[2]) if tree[0] == "list" else ("group", "{}", tuple(flat))
    if "pm" not in kinds(tree):
        return tree
    return ("list", (_signed(tree, True), _signed(tree, False)), "or")


def _signed(tree: tuple, up: bool) -> tuple:
    if tree and tree[0] == "pm":
        term = _signed(tree[2], up)
        return term if (tree[1] == r"\pm") == up else times(NEGATIVE, term)
    return tuple(_signed(part, up) if type(part) is tuple else part for part in tree)
