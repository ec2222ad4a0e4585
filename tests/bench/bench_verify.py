r"""The verifier against math-verify: speed on real responses, and both graders' error rates.

    python tests/bench/bench_verify.py

Speed: both graders judge whole responses on one core, in turn, measured in CPU time; ours starts with empty caches.
Every set of real responses kept beside a developer's checkout is judged, and ZeroEval's answers again in a `\boxed{}`;
a set that is not there is named. Without any, the labelled table stands in. math-verify gets the gold, cleaned, in
`\boxed{}` and its default settings.

Errors: on the labelled table of the tests; on the real responses that have labels, read and corrected; and on pairs
made by rules from benchmark answers: rewritten in ways that keep the value, and with one digit or sign changed.
"""

import gc
import json
import logging
import random
import re
import statistics
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from sftrl.verify import Verdict, extract_answer, forget, verify_many
from sftrl.verify.tokens import clean

ROOT = Path(__file__).resolve().parent.parent.parent
SHARED = ROOT.parent / "shared" / "data"
TABLE = ROOT / "tests" / "data" / "verify_cases.jsonl"
REPEATS = 3
SAMPLES = 256
PAIRS = 1500  # made by rules, of each sort
# Golds whose label in the real responses is wrong, with the right label: see tests/data/verify_disagreements.csv.
RELABELLED = {("4:30p..", r"4:30 \text{ p.m.}"): True, ("10{,}000", "10000"): True}
Row = tuple[str, str, bool | None]  # response, gold, label


def main() -> None:
    logging.disable(logging.CRITICAL)
    table = [json.loads(line) for line in TABLE.read_text().splitlines()]
    untyped = [case for case in table if not case.keys() & {"answer_type", "tolerance"}]
    cases = [(case["response"], case["gold"], case["expected"]) for case in untyped]
    sets = real_responses() or {"labelled table": cases}
    if "ZeroEval" in sets:
        found = [(extract_answer(response), gold) for response, gold, _ in sets["ZeroEval"]]
        sets["ZeroEval, boxed"] = [(rf"\boxed{{{answer}}}", gold, None) for answer, gold in found if answer]
    labelled = [row for rows in sets.values() for row in rows if row[2] is not None]
    print(f"{'CPU time':26}{'responses':>10}{'math-verify':>14}{'ours':>12}{'ratio':>8}   (range of 3)")
    for name, rows in sets.items():
        speed(name, [row[:2] for row in rows])
    speed(f"8 problems x {SAMPLES}", repeated(labelled))
    print("\nerror rates: false positives of the wrong, false negatives of the right")
    rates("labelled table, untyped", cases)
    if labelled is not cases and labelled:
        rates("real responses, corrected labels", labelled)
    if (SHARED / "rl" / "math_train.json").exists():
        rates("benchmark answers, by rule", made_pairs())


def real_responses() -> dict[str, list[Row]]:
    """The sets that are here, by name; the others are named on standard output."""
    sets = {}
    for name, (file, read) in FILES.items():
        path = SHARED / "generations" / file
        if path.exists():
            sets[name] = [row for line in path.read_text().splitlines() for row in read(json.loads(line))]
        else:
            print(f"skipped: {name}, for {file} is kept beside a developer's checkout only")
    return sets


def qwen(problem: dict) -> list[Row]:
    gold = problem["gt"]
    pairs = zip(problem["code"], problem["score"], strict=True)
    return [(text, gold, RELABELLED.get((gold, extract_answer(text)), bool(label))) for text, label in pairs]


def gsm8k(problem: dict) -> list[Row]:
    gold = problem["ground_truth"].rsplit("A:", 1)[1].strip()
    return [(s["solution"], gold, s["is_correct"]) for s in problem.values() if isinstance(s, dict)]


def unlabelled(row: dict) -> list[Row]:
    return [(row["response"], row["gold"], None)]


FILES: dict[str, tuple[str, Callable[[dict], list[Row]]]] = {
    "MATH, Qwen": ("qwen_math_cot_100x8.jsonl", qwen),
    "GSM8K": ("gsm8k_example_model_solutions.jsonl", gsm8k),
    "odyssey": ("odyssey_2models.jsonl", unlabelled),
    "ZeroEval": ("zeroeval_math_l5_3models.jsonl", unlabelled),
}


def repeated(responses: list[tuple]) -> list[tuple[str, str]]:
    """8 problems, 256 samples each, in the order a sampler gives them."""
    by_gold: dict[str, list[str]] = {}
    for response, gold, _ in responses:
        by_gold.setdefault(gold, []).append(response)
    problems = [(gold, texts) for gold, texts in by_gold.items() if len(texts) >= 8][:8]
    return [(texts[i % 8], gold) for gold, texts in problems for i in range(SAMPLES)]


