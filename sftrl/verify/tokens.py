r"""Cut an answer into tokens: numbers, symbols, functions, words, commands and signs, in one spelling each.

The vocabulary lives here: what is spacing, what a function, which words can be a unit and which cannot. A run of
letters is a word if it is long or known, else a product of variables.
"""

import re
import unicodedata
from fractions import Fraction

MAX_TOKENS = 400
MAX_DIGITS = 400  # of a number: int() of more is slow, and no answer has them


class Unreadable(ValueError):
    """Not in the grammar: nothing is said about the answer."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_UNICODE = {
    "−": "-", "–": "-", "—": "-", "×": r"\times ", "·": r"\cdot ", "⋅": r"\cdot ", "÷": "/", "π": r"\pi ",
    "∞": r"\infty ", "≤": r"\le ", "≥": r"\ge ", "≠": r"\ne ", "≈": r"\approx ", "°": r"^\circ ", "√": " sqrt ",
    "±": r"\pm ", "∓": r"\mp ", "∪": r"\cup ", "∩": r"\cap ", "∈": r"\in ", "∅": r"\emptyset ", "ℝ": r"\mathbb{R}",
    "⌊": r"\lfloor ", "⌋": r"\rfloor ", "⌈": r"\lceil ", "⌉": r"\rceil ", "θ": r"\theta ", "α": r"\alpha ",
    "β": r"\beta ", "λ": r"\lambda ", "’": "'", "′": "'", "²": "^2", "³": "^3", "½": r"\frac12 ", "¼": r"\frac14 ",
    "¾": r"\frac34 ", "€": r"\$", "£": r"\$", "¢": r"\text{ cents}", "\u00a0": " ", "…": r"\ldots ",
    "⟨": r"\langle ", "⟩": r"\rangle ", "∖": r"\setminus ", "\t": " ", "\n": " ",
}  # fmt: skip
_SPACING = re.compile(
    r"\\(?:left|right|[bB]igg?[lrm]?|displaystyle|textstyle|limits|quad|qquad|rm|bf|it|hspace\s*\{[^{}]*\}|hfill|null)"
    r"(?![A-Za-z])\.?|(?<!\\)\\[,;:> ()\[\]]|~|&(?=\s*=)|\$\$"
)
_THOUSANDS = re.compile(r"(?<=\d)(?:,\s*\\!\s*|\\!\s*,\s*|\{,\s*\}\s*)(?=\d{3}(?!\d))")
_FRACTION = re.compile(r"\\[dtc]frac(?![A-Za-z])")
DOLLAR = re.compile(r"(?<!\\)\$")
_TEXT = (
    r"\\(?:text|mbox|textbf|textit|textrm|textnormal|mathrm|mathit|mathsf|operatorname\*?|hbox|mathop|texttt)"
    r"\s*\{([^{}]*)\}"
)
_NUMBER = (
    r"(\d{1,3}(?:,\d{3})+(?![\d,])(?:\.\d+)?|\d{1,3}(?: \d{3})+(?!\d)|\d*\.\d+|\d+\.?)"
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
    r"\tg": r"\tan", r"\lg": r"\log", r"\dag": r"\dagger", r"\pounds": "$", r"\euro": "$", r"\$": "$",
}  # fmt: skip
_SKIPPED = {r"\!", r"\,", r"\/", "`", r"\mathbf", r"\boldsymbol", r"\bm", r"\mathcal", r"\cancel", r"\angle"}
_SKIPPED |= {r"\triangle", r"\mathit"}
ACCENTS = {r"\bar", r"\hat", r"\vec", r"\dot", r"\ddot", r"\tilde", r"\overrightarrow", r"\widehat"}
_FUNCTIONS = _words(
    "sin cos tan cot sec csc arcsin arccos arctan arccot sinh cosh tanh log ln exp sqrt gcd lcm max min"
)
_SYMBOLS = _words(
    "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi rho sigma tau phi chi psi omega "
    "Gamma Delta Theta Lambda Xi Pi Sigma Phi Psi Omega hbar ell pi"
)
_UNITS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen twenty"
)
_TENS = "thirty forty fifty sixty seventy eighty ninety"
WORD_NUMBERS = {word: Fraction(i) for i, word in enumerate(_UNITS.split())}
WORD_NUMBERS |= {word: Fraction(10 * i) for i, word in enumerate(_TENS.split(), 3)}
MULTIPLES = {"hundred": 10**2, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
# Words after a value that make it another value, or a condition: never a unit.
NOT_UNITS = _words(
    "not no if when where for with otherwise more less than least most mod modulo base half dozen plus minus "
    "times over to but some any all every is are be because since which that wait then choice option remainder "
    "tens ones hundreds thousands tenth tenths hundredth hundredths thousandth thousandths third thirds quarter "
    "quarters fifth fifths squared cubed factorial"
)
_BARE_UNITS = _words(
    "cm mm km kg mg ml mL ft hr hrs lb lbs oz nm mph kph min mins sec day deg rad gal sq eV Hz pm am PM AM men "
    "hot dog cat egg car bag box pie cup kid boy way"
)
_SHORT_WORDS = _words("odd yes all any red may none left up low high set new old tie")
PREFIXES = _words("the answer is equals therefore so thus hence either final total both just")


def clean(text: str) -> str:
    """Drop what carries no meaning: invisible characters, math delimiters, spacing commands, a closing full stop."""
    if not text.isascii():
        text = "".join(_UNICODE.get(c, c) for c in text if unicodedata.category(c) not in ("Cf", "Cc") or c in "\t\n")
        text = unicodedata.normalize("NFKC", text)
    text = _THOUSANDS.sub("", text).replace("\\!", "").replace("np.", "")  # Minerva has np.arcsin
    text = _FRACTION.sub(r"\\frac", text)
    text = _SPACING.sub(" ", text) if "\\" in text or "~" in text or "$$" in text else text
    return text.strip().strip("*_").rstrip(".,;: ").strip()


def tokenize(text: str, commas: bool) -> list[tuple]:
    """(kind, value) pairs; kinds: num, sym, word, text (a word inside `\\text`), cmd, op."""
    found: list[tuple] = []
    depth = 0
    position = 0
    while match := _TOKEN.search(text, position):
        position = match.end()
        worded, number, exponent, command, letters, sign = match.groups()
        if worded is not None:
            inner = worded.strip(" ~$")
            if len(inner) == 1 and inner.isalpha() and match[0].startswith(("\\mathrm", "\\mathit", "\\operatorname")):
                found.append(("sym", inner))
            else:
                found += [("text", *t[1:]) if t[0] in ("word", "sym", "fn") else t for t in tokenize(inner, commas)]
        elif number is not None:
            if "," in number and (commas or depth):  # in brackets, and in the list reading, commas separate
                number = number[: number.index(",")]
                position = match.start() + len(number)
            if len(number) > MAX_DIGITS:
                raise Unreadable("too many digits")
            value = Fraction(re.sub("[ ,]", "", number).rstrip(".") or "0")
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
            if sign in ("and", "or"):
                found.append(("word", sign))
            elif sign[0] == "\\" and sign[1:] in _SYMBOLS:
                found.append(("sym", sign[1:]))
            elif sign[0] == "\\" and sign != r"\sqrt" and sign[1:] in _FUNCTIONS:
                found.append(("fn", sign[1:]))
            else:
                found.append(("op", sign))
        if len(found) > MAX_TOKENS:
            raise Unreadable("too long")
    return found


def _letters(letters: str) -> list[tuple[str, object]]:
    if letters in _FUNCTIONS:
        return [("fn", letters)]
    if letters in ("or", "and") or letters in _BARE_UNITS or letters in WORD_NUMBERS or letters.lower() in _SHORT_WORDS:
        return [("word", letters)]
    if letters == "pi":
        return [("sym", "pi")]
    if letters in ("inf", "infty", "infinity", "oo"):
        return [("op", r"\infty")]
    if len(letters) >= 4 or letters.lower() in PREFIXES | NOT_UNITS:
        return [("word", letters)]
    return [("sym", letter) for letter in letters]
