"""The verifier on real benchmarks and responses, kept beside a developer's checkout only.

`data/verify_golds.csv` lists every benchmark answer that the grammar does not read, with the reason;
`data/verify_disagreements.csv` every disagreement with the labels of the real responses, with who is right.
"""

import csv
import json
import re
from pathlib import Path

import pytest

from sftrl.verify import extract_answer, verify_many
from sftrl.verify.exact import readings
from sftrl.verify.tokens import clean

DATA = Path(__file__).parent / "data"


def listed(name: str) -> list[dict[str, str]]:
    with (DATA / name).open(newline="") as file:
        return list(csv.DictReader(file))


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


GOLDS = {
    "math500": ("math500.jsonl", lambda row: row["answer"]),
    "minerva": ("minerva_math.jsonl", lambda row: extract_answer(row["solution"])),
    "olympiad": ("olympiadbench.jsonl", lambda row: ", ".join(row["final_answer"])),
    "gsm8k": ("gsm8k_test.jsonl", lambda row: row["answer"].split("####")[1].strip()),
    "aime24": ("aime24.jsonl", lambda row: row["answer"]),
    "aime": ("aime_1983_2023.json", lambda row: row["answer"]),
    "amc": ("amc.json", lambda row: str(row["answer"])),
    "imo": ("imo_answerbench_v2.csv", lambda row: row["Short Answer"]),
}


def golds(path: Path, answer) -> list[str]:
    if path.suffix == ".csv":
        with path.open(newline="") as file:
            return [answer(row) for row in csv.DictReader(file)]
    rows = lines(path) if path.suffix == ".jsonl" else json.loads(path.read_text())
    return [answer(row) for row in rows]


@pytest.mark.parametrize("benchmark", GOLDS)
def test_golds_are_read_or_listed_and_equal_themselves(shared, benchmark):
    name, answer = GOLDS[benchmark]
    found = golds(shared(f"data/benchmarks/{name}"), answer)
    unread = {gold for gold in found if not readings(clean(gold))}
    assert unread == {row["gold"] for row in listed("verify_golds.csv") if row["benchmark"] == benchmark}
    # spelled another way, so that equal strings do not decide
    spelled = [
        re.sub(r"\\[dt]?frac(?=\{)", r"\\tfrac", gold).replace(r"\left", "").replace(r"\right", "") for gold in found
    ]
    for responses in (found, spelled):
        verdicts = verify_many([rf"so it is $\boxed{{{text}}}$." for text in responses], found)
        assert [gold for gold, verdict in zip(found, verdicts, strict=True) if not verdict.correct] == []


def test_golds_with_a_type_are_read(shared):
    for benchmark in ("aime24", "aime", "amc"):
        name, answer = GOLDS[benchmark]
        found = golds(shared(f"data/benchmarks/{name}"), answer)
        verdicts = verify_many([rf"\boxed{{{gold}}}" for gold in found], found, answer_types="integer")
        assert all(verdicts)


def choices(shared) -> list[tuple[str, list[str]]]:
    tal = lines(shared("data/benchmarks/tal_scq5k_en_test.jsonl"))
    mmlu = lines(shared("data/benchmarks/mmlu_stem.jsonl"))
    return [(row["answer_value"], [o[0]["content"] for o in row["answer_option_list"]]) for row in tal] + [
        ("ABCD"[row["answer"]], row["choices"]) for row in mmlu
    ]


def test_choices_by_letter_and_by_value(shared):
    """Every option of 2,509 problems, named four ways: only the gold one is right, but for options that are alike."""
    rows = []  # response, gold, options, right
    for gold, options in choices(shared)[::2]:
        for letter, option in zip("ABCDEFGHIJ", options, strict=False):
            for text in (letter, f"({letter})", f"{letter}. {option}", option):
                rows.append((rf"\boxed{{{text}}}", gold, options, letter == gold))
    responses, golds, options, _ = zip(*rows, strict=True)
    verdicts = verify_many(responses, golds, answer_types="choice", choices=options)
    wrong = {(row[1], *row[2]) for row, verdict in zip(rows, verdicts, strict=True) if verdict.correct != row[3]}
    assert wrong == {("B", "Error", "aab", "ab", "a ab")}  # alike but for a space


def test_every_disagreement_with_the_labels_is_listed(shared):
    rows = []
    for row in lines(shared("data/generations/qwen_math_cot_100x8.jsonl")):
        rows += [
            (str(row["idx"]), text, row["gt"], label) for text, label in zip(row["code"], row["score"], strict=True)
        ]
    for i, row in enumerate(lines(shared("data/generations/gsm8k_example_model_solutions.jsonl"))):
        gold = row["ground_truth"].rsplit("A:", 1)[1].strip()
        rows += [(f"gsm8k {i}", s["solution"], gold, s["is_correct"]) for s in row.values() if isinstance(s, dict)]
    verdicts = verify_many([row[1] for row in rows], [row[2] for row in rows])
    disagreements = {
        (problem, gold, verdict.answer, str(label), str(verdict.correct))
        for (problem, _, gold, label), verdict in zip(rows, verdicts, strict=True)
        if verdict.correct != label
    }
    assert disagreements == {
        (row["problem"], row["gold"], row["answer"], row["label"], row["ours"])
        for row in listed("verify_disagreements.csv")
    }