def made_pairs() -> list[tuple[str, str, bool]]:
    """(response, gold, right) from the answers of MATH's training problems, by rules that fix the label."""
    problems = json.loads((SHARED / "rl" / "math_train.json").read_text())
    golds = sorted({p["answer"] for p in problems if re.search(r"\d", p["answer"] or "") and "text" not in p["answer"]})
    draw = random.Random(0)
    draw.shuffle(golds)
    pairs = []
    for gold in golds[:PAIRS]:
        pairs.append((rf"\boxed{{{rewritten(gold, draw)}}}", gold, True))
        digits = [m.start() for m in re.finditer(r"\d", gold)]
        at = draw.choice(digits)
        digit = str((int(gold[at]) + draw.randint(1, 9)) % 10)
        changed = gold[:at] + digit + gold[at + 1 :]
        if changed.startswith(gold[:at] + "0") or re.search(r"(?<!\d)0", changed):
            changed = f"-{gold}" if re.fullmatch(r"\\?[\w{}\\]+", gold) and gold != "0" else gold[:at] + "7" + gold[at:]
        pairs.append((rf"\boxed{{{changed}}}", gold, False))
    return pairs


def rewritten(gold: str, draw: random.Random) -> str:
    """The same answer, written as another model might."""
    rules = [
        lambda s: re.sub(r"\\[dt]?frac\{(\d+)\}\{(\d+)\}", r"\\dfrac{\1}{\2}", s),
        lambda s: re.sub(r"(?<![\d}!,^])\\[dt]?frac\{(\d+)\}\{(\d+)\}", r"{\1}/{\2}", s) if "^" not in s else s,
        lambda s: re.sub(r"(?<=[(\[])|(?<=,)(?!\})", " ", s),
        lambda s: re.sub(r"([(\[])", r"\\left\1", re.sub(r"([)\]])", r"\\right\1", s)) if "\\left" not in s else s,
        lambda s: re.sub(r"(?<![\d.,])(\d{1,3})(\d{3})(?![\d.,])", r"\1,\2", s) if s.isdecimal() else s,
        lambda s: re.sub(r"\\sqrt(\d)", r"\\sqrt{\1}", s),
        lambda s: f"{s}.0" if s.isdecimal() else s,
        lambda s: rf"x = {s}" if re.fullmatch(r"-?\d+|\\frac\{\d+\}\{\d+\}", s) else s,
        lambda s: s.replace("pmatrix", "bmatrix"),
        lambda s: rf"\displaystyle {s}",
    ]
    changed = [rule(gold) for rule in rules]
    return draw.choice([text for text in changed if text != gold])


def by_math_verify(pairs: list[tuple[str, str]]) -> list[bool]:
    from math_verify import parse, verify

    return [verify(parse(rf"\boxed{{{clean(gold)}}}"), parse(response)) for response, gold in pairs]


def by_ours(pairs: list[tuple[str, str]]) -> list[Verdict]:
    return verify_many([response for response, _ in pairs], [gold for _, gold in pairs])


def speed(name: str, pairs: list[tuple[str, str]]) -> None:
    by_ours(pairs)  # imports what is imported once
    by_math_verify(pairs[:20])
    seconds: dict[str, list[float]] = {"ours": [], "math-verify": []}
    for _ in range(REPEATS):
        for grader, judge in (("math-verify", by_math_verify), ("ours", by_ours)):
            forget()
            gc.collect()  # one grader must not pay for the rubbish of the other
            start = time.process_time()
            judge(pairs)
            seconds[grader].append(time.process_time() - start)
    each = {grader: 1e6 * statistics.median(times) / len(pairs) for grader, times in seconds.items()}
    ratios = [theirs / mine for theirs, mine in zip(seconds["math-verify"], seconds["ours"], strict=True)]
    print(
        f"{name:26}{len(pairs):10}{each['math-verify']:11.0f} us{each['ours']:9.1f} us"
        f"{statistics.median(ratios):7.0f}x   {min(ratios):.0f}x to {max(ratios):.0f}x",
        flush=True,
    )


def rates(name: str, rows: list[tuple[str, str, bool]]) -> None:
    pairs, labels = [row[:2] for row in rows], [row[2] for row in rows]
    wrong, right = labels.count(False), labels.count(True)
    for grader, judged in (("ours", map(bool, by_ours(pairs))), ("math-verify", by_math_verify(pairs))):
        found = Counter(zip(judged, labels, strict=True))
        false_positive, false_negative = found[True, False], found[False, True]
        print(
            f"{name:34}{grader:13}"
            f"false positives {false_positive:4} of {wrong:5} ({false_positive / wrong:6.2%})   "
            f"false negatives {false_negative:4} of {right:5} ({false_negative / right:6.2%})"
        )


if __name__ == "__main__":
    main()
