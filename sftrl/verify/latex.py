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

from sftrl.verify.tokens import ACCENTS, DOLLAR, MULTIPLES, NOT_UNITS, PREFIXES, WORD_NUMBERS, Unreadable, tokenize

MAX_DEPTH = 30  # nested brackets; each costs a dozen Python frames
_RELATIONS = {"=", "<", ">", "<=", ">=", "!=", r"\in", r"\approx"}
_FACTORS = {"(", "[", "{", r"\frac", r"\sqrt", r"\binom", r"\lfloor", r"\lceil", r"\overline", r"\infty"} | ACCENTS
NEGATIVE = ("num", Fraction(-1))


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


class _Parser:
    """Recursive descent, one method a level of the grammar."""

    def __init__(self, text: str, commas: bool, tight: bool) -> None:
        delimiters = len(DOLLAR.findall(text))
        self.tokens = tokenize(DOLLAR.sub(" ", text) if delimiters % 2 == 0 else text, commas)  # an odd one is a price
        self.at = 0
        self.depth = 0
        self.bars = 0  # open |
        self.tight = tight

    def parse(self) -> tuple:
        while self.kind() in ("word", "text") and str(self.value()).lower() in PREFIXES:
            self.at += 1
        if self.is_op(":", r"\approx", "="):
            self.at += 1
        tree = self.statement()
        if self.at < len(self.tokens):
            raise Unreadable(f"{self.value()!r} is left over")
        return tree

    # -- tokens
    def kind(self, ahead: int = 0) -> str | None:
        return self.tokens[self.at + ahead][0] if self.at + ahead < len(self.tokens) else None

    def value(self, ahead: int = 0) -> object:
        return self.tokens[self.at + ahead][1] if self.at + ahead < len(self.tokens) else None

    def is_op(self, *signs: str) -> bool:
        return self.kind() == "op" and self.value() in signs

    def take(self, sign: str) -> None:
        if not self.is_op(sign):
            raise Unreadable(f"{sign!r} expected")
        self.at += 1

    # -- the grammar, loosest first
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
        while self.kind() == "op" and self.value() in _RELATIONS:
            signs.append(self.value())
            self.at += 1
            sides.append(self.union())
        return sides[0] if not signs else ("rel", tuple(sides), tuple(signs))

    def ratio(self) -> tuple:
        terms = [self.sum()]
        while self.is_op(":"):
            self.at += 1
            terms.append(self.sum())
        return terms[0] if len(terms) == 1 else ("ratio", tuple(terms))

    def union(self) -> tuple:
        left = self.ratio()
        while self.is_op(r"\cup", r"\cap", r"\setminus"):
            sign = self.value()
            self.at += 1
            left = ({r"\cup": "union", r"\cap": "meet", r"\setminus": "minus"}[sign], left, self.ratio())
        return left

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

    def fail(self, reason: str) -> tuple:
        raise Unreadable(reason)

    def script(self) -> tuple:
        """An exponent: a braced expression, or one token; `x^12` is read as it is meant."""
        if self.is_op("{"):
            if self.value(1) == r"\prime" and self.value(2) == "}":
                self.at += 3
                return ("sym", "'")
            return self.braced()
        if self.is_op(r"\prime"):
            self.at += 1
            return ("sym", "'")
        if self.is_op("("):
            return self.atom()
        if self.is_op("-", "+"):
            sign = self.value()
            self.at += 1
            inner = self.atom()
            return inner if sign == "+" else ("*", (NEGATIVE, inner))
        return self.atom()

    def braced(self) -> tuple:
        self.deeper()
        self.take("{")
        inner = self.statement()
        self.take("}")
        self.depth -= 1
        return inner

    def deeper(self) -> None:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise Unreadable("nested too deep")

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

    def atom(self) -> tuple:
        kind, value = self.kind(), self.value()
        if kind is None:
            raise Unreadable("cut off")
        self.at += 1
        if kind == "num":
            return ("num", value)
        if kind == "sym":
            return ("sym", value)
        if kind == "fn":
            return self.function(value)
        if kind in ("word", "text"):
            return self.word(value)
        if value in ("(", "[", r"\{"):
            return self.group(value)
        if value == "{":
            self.at -= 1
            return self.braced()
        if value == "$":  # a price
            return ("unit", self.signed(), "dollar")
        if value in (r"\frac", r"\binom"):
            top, bottom = self.argument(), self.argument()
            return ("/", top, bottom) if value == r"\frac" else ("fn", "binomial", (top, bottom))
        if value == r"\sqrt":
            return self.root()
        if value == "|":
            self.bars += 1
            self.deeper()
            inner = self.sum()
            self.depth -= 1
            self.take("|")
            self.bars -= 1
            return ("fn", "abs", (inner,))
        if value in (r"\lfloor", r"\lceil"):
            self.deeper()
            inner = self.sum()
            self.depth -= 1
            self.take(r"\rfloor" if value == r"\lfloor" else r"\rceil")
            return ("fn", "floor" if value == r"\lfloor" else "ceil", (inner,))
        if value == r"\infty":
            return ("inf",)
        if value == r"\emptyset":
            return ("empty",)
        if value == r"\mathbb" or value == r"\Bbb":
            inner = self.argument()
            return ("reals",) if inner == ("sym", "R") else ("sym", f"\\mathbb {inner[1]}")
        if value == r"\begin":
            return self.environment()
        if value == r"\overline":
            inner = self.argument()
            return inner if inner[0] == "sym" else self.fail("overline")
        if value in ACCENTS:
            inner = self.argument()
            return ("sym", f"{value} {inner[1]}") if inner[0] == "sym" else self.fail("accent")
        raise Unreadable(f"{value!r}")

    def word(self, word: str) -> tuple:
        number = WORD_NUMBERS.get(word.lower())
        if number is not None:
            return ("num", number)
        if self.kind() is None and self.at == 1:
            raise Unreadable("a word")
        if self.value() in _RELATIONS or (self.kind() is None and self.value(-2) in _RELATIONS):
            return ("sym", word)
        raise Unreadable(f"word {word!r}")

    def unit(self, value: tuple) -> tuple:
        """Words after a value: its unit, to the end of the item."""
        words = []
        while True:
            if self.kind() in ("word", "text") and self.value() not in ("and", "or"):
                word = str(self.value())
                if word.lower() in NOT_UNITS or word.lower() in WORD_NUMBERS:
                    raise Unreadable(f"{word!r} after a value")
                if word in MULTIPLES and not words:
                    value = ("*", (value, ("num", Fraction(MULTIPLES[word]))))
                else:
                    words.append(word)
                self.at += 1
            elif words and self.is_op("^") and self.kind(1) == "num":
                words.append(f"^{self.value(1)}")
                self.at += 2
            elif words and self.is_op("^") and self.value(1) == "{" and self.value(2) == "-" and self.value(4) == "}":
                words.append(f"^-{self.value(3)}")
                self.at += 5
            elif words and self.is_op("^") and self.value(1) == "{" and self.kind(2) == "num" and self.value(3) == "}":
                words.append(f"^{self.value(2)}")
                self.at += 4
            elif words and self.is_op("/", "*") and self.kind(1) in ("word", "text"):
                words.append(self.value())
                self.at += 1
            elif words and self.is_op("."):
                self.at += 1
            else:
                break
        if self.kind() is not None and not (
            self.is_op(",", ";", ")", "]", "}", r"\}", *_RELATIONS) or self.kind() in ("word", "text")
        ):
            raise Unreadable("a value after a unit")
        return ("unit", value, " ".join(words)) if words else value

    def argument(self) -> tuple:
        """What `\\frac` takes: a braced expression or one digit or symbol, as TeX reads `\\frac12`."""
        if self.is_op("{"):
            return self.braced()
        if self.kind() == "num":
            text = self.tokens[self.at][2]
            if len(text) > 1:  # `\frac12`: two arguments in one token
                if not text.isdecimal():
                    raise Unreadable("argument")
                self.tokens[self.at : self.at + 1] = [("num", Fraction(d), d) for d in (text[0], text[1:])]
            self.at += 1
            return ("num", self.tokens[self.at - 1][1])
        if self.kind() in ("sym", "op"):
            return self.atom()
        raise Unreadable("argument")

    def root(self) -> tuple:
        degree = ("num", Fraction(2))
        if self.is_op("["):
            self.at += 1
            degree = self.sum()
            self.take("]")
        if self.is_op("("):
            inner = self.atom()
        else:
            inner = self.argument()
        return ("fn", "root", (inner, degree))

    def function(self, name: str) -> tuple:
        if name == "sqrt":
            return ("fn", "root", (self.atom(), ("num", Fraction(2))))
        base = exponent = None
        if self.is_op("_"):
            self.at += 1
            base = self.argument()
        if self.is_op("^"):
            self.at += 1
            exponent = self.script()
        if name in ("gcd", "lcm", "max", "min"):
            inner = self.atom()
            items = inner[2] if inner[0] == "group" else self.fail(name)
            return ("fn", name, items)
        if self.is_op("(", "{", "["):
            inner = self.atom()
            if self.is_op("^") and exponent is None and name != "exp":
                raise Unreadable("a power after a function")
        else:
            inner = self.power()
            while self.starts_factor() and self.kind() != "fn" and not self.is_op("("):
                inner = times(inner, self.power())
            if self.is_op("/") and self.kind(1) == "num":  # \sin \pi/3
                self.at += 2
                inner = ("/", inner, ("num", self.value(-1)))
        result = ("fn", name, (inner,) if base is None else (inner, base))
        if exponent == ("*", (NEGATIVE, ("num", Fraction(1)))):
            if name not in ("sin", "cos", "tan"):
                raise Unreadable("inverse function")
            return ("fn", "arc" + name, (inner,))
        return result if exponent is None else ("^", result, exponent)

    def group(self, opened: str) -> tuple:
        self.deeper()
        if self.is_op(")", "]", r"\}"):
            items: tuple = ()
        else:
            inner = self.statement()
            items = inner[1] if inner[0] == "list" else (inner,)
            if inner[0] == "list" and inner[2] == "or":
                raise Unreadable("or in brackets")
        closed = self.value()
        if closed not in (")", "]", r"\}") or self.kind() != "op" or (opened == r"\{") != (closed == r"\}"):
            raise Unreadable("brackets")
        self.at += 1
        self.depth -= 1
        if len(items) == 1 and opened in "([" and (opened + closed) in ("()", "[]") and items[0][0] not in ("group",):
            return items[0] if items[0][0] != "unit" else ("group", "()", items)
        return ("group", (opened + closed).replace("\\", ""), items)

    def environment(self) -> tuple:
        self.deeper()
        name = self.environment_name()
        if name == "cases" or not name.endswith(("matrix", "array")):
            raise Unreadable(name)
        if name == "array" and self.is_op("{"):
            while not self.is_op("}"):
                self.at += 1
                if self.kind() is None:
                    raise Unreadable("cut off")
            self.at += 1
        rows: list[tuple] = []
        row: list[tuple] = []
        while True:
            row.append(self.sum())
            if self.is_op("&"):
                self.at += 1
                continue
            rows.append(tuple(row))
            row = []
            if self.is_op("\\\\"):
                self.at += 1
            if self.is_op(r"\end"):
                self.at += 1
                self.environment_name()
                break
            if self.kind() is None or self.value(-1) != "\\\\":
                raise Unreadable("matrix")
        self.depth -= 1
        if len({len(r) for r in rows}) != 1:
            raise Unreadable("ragged matrix")
        matrix = ("matrix", tuple(rows))
        return ("fn", "det", (matrix,)) if name == "vmatrix" else matrix

    def environment_name(self) -> str:
        self.take("{")
        name = ""
        while self.kind() in ("word", "sym"):
            name += str(self.value())
            self.at += 1
        self.take("}")
        return name


def over(left: tuple, right: tuple) -> tuple:
    """A quotient; the unit of `270/7^\\circ` is the whole's."""
    if right[0] == "unit":
        return ("unit", ("/", left, right[1]), right[2])
    return ("/", left, right)


def times(left: tuple, right: tuple) -> tuple:
    """A flat product: a long one must not be a deep tree. The unit of its last factor is the whole's."""
    if right[0] == "unit" and left[0] != "unit":
        return ("unit", times(left, right[1]), right[2])
    return ("*", (*left[1], right)) if left[0] == "*" else ("*", (left, right))
