r"""Decide whether a response gives the gold answer: exactly, fast, and within limits of time and memory.

    verify(r"... so the total is \boxed{1,234}.", "1234")     # True
    verify_many(responses, golds, answer_types="integer")     # one Verdict each, in order

The answer is found (`extract`), then compared (`exact`): as text, as numbers, or as what one strict grammar reads. What
is not read, or not decided within the limits of exact arithmetic, is never correct. Each distinct pair is decided once.
Store `VERIFIER_VERSION` with every grade: the choice of verifier moves scores by points.
"""

import math
from collections.abc import Sequence
from decimal import Decimal
from numbers import Integral, Real
from typing import Literal, NamedTuple

from sftrl.errors import InputError
from sftrl.verify.exact import ANSWER_TYPES, compare, readings
from sftrl.verify.extract import extract_answer
from sftrl.verify.trees import kinds, symbols
from sftrl.verify.units import read_unit

__all__ = ["VERIFIER_VERSION", "Verdict", "extract_answer", "forget", "verify", "verify_many"]

VERIFIER_VERSION = "sftrl-5"

Status = Literal["correct", "incorrect", "unparseable_response", "unparseable_gold", "timed_out"]


class Verdict(NamedTuple):
    """How a response was judged.

    `status` says it: `timed_out` is a pair that is read and not decided, since the limits of exact arithmetic were
    reached. `answer` is what was taken for the final answer, None if nothing was. A Verdict is true if the answer is
    correct.
    """

    status: Status
    answer: str | None

    @property
    def correct(self) -> bool:
        return self.status == "correct"

    def __bool__(self) -> bool:
        return self.status == "correct"


def verify(
    response: str,
    gold: str,
    *,
    answer_type: str | None = None,
    choices: Sequence[str] | None = None,
    tolerance: float | None = None,
) -> bool:
    """Say whether the response's final answer equals the gold answer.

    Arguments as in `verify_many`, for one pair.

    Raises:
        InputError: if the gold answer cannot be read. That is an error of the data and no fault of the response.
    """
    verdict = verify_many([response], [gold], answer_types=answer_type, choices=[choices], tolerance=tolerance)[0]
    if verdict.status == "unparseable_gold":
        raise InputError(f"gold answer {gold!r} cannot be read as {answer_type or 'an answer'}")
    return verdict.correct


def verify_many(
    responses: Sequence[str],
    golds: Sequence[str],
    *,
    answer_types: str | Sequence[str | None] | None = None,
    choices: Sequence[Sequence[str] | None] | None = None,
    tolerance: float | Sequence[float | None] | None = None,
) -> list[Verdict]:
    """Judge many responses, in order. It never hangs, and no content of the input makes it raise.

    Args:
        responses: what the model wrote, one a pair.
        golds: gold answers, one a pair; a number of Python or numpy is taken as it is printed.
        answer_types: `integer number expression tuple set interval equation matrix choice text` or None (inferred
            from the gold answer); one for all pairs, or one a pair.
        choices: the options of a multiple-choice problem, one list (or None) a pair; its gold is the letter.
        tolerance: relative tolerance for numbers, for benchmarks that define one; one for all pairs, or one a pair.
            None is exact.

    Raises:
        InputError: if the lengths differ, an answer type is unknown, or a tolerance is negative or no number.
    """
    n = len(responses)
    if answer_types is None or isinstance(answer_types, str):
        answer_types = [answer_types] * n
    answer_types = [None if kind != kind else kind for kind in answer_types]  # pandas writes None as NaN
    if choices is None:
        choices = [None] * n
    tolerances = [tolerance] * n if tolerance is None or isinstance(tolerance, Real) else tolerance
    given = {"golds": golds, "answer_types": answer_types, "choices": choices, "tolerances": tolerances}
    for name, values in given.items():
        if len(values) != n:
            raise InputError(f"{n} responses, but {len(values)} {name}")
    for kind in set(answer_types) - ANSWER_TYPES - {None}:
        raise InputError(f"answer type {kind!r} is none of {', '.join(sorted(ANSWER_TYPES))}")
    for allowed in tolerances if tolerances is tolerance else [tolerance]:
        if allowed is not None and (not isinstance(allowed, Real) or allowed < 0 or allowed == math.inf):
            raise InputError(f"tolerance {allowed!r} is no relative tolerance: a number of 0 or more")

    verdicts = []
    pairs = zip(responses, golds, answer_types, choices, tolerances, strict=True)
    for response, gold, kind, options, allowed in pairs:
        answer = extract_answer(response)
        if not isinstance(gold, str):
            gold = _written(gold)
        if options is not None:
            options = None if isinstance(options, float) else tuple(map(str, options))
        if allowed is not None:  # pandas writes None as NaN
            allowed = float(allowed) if allowed == allowed else None
        verdicts.append(Verdict(compare(gold, answer, kind, options, allowed), answer))
    return verdicts


def _written(gold: object) -> str | None:
    """A table's number as text, of Python or numpy; None for what is no gold answer, as NaN."""
    if isinstance(gold, bool):
        return None
    if isinstance(gold, Integral):
        return str(int(gold))
    return str(gold) if isinstance(gold, Real | Decimal) and math.isfinite(gold) else None


def forget() -> None:
    """Empty the memory of what was decided before: some 100 MB at most, and what makes a second run fast."""
    for cache in (compare, readings, symbols, kinds, read_unit):
        cache.cache_clear()
