r"""How one published field becomes one of ours: a rule takes the field's value and returns text (or choices).

A rule is named in a column mapping, before the column it reads: `gsm8k:answer` takes the text after `####` in the
column `answer`. A column without a rule is taken as it is. Rules never guess: a value that they cannot read is an
error, and the caller names the row.
"""

import math
import re
import string

from sftrl.verify import extract_answer

BOX = re.compile(r"\\(?:boxed|fbox)")


def text(value: object) -> str:
    """Return the value as text without the space around it; nothing (None, NaN) is the empty string."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return str(value).strip()


def number(value: object) -> str:
    r"""Write a whole number without fraction, leading zeros or degrees: 142.0, "0142", `142^\circ` are all "142".

    Anything else stays as published: "3.5". (A copy of AIME 2025 gives 336 as `336^\circ`.)
    """
    found = re.fullmatch(r"([+-]?)0*(\d+)(?:\.0+)?(?:\^(?:\\circ|{\\circ})|°)?", text(value))
    return found[1].replace("+", "") + found[2] if found else text(value)


def gsm8k(value: object) -> str:
    """Return what follows the last `####`, without the commas that group thousands."""
    solution = text(value)
    answer = solution[solution.rfind("####") + 4 :].strip().replace(",", "")
    if "####" not in solution or not answer:
        raise ValueError("no '#### answer'")
    return answer


def boxed(value: object) -> str:
    r"""Return the content of the last `\boxed{}` or `\fbox{}` of a worked solution."""
    solution = text(value)
    answer = extract_answer(solution) if BOX.search(solution) else None
    if not answer:
        raise ValueError(r"no \boxed{answer}")
    return answer


def joined(value: object) -> str:
    """Join a list of final answers by ", ", as OlympiadBench publishes them; most lists hold one string."""
    if isinstance(value, str):
        return text(value)
    return ", ".join(text(answer) for answer in value)


def first(value: object) -> str:
    """Return the first of a list of texts: of several worked solutions, the first."""
    if isinstance(value, str) or value is None:
        return text(value)
    return text(value[0]) if len(value) else ""


def letter(value: object) -> str:
    """Return the letter of an option: index 2 is "C"; a letter stays."""
    answer = number(value)
    if answer.isdigit() and int(answer) < 26:
        return string.ascii_uppercase[int(answer)]
    if len(answer) == 1 and answer.upper() in string.ascii_uppercase:
        return answer.upper()
    raise ValueError(f"{answer!r} is neither an option's index nor its letter")


def options(value: object) -> list[str] | None:
    """Return a list of options as texts; an empty list is none."""
    return [text(option) for option in value] if value is not None and len(value) else None


def aoval(value: object) -> list[str]:
    """Return TAL-SCQ5K's options in their letters' order; published as `[[{"aoVal": "A", "content": "..."}], ...]`."""
    found = [option for group in value for option in (group if not isinstance(group, dict) else [group])]
    labels = "".join(text(option["aoVal"]) for option in found)
    if labels != string.ascii_uppercase[: len(labels)]:
        raise ValueError(f"options are labelled {labels!r}, not A, B, C ... in order")
    return [text(option["content"]) for option in found]


def user(value: object) -> str:
    """Return the user's part of a conversation published as a list of `{role, content}`; a plain text stays.

    Raises:
        ValueError: the conversation has more than one user turn, so no single prompt stands for it.
    """
    if isinstance(value, str):
        return text(value)
    turns = [text(turn["content"]) for turn in value if turn["role"] == "user"]
    if len(turns) != 1:
        raise ValueError(f"{len(turns)} user turns, where one prompt is wanted")
    return turns[0]


RULES = {rule.__name__: rule for rule in (text, number, gsm8k, boxed, joined, first, letter, options, aoval, user)}
