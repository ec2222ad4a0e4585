"""Hostile responses and golds: each within a second and little memory, nothing executed, the rest unharmed."""

import itertools
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sftrl.verify import forget, verify_many

LIMIT = 1.0  # seconds of CPU time: the machine may be busy
MEGABYTES = 50
CODE = "__import__('os').system('touch PWNED')"

HOSTILE = [
    # numbers too large to compute
    "9^{9^{9}}", "9^{9^{9^9}}", "9^{9^{9^{9^9}}}", "(9^{9})^{9^{9}}", "2004!", "(10^{10})!", "10^{10^{10}}!",
    "((9!)!)!",
    "(((9!)!)!)!", "99999999999!", r"\binom{10^9}{10^8}", r"\binom{9^{9^9}}{3}", "10^{-10^{10}}",
    "2^{2^{2^{2^{2^{2}}}}}",
    "1e999999", "1e-999999", "1E" + "9" * 50, r"\sqrt[10^9]{2}", r"\sqrt[0]{2}", r"\exp(10^{20})", "e^{e^{e^{e^{e}}}}",
    r"\sin(10^{10^{5}})", r"\tan(10^{300})", r"\lfloor 10^{10^{10}}\rfloor", r"\gcd(9^{99999},3)", "5!!!!!!!!",
    "1000000!!",
    r"\frac{1}{9^{9^{9^9}}}", r"9^{9^{9^9}}-9^{9^{9^9}}", "(1+x)^{999999}", "(x+y+z)^{2000}", "x^{x^{x^{x^{99999}}}}",
    "2^{n^{n^{n}}}", r"\log_{1}{2}", r"\log 0", "0^0", "0/0", "1/0", r"\frac{1}{x-x}", r"\tan(\pi/2)", "0^{-1}",
    # sums, products, integrals and limits, which nothing carries out
    r"\sum_{n=1}^{10^{9}} n^{n}", r"\prod_{k=1}^{100000} k!", r"\int_0^1 x^{x^{x}} dx", r"\int \sin(\sin(\sin x)) dx",
    r"\lim_{x\to 0}\sin(1/x)", r"\lim_{n\to\infty} n^{n^{n}}", r"\sum_{n=1}^{\infty} \frac{1}{n^{n}}",
    # long
    "9" * 1_000_000, "1" * 1999, "1" * 5000, "0." + "1" * 1900, "a" * 2000, "x" * 1999, "1" + "+1" * 900,
    "1" + "-(1" * 300,
    ",".join("123456789" * 40), r"\{" + ",".join(f"\\sqrt{{{i}}}" for i in range(150)) + r"\}", " " * 1900 + "1",
    "x^" * 300 + "2", r"\pm" * 100 + "1", "1" + r"\pm 1" * 100, "|x|" * 100, "1/" * 500 + "1",
    "f(" * 200 + "x" + ")" * 200,
    # deep
    "{" * 100_000, "(" * 3000 + "1" + ")" * 3000, "[" * 500 + "1" + "]" * 500, "{" * 900 + "1" + "}" * 900,
    "-" * 1500 + "1",
    r"\frac{" * 5000, r"\sqrt{" * 200 + "2" + "}" * 200, r"\frac{1}{1+" * 60 + "1" + "}" * 60, r"\boxed{" * 300 + "1",
    r"\text{" * 200 + "1" + "}" * 200, "(1,(2," * 100, r"\left(" * 400, "|" * 1000, "2^{" * 200 + "2" + "}" * 200,
    # unclosed and malformed
    r"\begin{pmatrix}", r"\begin{pmatrix} 1 \\", r"\begin{cases} 1 \end{pmatrix}", r"\begin{", r"\end{pmatrix}",
    r"\frac", r"\frac{1}",
    r"\sqrt", r"\sqrt[3]", "^", "_", "x^", "x_", "_{_{_{", "&", "&&&&", "\\", "\\\\", "$", "$$$", "%", "#", "~", "{}",
    "()", "[]",
    r"\left", r"\right)", ")(", "}{", "1}{2", "=", "==", "=5=", "<", ",", ",,,", "1,,2", "and", r"\text{}",
    r"\boxed{}", "x=", "=x",
    # characters
    "\u200b5", "5\u200b", "\u202e5", "\u2066 5\u2069", "\ufeff5", "\x00", "5\x00", "5\x1b[31m", "\ud800", "\udfff5",
    "٣", "５", "𝟓",
    "½", "²", "5²", "∞", "🙂", "５／６", "五", "\u0301" * 500, "é" * 500, "\r\n5", "\t5\v", "\u2028" * 50,
    # code
    CODE, rf"\text{{{CODE}}}", f"eval({CODE!r})", "().__class__.__bases__[0].__subclasses__()", "lambda: 0", "exit()",
    "import os",
    "{{7*7}}", "${7*7}", "`touch PWNED`", "$(touch PWNED)", "'; touch PWNED; '", r"\input{/etc/passwd}",
    r"\write18{touch PWNED}",
    '{"gold": "1"}', '"\n"ready"\n', "\nready\n",
]  # fmt: skip

