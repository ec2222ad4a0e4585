"""A search for rewards that can be had without solving: a right answer, changed so that its value is another one.

Each family draws an answer whose value is known (a Fraction, coefficients, a set ...), writes it in one of its
spellings as gold, and gives right answers, which must be accepted, and wrong ones, none of which may be. A run tries
10,000 wrong ones with a seed of its own; a failure names it, and `VERIFY_SEED=<seed>` repeats it.
"""

import os
import random
import secrets
from collections.abc import Callable
from fractions import Fraction

import pytest

from sftrl.verify import verify_many

WRONG = 10_000
SEED = int(os.environ.get("VERIFY_SEED") or secrets.randbelow(2**32))
Drawn = tuple[str, list[str], list[str]]  # gold, right answers, wrong answers


def fraction(draw: random.Random, size: int = 60) -> Fraction:
    return Fraction(draw.randint(-size, size), draw.randint(1, 12))


def another(draw: random.Random, value: Fraction) -> Fraction:
    """A number near another one, as mistakes make it."""
    a, b = value.numerator, value.denominator
    near = [value + 1, value - 1, -value, value * 10, value / 10, value * 2, Fraction(a, b + 1), Fraction(a + b, b + 1)]
    near += [Fraction(b, a) if a else Fraction(1), value + Fraction(1, 1000), round(value), Fraction(round(value, 2))]
    return draw.choice([number for number in near if number != value])


def written(draw: random.Random, value: Fraction) -> str:
    """One of the spellings of a rational number."""
    a, b = value.numerator, value.denominator
    if b == 1:
        return draw.choice(
            [str(a), f"{a}.0", f"{a:,}", rf"\frac{{{3 * a}}}{{3}}", f"{{{a}}}", f"+{a}" if a > 0 else str(a)]
        )
    k = draw.randint(1, 4)
    forms = [rf"\frac{{{k * a}}}{{{k * b}}}", f"{a}/{b}", rf"\dfrac{{{a}}}{{{b}}}", rf"{a}\cdot\frac{{1}}{{{b}}}"]
    if value > 1:
        forms.append(rf"{a // b}\frac{{{a % b}}}{{{b}}}")
    if not (10**6 % b):
        forms.append(f"{float(value):.6f}".rstrip("0"))
    return draw.choice(forms)


def numbers(draw: random.Random) -> Drawn:
    value = fraction(draw)
    wrong = [written(draw, another(draw, value)) for _ in range(6)]
    tens = draw.choice(["hundred", "thousandths", "quadrillion", "dozen", "wrong", "halves", "more", "K", "or so"])
    wrong += [
        rf"{abs(value.numerator) + 1} \text{{ {tens}}}",
        f"{value.numerator}{draw.randint(1, 9)}/{value.denominator}",
    ]
    if value.denominator > 1:
        wrong += [str(value.numerator), str(value.denominator), rf"{value.numerator}, {value.denominator}"]
    gold = written(draw, value)
    return gold, [written(draw, value) for _ in range(3)], [w for w in wrong if w != gold]


def large(draw: random.Random) -> Drawn:
    """Powers and factorials: next to them, and beside the point."""
    n, k = draw.randint(30, 2500), draw.randint(20, 900)
    few = 1 + k % (n - 1)  # of n, and neither none nor all
    gold, right, wrong = draw.choice(
        [
            (f"{n}!", rf"{n} \cdot {n - 1}!", [f"{n + 1}!", f"{n - 1}!", f"{n}!!", f"{n}^{{{n}}}"]),
            (f"{n}^{{{k}}}", rf"{n} \cdot {n}^{{{k - 1}}}", [f"{n}^{{{k + 1}}}", f"{n + 1}^{{{k}}}", f"{k}^{{{n}}}"]),
            (
                f"10^{{{k}}}+{n}",
                rf"{n} + 10 \cdot 10^{{{k - 1}}}",
                [f"10^{{{k}}}", f"10^{{{k}}}-{n}", f"10^{{{k + 1}}}+{n}"],
            ),
            (rf"\binom{{{n}}}{{{few}}}", rf"\binom{{{n}}}{{{n - few}}}", [rf"\binom{{{n + 1}}}{{{few}}}"]),
        ]
    )
    wrong = [text for text in wrong if n != k or "^" not in text]
    return (
        gold,
        [right],
        [*wrong, f"{gold}+1", f"{gold}-1", f"({gold}) + 10^{{-{k}}}", rf"({gold})\cdot\frac{{{n}}}{{{n + 1}}}"],
    )


