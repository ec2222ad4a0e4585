r"""Generated maths: digits that wrap at ten, in eight formats, with worked solutions.

Every problem is a short straight-line program over digits. Each step makes a new named digit from a digit or an
earlier name, by `+`, `-` or `*`, modulo ten (the dial of a lock). Three of the digits are asked for, so an answer such
as `097` is guessed once in a thousand tries. Multipliers are 3, 7 and 9 only: they have inverses modulo ten, while even
ones would send most answers to 0.

A **format** writes the program as a problem: assignments, dials in words, an equation to solve, bracketed expressions.
A **style** writes out its solution. The *base styles* are what a base model is pretrained on. The *teacher styles* put
the same working into words that the base has never met, which is what SFT has to teach. All of it is chosen here; the
paper has no small-scale setting.
"""

import hashlib
from dataclasses import dataclass

import numpy as np
import pandas as pd

from sftrl.errors import InputError

INVERSE = {3: 7, 7: 3, 9: 9}
NAMES = "abcdefghjkmnpqrstuvwxyz"  # no i, l, o: they read as digits
LETTERS = "ABCD"

BASE_STYLES = ("direct", "terse", "full")
TEACHER_STYLES = ("brief", "plain", "careful")

BENCHMARKS = {
    # name: (format, smallest and largest number of steps). Training texts have 1 to 5 steps.
    "chain": ("chain", 3, 4),
    "distract": ("distract", 3, 4),
    "dials": ("dials", 3, 4),
    "expression": ("expression", 5, 6),
    "equation": ("equation", 3, 4),
    "reversed": ("reversed", 2, 3),  # a template that occurs in no training text
    "long": ("chain", 6, 6),  # longer than anything trained on
    "choice": ("choice", 3, 4),
}
TRAINING_FORMATS = ("chain", "distract", "dials", "expression", "equation", "choice")
RL_FORMATS = ("chain", "distract", "dials", "expression", "equation")


@dataclass(frozen=True)
class Step:
    """One new digit: `name = left op right`, all modulo ten. `left` and `right` are digits or earlier names."""

    name: str
    left: str
    op: str
    right: str
    value: int


@dataclass(frozen=True)
class Puzzle:
    """A program, the three names asked for, and how it is written."""

    form: str
    start: tuple[tuple[str, int], ...]
    steps: tuple[Step, ...]
    asked: tuple[str, ...]
    options: tuple[str, ...] = ()

    @property
    def values(self) -> dict[str, int]:
        return dict(self.start) | {step.name: step.value for step in self.steps}

    @property
    def digits(self) -> str:
        return "".join(str(self.values.get(name, name)) for name in self.asked)

    @property
    def answer(self) -> str:
        return LETTERS[self.options.index(self.digits)] if self.options else self.digits


def compute(left: int, op: str, right: int) -> int:
    """Return `left op right` modulo ten."""
    return {"+": left + right, "-": left - right, "*": left * right}[op] % 10


def make_puzzle(rng: np.random.Generator, form: str, n_steps: int) -> Puzzle:
    """Draw a puzzle of `n_steps` steps in the given format."""
    if form == "expression":
        return _make_expression(rng, n_steps)
    names = [NAMES[i] for i in rng.permutation(len(NAMES))]
    start = [(names.pop(), int(rng.integers(10))) for _ in range(max(1, 3 - n_steps))]
    values = dict(start)
    line = list(values)  # the names that the asked-for digits depend on
    steps = []
    for _ in range(n_steps):
        step = _make_step(rng, names.pop(), line, values)
        values[step.name] = step.value
        # A distractor is computed and then never used again.
        if form != "distract" or rng.random() < 0.7 or len(line) < 3:
            line.append(step.name)
        steps.append(step)
    # The last digit depends on the most steps, so it is always asked for.
    others = [line[i] for i in rng.permutation(len(line) - 1)[:2]]
    asked = (*others, line[-1])
    options: tuple[str, ...] = ()
    if form == "choice":
        right = "".join(str(values[name]) for name in asked)
        wrong = {right}
        while len(wrong) < len(LETTERS):
            wrong.add("".join(str(d) for d in rng.integers(10, size=3)))
        ordered = sorted(wrong)
        options = tuple(ordered[i] for i in rng.permutation(len(ordered)))
    return Puzzle(form, tuple(start), tuple(steps), asked, options)


