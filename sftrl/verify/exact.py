r"""Give an answer its status: what kind of answer gold and response are, by type or form, and whether they agree.

Most pairs never reach the parser: equal strings, integers, decimals and simple fractions are decided before it. What
the parser does not read (definite integrals, sums and limits among it) is right only if it is written as the gold is.
"""

import contextlib
import re
from fractions import Fraction
from functools import lru_cache

from sftrl.verify.extract import MAX_LENGTH
from sftrl.verify.grammar import Parser
from sftrl.verify.scalars import some
from sftrl.verify.structure import same
from sftrl.verify.tokens import Unreadable, clean
from sftrl.verify.trees import variables

ANSWER_TYPES = {"integer", "number", "expression", "tuple", "set", "interval", "equation", "matrix", "choice", "text"}

_INTEGER = re.compile(r"[-+]?\d{1,300}")
_SIMPLE = re.compile(
    r"([-+]?)(?:\\[dt]?frac\{(\d{1,300})\}\{(\d{1,300})\}|(\d{1,300})/(\d{1,300})|(\d{0,300}\.?\d{1,300}))"
)
_WRAPPED = re.compile(r"\\(?:text|mbox|textbf|textit|textrm|mathrm|mathbf|textsc|emph|operatorname)\s*\{([^{}]*)\}")
_LETTER = re.compile(r"[(\[]?\s*([A-Za-z])\s*[)\]]?")
_LED = re.compile(
    r"(?:(?i:option|choice|answer)\s*:?\s*)?(?:[(\[]\s*([A-Z])\s*[)\]]|([A-Z])\s*[).:])\s*(.*)"
    r"|(?i:option|choice|answer)\s*:?\s*([A-Z])",
    re.DOTALL,
)
_LABELS = re.compile(r"(?:^|[\s,;)])\(?([A-H])[).:](?=[\s(]|$)")
_WORD = re.compile(r"[^\W\d_]{3,}|^[Nn]o$")
_COMMAND = re.compile(r"\\[A-Za-z]+")
_TIME = re.compile(r"(\d{1,2})\s*:\s*(\d\d)(?:\s*:\s*(\d\d))?\s*(?:([ap])\.?\s*(?:m|\.)?\.?)?", re.IGNORECASE)
_CONDITION = re.compile(r"(?<![\s,;$])[\s,;$]*(?:\\(?:text|mbox|textrm)\s*\{[\s,~]*)?\b(?:where|for)\b.*", re.DOTALL)
MAX_PHRASE = 5  # words whose order says nothing
_STOP = {"all", "the", "a", "an", "is", "are", "of", "for", "to", "be", "it", "at", "on", "in", "numbers", "number"}
# A whole answer in words that is a set.
_PHRASE = re.compile(r"(?:\\(?:text|mbox|textbf|mathrm)\s*\{[A-Za-z $]*\}|[A-Za-z ])+")
_EMPTY = re.compile(
    r"(?:there (?:is|are) )?no (?:real )?solutions?(?: exists?)?|(?:the )?empty(?: ?set)?|none|varnothing"
)
_REALS = re.compile(r"(?:the set of )?(?:(?:all|any) )?real (?:numbers?|x|values(?: of x)?)|(?:all|the) reals")
_BUILDER = re.compile(  # {x : x < 3}
    r"\\\{\s*([A-Za-z])\s*(?:\\in\s*\\mathbb\s*\{?\s*R\s*\}?\s*)?(?:\\mid|\||:)(.*\1.*)\\\}",
    re.DOTALL,
)
_UNREAD = re.compile(r"\\[lcd]?dots|\.\.\.|…|\\underbrace")  # only the same string is equal