def surds(draw: random.Random) -> Drawn:
    """p + q sqrt(r), and its powers beside their conjugates."""
    p, q, r = draw.randint(1, 9), draw.randint(1, 9), draw.choice([2, 3, 5, 6, 7, 10, 11])
    gold, k = rf"{p}+{q}\sqrt{{{r}}}", draw.randint(20, 400)
    right = [rf"\sqrt{{{q * q * r}}}+{p}", rf"\frac{{{2 * p}+\sqrt{{{4 * q * q * r}}}}}{{2}}"]
    wrong = [
        rf"{p}-{q}\sqrt{{{r}}}",
        rf"{p + 1}+{q}\sqrt{{{r}}}",
        rf"{p}+{q}\sqrt{{{r + 1}}}",
        rf"{p}+{q + 1}\sqrt{{{r}}}",
    ]
    wrong += [
        rf"{p + q}\sqrt{{{r}}}",
        f"{p}+{q}*{r}",
        str(p),
        str(r),
        f"{p + q * r**0.5:.6f}",
        rf"{p} \pm {q}\sqrt{{{r}}}",
    ]
    if draw.random() < 0.3:  # near an integer, by as much as the conjugate's power
        a, b = (2, 3) if draw.random() < 0.5 else (1, 2)
        gold, conjugate = rf"({a}+\sqrt{{{b}}})^{{{k}}}", rf"({a}-\sqrt{{{b}}})^{{{k}}}"
        right = [rf"({a * a + b}+{2 * a}\sqrt{{{b}}})^{{{k // 2}}}" + (rf"({a}+\sqrt{b})" if k % 2 else "")]
        wrong = [f"{gold}+{conjugate}", f"{gold}-{conjugate}", f"{gold}+1", rf"({a}+\sqrt{{{b}}})^{{{k + 1}}}"]
    return gold, right, wrong


def transcendental(draw: random.Random) -> Drawn:
    q, constant = fraction(draw) or Fraction(1), draw.choice([r"\pi", r"e", r"\ln 2", r"\pi^2", r"\sin 1"])
    other = another(draw, q)
    gold = rf"\frac{{{q.numerator}}}{{{q.denominator}}} {constant}"
    wrong = [rf"\frac{{{other.numerator}}}{{{other.denominator}}} {constant}", written(draw, q), f"{gold}+{constant}"]
    wrong += [f"{gold}+10^{{-{draw.randint(1, 200)}}}", rf"\frac{{{q.numerator}}}{{{q.denominator}}} \sqrt 2"]
    return gold, [rf"{constant} \cdot {q.numerator}/{q.denominator}"], wrong


def polynomial(coefficients: list[int]) -> str:
    terms = [f"{c:+}" + ("" if i == 0 else "x" if i == 1 else f"x^{{{i}}}") for i, c in enumerate(coefficients) if c]
    return "".join(reversed(terms)).removeprefix("+") or "0"


def polynomials(draw: random.Random) -> Drawn:
    coefficients = [draw.randint(-9, 9) for _ in range(draw.randint(2, 5))] + [draw.randint(1, 9)]
    wrong = []
    for _ in range(5):
        changed = coefficients[:]
        changed[draw.randrange(len(changed))] += draw.choice([-2, -1, 1, 2])
        wrong.append(polynomial(changed))
    gold = polynomial(coefficients)
    right = [f"({gold}) + x - x", f"f(x) = {gold}", f"2x^0({gold})/2"]
    return gold, right, [*wrong, f"x({gold})", f"({gold})^2", f"{gold} = 0", f"-({gold})", gold.replace("x", "y"), "x"]


def collections(draw: random.Random) -> Drawn:
    """Tuples, sets and bare lists: reordered, shortened, longer."""
    items = draw.sample(range(-30, 31), draw.randint(2, 5))
    moved = items[1:] + items[:1]
    lists = [items[:-1], [*items, items[0] + 61], [items[0] + 61, *items[1:]], [items[0]], [*items, *range(40, 45)]]
    opened, closed = draw.choice([("(", ")"), (r"\{", r"\}"), ("", "")])

    def text(numbers: list[int]) -> str:
        return f"{opened}{', '.join(map(str, numbers))}{closed}"

    right = [text(items)] if opened == "(" else [text(moved), text(items[::-1])]
    return text(items), right, [text(moved)] * (opened == "(") + [text(numbers) for numbers in lists]


