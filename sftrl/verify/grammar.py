r"""Read an answer, in LaTeX or plain text, as a tree (`sftrl.verify.trees`); refuse what is not understood.

It is strict on purpose: a reading that might be wrong is `Unreadable`. The levels of the grammar, loosest first:

    statement  relation {(, ; and or) relation}        product  signed {* signed | / signed | power | unit}
    relation   union {(= < > <= >= != in ~) union}     signed   {+ -} power
    union      ratio {(cup cap setminus) ratio}        power    postfix [^ script]
    ratio      sum {: sum}                             postfix  atom {! % degree _ '}
    sum        [sign] product {(+ - pm mp) product}    atom     number, symbol, function, brackets, matrix ...
"""

from fractions import Fraction

from sftrl.verify.tokens import ACCENTS, PREFIXES, WORD_NUMBERS, Cursor, Unreadable
from sftrl.verify.trees import INFINITY, NEGATIVE, mixed, over, plus, times
from sftrl.verify.units import CURRENCIES, DEGREE, MULTIPLES, PERCENT, read_unit

MAX_DEPTH = 30  # nested brackets; each costs a dozen Python frames
RELATIONS = {"=", "<", ">", "<=", ">=", "!=", r"\in", r"\approx"}
_SETS = {r"\cup": "union", r"\cap": "meet", r"\setminus": "minus"}
_FACTORS = {"(", "[", "{", r"\frac", r"\sqrt", r"\binom", r"\lfloor", r"\lceil", r"\infty"} | ACCENTS
_FENCES = {"|": ("|", "abs"), r"\lfloor": (r"\rfloor", "floor"), r"\lceil": (r"\rceil", "ceil")}
_MARKS = {"%": PERCENT, "°": DEGREE, **CURRENCIES}
_ALONE = {r"\infty": INFINITY, r"\emptyset": ("empty",)}
_CLOSING = (")", "]", r"\}")


