"""What stands alone in an answer: numbers, symbols, words and units, functions, brackets, matrices.

Inside of them anything may stand, so these methods call those of the operators, which `sftrl.verify.latex` adds.
"""

from fractions import Fraction

from sftrl.verify.cursor import Cursor
from sftrl.verify.tokens import ACCENTS, MULTIPLES, NOT_UNITS, WORD_NUMBERS, Unreadable

RELATIONS = {"=", "<", ">", "<=", ">=", "!=", r"\in", r"\approx"}
NEGATIVE = ("num", Fraction(-1))


class Atoms(Cursor):
    """The tight levels of the grammar."""

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

    def braced(self) -> tuple:
        self.deeper()
        self.take("{")
        inner = self.statement()
        self.take("}")
        self.depth -= 1
        return inner

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

    def word(self, word: str) -> tuple:
        number = WORD_NUMBERS.get(word.lower())
        if number is not None:
            return ("num", number)
        if self.kind() is None and self.at == 1:
            raise Unreadable("a word")
        if self.value() in RELATIONS or (self.kind() is None and self.value(-2) in RELATIONS):
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
            self.is_op(",", ";", ")", "]", "}", r"\}", *RELATIONS) or self.kind() in ("word", "text")
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


def times(left: tuple, right: tuple) -> tuple:
    """A flat product: a long one must not be a deep tree. The unit of its last factor is the whole's."""
    if right[0] == "unit" and left[0] != "unit":
        return ("unit", times(left, right[1]), right[2])
    return ("*", (*left[1], right)) if left[0] == "*" else ("*", (left, right))
