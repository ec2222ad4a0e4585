r"""Cut an answer into tokens: numbers, symbols, functions, words and signs, in one spelling each.

The vocabulary lives here: what is spacing or dress, what a function, which letters are words. A run of letters is a
word if it is long or known, else a product of variables.
"""

import re
import unicodedata
from fractions import Fraction

from sftrl.verify.units import PRODUCTS, UNIT_LETTERS, UNIT_WORDS, names

MAX_TOKENS = 400
MAX_DIGITS = 400  # of a number: int() of more is slow, and no answer has them


class Unreadable(ValueError):
    """Not in the grammar: nothing is said about the answer."""


_UNICODE = {
    "−": "-", "–": "-", "—": "-", "×": r"\times ", "·": r"\cdot ", "⋅": r"\cdot ", "÷": "/", "π": r"\pi ",
    "∞": r"\infty ", "≤": r"\le ", "≥": r"\ge ", "≠": r"\ne ", "≈": r"\approx ", "√": " sqrt ",
    "±": r"\pm ", "∓": r"\mp ", "∪": r"\cup ", "∩": r"\cap ", "∈": r"\in ", "∅": r"\emptyset ", "ℝ": r"\mathbb{R}",
    "⌊": r"\lfloor ", "⌋": r"\rfloor ", "⌈": r"\lceil ", "⌉": r"\rceil ", "θ": r"\theta ", "α": r"\alpha ",
    "β": r"\beta ", "λ": r"\lambda ", "φ": r"\phi ", "’": "'", "′": "'", "²": "^2", "³": "^3", "½": r"\frac12 ",
    "¼": r"\frac14 ", "¾": r"\frac34 ", "¢": r"\text{ cents}", "\u00a0": " ", "…": r"\ldots ",
    "⟨": r"\langle ", "⟩": r"\rangle ", "∖": r"\setminus ", "。": ".", "，": ",", "✓": " ", "✔": " ", "✅": " ",
    "\t": " ", "\n": " ",
}  # fmt: skip
_SPACING = re.compile(
    r"\\(?:left|right|[bB]igg?[lrm]?|displaystyle|textstyle|limits|q?quad|rm|bf|it|hspace\s*\{[^{}]*\}|hfill|null|noindent"
    r"|tt|phantom\s*\{[^{}]*\}|tiny|small|normalsize|large|Large|LARGE|huge|Huge|checkmark|blacksquare|fbox|boxed|underline"
    r")(?![A-Za-z])\.?|\\(?:text)?color\s*(?:\[\w+\])?\{[^{}]*\}"
    r"|\\(?:begin|end)\{(?:aligned|align\*?|gathered|split|equation\*?)\}"
    r"|(?<!\\)\\[,;:> ()\[\]]|~|&(?=\s*=)|\$\$"
)
_ALIGNED = re.compile(r"\\begin\{(?:aligned|align\*?|gathered|split)\}")
_THOUSANDS = re.compile(r"(?<=\d)(?:,\s*\\!\s*|\\!\s*,\s*|\{,\s*\}\s*)(?=\d{3}(?!\d))")
_REPEATING = re.compile(
    r"(?<![\d.])(\d{0,50})\.(\d{0,50})"
    r"(?:\\(?:overline|bar)\s*\{?(\d{1,50})\}?|\\dot\s*\{?(\d)\}?(?:(\d{0,50})\\dot\s*\{?(\d)\}?)?)"
)
_MIXED = re.compile(r"(?<![\d.,/^_{])(?<!\d )(\d{1,9}) (\d{1,9})/(\d{1,9})(?![\d.,])")
_RAISED = re.compile(r"\^\s*(\{)?\s*(?:\\circ|\\degree|°|(\\prime))(?![A-Za-z])(?(1)\s*\})")
_FRACTION = re.compile(r"\\[dtc]frac(?![A-Za-z])")
_DOLLAR = re.compile(r"(?<!\\)\$")
_TEXT = r"\\(?:text(?:bf|it|rm|sf|tt|normal)?|[mh]box|emph|math(?:rm|it|sf|tt|op)|operatorname\*?)\s*\{([^{}]*)\}"
_SHORT_UNIT = re.compile(rf"\b({'|'.join(sorted(PRODUCTS))})\b")
_NUMBER = (
    r"(\d{1,3}(?:,\d{3})+(?![\d,])(?:\.\d+)?|\d{1,3}(?:[ ']\d{3})+(?!\d)(?:\.\d+)?|\d*\.\d+|\d+\.?)"
    r"(?:[eE]([-+]?\d{1,6})(?![\d.A-Za-z]))?"
)
_TOKEN = re.compile(
    rf"{_TEXT}|{_NUMBER}|(\\[A-Za-z]+|\\.)|([A-Za-z]+)|(<=|>=|!=|==|\*\*|\S)",
    re.DOTALL,
)
_PLAIN = {
    r"\dfrac": r"\frac", r"\tfrac": r"\frac", r"\cfrac": r"\frac", r"\dbinom": r"\binom", r"\tbinom": r"\binom",
    r"\leq": "<=", r"\le": "<=", r"\leqslant": "<=", r"\geq": ">=", r"\ge": ">=", r"\geqslant": ">=", r"\lt": "<",
    r"\gt": ">", r"\neq": "!=", r"\ne": "!=", "==": "=", r"\equiv": "=", r"\times": "*", r"\cdot": "*",
    r"\ast": "*", r"\div": "/", "**": "^", r"\lbrace": r"\{", r"\rbrace": r"\}", r"\lbrack": "[", r"\rbrack": "]",
    r"\vert": "|", r"\lvert": "|", r"\rvert": "|", r"\mid": "|", r"\degree": "°", r"\varnothing": r"\emptyset",
    r"\%": "%", r"\dots": r"\ldots", r"\cdots": r"\ldots", r"\simeq": r"\approx", r"\backslash": r"\setminus",
    r"\langle": "(", r"\rangle": ")", r"\sim": r"\approx", r"\land": "and", r"\lor": "or", r"\wedge": "and",
    r"\vee": "or", r"\varphi": r"\phi", r"\varepsilon": r"\epsilon", r"\vartheta": r"\theta", r"\ctg": r"\cot",
    r"\tg": r"\tan", r"\lg": r"\log", r"\dag": r"\dagger", r"\pounds": "£", r"\euro": "€", r"\$": "$",
    r"\Bbb": r"\mathbb", r"\cr": "\\\\", r"\deg": "°",
}  # fmt: skip
_SKIPPED = {r"\!", r"\,", r"\/", "`", r"\mathbf", r"\boldsymbol", r"\bm", r"\mathcal", r"\cancel", r"\angle"}
_SKIPPED |= {r"\triangle", r"\mathit"}
ACCENTS = {r"\bar", r"\hat", r"\vec", r"\dot", r"\ddot", r"\tilde", r"\overrightarrow", r"\widehat", r"\overline"}
_FUNCTIONS = names("sin cos tan cot sec csc arcsin arccos arctan arccot sinh cosh tanh log ln exp sqrt")
SYMBOLS = names(
    "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi rho sigma tau phi chi psi omega "
    "Gamma Delta Theta Lambda Xi Pi Sigma Phi Psi Omega hbar ell pi det dim"
)
_UNITS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen twenty"
)
_TENS = "thirty forty fifty sixty seventy eighty ninety"
WORD_NUMBERS = {word: Fraction(i) for i, word in enumerate(_UNITS.split())}
WORD_NUMBERS |= {word: Fraction(10 * i) for i, word in enumerate(_TENS.split(), 3)}
_SHORT_WORDS = names(
    "odd yes all any red may none left up low high set new old tie the answer is equals so thus hence final total both "
    "just not no if when where for with more less than mod base half dozen plus minus over to but some every are be in "
    "hot dog cat egg car bag box pie cup kid boy girl man men way day pen toy bus sq pct per of"
)
PREFIXES = names(
    "the answer is equals therefore so thus hence either final total both just about exactly only "
    "approximately roughly around"
)


