r"""Find the final answer in a response.

The places where an answer may stand, strongest first: the last complete `\boxed{}` or the `answer` field of a JSON
object, whichever comes later; `<answer>` tags; the last `####` line; the last "the answer is ..." or "Answer: ...";
and, where none of these was written, the last formula, expression or choice letter of the closing lines. Boxes with
nothing but "and", "or", a comma or space between them are one list; with words between them the last one counts. A
response that breaks off before it answers, or in its thoughts, has no answer. Chosen here.
"""

import re

MAX_LENGTH = 2000  # characters of an answer; nobody answers a contest problem with more
MAX_BOXES = 32  # boxes looked at from the end: a response of a million unclosed boxes must cost no more
TAIL = 300  # characters at the end in which an unmarked answer is looked for

_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)
_TOKEN = re.compile(r"[-+]?\d+(?:\.\d+)?|[A-Za-z](?![A-Za-z])")
_BETWEEN = re.compile(r"(?:[\s$,;&]|\\[()\[\],;:! ]|\\\\|\\q?quad|\b(?:and|or)\b|\\text\s*\{\s*,?\s*(?:and|or)?\s*\})*")
_FIELD_START = re.compile(r'"(?:(?:final|correct|my|the|numeric(?:al)?)[ _]?)?answer"\s*:\s*', re.IGNORECASE)
_VALUE = re.compile(r'"((?:[^"\\]++|\\.)*+)"|\[([^\[\]{}]*)\]|([-+.\w/]+)', re.DOTALL)
_ESCAPE = re.compile(r'\\(?:\\|"|/|n(?![a-z])|u([0-9a-fA-F]{4}))')
_TAGGED = re.compile(rf"<answer>(.{{0,{MAX_LENGTH}}}?)</answer>", re.DOTALL)
_KEYWORDS = ("nswer", "ption", "hoice")
_PHRASE = re.compile(
    r"(?:(?:answers?|option|choice)(?:\s+choice)?[*_]*\s+(?:is|are|was|would\s+be|should\s+be|equals)\b|answers?[*_]*\s*[:=])"
    r"[*_]*\s*:?\s*",
    re.IGNORECASE,
)
_LABEL = re.compile(r"A[*_]*\s*:[*_]*\s*")
_CHINESE = re.compile(r"答案(?:是|为|：|:)\s*")
_JOINER = re.compile(r"\s*(?:,\s*(?:and|or)?|and|or)\s*(?=\$|\\\()")
_POINTER = re.compile(r"(?:given |shown |as )?(?:below|follows|the following|here)[.:]*(?=\n|$)", re.IGNORECASE)
_END = re.compile(r"(?:\s*<(?:\|\w+\|?|/s|eos|end_of_turn)>)+\s*$")  # a tokenizer's marks
_FENCE = re.compile(r"```[a-z]*")
# An expression in prose: pieces that touch, joined by signs; two numbers apart are two expressions.
_NUMBER = r"(?:\d+ \d+/\d+|(?:\d{1,3}(?:,\d{3})+(?!\d)|\d{1,3}(?:[ ']\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+)(?:e[-+]?\d+)?"
_NAME = r"(?<![A-Za-z\\])(?:sqrt|log|ln|sin|cos|tan|pi)(?![A-Za-z])"
_PIECE = (
    rf"(?:{_NUMBER}|{_NAME}|\\[A-Za-z]+|(?<![A-Za-z'’])[A-Za-z](?![A-Za-z'’])"
    r"|[πθ∞√|!%°²³½¼¾{}()\[\]^_]|\\?[$€£](?=\.?\d))"
)
_SIGN = r"(?:[-+−–±*/×÷·=<>≤≥≠≈∈∪∩]|!=|\\(?:times|cdot|pm|div|leq?|geq?|approx)\b)"
_JOIN = rf"(?:\s*{_SIGN}+\s*|:|\s:\s|,\s*|\s(?:and|or)\s(?=[-−$\\\d]|[A-Za-z]\s?=))"
_EXPRESSION = re.compile(rf"(?:(?<![\w)])[-+−–±])?{_PIECE}+(?:{_JOIN}[-+−–±]?{_PIECE}+)*")
_CHANGED = re.compile(  # words that make a number another one
    r"\s*(?:(?:\\text\{)?\s*(?:percent|(?:hundred|thousand|dozen|score|lakh|crore|\w*illion|hal(?:f|ve)|third|quarter"
    r"|\w{3,}th)s?|squared|cubed|factorial|pi|or (?:more|fewer|less|so)|and (?:up|more|a half)|if|unless)\b\}?"
    r"|[KkMB]\b(?!\w)|[xyzn](?![\w'’]))"
)
_MORE = re.compile(  # after a formula: another guess or operand
    r"\s*(?:%|(?:or|wrong|times|minus|plus|(?:divided|multiplied) by|mod(?:ulo)?)\b|(?:and|to|over)\s+\d)"
)
# What stands before an expression and makes it no answer: a negation, a comparison, one more operand, a label.
_NO_ANSWER = re.compile(
    r"(?:(?:\b(?:not|never|cannot)|n['’]t)(?:\s+(?:be|equal|to|exactly|just|simply|is|have))*"
    r"|\b(?:than|under|over|near|nearly|almost|except|unless|twice|double|triple|times|plus|minus|negative|log|ln|sin|cos|tan"
    r"|sqrt|base|modulo|mod|per|through|versus|vs|page|step|no)\.?|#|\b(?:divided|multiplied|divisible) by"
    r"|\b(?:any\w*|all|nothing|everything)(?: \w+)? but|(?:half|third|quarter|percent|%|square|cube|root|reciprocal"
    r"|negative|log|multiples?|divisors?|factors?|out)\s+of|\d\s*x|\$\s+(?:and|or)|(?:\d|\bone)(?:\s+(?:to|of))?)\s*[*_$]*\(?$",
    re.IGNORECASE,
)
_FORMULA = re.compile(r"\$\$([^$]+)\$\$|\$([^$\n]+)\$|\\\((.+?)\\\)|\\\[(.+?)\\\]", re.DOTALL)
_CHOICE = re.compile(r"\(([A-J])\)|(?<![A-Za-z0-9'’])([B-HJ])(?![A-Za-z0-9'’])")
_LISTED = re.compile(r"(?<![A-Za-z'’])\(?[A-J]\)?[\s,;/&]+(?:(?:and|or|nor|to)\s+)?(?:option\s+)?$")
_REFUSED = re.compile(r"\)?\s+(?:is|are|was)\s+(?:wrong|incorrect|false|not|ruled|eliminated)")
_OPTION = re.compile(r"[A-J][.)]\s")
_CLAUSE_END = re.compile(
    r"[;，；]|,(?!\d{3})(?=\s+[a-z]{2})|\s(?:because|since|as|but|not|instead|rather|where|which)\b"
)
_SENTENCE_END = re.compile(r"\n|。|[.!?](?=\s|[*_)\"]*$)", re.MULTILINE)
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
        response: what the model wrote. Anything before `</think>` is not part of the answer, nor is a thought that
            was cut off.
    """
    if not isinstance(response, str):
        return None
    if "think>" in response:
        response = response[response.rfind("</think>") + 8 :] if "</think>" in response else response
        response = response.partition("<think>")[0]
    if response.endswith((">", ">\n")):
        response = response[:-TAIL] + _END.sub("", response[-TAIL:])
    box = response.rfind("\\boxed")
    if (value := _after_field(response, box)) >= 0:
        match = _VALUE.match(response, value)
        return _json_value(match) if match else None
    if box >= 0 or "\\fbox" in response:
        boxed = _last_boxes(response)
        if boxed is not None:
            return boxed
        if "\\boxed{" in response[-MAX_LENGTH:]:  # cut off in its box
            return None
    if "<answer>" in response:
        match = _TAGGED.match(response, response.rfind("<answer>"))
        if match and match[1].strip():
            return match[1].strip()
    if "####" in response:
        line = response[response.rfind("####") + 4 :].strip().split("\n", 1)[0].strip()
        if line:
            return line[:MAX_LENGTH]
    after = _last_phrase(response)
    return _closing(response) if after is None else _after_phrase(response[after:])


# -- boxes and fields


def _last_boxes(response: str) -> str | None:
    """The last box that is closed and not empty, with the boxes before it that stand in one list with it."""
    command = "\\boxed" if "\\boxed" in response else "\\fbox"
    found: list[str] = []
    end = begin = len(response)
    for _ in range(MAX_BOXES):
        start = response.rfind(command, 0, end)
        if start < 0:
            break
        inside, after = _box_content(response, start + len(command))
        if found:
            between = response[after:begin] if begin - after < 40 else "apart"
            if not inside or after > begin or not _BETWEEN.fullmatch(between):
                break
        if inside:
            begin = start
            if inside not in found:
                found.append(inside)
        end = start
    return ", ".join(reversed(found)) or None


def _box_content(response: str, start: int) -> tuple[str | None, int]:
    """What stands in a box, and where the box ends; None if it is not closed."""
    window = response[start : start + MAX_LENGTH + 2].lstrip()
    if not window.startswith("{"):  # `\boxed 5`: one token
        match = _TOKEN.match(window)
        return (match[0], start + 1 + match.end()) if match else (None, start)
    depth = 0
    for match in _BRACE.finditer(window):
        depth += (match[0] == "{") - (match[0] == "}")
        if depth == 0:
            return window[1 : match.start()].strip(), response.index("{", start) + match.end()
    return None, start


def _after_field(response: str, box: int) -> int:
    """Where the value of the last `answer` field after the last box begins; -1 if there is none."""
    at = len(response)
    for _ in range(MAX_BOXES):
        at = response.rfind('nswer"', box + 1, at)
        if at < 0:
            break
        if match := _FIELD_START.match(response, response.rfind('"', 0, at)):
            return match.end()
    return -1


def _json_value(match: re.Match) -> str | None:
    """The text of a JSON field, with the backslashes of LaTeX however the model escaped them."""
    text, items, plain = match.groups()
    if text is None:
        value = plain if items is None else items.replace('"', "")
        return None if value in ("null", "None") else value.strip()[:MAX_LENGTH] or None
    value = _ESCAPE.sub(_unescaped, text).strip() if "\\" in text else text.strip()
    if value.count(" ") > 5 and "\\" not in value and not value[0].isdigit():  # a sentence
        after = _last_phrase(value)
        return (_closing(value) if after is None else _after_phrase(value[after:])) or value[:MAX_LENGTH]
    return value[:MAX_LENGTH] or None


def _unescaped(match: re.Match) -> str:
    return chr(int(match[1], 16)) if match[1] else {r"\n": "\n"}.get(match[0], match[0][1])


# -- phrases


def _after_phrase(response: str) -> str | None:
    """What follows "the answer is": a formula, the words to the end of the sentence, or what the response ends with."""
    rest = _FENCE.sub("", response[:MAX_LENGTH]).lstrip("*_`~ \t\n")
    if pointer := _POINTER.match(rest):  # "The answer is below."
        rest = rest[pointer.end() :].lstrip("*_ \t\n")
    formulas, joiner = [], None
    while formula := _FORMULA.match(rest, joiner.end() if joiner else 0):
        formulas.append(_inside(formula).rstrip("."))
        rest = rest[formula.end() :]
        if not (joiner := _JOINER.match(rest)):
            break
    if not formulas and rest.startswith(("$$", "\\(", "\\[")):  # cut off in it; a single $ is a price
        return None
    end = _SENTENCE_END.search(rest)
    if formulas:
        more = rest[: end.start() if end else None] if _CHANGED.match(rest) or _MORE.match(rest) else ""
        return (", ".join(formulas) + more)[:MAX_LENGTH] or None
    sentence = (rest[: end.start()] if end else rest).strip(' \t*_`"')
    if sentence.startswith("not "):
        return _closing(rest[end.end() :]) if end else None
    if not end and _is_cut_off(sentence):
        return None
    if len(sentence.split()) <= 4 and not _is_cut_off(sentence) and not _CLAUSE_END.search(sentence):
        return sentence or None
    leading = re.match(r"\s*(\([A-J]\)|[B-HJ](?![\w'’]))", sentence)
    if leading:
        return leading[1]
    clause = _CLAUSE_END.split(sentence, maxsplit=1)[0]
    if leading := _EXPRESSION.match(clause):
        return _with_change(clause, leading)
    return _closing(clause) or _closing(sentence) or _closing(response)


def _last_phrase(response: str) -> int | None:
    """Where the last "the answer is" ends. Plain searches first: a regular expression over a whole response is slow."""
    found = -1
    for keyword in _KEYWORDS:
        at = len(response)
        for _ in range(MAX_BOXES):
            at = response.rfind(keyword, 0, at)
            if at <= found:
                break
            if match := _PHRASE.match(response, at - 1):
                found = match.end()
                break
    if "ANSWER" in response and (match := _PHRASE.match(response, response.rfind("ANSWER"))):
        found = max(found, match.end())
    at = response.rfind("A:")
    if at > found and (at == 0 or response[at - 1] == "\n") and (match := _LABEL.match(response, at)):
        found = match.end()
    if not response.isascii() and (match := _CHINESE.search(response, max(found, response.rfind("答案")))):
        found = match.end()
    return found if found >= 0 else None


def _is_cut_off(text: str) -> bool:
    word = text[text.rfind(" ") + 1 :]
    return text[-1:] in _OPEN_SIGNS or (word.lower() in _OPEN_WORDS and word != "A")  # A may be the choice


# -- no marker at all


def _closing(response: str) -> str | None:
    """The last formula, expression or choice letter of the closing lines, unless the response was cut off there."""
    tail = response[-TAIL:].rstrip()
    tail = tail[tail.rfind("\n\n") + 1 :].strip()
    bare = tail.rstrip("*_` ")
    if not bare or _is_cut_off(bare):
        return None
    if "<<" in tail:  # GSM8K's calculator notes
        tail = re.sub(r"<<[^<>]*>>", "", tail)
    *others, line = tail.split("\n")
    if _OPTION.match(line):  # `C. 7`, and no list of all of them
        return None if any(map(_OPTION.match, others)) else line
    found = formula = None
    if "$" in tail or "\\" in tail:
        formula = next(iter([*_FORMULA.finditer(tail)][-1:]), None)
    start = formula.end() if formula else 0
    for line in reversed(tail[start:].split("\n")):
        found = next((m for m in reversed([*_EXPRESSION.finditer(line)]) if any(map(str.isdigit, m[0]))), None)
        if found:
            led = "=" not in found[0] and _NO_ANSWER.search(line, max(0, found.start() - 40), found.start())
            return None if led else _with_change(line, found)
    if formula and not _NO_ANSWER.search(tail, max(0, formula.start() - 40), formula.start()):
        return _inside(formula).rstrip(".,") or None
    return None if formula else _closing_letter(tail)


def _closing_letter(tail: str) -> str | None:
    """The last choice letter, unless it is one of several or refused."""
    letter = next(iter([*_CHOICE.finditer(tail)][-1:]), None)
    if letter is None:
        return tail[0] if re.fullmatch(r"[A-Ja-j][).]?", tail) else None
    before = tail[: letter.start()]
    if _LISTED.search(before) or _NO_ANSWER.search(before) or _REFUSED.match(tail, letter.end()):
        return None
    return letter[1] or letter[2]


def _inside(formula: re.Match) -> str:
    return next(group for group in formula.groups() if group).strip()


def _with_change(line: str, match: re.Match) -> str:
    """An expression without what leads to it (`5 + 4 = 9` is 9), with a word that changes its value (`5 million`)."""
    text = match[0]
    changed = _CHANGED.match(line, match.end())
    if text.count("=") == 1 or ("=" in text and " or " not in text and " and " not in text and "," not in text):
        text = text[text.rfind("=") + 1 :]
    lacking = sum(map(text.count, ")]}")) - sum(map(text.count, "([{"))  # a bracket of the prose
    text = text.rstrip(")]}") if lacking > 0 else text.lstrip("([{") if lacking < 0 else text
    return (text + (changed[0] if changed else "")).strip()
