r"""Read an answer, in LaTeX or plain text, as a small tree; refuse what is not understood.

A tree is a nested tuple, its first item the kind: `num` (a Fraction), `sym`, `+ * / ^`, `fn` (name, arguments),
`unit` (value, unit), `group` (brackets, items), `matrix`, `union`, `meet`, `minus`, `rel` (sides, signs), `list`
(items, joint), `pm`, `ratio`, `base`, `inf`, `reals`, `empty`. The grammar is strict on purpose: a reading that might
be wrong is `Unreadable`, and the answer goes to the next layer. `a/bc` and `1,234` have two common readings:
`readings` gives both.
"""

import re
from fractions import Fraction
from functools import lru_cache

from sftrl.verify.atoms import NEGATIVE, RELATIONS, Atoms, times
from sftrl.verify.tokens import ACCENTS, PREFIXES, WORD_NUMBERS, Unreadable

_FACTORS = {"(", "[", "{", r"\frac", r"\sqrt", r"\binom", r"\lfloor", r"\lceil", r"\overline", r"\infty"} | ACCENTS


@lru_cache(maxsize=8192)
def readings(text: str) -> tuple[tuple, ...]:
    """The trees that a cleaned answer may mean, the likeliest first; empty if it is not in the grammar."""
    trees = []
    choices = [(False, False)]
    for commas, tight in choices:
        try:
            parser = _Parser(text, commas, tight)
            tree = parser.parse()
        except (Unreadable, RecursionError):
            continue
        finally:
            if (commas, tight) == (False, False):
                if re.search(r"\d,\d{3}(?!\d)", text):
                    choices.append((True, False))
                if "/" in text:
                    choices.append((False, True))
        if tree not in trees:
            trees.append(tree)
    return tuple(trees)