@lru_cache(maxsize=8192)
def readings(text: str) -> tuple[tuple, ...]:
    """The trees that a cleaned answer may mean, the likeliest first; empty if it is not in the grammar.

    `a/bc` and `1,234` have two common readings each.
    """
    if _PHRASE.fullmatch(text):
        phrase = " ".join(re.sub(r"\\[a-z]+|[{}$]", " ", text).lower().split())
        if _EMPTY.fullmatch(phrase) or _REALS.fullmatch(phrase):
            return (("empty",) if _EMPTY.fullmatch(phrase) else ("reals",),)
    if builder := _BUILDER.fullmatch(text):
        text = builder[2]
    choices = [(False, False)]
    choices += [(True, False)] if re.search(r"\d,\d{3}(?!\d)", text) else []
    choices += [(False, True)] if "/" in text else []
    trees = []
    for commas, tight in choices:
        with contextlib.suppress(Unreadable, RecursionError):
            trees.append(Parser(text, commas, tight).answer())
    return tuple(dict.fromkeys(trees))


@lru_cache(maxsize=32768)
def compare(
    gold: str,
    answer: str | None,
    kind: str | None = None,
    options: tuple[str, ...] | None = None,
    tolerance: float | None = None,
) -> str:
    """Return the status of an answer. Arguments as in `verify_many`."""
    if not isinstance(gold, str) or not gold.strip() or len(gold) > MAX_LENGTH:
        return "unparseable_gold"
    if kind == "choice":
        return _compare_choice(gold, answer, options)
    if kind == "integer" and not _INTEGER.fullmatch(gold):
        number = _simple(clean(gold).replace(",", ""))
        if number is None or number.denominator != 1:
            return "unparseable_gold"
    if answer is None:
        return "unparseable_response"
    if tolerance is None and _INTEGER.fullmatch(gold) and _INTEGER.fullmatch(answer):
        return _status(int(gold) == int(answer))
    if kind == "text":
        return _status(_text_key(gold) == _text_key(answer))
    gold, answer = clean(gold), clean(answer)
    if not answer:
        return "unparseable_response"
    if gold == answer:
        return "correct"
    number, value = _simple(gold), _simple(answer)
    if number is not None and value is not None and (number == value or tolerance is None):
        return _status(number == value)
    return _compare_read(gold, answer, kind, tolerance)


def _compare_read(gold: str, answer: str, kind: str | None, tolerance: float | None) -> str:
    gold_letter, letter = _letter(gold), _letter(answer)
    if gold_letter and kind is None:
        if letter:
            return _status(gold_letter == letter)
        led = _leading_letter(answer)
        if led and gold_letter.isupper():
            return _status(gold_letter == led)
    if time := _times(gold, halved=True):
        return _status(time == _times(answer, halved=False))
    gold_trees, trees = readings(gold), readings(answer)
    if gold_letter and not gold_trees:  # `A)`, and the answer is no letter
        return "incorrect"
    if gold_trees and trees:
        found = _same_reading(gold_trees, trees, kind, tolerance)
        return "timed_out" if found is None else _status(found)
    # "f(x) = ax + b, where a is any integer": what stands before the words agrees
    heads = [readings(clean(_CONDITION.sub("", text))) for text in (gold, answer)]
    formula = not gold_trees or any(map(variables, heads[1]))  # "7 for sure, or 8" is none
    if formula and _same_reading(*heads, kind, tolerance):
        return "correct"
    if _squeezed(gold) == _squeezed(answer) or (_words(gold) and _text_key(gold) == _text_key(answer)):
        return "correct"
    if gold_trees:
        return "unparseable_response"
    return "incorrect" if _words(gold) or _WRAPPED.fullmatch(gold) or _UNREAD.search(gold) else "unparseable_gold"


def _times(text: str, halved: bool) -> tuple[int, ...] | None:
    """`4:30 p.m.`, or `16:30` where it need not say which half of the day, as hours, minutes and seconds."""
    match = _TIME.fullmatch(_unwrapped(text))
    if match is None or not (match[4] or (int(match[1]) > 12 and not halved)):
        return None  # a bare `4:30` may be a ratio
    hour = int(match[1]) % 12 + 12 * (match[4] in "pP") if match[4] else int(match[1])
    return hour, int(match[2]), int(match[3] or 0)


def _same_reading(golds: tuple, answers: tuple, kind: str | None, tolerance: float | None) -> bool | None:
    """Compare every reading with every reading: one agreement is enough, one doubt is a doubt."""
    return some(same(gold, answer, kind, tolerance) for gold in golds for answer in answers)


