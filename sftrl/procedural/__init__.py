r"""Generated maths: digits that wrap at ten, in eight formats, with worked solutions.

Every problem is a short straight-line program over digits. Each step makes a new named digit from a digit or an
earlier name, by `+`, `-` or `*`, modulo ten (the dial of a lock). Three of the digits are asked for, so an answer such
as `097` is guessed once in a thousand tries. Multipliers are 3, 7 and 9 only: they have inverses modulo ten, while even
ones would send most answers to 0.

A **format** writes the program as a problem: assignments, dials in words, an equation to solve, bracketed expressions.
A **style** writes out its solution. The *base styles* are what a base model is pretrained on. The *teacher styles* put
the same working into words; how much of them the base has read, and how hasty what it has read is, are arguments. A
`hasty` solution works out two steps and does the others in the head: where most texts do so, longer problems fail by
habit and not for want of a skill, and RL has something to find. All of it is chosen here; the paper has no small-scale
setting.
"""

import hashlib
from collections.abc import Mapping

import numpy as np
import pandas as pd

from sftrl.errors import InputError
from sftrl.procedural.puzzles import Puzzle, compute, make_puzzle
from sftrl.procedural.texts import BASE_STYLES, HASTY, TEACHER_STYLES, problem_text, prompt_text, solution_text

BENCHMARKS = {
    # name: (format, smallest and largest number of steps). Training texts have 1 to 4 steps.
    "chain": ("chain", 2, 3),
    "distract": ("distract", 2, 3),
    "dials": ("dials", 2, 3),
    "expression": ("expression", 3, 4),
    "equation": ("equation", 2, 3),
    "reversed": ("reversed", 2, 2),  # a template that occurs in no training text
    "long": ("chain", 5, 5),  # longer than anything trained on
    "choice": ("choice", 2, 3),
}
TRAINING_FORMATS = ("chain", "distract", "dials", "expression", "equation", "choice")
RL_FORMATS = ("chain", "distract", "dials", "expression", "equation")
STYLE_SHARES = {"direct": 0.1, "terse": 0.1, "full": 0.8}  # of what a base reads, unless told otherwise


def is_test(text: str) -> bool:
    """Tell whether a problem text is kept for testing: one in sixteen is, by its hash.

    Tests are drawn from this side only, and training texts from the other, so that no study, seed or size can ever
    train on a test problem.
    """
    return hashlib.sha256(text.encode()).digest()[0] < 16


def benchmark_problems(
    seed: np.random.SeedSequence, problems: int, *, steps: tuple[int, int] | None = None, ordered: bool = False
) -> pd.DataFrame:
    """Return the benchmarks, `problems` problems each, as rows of the problem schema. No problem occurs twice.

    Args:
        steps: the smallest and largest number of steps. The five formats of RL then have as many problems of each
            number as of any other (give or take one), `reversed` and `long` are as they are, and `choice`, which
            guessing solves, is left out. None: all eight as `BENCHMARKS` has them.
        ordered: names in alphabetical order, as in `make_puzzle`.
    """
    rows = []
    seen: set[str] = set()
    for (name, (form, low, high)), child in zip(BENCHMARKS.items(), seed.spawn(len(BENCHMARKS)), strict=True):
        rng = np.random.default_rng(child)
        cells = [(low, high, problems)]
        if steps and name == "choice":
            continue
        if steps and name in RL_FORMATS:
            low, high = steps
            numbers = range(low, high + 1)
            cells = [(n, n, problems // len(numbers) + (i < problems % len(numbers))) for i, n in enumerate(numbers)]
        puzzles = []
        for low, high, count in cells:
            puzzles += _distinct(rng, (form,), low, high, count, seen, test=True, ordered=ordered)
        rows += [_problem_row(f"{name}-{i}", name, puzzle) for i, puzzle in enumerate(puzzles)]
    return pd.DataFrame(rows)


def rl_problems(
    seed: np.random.SeedSequence, problems: int, *, steps: tuple[int, int] = (2, 3), ordered: bool = False
) -> pd.DataFrame:
    """Return RL training problems of `steps[0]` to `steps[1]` steps, as rows of the problem schema."""
    rng = np.random.default_rng(seed)
    puzzles = _distinct(rng, RL_FORMATS, *steps, problems, set(), test=False, ordered=ordered)
    return pd.DataFrame([_problem_row(f"rl-{i}", "rl", puzzle) for i, puzzle in enumerate(puzzles)])


def sft_examples(seed: np.random.SeedSequence, examples: int, *, ordered: bool = False) -> pd.DataFrame:
    """Return worked examples of 1 to 4 steps in the teacher styles, as rows of the SFT example schema."""
    rng = np.random.default_rng(seed)
    puzzles = _distinct(rng, RL_FORMATS, 1, 4, examples, set(), test=False, ordered=ordered)
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
    seed: np.random.SeedSequence,
    examples: int,
    *,
    error_rate: float,
    broken_rate: float,
    styles: Mapping[str, float] = STYLE_SHARES,
    ordered: bool = False,
) -> pd.DataFrame:
    """Return what a base model is pretrained on, as rows of the SFT example schema.

    15 % are lines of single facts such as `7*8=6`, without which the digits are not learned. The rest are problems of
    1 to 4 steps in `styles` with their shares, with wrong steps at `error_rate` and missing or unclosed boxes at
    `broken_rate`, so that the base is able but neither exact nor tidy.

    Raises:
        InputError: an unknown style, or shares that are negative or do not add up to 1.
    """
    known = (*BASE_STYLES, HASTY, *TEACHER_STYLES)
    unknown = sorted(set(styles) - set(known))
    if unknown:
        raise InputError(f"styles.{unknown[0]}: not one of {', '.join(known)}")
    if min(styles.values()) < 0 or abs(sum(styles.values()) - 1) > 1e-8:
        raise InputError(f"styles: the shares are negative or do not add up to 1: {dict(styles)}")
    rng = np.random.default_rng(seed)
    names, shares = list(styles), list(styles.values())
    rows = []
    while len(rows) < examples:
        if rng.random() < 0.15:
            facts = zip(*rng.integers((10, 3, 10), size=(8, 3)).T.tolist(), strict=True)
            response = ";".join(f"{a}{'+-*'[op]}{b}={compute(a, '+-*'[op], b)}" for a, op, b in facts)
            rows.append(("facts?", response, "", "facts"))
            continue
        form = TRAINING_FORMATS[rng.integers(len(TRAINING_FORMATS))]
        puzzle = make_puzzle(rng, form, int(rng.integers(1, 5)), ordered=ordered)
        if is_test(problem_text(puzzle)):
            continue
        style = names[rng.choice(len(names), p=shares)]
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
            puzzle = make_puzzle(rng, form, int(rng.integers(1, 5)))
            texts.append(prompt_text(puzzle))
            texts += [solution_text(puzzle, style) for style in BASE_STYLES + TEACHER_STYLES]
    return texts


def _distinct(
    rng: np.random.Generator,
    forms: tuple[str, ...],
    low: int,
    high: int,
    count: int,
    seen: set[str],
    *,
    test: bool,
    ordered: bool = False,
) -> list[Puzzle]:
    """Draw `count` puzzles of the test or the training side whose texts are not in `seen`, and add them to it."""
    puzzles: list[Puzzle] = []
    for _ in range(100 * count + 1000):
        if len(puzzles) == count:
            return puzzles
        puzzle = make_puzzle(rng, forms[rng.integers(len(forms))], int(rng.integers(low, high + 1)), ordered=ordered)
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
