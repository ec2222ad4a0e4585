"""How a puzzle is written: as a problem in its format, and as a worked solution in a style."""

import numpy as np

from sftrl.procedural.puzzles import INVERSE, LETTERS, Puzzle, Step, compute

BASE_STYLES = ("direct", "terse", "full")
HASTY, WORKED = "hasty", 2  # a hasty solution works out two steps as `full` does, and does the others in the head
TEACHER_STYLES = ("brief", "plain", "careful")

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


def solution_text(puzzle: Puzzle, style: str, rng: np.random.Generator | None = None, error_rate: float = 0.0) -> str:
    r"""Write a worked solution that ends in `\boxed{}`.

    With an `error_rate`, each step's digit is wrong with that probability (drawn from `rng`), later steps use the
    wrong digit, and the box holds what the working led to: the kind of mistake a base model should make.
    """
    values = dict(puzzle.start)
    lines = []
    for number, step in enumerate(puzzle.steps):
        left, right = (values[x] if x in values else int(x) for x in (step.left, step.right))
        value = compute(left, step.op, right)
        if error_rate and rng.random() < error_rate:
            value = (value + int(rng.integers(1, 10))) % 10
        values[step.name] = value
        shown = ("full" if number < WORKED else "terse") if style == HASTY else style
        lines.append(_step_text(shown, step, left, right, value))
    digits = "".join(str(values.get(name, name)) for name in puzzle.asked)
    answer = digits
    if puzzle.options:
        # Wrong working may lead to a digit triple that is not on offer; then any letter is as good.
        answer = LETTERS[puzzle.options.index(digits) if digits in puzzle.options else 0]
    if style in TEACHER_STYLES:
        return "".join(lines) + f"so \\boxed{{{answer}}}"
    return "".join(lines) + f"\\boxed{{{answer}}}"


def _step_text(style: str, step: Step, left: int, right: int, value: int) -> str:
    stated, put = f"{step.left}{step.op}{step.right}", f"{left}{step.op}{right}"
    names = {step.left: left, step.right: right}
    looked_up = "".join(f"{name} is {digit}, " for name, digit in names.items() if name.isalpha())
    # A step on digits alone says all there is to say once. The name stands right before its digit in the end: that is
    # where a later step has to find it.
    named = stated != put
    return {
        "direct": "",
        "terse": f"{step.name}={value};",
        "full": (f"{stated}=" if named else "") + f"{put}={value},{step.name}={value};",
        "brief": f"{put}={value}, {step.name} is {value}. ",
        "plain": (f"{stated} is " if named else "") + f"{put}={value}, {step.name} is {value}. ",
        "careful": (f"{stated}, {looked_up}" if named else "") + f"{put}={value}, {step.name} is {value}. ",
    }[style]