def _make_step(rng: np.random.Generator, name: str, line: list[str], values: dict[str, int]) -> Step:
    op = "+-*"[rng.integers(3)]
    left = line[-1] if rng.random() < 0.6 else line[rng.integers(len(line))]
    if op == "*":
        right = str((3, 7, 9)[rng.integers(3)])
    elif len(line) > 1 and rng.random() < 0.4:
        right = line[rng.integers(len(line))]
    else:
        right = str(rng.integers(1, 10))
    right_value = values[right] if right in values else int(right)
    return Step(name, left, op, right, compute(values[left], op, right_value))


def _make_expression(rng: np.random.Generator, n_steps: int) -> Puzzle:
    """Three bracketed expressions, worked from left to right; `n_steps` operations between them."""
    lengths = [n_steps // 3 + (i < n_steps % 3) for i in range(3)]
    names = iter(NAMES)  # in alphabetical order: the problem shows no names, so a solution must know them
    steps, asked = [], []
    for length in lengths:
        value = int(rng.integers(10))
        name = str(value)
        for _ in range(length):
            op = "+-*"[rng.integers(3)]
            right = int((3, 7, 9)[rng.integers(3)]) if op == "*" else int(rng.integers(1, 10))
            steps.append(Step(next(names), name, op, str(right), compute(value, op, right)))
            name, value = steps[-1].name, steps[-1].value
        asked.append(name)
    return Puzzle("expression", (), tuple(steps), tuple(asked))


WORDS = {"+": "plus", "-": "minus", "*": "times"}


def problem_text(puzzle: Puzzle) -> str:
    """Write a puzzle as a problem, without its options."""
    asked = ",".join(puzzle.asked)
    steps = puzzle.steps
    if puzzle.form == "dials":
        shown = [f"dial {n} shows {v}." for n, v in puzzle.start]
        made = [f"dial {s.name} shows {s.left} {WORDS[s.op]} {s.right}." for s in steps]
        return " ".join([*shown, *made, f"read {asked}?"])
    if puzzle.form == "reversed":
        shown = [f"{v} shows dial {n}." for n, v in puzzle.start]
        made = [f"{s.left} {WORDS[s.op]} {s.right} shows dial {s.name}." for s in steps]
        return " ".join([*shown, *made, f"read {asked}?"])
    if puzzle.form == "equation":
        lines = [f"{n}={v}" for n, v in puzzle.start] + [_as_equation(s) for s in steps]
        return ";".join(lines) + f"; solve {asked}?"
    if puzzle.form == "expression":
        return "".join(f"[{text}]" for text in _bracketed(puzzle)) + " read left to right?"
    lines = [f"{n}={v}" for n, v in puzzle.start] + [f"{s.name}={s.left}{s.op}{s.right}" for s in steps]
    return ";".join(lines) + f"; find {asked}?"


def prompt_text(puzzle: Puzzle) -> str:
    """Write a puzzle as a prompt: the problem, then any options, lettered as `sftrl.problems.with_choices` does."""
    options = [f"{letter}. {option}" for letter, option in zip(LETTERS, puzzle.options, strict=False)]
    return "\n".join([problem_text(puzzle), *options])


def _as_equation(step: Step) -> str:
    """Write `name = left op right` so that `name` has to be solved for."""
    if step.op == "+":
        return f"{step.name}-{step.right}={step.left}"
    if step.op == "-":
        return f"{step.name}+{step.right}={step.left}"
    return f"{INVERSE[int(step.right)]}*{step.name}={step.left}"


def _bracketed(puzzle: Puzzle) -> list[str]:
    texts: dict[str, str] = {}
    for step in puzzle.steps:
        texts[step.name] = f"{texts.get(step.left, step.left)}{step.op}{step.right}"
    return [texts.get(name, name) for name in puzzle.asked]


TEACHER_WORDS = {"+": "up", "-": "down", "*": "fold"}


def solution_text(puzzle: Puzzle, style: str, rng: np.random.Generator | None = None, error_rate: float = 0.0) -> str:
    r"""Write a worked solution that ends in `\boxed{}`.

    With an `error_rate`, each step's digit is wrong with that probability (drawn from `rng`), later steps use the
    wrong digit, and the box holds what the working led to: the kind of mistake a base model should make.
    """
    values = dict(puzzle.start)
    lines = []
    for step in puzzle.steps:
        left, right = (values[x] if x in values else int(x) for x in (step.left, step.right))
        value = compute(left, step.op, right)
        if error_rate and rng.random() < error_rate:
            value = (value + int(rng.integers(1, 10))) % 10
        values[step.name] = value
        lines.append(_step_text(style, step, left, right, value))
    digits = "".join(str(values.get(name, name)) for name in puzzle.asked)
    answer = digits
    if puzzle.options:
        # Wrong working may lead to a digit triple that is not on offer; then any letter is as good.
        answer = LETTERS[puzzle.options.index(digits) if digits in puzzle.options else 0]
    if style in TEACHER_STYLES:
        return "".join(lines) + f"so \\boxed{{{answer}}}"
    return "".join(lines) + f"\\boxed{{{answer}}}"


def _step_text(style: str, step: Step, left: int, right: int, value: int) -> str:
    word = TEACHER_WORDS[step.op]
    asked, worked = f"{step.left}{step.op}{step.right}", f"{left}{step.op}{right}"
    return {
        "direct": "",
        "terse": f"{step.name}{value};",
        "full": f"{step.name}={asked}={worked}={value};" if asked != worked else f"{step.name}={worked}={value};",
        "brief": f"{step.name} {value}. ",
        "plain": f"{step.name} is {left} {word} {right} makes {value}. ",
        "careful": f"{step.name} takes {step.left} {word} {step.right}, is {left} {word} {right} makes {value}. ",
    }[style]


def is_test(text: str) -> bool:
    """Tell whether a problem text is kept for testing: one in sixteen is, by its hash.

    Tests are drawn from this side only, and training texts from the other, so that no study, seed or size can ever
    train on a test problem.
    """
    return hashlib.sha256(text.encode()).digest()[0] < 16


def benchmark_problems(seed: np.random.SeedSequence, problems: int) -> pd.DataFrame:
    """Return the eight benchmarks, `problems` problems each, as rows of the problem schema. No problem occurs twice."""
    rows = []
    seen: set[str] = set()
    for (name, (form, low, high)), child in zip(BENCHMARKS.items(), seed.spawn(len(BENCHMARKS)), strict=True):
        puzzles = _distinct(np.random.default_rng(child), (form,), low, high, problems, seen, test=True)
        rows += [_problem_row(f"{name}-{i}", name, puzzle) for i, puzzle in enumerate(puzzles)]
    return pd.DataFrame(rows)


def rl_problems(seed: np.random.SeedSequence, problems: int) -> pd.DataFrame:
    """Return RL training problems of 3 to 5 steps, as rows of the problem schema."""
    puzzles = _distinct(np.random.default_rng(seed), RL_FORMATS, 3, 5, problems, set(), test=False)
    return pd.DataFrame([_problem_row(f"rl-{i}", "rl", puzzle) for i, puzzle in enumerate(puzzles)])


def sft_examples(seed: np.random.SeedSequence, examples: int) -> pd.DataFrame:
    """Return worked examples of 1 to 5 steps in the teacher styles, as rows of the SFT example schema."""
    rng = np.random.default_rng(seed)
    puzzles = _distinct(rng, RL_FORMATS, 1, 5, examples, set(), test=False)
    styles = [TEACHER_STYLES[i] for i in rng.integers(len(TEACHER_STYLES), size=examples)]
    return pd.DataFrame(
        {
            "id": [f"sft-{i}" for i in range(examples)],
            "prompt": [problem_text(puzzle) for puzzle in puzzles],
            "response": [solution_text(puzzle, style) for puzzle, style in zip(puzzles, styles, strict=True)],
            "answer": [puzzle.answer for puzzle in puzzles],
            "source": styles,
        }
    )


def pretraining_examples(
    seed: np.random.SeedSequence, examples: int, *, error_rate: float, broken_rate: float
) -> pd.DataFrame:
    """Return what a base model is pretrained on, as rows of the SFT example schema.

    15 % are lines of single facts such as `7*8=6`, without which the digits are not learned. The rest are problems of
    1 to 5 steps in the base styles, with wrong steps at `error_rate` and missing or unclosed boxes at `broken_rate`, so
    that the base is able but neither exact nor tidy.
    """
    rng = np.random.default_rng(seed)
    rows = []
    while len(rows) < examples:
        if rng.random() < 0.15:
            facts = zip(*rng.integers((10, 3, 10), size=(8, 3)).T.tolist(), strict=True)
            response = ";".join(f"{a}{'+-*'[op]}{b}={compute(a, '+-*'[op], b)}" for a, op, b in facts)
            rows.append(("facts?", response, "", "facts"))
            continue
        puzzle = make_puzzle(rng, TRAINING_FORMATS[rng.integers(len(TRAINING_FORMATS))], int(rng.integers(1, 6)))
        if is_test(problem_text(puzzle)):
            continue
        style = BASE_STYLES[rng.choice(len(BASE_STYLES), p=(0.1, 0.15, 0.75))]
        response = solution_text(puzzle, style, rng, error_rate)
        if rng.random() < broken_rate:
            box = response.index("\\boxed")
            response = response[:box] if box and rng.random() < 0.5 else response[:-1]
        rows.append((prompt_text(puzzle), response, puzzle.answer, style))
    table = pd.DataFrame(rows, columns=["prompt", "response", "answer", "source"])
    table.insert(0, "id", [f"base-{i}" for i in range(len(table))])
    return table


def tokenizer_texts(seed: np.random.SeedSequence, puzzles: int) -> list[str]:
    """Return problems and solutions in every format and style: what the tiny families' tokenizer is trained on."""
    rng = np.random.default_rng(seed)
    texts = []
    for _ in range(puzzles):
        for form in dict.fromkeys(form for form, _, _ in BENCHMARKS.values()):
            puzzle = make_puzzle(rng, form, int(rng.integers(1, 6)))
            texts.append(prompt_text(puzzle))
            texts += [solution_text(puzzle, style) for style in BASE_STYLES + TEACHER_STYLES]
    return texts


def _distinct(
    rng: np.random.Generator, forms: tuple[str, ...], low: int, high: int, count: int, seen: set[str], *, test: bool
) -> list[Puzzle]:
    """Draw `count` puzzles of the test or the training side whose texts are not in `seen`, and add them to it."""
    puzzles: list[Puzzle] = []
    for _ in range(100 * count + 1000):
        if len(puzzles) == count:
            return puzzles
        puzzle = make_puzzle(rng, forms[rng.integers(len(forms))], int(rng.integers(low, high + 1)))
        text = problem_text(puzzle)
        if is_test(text) == test and text not in seen:
            seen.add(text)
            puzzles.append(puzzle)
    raise InputError(f"only {len(puzzles)} distinct problems of {low} to {high} steps were found, {count} asked for")


def _problem_row(identifier: str, benchmark: str, puzzle: Puzzle) -> dict:
    return {
        "id": identifier,
        "benchmark": benchmark,
        "problem": problem_text(puzzle),
        "answer": puzzle.answer,
        "answer_type": "choice" if puzzle.options else "integer",
        "choices": list(puzzle.options) or None,
        "solution": solution_text(puzzle, "plain"),
        "level": str(len(puzzle.steps)),
    }
