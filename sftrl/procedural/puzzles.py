"""Puzzles: short programs over digits that wrap at ten, drawn at random in a format."""

from dataclasses import dataclass

import numpy as np

INVERSE = {3: 7, 7: 3, 9: 9}
NAMES = "abcdefghjkmnpqrstuvwxyz"  # no i, l, o: they read as digits
LETTERS = "ABCD"


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


def make_puzzle(rng: np.random.Generator, form: str, n_steps: int, *, ordered: bool = False) -> Puzzle:
    """Draw a puzzle of `n_steps` steps in the given format.

    With `ordered` names, the first digit made is `a`, the next `b` and so on; otherwise they are drawn at random.
    """
    if form == "expression":
        return _make_expression(rng, n_steps)
    names = list(NAMES[::-1]) if ordered else [NAMES[i] for i in rng.permutation(len(NAMES))]
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
    # The last digit depends on the most steps, so it is always asked for; all in the order in which they were made, as
    # models this small do not learn to put them into another.
    others = [line[i] for i in sorted(rng.permutation(len(line) - 1)[:2])]
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