def _status(equal: bool) -> str:
    return "correct" if equal else "incorrect"


def _simple(text: str) -> Fraction | None:
    match = _SIMPLE.fullmatch(text)
    if not match:
        return None
    sign, top, bottom, over, under, decimal = match.groups()
    if decimal:
        value = Fraction(decimal)
    elif int(bottom or under):
        value = Fraction(int(top or over), int(bottom or under))
    else:
        return None
    return -value if sign == "-" else value


def _squeezed(text: str) -> str:
    return re.sub(r"(?<!\d)\s+|\s+(?!\d)|\$", "", text)


# -- words and letters


def _unwrapped(text: str) -> str:
    while True:
        inner = _WRAPPED.sub(r" \1 ", text)
        if inner == text:
            return text.replace("$", " ").strip(" {}*_~")
        text = inner


def _letter(text: str) -> str | None:
    """The letter of `(C)`, `C.`, `\\text{C}`; None for anything longer."""
    if len(text) > 40:
        return None
    match = _LETTER.fullmatch(_unwrapped(text).rstrip(".:"))
    return match[1] if match else None


def _leading_letter(text: str, options: tuple[str, ...] = ()) -> str | None:
    """The letter of `C. 5 apples` or `Option C`; None where other options are named too."""
    match = _LED.fullmatch(_unwrapped(text))
    if not match:
        return None
    letter, rest = match[1] or match[2] or match[4], match[3] or ""
    option = options[ord(letter) - ord("A")] if ord(letter) - ord("A") < len(options) else None
    if option is not None and _squeezed(rest) == _squeezed(_unwrapped(clean(option))):
        return letter
    return None if set(_LABELS.findall(rest)) - {letter} else letter


def _words(text: str) -> list[str]:
    return _WORD.findall(_COMMAND.sub(" ", _unwrapped(text)))


def _text_key(text: str) -> tuple[str, ...]:
    plain = _unwrapped(clean(text)).casefold().replace("\\", " ")
    if verdict := re.match(r"\s*(yes|no)\b(?!.*\b(?:yes|no|not|but)\b)(?=\W|$)\s*([,.;]|$)", plain, re.DOTALL):
        return (verdict[1],)  # No, there is none
    words = re.findall(r"\w+|[^\w\s{}]", plain.replace("does not exist", "dne"))
    kept = [word for word in words if word not in _STOP and word not in ".,;:!'\"()"]
    # "odd n" is "n is odd", and letters are a set; but "odd, even" is not "even, odd", nor a formula its anagram
    unordered = all(word.isalpha() for word in kept) and ("," not in words or all(len(word) == 1 for word in kept))
    return tuple(sorted(kept)) if unordered and len(kept) <= MAX_PHRASE else tuple(kept)


# -- choices


def _compare_choice(gold: str, answer: str | None, options: tuple[str, ...] | None) -> str:
    """The gold is a letter; the answer is a letter, a letter with its option, or the option's value."""
    gold_letter = (_letter(clean(gold)) or "").upper()
    index = ord(gold_letter) - ord("A") if gold_letter else -1
    if index < 0 or (options is not None and index >= len(options)):
        return "unparseable_gold"
    if answer is None:
        return "unparseable_response"
    answer = clean(answer)
    letter = _letter(answer) or ""
    if options is not None and not letter.isupper():
        # As written first: `5 and 20` may stand beside `20 and 5`, and `8 + 6` beside `14`, as other options.
        for fold in (str, str.casefold):
            written = [fold(_squeezed(clean(option))) for option in options]
            if fold(_squeezed(answer)) in written:
                return _status(written[index] == fold(_squeezed(answer)))
    letter = letter.upper() or _leading_letter(answer, options or ()) or ""
    if letter and (options is None or ord(letter) - ord("A") < len(options)):
        return _status(letter == gold_letter)
    if options is None:
        return "unparseable_response"
    option = options[index]
    return _status(compare(option, answer) == "correct" or _text_key(option) == _text_key(answer))