def clean(text: str) -> str:
    """Drop what carries no meaning: invisible characters, delimiters, spacing, colour, a closing stop or `\\\\`."""
    if not text.isascii():
        text = "".join(_UNICODE.get(c, c) for c in text if unicodedata.category(c) not in ("Cf", "Cc") or c in "\t\n")
        text = unicodedata.normalize("NFKC", text)
    if "\\" in text:
        if _ALIGNED.search(text):
            text = re.sub(r"\\\\\s*&?\s*(=?)", lambda m: "=" if m[1] else ", ", text).replace("&", " ")
        text = _THOUSANDS.sub("", text).replace("\\!", "")
        text = _FRACTION.sub(r"\\frac", text)
        text = _RAISED.sub(lambda match: "'" if match[2] else "°", text)
    text = _SPACING.sub(" ", text)
    text = _THOUSANDS.sub("", text).replace("np.", "")  # Minerva has np.arcsin
    bare = None
    while bare != text:
        bare, text = text, text.strip().removesuffix("\\\\").strip("*_ \n").rstrip(".,;: ")
    if text.endswith("$") and text.count("$") == 1 + text.startswith("$"):  # `$5.$`, or a dollar left over at the end
        text = text.strip("$ ").rstrip(".,;: ")
    return text


def _as_fraction(match: re.Match) -> str:
    """`0.1\\overline{6}` as a quotient."""
    whole, fixed, *parts = match.groups(default="")
    repeated = "".join(parts)
    scale, nines = 10 ** len(fixed), 10 ** len(repeated) - 1
    value = Fraction(int(whole + fixed or 0) * nines + int(repeated), scale * nines)
    return rf"\frac{{{value.numerator}}}{{{value.denominator}}}"