# Repeated to a megabyte, and not in a box: what is searched for an answer.
REPEATED = [
    "\\", "$", "(", "{", "[", " ", "\n", "*", "-", ".", ",", "½", "9", "A ", "A: ", "1 ", "1.", "1,000", "1e5", "= ",
    "x = ", "((1", "\n\n1", "\\(", "\\boxed{", r"\boxed{1} and ", r"\fbox", r"\frac{1}{", "sqrt", "$1$ ", "$1",
    "The answer is ", "the answer is not ", '"answer": ', '{"answer": "', "nswer", "(A) and ", "<<1", "<think>",
    "</think>", "<answer>", "#### ", "答案", "答案是", "```json\n",
]  # fmt: skip
LED = ["The answer is ", "#### ", "<answer>", '{"answer": "', '{"answer": ', "\\boxed{", "A: ", "答案是", "$", "\\("]


def responses() -> Iterator[str]:
    """A megabyte each."""
    yield from (lead + "9" * 1_000_000 for lead in LED)
    yield from (text * (1_000_000 // len(text)) + end for text in REPEATED for end in ("", "5", "}", '"'))


def near(terms: list[str], joint: str = "+", more: str = "+10^{-300}") -> tuple[str, str]:
    """A gold and an answer that differ by `more`: neither text nor the first digits tell them apart."""
    return joint.join(terms), joint.join(terms[::-1]) + more


ROOTS = [rf"\sqrt{{{n}}}" for n in range(2, 78)]
NAMES = "abcdghjklmnopqrstuvwxyz"
PAIRS = [
    near(ROOTS),
    (", ".join(ROOTS), ", ".join(["1", *ROOTS[:0:-1]])),
    (", ".join(f"x+{root}" for root in ROOTS[:55]), ", ".join(["1", *(f"{root}+x" for root in ROOTS[54:0:-1])])),
    near([f"x+{root}" for root in ROOTS[:50]], ", ", "+y"),
    near(ROOTS[:40], ", ", ", 1"),
    near([rf"\sin({n}x)" for n in range(1, 54)]),
    near([r"(2+\sqrt3)^{1600}", *(rf"\sin({n}x)" for n in range(1, 50))], more=r"+(2-\sqrt3)^{1600}"),
    near([r"(2+\sqrt3)^{400}", *(rf"\sin({n}x)" for n in range(1, 50))], more=r"+(2-\sqrt3)^{400}"),
    near([r"(2+\sqrt3)^{1600}"], more=r"+(2-\sqrt3)^{1600}"),
    near([rf"{n}^x" for n in range(2, 90)]),
    near([f"1/{n}^{{9000}}" for n in range(2, 50)]),
    near([f"1/{n}!" for n in range(4_920, 4_990)]),
    near([f"{n}!" for n in range(4_870, 4_990)]),
    near([rf"\lfloor n/{k}\rfloor" for k in range(2, 60)], more="+0.1"),
    near([rf"\binom{{3n}}{{{k}}}" for k in range(2, 40)]),
    near([rf"\binom{{3x}}{{{k}}}" for k in range(2, 40)]),
    near([rf"\binom{{999n}}{{{k}n}}" for k in range(2, 36)], more="+10^{-300n}"),
    near([f"({k}x/7)!" for k in range(2, 45)]),
    near([f"({k}/7)!" for k in range(2, 45)]),
    near([rf"\sin({n})" for n in range(1, 52)], more="+10^{-450}"),
    near([rf"\sin({n})" for n in range(1, 50)] + [r"1/2\pi"], more="+10^{-450}"),
    near([f"({a}+{b})^{{60}}" for a, b in itertools.pairwise(NAMES)], "*", "+1"),
    near([f"({a}-{b})^{{60}}/({a}^{{50}}+{b})" for a, b in zip(NAMES[:9], NAMES[9:], strict=False)], "+", "=1"),
    near([f"({'+'.join(NAMES)})^{{64}}"], more="+1"),
    near(["(((x+y)^{64}+1)^{64}+1)^{64}=z"], more="+1"),
    near([f"1/({a}^{{60}}+1)" for a in NAMES], more="=1"),
    near([rf"({n}, {root})" for n, root in enumerate(ROOTS[:36], -50)], r" \cup ", r" \cup (80, 81)"),
    near([rf"\{{{', '.join(ROOTS[:70])}\}}"], more=r" \cup (80, 81)"),
    (
        ", ".join([rf"\pm{root}" for root in ROOTS[:56]]),
        ", ".join([*(rf"\pm{root}" for root in ROOTS[55:0:-1]), r"\pm 2"]),
    ),
    near([r"\sqrt{x^2}"] * 60, "", "x"),
    near(["a/bc"] * 60, ", ", ", 1,234"),
    near(["x^{x^{x^{x}}}"]),
]


def test_there_are_many():
    assert len(set(HOSTILE)) >= 150


@pytest.mark.parametrize("role", ["response", "gold"])
def test_each_ends_in_time_and_harms_nobody(role, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    forget()
    for text in HOSTILE:
        begun = time.process_time()
        if role == "response":
            responses, golds = [r"\boxed{1}", rf"\boxed{{{text}}}", r"\boxed{2}"], ["1", "7.25", "3"]
        else:
            responses, golds = [r"\boxed{1}", r"\boxed{7.25}", r"\boxed{2}"], ["1", text, "3"]
        before, verdict, after = verify_many(responses, golds)
        assert time.process_time() - begun < LIMIT, text[:80]
        assert (before.status, after.status) == ("correct", "incorrect"), text[:80]
        assert not verdict.correct, text[:80]
    assert not list(tmp_path.iterdir())


def test_whole_responses_end_in_time():
    forget()
    for text in responses():
        begun = time.process_time()
        (verdict,) = verify_many([text], ["7.25"])
        assert time.process_time() - begun < LIMIT, text[:80]
        assert not verdict.correct, text[:80]


@pytest.mark.parametrize(("gold", "answer"), PAIRS, ids=lambda text: text[:40])
def test_pairs_that_agree_at_first_end_in_time(gold, answer):
    """The gold is read, and the answer is close to it, so that no first glance tells them apart."""
    forget()
    begun = time.process_time()
    (verdict,) = verify_many([rf"\boxed{{{answer}}}"], [gold])
    assert time.process_time() - begun < LIMIT
    assert verdict.status in ("incorrect", "timed_out")


def test_a_whole_batch_in_order():
    forget()
    texts = [text for text in HOSTILE if len(text) < 60][::3]
    responses = [response for text in texts for response in (rf"\boxed{{{text}}}", r"\boxed{1}", r"\boxed{2}")]
    verdicts = verify_many(responses, ["1"] * len(responses))
    assert [verdict.status for verdict in verdicts[1::3]] == ["correct"] * len(texts)
    assert [verdict.status for verdict in verdicts[2::3]] == ["incorrect"] * len(texts)


def test_memory_is_bounded():
    """What a process takes for all of them, beyond what it held before."""
    code = (
        "import resource, sys; from pathlib import Path; from sftrl.verify import verify_many;"
        "from test_verify_hostile import HOSTILE, PAIRS; verify_many([r'\\boxed{\\sqrt 2}'], ['1']);"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss;"
        "before = peak();"
        "verify_many([rf'\\boxed{{{text}}}' for text in HOSTILE], ['7.25'] * len(HOSTILE));"
        "verify_many([rf'\\boxed{{{a}}}' for _, a in PAIRS], [g for g, _ in PAIRS]);"
        "print((peak() - before) / 1024)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, timeout=300, capture_output=True, text=True,
        cwd=Path(__file__).parent, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert float(done.stdout) < MEGABYTES
