r"""Find the final answer in a response.

The places where an answer may stand, strongest first: the last complete `\boxed{}`; `<answer>` tags; the last `####`
line; the last "the answer is ..." or "Answer: ..."; and, where none of these was written, the last formula, number or
choice letter of the closing lines. Two boxes mean the last one, however close they stand: a correction is not a list.
A response that breaks off before it answers has no answer. Chosen here.
"""

import re

MAX_LENGTH = 2000  # characters of an answer; nobody answers a contest problem with more
MAX_BOXES = 32  # boxes looked at from the end: a response of a million unclosed boxes must cost no more
TAIL = 300  # characters at the end in which an unmarked answer is looked for

_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)
_BOX = re.compile(r"\\f?boxed?\s*")
_TAGGED = re.compile(r"<answer>(.{0,%d}?)</answer>" % MAX_LENGTH, re.DOTALL)
_PHRASE = re.compile(
    r"(?:\b(?:answers?|result|solution|option|choice)(?:\s+choice)?[*_]*\s+(?:is|are|was|would\s+be|should\s+be|equals)\b"
    r"|\banswers?[*_]*\s*[:=]|^[ \t]*[*_]*A[*_]*\s*:)[*_]*\s*:?\s*",
    re.IGNORECASE | re.MULTILINE,
)
_OPENERS = {"$$": "$$", "$": "$", r"\(": r"\)", r"\[": r"\]"}
_JOINER = re.compile(r"\s*(?:,\s*(?:and|or)?|and|or)\s*(?=\$|\\\()")
_NUMBER = (
    r"[-+−]?[$€£]?(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+(?=[^\d.]|\.(?!\d)|$)|\d*\.\d+)(?:e[-+]?\d+)?(?:\s*/\s*\d+)?\s*%?"
)
_LAST_NUMBER = re.compile(rf"(?<![\w.]){_NUMBER}")
_LEADING = re.compile(rf"\s*(\([A-J]\)|[B-HJ](?![\w'’])|{_NUMBER})")
_FORMULA = re.compile(r"\$\$([^$]+)\$\$|\$([^$\n]+)\$|\\\((.+?)\\\)|\\\[(.+?)\\\]", re.DOTALL)
_LETTER = re.compile(r"\(([A-J])\)|(?<![\w'’])([B-J])(?![\w'’])")
_SENTENCE_END = re.compile(r"\n|[.!?](?=\s|[*_)\"]*$)", re.MULTILINE)
# Words that cannot end an English sentence: after one of them the response was cut off.
_OPEN_END = re.compile(
    r"(?:[-+=*/^<>,:;({\[\\&×·]|\b(?:a|an|and|are|as|at|be|because|by|for|from|get|have|if|in|is|let|of|on|or|so|than|that|"
    r"the|then|to|we|where|which|with|times|equals|plus|minus))$",
    re.IGNORECASE,
)


def extract_answer(response: str) -> str | None:
    r"""Return the final answer as written, or None if there is none.

    Args:
        response: what the model wrote. Anything before `</think>` is not part of the answer.
    """
    if not isinstance(response, str):
        return None
    thought = response.rfind("</think>")
    if thought >= 0:
        response = response[thought + 8 :]
    boxed = _last_box(response)
    if boxed is not None:
        return boxed
    if "<think>" in response or "\\boxed{" in response[-MAX_LENGTH:]:  # cut off in its thoughts, or in its box
        return None
    tagged = response.rfind("<answer>")
    if tagged >= 0 and (match := _TAGGED.match(response, tagged)) and match[1].strip():
        return match[1].strip()
    marked = response.rfind("####")
    if marked >= 0 and (line := response[marked + 4 :].strip().split("\n", 1)[0].strip()):
        return line[:MAX_LENGTH]
    return _after_phrase(response) or _closing(response)


def _last_box(response: str) -> str | None:
    """The content of the last box that is closed and not empty."""
    end = len(response)
    for _ in range(MAX_BOXES):
        start = max(response.rfind("\\boxed", 0, end), response.rfind("\\fbox", 0, end))
        if start < 0:
            return None
        inside = _box_content(response, _BOX.match(response, start).end())
        if inside:
            return inside
        end = start
    return None


def _box_content(response: str, start: int) -> str | None:
    if response[start : start + 1] != "{":  # `\boxed 5`: one token
        match = re.compile(r"[-+]?\d+(?:\.\d+)?|[A-Za-z](?![A-Za-z])").match(response, start)
        return match[0] if match else None
    depth = 0
    window = response[start : start + MAX_LENGTH + 2]
    for match in _BRACE.finditer(window):
        if match[0] == "{":
            depth += 1
        elif match[0] == "}":
            depth -= 1
            if depth == 0:
                return window[1 : match.start()].strip()
    return None


def _after_phrase(response: str) -> str | None:
    """What follows the last "the answer is": a formula, or the words to the end of the sentence."""
    found = None
    for match in _PHRASE.finditer(response, max(0, len(response) - 20 * TAIL)):
        found = match
    if found is None:
        return None
    rest = response[found.end() : found.end() + MAX_LENGTH].lstrip("*_ \t\n")
    formulas = []
    while opener := next((opener for opener in _OPENERS if rest.startswith(opener)), None):
        closer = _OPENERS[opener]
        end = rest.find(closer, len(opener))
        if end < 0:
            if opener == "$":  # a price, not a formula
                break
            return None
        formulas.append(rest[len(opener) : end].strip().rstrip("."))
        rest = rest[end + len(closer) :]
        joiner = _JOINER.match(rest)
        if not joiner:
            break
        rest = rest[joiner.end() :]
    if formulas:
        return ", ".join(formulas) or None
    end = _SENTENCE_END.search(rest)
    sentence = rest[: end.start()] if end else rest
    sentence = sentence.strip(' \t*_`"')
    if len(sentence.split()) <= 4 and not _OPEN_END.search(sentence):
        return sentence or None
    leading = _LEADING.match(sentence)
    if leading:
        return leading[1].strip()
    return _closing(sentence)


def _closing(response: str) -> str | None:
    """The last formula, number or choice letter of the closing lines, unless the response was cut off there."""
    tail = response[-TAIL:].rstrip()
    tail = tail[tail.rfind("\n\n") + 1 :].strip()
    bare = tail.rstrip("*_ ")
    if not bare or _OPEN_END.search(bare):
        return None
    formula = number = None
    for formula in _FORMULA.finditer(tail):
        pass
    for number in _LAST_NUMBER.finditer(tail):
        pass
    if formula and not (number and number.start() >= formula.end()):
        return next(group for group in formula.groups() if group).strip().rstrip(".,") or None
    if number:
        return number[0].strip()
    letters = _LETTER.findall(tail) or re.findall(r"^(A)[).]?$()", tail)
    return "".join(letters[-1]) if letters else None
