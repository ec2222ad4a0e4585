"""The verifier's promises to its callers: the labelled table, statuses, order, threads, processes, a light import."""

import json
import math
import multiprocessing
import subprocess
import sys
import threading
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from sftrl.errors import InputError
from sftrl.files import hash_value
from sftrl.stages.manifest import module_code
from sftrl.verify import VERIFIER_VERSION, extract_answer, forget, verify, verify_many

TABLE = Path(__file__).parent / "data" / "verify_cases.jsonl"
CASES = [json.loads(line) for line in TABLE.read_text().splitlines()]
# It takes a thousand digits to tell these two apart.
NEAR = r"\boxed{(2+\sqrt3)^{400}}", r"(2+\sqrt3)^{400}+(2-\sqrt3)^{400}"


def test_table_is_large_and_balanced():
    right = sum(case["expected"] for case in CASES)
    assert len(CASES) >= 1200
    assert len(CASES) - right >= len(CASES) / 2
    assert right >= 600
    assert len({json.dumps(case, sort_keys=True) for case in CASES}) == len(CASES)


@pytest.mark.parametrize("phenomenon", sorted({case["phenomenon"] for case in CASES}))
def test_labelled_table(phenomenon):
    cases = [case for case in CASES if case["phenomenon"] == phenomenon]
    judged = [
        verify(
            case["response"],
            case["gold"],
            answer_type=case.get("answer_type"),
            choices=case.get("choices"),
            tolerance=case.get("tolerance"),
        )
        for case in cases
    ]
    wrong = [case for case, correct in zip(cases, judged, strict=True) if correct != case["expected"]]
    assert not wrong


@pytest.mark.parametrize(
    ("response", "gold", "kind", "status"),
    [
        (r"\boxed{4}", "4", None, "correct"),
        (r"\boxed{5}", "4", None, "incorrect"),
        ("I do not know", "4", None, "unparseable_response"),  # no answer at all
        (r"\boxed{\text{I cannot say}}", "4", None, "unparseable_response"),  # an answer that is none
        (r"\boxed{4}", "", None, "unparseable_gold"),
        (r"\boxed{4}", None, None, "unparseable_gold"),
        (r"\boxed{4}", "4.5.6", "integer", "unparseable_gold"),
        (r"\boxed{4}", "x+1", "integer", "unparseable_gold"),  # AIME golds are integers
        (r"\boxed{4}", "12", "choice", "unparseable_gold"),  # the gold of a choice is its letter
        (r"\boxed{4}", r"\frac{1}{", None, "unparseable_gold"),
        (r"\boxed{4}", "4.5", "integer", "unparseable_gold"),
        (r"\boxed{1234}", "1,234", "integer", "correct"),
        (r"\boxed{142}", 142.0, "integer", "correct"),  # a table's float
        (r"\boxed{4}", float("nan"), None, "unparseable_gold"),  # a table's missing value
        (r"\boxed{142}", np.float64(142.0), "integer", "correct"),
        (r"\boxed{4}", np.int64(4), None, "correct"),
        (r"\boxed{5}", np.int8(4), None, "incorrect"),
        (r"\boxed{0.1}", np.float32(0.1), None, "correct"),  # as it is printed
        (r"\boxed{1/3}", Fraction(1, 3), None, "correct"),
        (r"\boxed{4}", np.float64("inf"), None, "unparseable_gold"),
        (r"\boxed{4}", ["4"], None, "unparseable_gold"),
        (None, "4", None, "unparseable_response"),  # a missing response
        (r"\boxed{9^{9^{9^{9}}}}", "4", None, "timed_out"),  # nobody can compute it
        (r"\boxed{x}", r"\sqrt{x^2}", None, "timed_out"),  # equal for positive x only
        # unread on purpose: see docs/verification.md
        (r"\boxed{\int_0^1 2x\,dx}", "1", None, "unparseable_response"),
        (r"\boxed{1}", r"\int_0^1 2x\,dx", None, "unparseable_gold"),
        (r"\boxed{\int_0^1 2x\, dx}", r"\int_0^1 2x\,dx", None, "correct"),  # written as the gold is
        (r"\boxed{]0, 1[}", "(0, 1)", None, "unparseable_response"),
        (r"\boxed{3 \pmod 7}", "3", None, "unparseable_response"),
        (r"\boxed{3,14}", "3.14", None, "incorrect"),  # a list
    ],
)
def test_status(response, gold, kind, status):
    verdict = verify_many([response], [gold], answer_types=kind)[0]
    assert verdict.status == status
    assert verdict.correct == bool(verdict) == (status == "correct")