def intervals(draw: random.Random) -> Drawn:
    low, high = sorted(draw.sample(range(-40, 41), 2))
    brackets = [draw.choice("(["), draw.choice(")]")]
    flipped = {"(": "[", "[": "(", ")": "]", "]": ")"}
    signs = ["<" if brackets[0] == "(" else r"\le", "<" if brackets[1] == ")" else r"\le"]
    ends = [(low + 1, high), (low, high + 1), (-high, -low), (low - 1, high), (low, high - 1)]
    wrong = [f"{brackets[0]}{a}, {b}{brackets[1]}" for a, b in ends if (a, b) != (low, high) and a < b]
    wrong += [f"{flipped[brackets[0]]}{low}, {high}{brackets[1]}", f"{brackets[0]}{low}, {high}{flipped[brackets[1]]}"]
    wrong += [
        f"x > {low}",
        rf"\{{{low}, {high}\}}",
        r"(-\infty, \infty)",
        rf"{low} < x < {high + 1}",
        f"{low}",
        f"{high - low}",
    ]
    gold = rf"{low} {signs[0]} x {signs[1]} {high}"
    return gold, [f"{brackets[0]}{low}, {high}{brackets[1]}", rf"x \in {brackets[0]}{low}, {high}{brackets[1]}"], wrong


def solutions(draw: random.Random) -> Drawn:
    """A root, and equations that have it: still to be solved."""
    a, b, k = draw.randint(2, 30), draw.randint(31, 60), draw.randint(2, 9)
    unsolved = [
        f"x^2-{a + b}x+{a * b}=0",
        f"(x-{a})(x-{b})=0",
        f"x^2={a * a}",
        f"{k}x={k * a}",
        f"x-{a}=0",
        f"x^3={a**3}",
    ]
    unsolved += [
        f"x=2x-{a}",
        "x=x",
        f"x^{{{k}}}={a**k}",
        f"|x|={a}+0x",
        rf"\sqrt{{x}}=\sqrt{{{a}}}",
        f"x={a}y",
        f"x>{a - 1}",
    ]
    wrong = [
        *unsolved,
        f"y={a}",
        f"x={b}",
        f"x={a}, x={b}",
        rf"x={a} \text{{ or }} x={b}",
        rf"\pm {a}",
        f"x \\ne {a}",
        f"{a}x",
    ]
    gold = f"x={a}" if draw.random() < 0.7 else str(a)
    if gold == str(a):
        wrong = [text for text in wrong if text != f"y={a}"]
    return gold, [f"x={a}", str(a), f"{a}=x", f"x = {k * a}/{k}"], wrong


def curves(draw: random.Random) -> Drawn:
    a, b, k = draw.randint(2, 9), draw.randint(1, 9), draw.choice([-3, 2, 3])
    wrong = [f"y={a}x-{b}", f"y={a + 1}x+{b}", f"y={a}x+{b + 1}", f"x={a}y+{b}", f"y={a}x", f"y=-{a}x+{b}"]
    wrong += [
        f"(y-{a}x-{b})(y-x)=0",
        f"y^2=({a}x+{b})^2",
        f"(y-{a}x-{b})(x-{a})=0",
        f"xy={a}x^2+{b}x",
        f"y={a}x+{b}z",
        "y=y",
    ]
    return f"y={a}x+{b}", [f"{a}x-y+{b}=0", f"{k}y={k * a}x+{k * b}", f"y-{b}={a}x"], wrong


UNITS = [
    ["mm", "cm", "m", "km"],
    ["seconds", "minutes", "hours"],
    ["grams", "kg"],
    ["cents", "dollars"],
    ["months", "years"],
]
UNITS += [
    ["cm^2", "m^2"],
    ["cm^3", "m^3"],
    ["mph"],
    ["m/s"],
    ["degrees"],
    ["apples"],
    ["boys"],
    ["percent"],
    ["pounds"],
]


def units(draw: random.Random) -> Drawn:
    value, (kind, other) = draw.randint(2, 200), draw.sample(UNITS, 2)
    unit = draw.choice(kind)
    wrong = [rf"{value} \text{{ {draw.choice(other)}}}", rf"{value + 1} \text{{ {unit}}}", rf"\text{{ {unit}}}"]
    wrong += [rf"{value} \text{{ {name}}}" for name in kind if name != unit]
    wrong += [
        rf"{value} \text{{ million {unit}}}",
        rf"{value} \text{{ not {unit}}}",
        rf"{value}, {value + 1} \text{{ {unit}}}",
    ]
    return rf"{value} \text{{ {unit}}}", [str(value), rf"{value}\ \text{{{unit}}}"], wrong


