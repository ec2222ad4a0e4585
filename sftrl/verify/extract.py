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
_TOKEN = re.compile(r"[-+]?\d+(?:\.\d+)?|[A-Za-z](?![A-Za-z])")
_TAGGED = re.compile(rf"<answer>(.{{0,{MAX_LENGTH}}}?)</answer>", re.DOTALL)
_KEYWORDS = ("answer", "option", "choice")
_PHRASE = re.compile(
    r"(?:(?:answers?|option|choice)(?:\s+choice)?[*_]*\s+(?:is|are|was|would\s+be|should\s+be|equals)\b|answers?[*_]*\s*[:=])"
    r"[*_]*\s*:?\s*",
    re.IGNORECASE,
)
_LABEL = re.compile(r"A[*_]*\s*:[*_]*\s*")
_OPENERS = {"$$": "$$", "$": "$", r"\(": r"\)", r"\[": r"\]"}
_JOINER = re.compile(r"\s*(?:,\s*(?:and|or)?|and|or)\s*(?=\$|\\\()")
_NUMBER = (
    r"[-+−]?[$€£]?(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+(?=[^\d.]|\.(?!\d)|$)|\d*\.\d+)(?:e[-+]?\d+)?(?:\s*/\s*\d+)?\s*%?"
)
_LAST_NUMBER = re.compile(rf"(?<![\w.]){_NUMBER}")
_LEADING = re.compile(rf"\s*(\([A-J]\)|[B-HJ](?![\w'’])|{_NUMBER})")
_FORMULA = re.compile(r"\$\$([^$]+)\$\$|\$([^$\n]+)\$|\\\((.+?)\\\)|\\\[(.+?)\\\]", re.DOTALL)
_LETTER = re.compile(r"\(([A-J])\)|(?<![\w'’])([B-HJ])(?![\w'’])")
_SENTENCE_END = re.compile(r"\n|[.!?](?=\s|[*_)\"]*$)", re.MULTILINE)
# What cannot end an English sentence: after one of these the response was cut off.
_OPEN_SIGNS = frozenset("-+=*/^<>,:;({[\\&×·")
_CONNECTIVES = (
    "a an and are as at be because by for from get have if in is let of on or so than that the then to we where which "
    "with times equals plus minus"
)
_OPEN_WORDS = frozenset(_CONNECTIVES.split())


def extract_answer(response: str) -> str | None:
    r"""Return the final answer as written, or None if there is none.

    Args:
        response: what the model wrote. Anything before `</think>` is not part of the answer.
    """
    if not isinstance(response, str):
        return None
    last = response.rfind("\\boxed")
    if last >= 0:  # nearly every response: the end is looked at, and no more
        inside = _box_content(response, last + len("\\boxed"))
        if inside and response.find("</think>", last) < 0:
            return inside
    if "</think>" in response:
        response = response[response.rfind("</think>") + 8 :]
    boxed = _last_box(response)
    if boxed is not None:
        return boxed
    if "<think>" in response or "\\boxed{" in response[-MAX_LENGTH:]:  # cut off in its thoughts, or in its box
        return None
    if "<answer>" in response:
        match = _TAGGED.match(response, response.rfind("<answer>"))
        if match and match[1].strip():
            return match[1].strip()
    if "####" in response:
        line = response[response.rfind("####") + 4 :].strip().split("\n", 1)[0].strip()
        if line:
            return line[:MAX_LENGTH]
    return _after_phrase(response) or _closing(response)


def _last_box(response: str) -> str | None:
    """The content of the last box that is closed and not empty."""
    command = "\\boxed" if "\\boxed" in response else "\\fbox"
    end = len(response)
    for _ in range(MAX_BOXES):
        start = response.rfind(command, 0, end)
        if start < 0:
            return None
        inside = _box_content(response, start + len(command))
        if inside:
            return inside
        end = start
    return None


def _box_content(response: str, start: int) -> str | None:
    if response.startswith("{", start):
        end = response.find("}", start, start + MAX_LENGTH)
        inside = response[start + 1 : end]
        if end > 0 and "{" not in inside and "\\" not in inside:  # nothing nested, nothing escaped
            return inside.strip()
    window = response[start : start + MAX_LENGTH + 2].lstrip()
    if not window.startswith("{"):  # `\boxed 5`: one token
        match = _TOKEN.match(window)
        return match[0] if match else None
    window = window[1:]
    depth = 1
    for match in _BRACE.finditer(window):
        if match[0] == "{":
            depth += 1
        elif match[0] == "}":
            depth -= 1
            if depth == 0:
                return window[: match.start()].strip()
    return None


def _after_phrase(response: str) -> str | None:
    """What follows the last "the answer is": a formula, or the words to the end of the sentence."""
    found = _last_phrase(response)
    if found is None:
        return None
    rest = response[found : found + MAX_LENGTH].lstrip("*_ \t\n")
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
    if len(sentence.split()) <= 4 and not _is_cut_off(sentence):
        return sentence or None
    leading = _LEADING.match(sentence)
    if leading:
        return leading[1].strip()
    return _closing(sentence)


def _last_phrase(response: str) -> int | None:
    """Where the last "the answer is" ends. Plain searches first: a regular expression over a whole response is slow."""
    found = -1
    lower = response.lower()
    for keyword in _KEYWORDS:
        at = len(lower)
        for _ in range(MAX_BOXES):
            at = lower.rfind(keyword, 0, at)
            if at < found or at < 0:
                break
            if match := _PHRASE.match(response, at):
                found = match.end()
                break
    at = response.rfind("A:")
    if at > found and (at == 0 or response[at - 1] == "\n") and (match := _LABEL.match(response, at)):
        found = match.end()
    return found if found >= 0 else None


def _is_cut_off(text: str) -> bool:
    word = text[text.rfind(" ") + 1 :]
    return text[-1:] in _OPEN_SIGNS or (word.lower() in _OPEN_WORDS and word != "A")  # A may be the choice


def _closing(response: str) -> str | None:
    """The last formula, number or choice letter of the closing lines, unless the response was cut off there."""
    tail = response[-TAIL:].rstrip()
    tail = tail[tail.rfind("\n\n") + 1 :].strip()
    bare = tail.rstrip("*_ ")
    if not bare or _is_cut_off(bare):
        return None
    formula = next(iter([*_FORMULA.finditer(tail)][-1:]), None)
    number = next(iter([*_LAST_NUMBER.finditer(tail)][-1:]), None)
    if formula and not (number and number.start() >= formula.end()):
        return next(group for group in formula.groups() if group).strip().rstrip(".,") or None
    if number:
        return number[0].strip()
    letters = _LETTER.findall(tail) or re.findall(r"^(A)[).]?$()", tail)
    return "".join(letters[-1]) if letters else None