def test_unreadable_gold_is_an_error_that_names_it():
    with pytest.raises(InputError, match=r"'x\+1'.*integer"):
        verify(r"\boxed{4}", "x+1", answer_type="integer")


@pytest.mark.parametrize(
    "arguments",
    [
        {"golds": ["1", "2"]},
        {"answer_types": ["integer", None]},
        {"choices": [None, None]},
        {"answer_types": "integre"},  # a misspelt type must not quietly mean "infer"
        {"tolerance": -0.1},
        {"tolerance": [-0.1]},
        {"tolerance": math.inf},
        {"tolerance": "0.1"},
    ],
)
def test_slips_of_the_caller_are_errors(arguments):
    with pytest.raises(InputError):
        verify_many([r"\boxed{1}"], **{"golds": ["1"], **arguments})


@pytest.mark.parametrize("tolerance", [0.01, np.float32(0.01), np.float64(0.01), np.array([0.01, 0.01])])
def test_tolerances_of_python_and_numpy(tolerance):
    for answers in (("100.5", "102"), ("10050", "10200")):  # whole numbers too
        gold = "100" if "." in answers[0] else "10000"
        verdicts = verify_many([rf"\boxed{{{answer}}}" for answer in answers], [gold] * 2, tolerance=tolerance)
        assert [verdict.correct for verdict in verdicts] == [True, False]


def test_a_wrong_answer_does_not_make_the_gold_unreadable():
    for gold in (
        r"0.\overline{3}",
        r"\frac{12}{5,525}",
        "No.",
        r"\text{A,B}",
        "16\\\\\n\\noindent",
        "$5.$",
        r"9\text{ a.m.}",
    ):
        assert verify_many([r"\boxed{77}"], [gold])[0].status == "incorrect", gold
        assert verify_many([rf"\boxed{{{gold}}}"], [gold])[0].status == "correct", gold


@pytest.mark.parametrize("kind", [None, "set", "tuple", "interval"])
@pytest.mark.parametrize("text", [r"\infty, 5", r"\{\infty\}", r"(\infty)(2)", "2^" * 300 + "2", r"\sqrt" * 390 + "2"])
def test_no_shape_of_an_answer_raises(text, kind):
    for gold in (r"\infty", "0", "(1, 2)", text):
        statuses = {verdict.status for verdict in verify_many([rf"\boxed{{{text}}}"], [gold], answer_types=kind)}
        assert statuses <= {"correct", "incorrect", "timed_out", "unparseable_response", "unparseable_gold"}


def test_options_and_golds_of_other_types():
    assert verify(r"\boxed{4}", "B", answer_type="choice", choices=[3, 4])
    assert verify(r"\boxed{4.5}", Decimal("4.50"))
    assert verify_many(["1"], [True])[0].status == "unparseable_gold"


def test_choice_beyond_the_options_is_an_unparseable_gold():
    verdicts = verify_many(["A"] * 2, ["E", "B"], answer_types="choice", choices=[["1", "2"]] * 2)
    assert [verdict.status for verdict in verdicts] == ["unparseable_gold", "incorrect"]


def test_order_of_a_mixed_batch():
    responses = [r"\boxed{1}", NEAR[0], r"\boxed{9^{9^{9^9}}}", "nothing here", r"\boxed{2}", r"\boxed{\sum_{k=1}^3 k}"]
    verdicts = verify_many(responses, ["1", NEAR[1], "7", "1", "1", "6"])
    assert [verdict.status for verdict in verdicts] == [
        "correct",
        "incorrect",
        "timed_out",
        "unparseable_response",
        "incorrect",
        "unparseable_response",
    ]
    assert [verdict.answer for verdict in verdicts[2:4]] == ["9^{9^{9^9}}", None]


