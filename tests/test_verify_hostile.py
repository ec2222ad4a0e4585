"""Hostile responses and golds: each in its time, the worker in its memory, nothing executed, the rest unharmed."""

import time
from pathlib import Path

import pytest

from sftrl.verify import forget, pool, verify_many
from sftrl.verify.worker import MEMORY

TIMEOUT = 0.5
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
    # sums, products, integrals and limits that math-verify would carry out
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


def test_there_are_many():
    assert len(set(HOSTILE)) >= 150


@pytest.fixture(scope="module")
def start():
    """Seconds that a worker takes to start here and now, with the machine as busy as it is."""
    pool.close()
    begun = time.monotonic()
    assert pool.decide([("1", "1")], 1, 30.0) == ["correct"]
    return time.monotonic() - begun


@pytest.mark.parametrize("role", ["response", "gold"])
def test_each_ends_in_time_and_harms_nobody(role, start, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    forget()
    for text in HOSTILE:
        begun = time.monotonic()
        if role == "response":
            responses, golds = [r"\boxed{1}", rf"\boxed{{{text}}}", r"\boxed{2}"], ["1", "7.25", "3"]
        else:
            responses, golds = [r"\boxed{1}", r"\boxed{7.25}", r"\boxed{2}"], ["1", text, "3"]
        before, verdict, after = verify_many(responses, golds, timeout=TIMEOUT)
        assert time.monotonic() - begun < TIMEOUT + 1.0 + 2 * start, text[:80]  # a killed worker starts again
        assert (before.status, after.status) == ("correct", "incorrect"), text[:80]
        assert not verdict.correct, text[:80]
    assert not list(tmp_path.iterdir())


def test_a_whole_batch_in_order():
    forget()
    texts = [text for text in HOSTILE if len(text) < 60][::3]
    responses = [response for text in texts for response in (rf"\boxed{{{text}}}", r"\boxed{1}", r"\boxed{2}")]
    verdicts = verify_many(responses, ["1"] * len(responses), workers=2, timeout=0.5)
    assert [verdict.status for verdict in verdicts[1::3]] == ["correct"] * len(texts)
    assert [verdict.status for verdict in verdicts[2::3]] == ["incorrect"] * len(texts)


def test_the_worker_ends_what_does_not_return():
    """One big-integer operation is deaf to signals: only killing the process ends it."""
    begun = time.monotonic()
    replies = pool.decide([("1", "9^{9^{9}}"), ("2", "1+1"), ("1", r"\sum_{n=1}^{10^9} n^n"), ("3", "3")], 1, TIMEOUT)
    assert replies == ["timed_out", "correct", "timed_out", "correct"]
    assert time.monotonic() - begun < 60


def test_the_workers_memory_is_bounded():
    assert pool.decide([("1", "1")], 1, 30.0) == ["correct"]
    limits = Path(f"/proc/{pool._workers[0].process.pid}/limits")
    if not limits.exists():
        pytest.skip("the limits of a process are read from /proc")
    line = next(line for line in limits.read_text().splitlines() if line.startswith("Max address space"))
    assert line.split()[3:5] == [str(MEMORY)] * 2