def decimals(draw: random.Random) -> Drawn:
    digits = str(draw.randint(1, 98))
    value = Fraction(int(digits), 10 ** len(digits) - 1)
    gold = rf"\frac{{{value.numerator}}}{{{value.denominator}}}"
    wrong = [
        rf"0.\overline{{{int(digits) + 1}}}",
        rf"0.0\overline{{{digits}}}",
        f"0.{digits}",
        f"0.{digits * 9}",
        f"0.{digits * 60}",
    ]
    wrong.append(rf"1.\overline{{{digits}}}")
    return gold, [rf"0.\overline{{{digits}}}", rf"0.\overline{{{digits * 2}}}"], wrong


def guesses(draw: random.Random) -> Drawn:
    """The right answer among others, as boxes, sentences and JSON; these are whole responses."""
    a = draw.randint(10, 99)
    b = draw.choice([n for n in range(10, 100) if n != a])
    wrong = [rf"\boxed{{{a}}}, \boxed{{{b}}}", rf"\boxed{{{b}}} and \boxed{{{a}}}", rf"\boxed{{{a}}} \boxed{{{b}}}"]
    wrong += [
        rf"\boxed{{{a}}}, no: \boxed{{{b}}}",
        rf"\boxed{{{a}, {b}}}",
        rf"\boxed{{{a} \text{{ or }} {b}}}",
        f"It is {a} or {b}.",
    ]
    wrong += [
        f'{{"reasoning": "{a}", "answer": "{b}"}}',
        f'{{"answer": [{a}, {b}]}}',
        f'{{"answer": "{a} or {b}"}}',
        f"{b}, {a}",
    ]
    wrong += [
        f"The answer is {a} or {b}.",
        f"The answer is {b}, not {a}.",
        f"So x = {b} or x = {a}",
        f"That is {a}/{b}",
        f"{b}^{a}",
    ]
    wrong += [
        rf"So it is \frac{{{b}}}{{{a}}}",
        f"We pay ${b},{a}0.{a}",
        f"{a}:{b}",
        f"({b}, {a})",
        f"{b}√{a}",
        f"约为{b}/{a}",
    ]
    wrong += [
        rf"<think>so \boxed{{{a}}}",
        rf"\boxed{{{a}",
        f"The answer is {a} quadrillion.",
        f"{b} {a:03}",
        f"#### {b}, {a}",
    ]
    right = [
        rf"\boxed{{{b}}} no, \boxed{{{a}}}",
        f"The answer is {a} apples in total.",
        f"答案是{a}",
        f'{{"answer": "{a}"}}',
    ]
    return str(a), [*right, rf"\boxed{{{a}}} \boxed{{{a}}}", f"The answer is below.\n\n{a}", f"#### {a}"], wrong


BOXED: list[Callable[[random.Random], Drawn]] = [numbers, large, surds, transcendental, polynomials, collections]
BOXED += [intervals, solutions, curves, units, decimals]
FAMILIES = [*BOXED, guesses]


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.__name__)
def test_no_changed_answer_is_accepted(family):
    draw = random.Random(f"{SEED} {family.__name__}")
    rows: list[tuple[str, str, bool]] = []
    wrong = 0
    while wrong < WRONG / len(FAMILIES):
        gold, *answers = family(draw)
        for texts, right in zip(answers, (True, False), strict=True):
            rows += [(text if family is guesses else rf"\boxed{{{text}}}", gold, right) for text in texts]
        wrong += len(answers[1])
    verdicts = verify_many([row[0] for row in rows], [row[1] for row in rows])
    accepted = [(*row, verdict) for row, verdict in zip(rows, verdicts, strict=True) if verdict.correct and not row[2]]
    refused = [(*row, verdict) for row, verdict in zip(rows, verdicts, strict=True) if row[2] and not verdict.correct]
    assert not accepted, f"VERIFY_SEED={SEED}: {len(accepted)} of {wrong} accepted, as {accepted[:3]}"
    assert not refused, f"VERIFY_SEED={SEED}: {len(refused)} right ones refused, as {refused[:3]}"