def test_threads():
    """Each thread computes with its own precision."""
    found = {}

    def judge(k):
        forget()
        found[k] = verify_many(
            [NEAR[0], rf"\boxed{{(1+\sqrt2)^{{{k}}}}}", r"\boxed{\sqrt{8}}"], [NEAR[1], "1", r"2\sqrt2"]
        )

    threads = [threading.Thread(target=judge, args=(k,)) for k in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert {k: [v.correct for v in verdicts] for k, verdicts in found.items()} == {
        k: [False, k == 0, True] for k in range(8)
    }


def _judge_in_child(connection):
    connection.send([v.status for v in verify_many([NEAR[0], r"\boxed{1}"], [NEAR[1], "1"])])


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_processes(method):
    assert not verify(*NEAR)
    context = multiprocessing.get_context(method)
    ours, theirs = context.Pipe()
    child = context.Process(target=_judge_in_child, args=(theirs,))
    child.start()
    assert ours.poll(120)
    assert ours.recv() == ["incorrect", "correct"]
    child.join(30)
    assert child.exitcode == 0


def test_import_is_light():
    code = (
        "import sys; from sftrl.verify import verify_many; assert verify_many([r'\\boxed{1}'], ['1'])[0].correct;"
        "heavy = {'torch', 'sympy', 'math_verify', 'mpmath', 'transformers'} & set(sys.modules);"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_version_is_a_short_string():
    assert isinstance(VERIFIER_VERSION, str)
    assert 0 < len(VERIFIER_VERSION) < 20


@pytest.mark.parametrize(
    ("response", "answer"),
    [
        (r"so \boxed{18}.", "18"),
        (r"\boxed{3} no wait \boxed{7}", "7"),  # a correction, however close
        (r"\boxed{\frac{1}{\sqrt{2}}}", r"\frac{1}{\sqrt{2}}"),
        (r"\boxed{\{1,2\}}", r"\{1,2\}"),  # escaped braces do not nest
        (r"\boxed{\boxed{7}}", "7"),
        (r"\boxed{7} and then \boxed{", "7"),  # the open box was not an answer yet
        (r"so \boxed{12", None),
        ("The answer is (C).", "(C)"),
        ("The answer is $x=1$ or $x=2$.", "x=1, x=2"),
        ("A: 18", "18"),
        ("#### -3", "-3"),
        ("The total is 3.14.", "3.14"),
        ("<think>maybe 5</think>", None),
        ("<think>so 5", None),
        (r"<think>so \boxed{5} and", None),  # a thought that was cut off
        (r"<think>\boxed{4}</think> \boxed{5}", "5"),
        (r"\boxed{3} and \boxed{-2}", "3, -2"),
        (r"$\boxed{3}$,\quad $\boxed{-2}$", "3, -2"),
        (r"\boxed{3} \boxed{3}", "3"),
        (r"\boxed{3}, but the second is \boxed{-2}", "-2"),
        ('```json\n{"answer": "4"}\n```', "4"),
        ('{"answer": "\\\\frac{1}{2}"}', r"\frac{1}{2}"),
        ('{"answer": "\\frac{1}{2}"}', r"\frac{1}{2}"),
        ('{"answer": [1, 2]}', "1, 2"),
        ('{"reasoning": "\\\\boxed{3}", "answer": 4}', "4"),
        ('{"answer": "4"} so \\boxed{5}', "5"),
        ('{"answer": "12', None),  # cut off
        ("The answer is below.\n\n42", "42"),
        ("The answer is for sure D, it can't be A or B", "D"),
        ("The answer is not B. It is D.", "D"),
        ("答案是5", "5"),
        ("比例为13/28", "13/28"),
        ("It costs $1,000.99", "$1,000.99"),
        (r"so \frac{10}{9}", r"\frac{10}{9}"),
        ("so x = 1 or x = 2", "x = 1 or x = 2"),
        ("They meet at (2, 5).", "(2, 5)"),
        ("5 * 3 = 15", "15"),
        ("It weighs 5 million tons", "5 million"),
        ("Then we add 4 and", None),
        ("", None),
    ],
)
def test_extract_answer(response, answer):
    assert extract_answer(response) == answer


@pytest.mark.digest
def test_the_version_is_that_of_this_code():
    """Grades carry the version, and runs graded by two are not compared: code that can change a verdict has another.

    Change `VERIFIER_VERSION` if a verdict can change, and then the digest here.
    """
    code = {
        path.name: module_code(path)
        for path in sorted((Path(__file__).parent.parent / "sftrl" / "verify").glob("*.py"))
    }
    assert (VERIFIER_VERSION, hash_value(code)) == ("sftrl-5", "593c0b87392937c6")
