"""How every answer of the labelled table is read, and how it stands to its neighbours' golds, is what it was.

The labels say what is right for 2,430 pairs. This holds what they leave open, most of all the trees that answers are
read as: a change of one that turns no label yet shows here, by the answer's name.
"""

import json
from itertools import groupby
from pathlib import Path

import golden

from sftrl.files import hash_value
from sftrl.verify import verify_many
from sftrl.verify.exact import readings
from sftrl.verify.extract import extract_answer

TABLE = Path(__file__).parent / "data" / "verify_cases.jsonl"
NEAR = 12  # neighbours in the table whose golds an answer is held against


def made() -> dict:
    """Digests of what is read, by text, and by phenomenon the status of each answer against the golds around it."""
    cases = [json.loads(line) for line in TABLE.read_text().splitlines()]
    texts = {case["gold"] for case in cases} | {extract_answer(case["response"]) for case in cases}
    judged = {}
    for phenomenon, group in groupby(cases, lambda case: case["phenomenon"]):
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
        judged[phenomenon] = judged.get(phenomenon, "") + letters
    read = {text: hash_value(repr(readings(text)))[:8] for text in sorted(filter(None, texts))}
    return {"read": read, "judged": judged}


def test_no_answer_is_read_or_judged_otherwise_than_before():
    now = golden.plain(made())
    assert len(now["read"]) > 2000
    assert set("".join(now["judged"].values())) >= set("cirg")
    assert not golden.differences(golden.read("verify"), now)[:20]