class _Parser(Atoms):
    """Recursive descent, one method a level of the grammar, loosest first; below these are the atoms."""

    def parse(self) -> tuple:
        while self.kind() in ("word", "text") and str(self.value()).lower() in PREFIXES:
            self.at += 1
        if self.is_op(":", r"\approx", "="):
            self.at += 1
        tree = self.statement()
        if self.at < len(self.tokens):
            raise Unreadable(f"{self.value()!r} is left over")
        return tree

    def statement(self) -> tuple:
        items = [self.relation()]
        joint = ""
        while True:
            found = ""
            while self.is_op(",", ";") or (self.kind() in ("word", "text") and self.value() in ("and", "or")):
                found = self.value() if self.kind() != "op" else found or ","
                self.at += 1
            if not found:
                break
            joint = found if joint in ("", ",") else joint
            items.append(self.relation())
        return items[0] if len(items) == 1 else ("list", tuple(items), joint)

    def relation(self) -> tuple:
        sides, signs = [self.union()], []
        while self.kind() == "op" and self.value() in RELATIONS:
            signs.append(self.value())
            self.at += 1
            sides.append(self.union())
        return sides[0] if not signs else ("rel", tuple(sides), tuple(signs))

    def union(self) -> tuple:
        left = self.ratio()
        while self.is_op(r"\cup", r"\cap", r"\setminus"):
            sign = self.value()
            self.at += 1
            left = ({r"\cup": "union", r"\cap": "meet", r"\setminus": "minus"}[sign], left, self.ratio())
        return left

    def ratio(self) -> tuple:
        terms = [self.sum()]
        while self.is_op(":"):
            self.at += 1
            terms.append(self.sum())
        return terms[0] if len(terms) == 1 else ("ratio", tuple(terms))

    def sum(self) -> tuple:
        terms = []
        while True:
            sign = "+"
            if self.is_op("+", "-", r"\pm", r"\mp"):
                sign = self.value()
                self.at += 1
            elif terms:
                break
            term = self.product()
            terms.append(term if sign == "+" else times(NEGATIVE, term) if sign == "-" else ("pm", sign, term))
            if not self.is_op("+", "-", r"\pm", r"\mp"):
                break
        return terms[0] if len(terms) == 1 else ("+", tuple(terms))

    def product(self) -> tuple:
        left = self.signed()
        while True:
            if self.is_op("*"):
                self.at += 1
                left = times(left, self.signed())
            elif self.is_op("/"):
                self.at += 1
                right = self.signed()
                while self.tight and self.starts_factor():
                    right = times(right, self.power())
                left = over(left, right)
            elif self.starts_factor():
                if self.kind() == "num" and self.kind(-1) == "num":
                    raise Unreadable("two numbers side by side")
                if left[0] == "num" and self.is_op(r"\frac") and self.kind(-1) == "num" and left[1].denominator == 1:
                    part = self.power()
                    if part[0] == "/" and part[1][0] == part[2][0] == "num" and 0 < part[1][1] < part[2][1]:
                        left = ("num", left[1] + part[1][1] / part[2][1])  # a mixed number
                    elif part[0] == "/" and part[1][0] == part[2][0] == "num":
                        raise Unreadable("an improper mixed number, or a product")
                    else:
                        left = times(left, part)
                else:
                    left = times(left, self.power())
            elif self.kind() in ("word", "text"):
                if self.value() in ("and", "or"):
                    return left
                left = self.unit(left)
            else:
                return left

    def signed(self) -> tuple:
        if self.is_op("-", "+"):
            sign = self.value()
            self.at += 1
            inner = self.signed()
            return inner if sign == "+" else times(NEGATIVE, inner)
        return self.power()

    def starts_factor(self) -> bool:
        kind = self.kind()
        if kind in ("num", "sym", "fn"):
            return True
        if kind != "op":
            return False
        if self.value() == "|":
            return self.bars % 2 == 0
        return self.value() in _FACTORS

    def power(self) -> tuple:
        base = self.postfix()
        if self.is_op("^"):
            self.at += 1
            if self.is_op("°", r"\circ"):
                self.at += 1
                return ("unit", base, "degree")
            if self.is_op("{") and self.value(1) in ("°", r"\circ") and self.value(2) == "}":
                self.at += 3
                return ("unit", base, "degree")
            exponent = self.script()
            if exponent == ("sym", "'"):
                base = ("sym", base[1] + "'") if base[0] == "sym" else self.fail("prime")
                return base
            if self.is_op("!"):
                raise Unreadable("ambiguous factorial")
            base = ("^", base, exponent)
            if self.is_op("^"):
                raise Unreadable("two exponents")
        return base

    def postfix(self) -> tuple:
        value = self.atom()
        while self.kind() == "op":
            sign = self.value()
            if sign == "!":
                double = self.value(1) == "!"
                self.at += 1 + double
                value = ("fn", "factorial2" if double else "factorial", (value,))
            elif sign == "%":
                self.at += 1
                value = ("unit", value, "%")
            elif sign == "°":
                self.at += 1
                value = ("unit", value, "degree")
            elif sign == "_":
                self.at += 1
                value = self.subscript(value)
            elif sign == "'" and value[0] == "sym":
                self.at += 1
                value = ("sym", value[1] + "'")
            else:
                break
        return value

    def subscript(self, value: tuple) -> tuple:
        start = self.at
        if self.is_op("{"):
            depth = 0
            while True:
                depth += self.is_op("{") - self.is_op("}")
                if self.kind() is None:
                    raise Unreadable("open subscript")
                self.at += 1
                if depth == 0:
                    break
            inside = self.tokens[start + 1 : self.at - 1]
        else:
            if self.kind() is None:
                raise Unreadable("open subscript")
            self.at += 1
            inside = self.tokens[start : self.at]
        label = "".join(str(token[1]) for token in inside)
        if value[0] == "sym":
            return ("sym", f"{value[1]}_{label}")
        if value[0] == "group" and len(value[2]) == 1:
            value = value[2][0]
        if value[0] == "num":
            base = WORD_NUMBERS.get(label.lower()) or (
                Fraction(label) if label.isdecimal() and len(label) < 3 else None
            )
            if base is None:
                raise Unreadable("subscript")
            return ("base", value[1], base)
        raise Unreadable("subscript")


def over(left: tuple, right: tuple) -> tuple:
    """A quotient; the unit of `270/7^\\circ` is the whole's."""
    if right[0] == "unit":
        return ("unit", ("/", left, right[1]), right[2])
    return ("/", left, right)