def tokenize(text: str, commas: bool) -> list[tuple]:
    """(kind, value) pairs; kinds: num, sym, fn, word, op. In the reading with commas, `1,234` is a list."""
    found: list[tuple] = []
    depth = 0
    position = 0
    text = _REPEATING.sub(_as_fraction, text) if "\\" in text else _MIXED.sub(r"\1\\frac{\2}{\3}", text)
    while match := _TOKEN.search(text, position):
        position = match.end()
        worded, number, exponent, command, letters, sign = match.groups()
        if worded is not None:
            inner = worded.strip(" ~$")
            roman = match[0].startswith(("\\mathrm", "\\operatorname"))
            if roman and inner in UNIT_LETTERS and _may_be_measured(found):
                found.append(("word", inner))
            elif roman and inner in _FUNCTIONS:
                found.append(("fn", inner))
            elif len(inner) == 1 and inner.isalpha() and (roman or match[0].startswith(("\\mathit", "\\textit"))):
                found.append(("sym", inner))
            else:
                inside = tokenize(_SHORT_UNIT.sub(r"\1s", inner), commas)
                found += [("word", *t[1:]) if t[0] in ("sym", "fn") else t for t in inside]
        elif number is not None:
            if "," in number and (commas or depth):  # in brackets, and in the list reading, commas separate
                if not depth and ",0" in number:
                    raise Unreadable("no list: 1,000")
                number = number[: number.index(",")]
                position = match.start() + len(number)
            if len(number) > MAX_DIGITS:
                raise Unreadable("too many digits")
            value = Fraction(re.sub("[ ,']", "", number).rstrip(".") or "0")
            if exponent and position == match.end():
                if abs(int(exponent)) > MAX_DIGITS:
                    raise Unreadable("exponent")
                value *= Fraction(10) ** int(exponent)
            found.append(("num", value, number))
        elif letters is not None:
            found += _letters(letters)
        else:
            sign = _PLAIN.get(command or sign, command or sign)
            if sign in _SKIPPED:
                continue
            depth += (sign in ("(", "[", r"\{")) - (sign in (")", "]", r"\}"))
            name = sign[1:] if sign[0] == "\\" else ""
            if sign in ("and", "or"):
                found.append(("word", sign))
            elif name in SYMBOLS:
                found.append(("sym", name))
            elif name in _FUNCTIONS and name != "sqrt":
                found.append(("fn", name))
            else:
                found.append(("op", sign))
        if len(found) > MAX_TOKENS:
            raise Unreadable("too long")
    return found


def _may_be_measured(found: list[tuple]) -> bool:
    """Whether a unit may follow: after a number, a unit, or the `/` after a unit."""
    kinds, last = [token[0] for token in found[-2:]], found[-1][1] if found else None
    return kinds[-1:] in (["num"], ["word"]) or last == "}" or (kinds[:1] == ["word"] and last == "/")


def _letters(letters: str) -> list[tuple[str, object]]:
    if letters in _FUNCTIONS:
        return [("fn", letters)]
    if letters == "pi" or (len(letters) > 2 and letters in SYMBOLS):
        return [("sym", letters)]
    if letters in ("inf", "infty", "infinity", "oo"):
        return [("op", r"\infty")]
    known = letters in ("or", "and") or letters in WORD_NUMBERS or letters.lower() in _SHORT_WORDS
    if known or len(letters) >= 4 or (len(letters) > 1 and letters in UNIT_WORDS):
        return [("word", letters)]
    return [("sym", letter) for letter in letters]


class Cursor:
    """A place among the tokens of a text, for one who reads them from left to right."""

    def __init__(self, text: str, commas: bool) -> None:
        delimiters = len(_DOLLAR.findall(text))
        self.tokens = tokenize(_DOLLAR.sub(" ", text) if delimiters % 2 == 0 else text, commas)  # an odd one is a price
        self.tokens += [(None, None)] * 4  # the end, however far one looks ahead or back
        self.at = 0

    def kind(self, ahead: int = 0) -> str | None:
        return self.tokens[self.at + ahead][0]

    def value(self, ahead: int = 0) -> object:
        return self.tokens[self.at + ahead][1]

    def is_op(self, *signs: str) -> bool:
        return self.kind() == "op" and self.value() in signs

    def is_word(self, *words: str) -> bool:
        return self.kind() == "word" and (not words or self.value() in words)

    def follows(self, sign: object) -> bool:
        """Take this value if it comes next."""
        found = self.value() == sign
        self.at += found
        return found

    def next(self) -> object:
        if self.kind() is None:
            raise Unreadable("cut off")
        self.at += 1
        return self.value(-1)

    def take(self, sign: str) -> None:
        if not self.is_op(sign):
            raise Unreadable(f"{sign!r} expected")
        self.at += 1

    def braced(self) -> str:
        """Take a name in braces, without those inside of it."""
        self.take("{")
        name = ""
        while not self.follows("}"):
            name += self.braced() if self.is_op("{") else str(self.next()).lstrip("\\")
        return name

    def words(self) -> str:
        """Take the words that come next, except `and` and `or`: a unit, as `kg m^2/s`, or a noun phrase."""
        words = ""
        while self.is_word() and not self.is_word("and", "or"):
            words += f" {self.next()}"
            if self.follows("^"):
                exponent = self.braced() if self.is_op("{") else f"{'-' if self.follows('-') else ''}{self.next()}"
                words += f"^{exponent}"
            self.follows(".")
            if self.is_op("/", "*", "-") and self.kind(1) == "word":
                words += self.next()
        return words
