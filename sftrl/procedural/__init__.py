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

import numpy as np
import pandas as pd

from sftrl.errors import InputError
from sftrl.procedural.puzzles import Puzzle, compute, make_puzzle
from sftrl.procedural.texts import BASE_STYLES, TEACHER_STYLES, problem_text, prompt_text, solution_text

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
    """Return RL training problems of 2 or 3 steps, as rows of the problem schema."""
    puzzles = _distinct(np.random.default_rng(seed), RL_FORMATS, 2, 3, problems, set(), test=False)
    return pd.DataFrame([_problem_row(f"rl-{i}", "rl", puzzle) for i, puzzle in enumerate(puzzles)])


def sft_examples(seed: np.random.SeedSequence, examples: int) -> pd.DataFrame:
    """Return worked examples of 1 to 4 steps in the teacher styles, as rows of the SFT example schema."""
    rng = np.random.default_rng(seed)
    puzzles = _distinct(rng, RL_FORMATS, 1, 4, examples, set(), test=False)
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
    1 to 4 steps in the base styles, with wrong steps at `error_rate` and missing or unclosed boxes at `broken_rate`, so
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
        puzzle = make_puzzle(rng, TRAINING_FORMATS[rng.integers(len(TRAINING_FORMATS))], int(rng.integers(1, 5)))
        if is_test(problem_text(puzzle)):
            continue
        style = BASE_STYLES[rng.choice(len(BASE_STYLES), p=(0.1, 0.1, 0.8))]
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