class Parser(Cursor):
    """Recursive descent, one method a level of the grammar above, and a method for each larger atom.

    With `commas`, `1,234` is a list; if `tight`, `a/bc` is `a/(bc)`.
    """

    def __init__(self, text: str, commas: bool, tight: bool) -> None:
        super().__init__(text, commas)
        self.depth = 0
        self.breaks = 0  # semicolons in the list last read
        self.bars = 0  # open |
        self.tight = tight

    def nested(self, read) -> tuple:
        """What `read` finds one bracket deeper."""
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise Unreadable("nested too deep")
        inner = read()
        self.depth -= 1
        return inner

    def within(self, closed: str, read) -> tuple:
        inner = self.nested(read)
        self.take(closed)
        return inner

    # -- from the loosest level to the tightest

    def answer(self) -> tuple:
        while self.is_word() and self.value().lower() in PREFIXES:
            self.at += 1
        if self.is_op(":", r"\approx", "="):
            self.at += 1
        tree = self.statement()
        if self.kind() is not None:
            raise Unreadable(f"{self.value()!r} is left over")
        return tree

    def statement(self) -> tuple:
        items, joint, breaks = [self.relation()], "", 0
        while self.is_op(",", ";") or self.is_word("and", "or"):
            found = ","
            breaks += self.is_op(";")
            while self.is_op(",", ";") or self.is_word("and", "or"):
                found, self.at = self.value() if self.is_word() else found, self.at + 1
            joint = found if joint in ("", ",") else joint
            items.append(self.relation())
        self.breaks = breaks
        return ("list", tuple(items), joint) if joint else items[0]

    def relation(self) -> tuple:
        sides, signs = [self.union()], []
        while self.is_op(*RELATIONS):
            signs.append(self.next())
            sides.append(self.union())
        return ("rel", tuple(sides), tuple(signs)) if signs else sides[0]

    def union(self) -> tuple:
        left = self.ratio()
        while self.is_op(*_SETS):
            left = (_SETS[self.next()], left, self.ratio())
        return left

    def ratio(self) -> tuple:
        terms = [self.sum()]
        if self.follows(r"\over"):
            return over(terms[0], self.sum())
        if self.follows(r"\choose"):
            return ("fn", "binomial", (terms[0], self.sum()))
        while self.follows(":"):
            terms.append(self.sum())
        return terms[0] if len(terms) == 1 else ("ratio", tuple(terms))

    def sum(self) -> tuple:
        terms, signs = [], ("+", "-", r"\pm", r"\mp")
        while not terms or self.is_op(*signs):
            sign = self.next() if self.is_op(*signs) else "+"
            term = self.product()
            terms.append(term if sign == "+" else times(NEGATIVE, term) if sign == "-" else ("pm", sign, term))
        return plus(tuple(terms))

    def product(self) -> tuple:
        left = self.signed()
        while True:
            if self.follows("*"):
                left = times(left, self.signed())
            elif self.follows("/"):
                right = self.signed()
                while self.tight and self.starts_factor():
                    right = times(right, self.power())
                left = over(left, right)
            elif self.starts_factor():
                after_number = self.kind(-1) == "num"
                if after_number and self.kind() == "num":
                    raise Unreadable("two numbers side by side")
                with_fraction = after_number and left[0] == "num" and self.is_op(r"\frac")
                left = (mixed if with_fraction else times)(left, self.power())
                if left is None:
                    raise Unreadable("an improper mixed number, or a product")
            elif self.is_word() and not self.is_word("and", "or"):
                left = self.unit(left)
            else:
                return left

    def signed(self) -> tuple:
        if self.is_op("-", "+"):
            return times(NEGATIVE, self.signed()) if self.next() == "-" else self.signed()
        return self.power()

    def starts_factor(self) -> bool:
        if self.is_op("|"):
            return self.bars % 2 == 0
        return self.kind() in ("num", "sym", "fn") or self.is_op(*_FACTORS)

    def power(self) -> tuple:
        base = self.postfix()
        if not self.follows("^"):
            return base
        exponent = self.script()
        if self.is_op("!", "^"):
            raise Unreadable("an ambiguous exponent")
        return ("^", base, exponent)

    def script(self) -> tuple:
        """An exponent: a braced expression, or one token; `x^12` is read as it is meant."""
        if self.is_op("-", "+"):
            return self.signed()
        return self.argument() if self.is_op("{") else self.atom()

    def postfix(self) -> tuple:
        value = self.atom()
        while self.is_op("!", "%", "°", "_", "'", "€", "£"):
            sign = self.next()
            if sign == "!":
                value = ("fn", "factorial2" if self.follows("!") else "factorial", (value,))
                if self.is_op("!"):
                    raise Unreadable("!!!")
            elif sign == "_":
                value = self.subscript(value)
            elif sign == "'":
                value = ("sym", self.name(value) + "'")
            else:
                value = ("unit", value, _MARKS[sign])
        return value

    # -- what stands alone

    def atom(self) -> tuple:
        kind, value = self.kind(), self.next()
        if kind in ("num", "sym"):
            return (kind, value)
        if kind == "fn":
            return self.function(value)
        if kind == "word":
            return self.word(value)
        if value in ("(", "[", r"\{"):
            return self.group(value)
        if value == "{":
            return self.within("}", self.statement)
        if value in CURRENCIES:
            return ("unit", self.signed(), CURRENCIES[value])
        if value == r"\frac":
            return ("/", self.argument(), self.argument())
        if value == r"\binom":
            return ("fn", "binomial", (self.argument(), self.argument()))
        if value == r"\sqrt":
            degree = self.within("]", self.sum) if self.follows("[") else ("num", Fraction(2))
            return ("fn", "root", (self.atom() if self.is_op("(") else self.argument(), degree))
        if value in _FENCES:
            closed, name = _FENCES[value]
            self.bars += value == "|"
            inner = self.within(closed, self.sum)
            self.bars -= value == "|"
            return ("fn", name, (inner,))
        if value in _ALONE:
            return _ALONE[value]
        if value == r"\mathbb":
            name = self.name(self.argument())
            if self.follows("^"):
                name += self.braced() if self.is_op("{") else str(self.next())
            return ("reals",) if name == "R" else ("sym", rf"\mathbb {name}")
        if value == r"\begin":
            return self.matrix()
        if value in ACCENTS:
            return ("sym", f"{value} {self.name(self.argument())}")
        raise Unreadable(f"{value!r}")

    def name(self, tree: tuple) -> str:
        if tree[0] != "sym":
            raise Unreadable("a name expected")
        return tree[1]

    def word(self, word: str) -> tuple:
        if word.lower() in WORD_NUMBERS:
            return ("num", WORD_NUMBERS[word.lower()])
        if len(word) == 1 or self.value() in RELATIONS or (self.kind() is None and self.value(-2) in RELATIONS):
            return ("sym", word)
        raise Unreadable(f"word {word!r}")

    def unit(self, value: tuple) -> tuple:
        """The words after a value: a multiple (`5 million`), then its unit, to the end of the item."""
        while self.is_word(*MULTIPLES):
            value = times(value, ("num", Fraction(MULTIPLES[self.next()])))
        words = self.words()
        if self.kind() is not None and not (self.is_op(",", ";", ")", "]", "}", r"\}", *RELATIONS) or self.is_word()):
            raise Unreadable("a value after a unit")
        if not words:
            return value
        unit = read_unit(words, value in (("num", Fraction(1)), ("*", (NEGATIVE, ("num", Fraction(1))))))
        if unit is None:
            raise Unreadable(f"{words!r} after a value")
        return ("unit", value, unit) if unit.dims else value

    def argument(self) -> tuple:
        """What `\\frac` takes: a braced expression or one digit or symbol, as TeX reads `\\frac12`."""
        if self.follows("{"):
            return self.within("}", self.sum)
        if self.kind() == "num" and len(text := self.tokens[self.at][2]) > 1:  # `\frac12`: two arguments in one token
            if not text.isdecimal():
                raise Unreadable("argument")
            self.tokens[self.at : self.at + 1] = [("num", Fraction(d), d) for d in (text[0], text[1:])]
        elif self.kind() not in ("num", "sym", "op"):
            raise Unreadable("argument")
        return self.atom()

    def function(self, name: str) -> tuple:
        if name == "sqrt":
            return ("fn", "root", (self.atom(), ("num", Fraction(2))))
        base = self.argument() if self.follows("_") else None
        exponent = self.script() if self.follows("^") else None
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
        if exponent == times(NEGATIVE, ("num", Fraction(1))):
            if name not in ("sin", "cos", "tan"):
                raise Unreadable("inverse function")
            return ("fn", "arc" + name, (inner,))
        result = ("fn", name, (inner,) if base is None else (inner, base))
        return result if exponent is None else ("^", result, exponent)

    def group(self, opened: str) -> tuple:
        inner = ("list", (), "") if self.is_op(*_CLOSING) else self.nested(self.statement)
        closed = self.next()
        if closed not in _CLOSING or (opened == r"\{") != (closed == r"\}"):
            raise Unreadable("brackets")
        if inner[0] == "list" and inner[2] == "or":
            raise Unreadable("or in brackets")
        items = inner[1] if inner[0] == "list" else (inner,)
        brackets = (opened + closed).replace("\\", "")
        width, rest = divmod(len(items), self.breaks + 1)
        if brackets == "[]" and self.breaks and width > 1 and not rest:  # [1, 2; 3, 4]
            return ("matrix", tuple(items[i : i + width] for i in range(0, len(items), width)))
        if len(items) == 1 and brackets in ("()", "[]") and items[0][0] not in ("group", "unit"):
            return items[0]
        return ("group", brackets, items)

    def matrix(self) -> tuple:
        name, rows = self.braced(), [()]
        if not name.endswith(("matrix", "array")):
            raise Unreadable(name)
        if name == "array" and self.is_op("{"):  # its columns
            self.braced()
        while not self.follows(r"\end"):
            rows[-1] += (self.sum(),)
            if self.follows("\\\\"):
                rows.append(())
            elif not self.follows("&") and not self.is_op(r"\end"):
                raise Unreadable("matrix")
        self.braced()
        rows = rows if rows[-1] else rows[:-1]
        if not rows or len({len(row) for row in rows}) != 1:
            raise Unreadable("ragged matrix")
        return ("fn", "det", (("matrix", tuple(rows)),)) if name == "vmatrix" else ("matrix", tuple(rows))

    def subscript(self, value: tuple) -> tuple:
        """The label of a name, or the base of a numeral."""
        label = self.braced() if self.is_op("{") else str(self.next())
        if value[0] == "sym":
            return ("sym", f"{value[1]}_{label}")
        base = WORD_NUMBERS.get(label.lower()) or (Fraction(label) if label.isdecimal() and len(label) < 3 else None)
        if value[0] != "num" or base is None:
            raise Unreadable("subscript")
        return ("base", value[1], base)
