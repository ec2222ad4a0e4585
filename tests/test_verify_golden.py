"""How every answer of the labelled table is read, whole and damaged, and how it stands to its neighbours' golds.

The labels say what is right for 2,430 pairs. This holds what they leave open, most of all the trees and values that
answers are read as: a change of one that turns no label yet shows here, by the answer's name.
"""

import re
from collections.abc import Callable
from fractions import Fraction
from itertools import groupby, product

import golden
from mpmath import nstr
from test_verify import CASES

from sftrl.files import hash_value
from sftrl.verify import verify_many
from sftrl.verify.exact import compare, readings
from sftrl.verify.extract import extract_answer
from sftrl.verify.tokens import clean
from sftrl.verify.trees import variables
from sftrl.verify.values import NoValue, TooLarge, exact, measured

NEAR = 12  # neighbours in the table whose golds an answer is held against
# What an answer may stand in: each is put into two of them, picked by its text.
AROUND = re.split(
    r" *\| *|\n",
    r"""@ cm | @ \text{ square feet} | @ m/s^2 | @^2 | @_{3} | @\% | \frac{@}{7} | \sqrt[3]{@} | (@, 1) | [@, 2; 3, 4]
@ \pm 1 | x = @ | x \in @ | \{@\} | @ \cup [1,2] | @ apples | @ cups of flour | @ \text{ hundred} | \log_{2} @ | @!
\sin^{-1} @ | \binom{@}{2} | \lvert @\rvert | \lfloor @ \rfloor | @ : 3 | @ \times 10^{3} | -@ | 1@ | @ or 5 | @ and 5
@, @ | @ < x < 5 | @ \pmod 5 | 0.@ | @.5 | @\overline{3} | \begin{pmatrix} @ & 1 \\ 2 & 3 \end{pmatrix} | @\frac12
\$@ | @^\circ | f(x) = @ + x | @ for x > 0 | @ red pens in all | e^{@}""",
)


def digest(value: object) -> str:
    return hash_value(repr(value))[:6]


def damaged(text: str) -> list[str]:
    """The text with one character less, at a place of its own, cut short, and twice in a row."""
    place = int(digest(text), 16) % max(len(text), 1)
    return [text[:place] + text[place + 1 :], text[:place], f"{text} {text}", f"{text}; {text[::-1]}"]


def around(text: str, other: str) -> tuple[str, str]:
    """Two texts that hold this one; which two, the other text says."""
    first, second = (AROUND[(int(digest(other), 16) // k) % len(AROUND)] for k in (1, len(AROUND)))
    return first.replace("@", text), second.replace("@", text)


def valued(work: Callable, tree: tuple) -> str:
    """A tree's value where each of its variables is a number of its own, or what hinders it."""
    point = {name: Fraction(i + 2) for i, name in enumerate(sorted(variables(tree)))}
    try:
        value = work(tree, point)
    except (NoValue, TooLarge) as error:
        return type(error).__name__
    # Exact values have thousands of digits; of a Fraction the hash is the same everywhere.
    return str(hash(value)) if work is exact else f"{nstr(value[0], 9)} {value[1]}"


def read(text: str) -> str:
    """Digests of what a text is read as, of its values, and of what it is read as when damaged or part of another."""
    trees = readings(clean(text))
    more = [readings(clean(part)) for part in (*damaged(text), *around(text, text))]
    values = [valued(work, tree) for found in (trees, *more[-2:]) for tree in found for work in (exact, measured)]
    return " ".join(map(digest, (trees, values, more)))


def made() -> dict:
    """What is read by text; by phenomenon what is extracted, and each answer's status against the golds around it."""
    texts = {case["gold"] for case in CASES} | {extract_answer(case["response"]) for case in CASES}
    judged: dict[str, str] = {}
    extracted: dict[str, list] = {}
    for phenomenon, group in groupby(CASES, lambda case: case["phenomenon"]):
        alike = list(group)
        pairs = [(one, other) for i, one in enumerate(alike) for other in alike[max(0, i - NEAR) : i + NEAR]]
        found = verify_many(
            [one["response"] for one, _ in pairs],
            [other["gold"] for _, other in pairs],
            answer_types=[other.get("answer_type") for _, other in pairs],
            choices=[other.get("choices") for _, other in pairs],
            tolerance=[other.get("tolerance") for _, other in pairs],
        )
        letters = "".join(verdict.status.removeprefix("unparseable_")[0] for verdict in found)
        for one in alike:  # gold and answer in the same two, and crosswise
            gold, answer = one["gold"], extract_answer(one["response"]) or ""
            pairs = product(around(gold, gold), around(answer, gold))
            within = [compare(*pair, None, None, one.get("tolerance")) for pair in pairs]
            letters += "".join(status.removeprefix("unparseable_")[0] for status in within)
        judged[phenomenon] = judged.get(phenomenon, "") + letters
        answers = [[extract_answer(part) for part in damaged(case["response"])] for case in alike]
        extracted.setdefault(phenomenon, []).extend(map(digest, answers))
    kept = {text: read(text) for text in sorted(filter(None, texts))}
    return {"read": kept, "extracted": extracted, "judged": judged}


def test_no_answer_is_read_or_judged_otherwise_than_before():
    now = golden.plain(made())
    assert len(now["read"]) > 2000
    assert set("".join(now["judged"].values())) >= set("cirg")
    assert not golden.changed("verify", now)
