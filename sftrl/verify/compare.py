"""Compare an answer with the gold answer: sure words only."""

import re

_INTEGER = re.compile(r"[-+]?\d{1,300}")


def compare(gold, answer, kind=None, options=None, tolerance=None):
    """The status, or None if not sure."""
    if not isinstance(gold, str) or not gold.strip():
        return "unparseable_gold"
    if answer is None:
        return "unparseable_response"
    if gold == answer:
        return "correct"
    if _INTEGER.fullmatch(gold) and _INTEGER.fullmatch(answer):
        return "correct" if int(gold) == int(answer) else "incorrect"
    return None
