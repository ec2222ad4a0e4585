"""Generated maths: right answers, no test problem in any training text, the same for the same seed."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sftrl import procedural
from sftrl.errors import InputError
from sftrl.problems import check_examples, check_problems, with_choices
from sftrl.verify import verify

FORMS = sorted({form for form, _, _ in procedural.BENCHMARKS.values()})


def seed(n: int = 0) -> np.random.SeedSequence:
    return np.random.SeedSequence(n)


def solve(text: str) -> str:
    """Solve a problem from its text alone, by another route than the generator's.

    A new name takes the one digit of the ten that makes its line true; expressions go from left to right.
    """
    if text.startswith("["):
        values = []
        for part in re.findall(r"\[([^]]*)\]", text):
            digits, signs = re.findall(r"\d", part), re.findall(r"[-+*]", part)
            value = int(digits[0])
            for sign, digit in zip(signs, digits[1:], strict=True):
                value = eval(f"{value}{sign}{digit}") % 10
            values.append(value)
        return "".join(map(str, values))
    body, asked = re.match(r"(.*?)[;.]? (?:find|solve|read) ([a-z,]+)\?", text, re.S).groups()
    lines = re.split(r"[;.] ?", body)
    known: dict[str, int] = {}
    for line in filter(None, lines):
        line = line.replace("plus", "+").replace("minus", "-").replace("times", "*")
        if match := re.fullmatch(r"dial (\w) shows (.*)", line):
            line = f"{match[1]}={match[2]}"
        elif match := re.fullmatch(r"(.*) shows dial (\w)", line):
            line = f"{match[2]}={match[1]}"
        left, right = line.split("=")
        unknown = ({*re.findall(r"[a-z]", line)} - {*known}).pop()
        fits = [
            d
            for d in range(10)
            if (eval(left, {}, known | {unknown: d}) - eval(right, {}, known | {unknown: d})) % 10 == 0
        ]
        assert len(fits) == 1, line
        known[unknown] = fits[0]
    return "".join(str(known[name]) for name in asked.split(","))


@given(st.sampled_from(FORMS), st.integers(1, 8), st.integers(0, 10**6), st.booleans())
@settings(max_examples=300, deadline=None)
def test_the_answer_is_the_problem_solved(form, steps, number, ordered):
    puzzle = procedural.make_puzzle(np.random.default_rng(number), form, steps, ordered=ordered)
    assert puzzle.digits == solve(procedural.problem_text(puzzle))


@given(st.sampled_from(FORMS), st.integers(1, 8), st.integers(0, 10**6))
@settings(max_examples=100, deadline=None)
def test_every_style_ends_in_the_answer(form, steps, number):
    puzzle = procedural.make_puzzle(np.random.default_rng(number), form, steps)
    kind = "choice" if puzzle.options else "integer"
    for style in (*procedural.BASE_STYLES, procedural.HASTY, *procedural.TEACHER_STYLES):
        solution = procedural.solution_text(puzzle, style)
        assert verify(solution, puzzle.answer, answer_type=kind, choices=list(puzzle.options) or None)


def test_styles_differ_in_length_in_their_order():
    puzzles = [procedural.make_puzzle(np.random.default_rng(i), "chain", 4) for i in range(50)]
    for styles in (procedural.BASE_STYLES, procedural.TEACHER_STYLES):
        lengths = [np.mean([len(procedural.solution_text(p, style)) for p in puzzles]) for style in styles]
        assert lengths == sorted(lengths)


def test_a_hasty_solution_works_out_two_steps():
    for number in range(20):
        puzzle = procedural.make_puzzle(np.random.default_rng(number), "dials", 4)
        *steps, _ = procedural.solution_text(puzzle, "hasty").split(";")
        full, terse = (procedural.solution_text(puzzle, style).split(";") for style in ("full", "terse"))
        assert steps == full[:2] + terse[2:4]


def test_wrong_steps_are_carried_on():
    puzzle = procedural.make_puzzle(np.random.default_rng(0), "chain", 5)
    rng = np.random.default_rng(1)
    wrong = [procedural.solution_text(puzzle, "full", rng, error_rate=0.5) for _ in range(40)]
    assert len(set(wrong)) > 20
    for text in wrong:
        values: dict[str, int] = {}
        for left, put, value, name in re.findall(r"(\w)[-+*]\w=(\d)[-+*]\d=(\d),(\w)=", text):
            if left in values:  # a later step works with the digit that was written, right or wrong
                assert int(put) == values[left]
            values[name] = int(value)
        assert len(values) >= 4  # the pattern does read the steps


def test_benchmarks_are_valid_distinct_and_in_eight_formats():
    problems = check_problems(procedural.benchmark_problems(seed(), 20))
    assert list(problems["benchmark"].unique()) == list(procedural.BENCHMARKS)
    assert (problems.groupby("benchmark").size() == 20).all()
    assert not problems["problem"].duplicated().any()
    assert set(problems.loc[problems["benchmark"] == "choice", "answer"]) <= set("ABCD")


def test_every_number_of_steps_is_tested_alike():
    problems = check_problems(procedural.benchmark_problems(seed(), 12, steps=(2, 4)))
    assert list(problems["benchmark"].unique()) == [*procedural.RL_FORMATS, "reversed", "long"]
    assert len(problems) == 84
    assert not problems["problem"].duplicated().any()
    counts = problems.groupby("benchmark")["level"].value_counts().unstack(fill_value=0)
    assert (counts.loc[list(procedural.RL_FORMATS), ["2", "3", "4"]] == 4).all(axis=None)
    assert counts.loc["reversed", "2"] == counts.loc["long", "5"] == 12
    uneven = procedural.benchmark_problems(seed(), 8, steps=(2, 4))
    assert sorted(uneven[uneven["benchmark"] == "chain"]["level"].value_counts()) == [2, 3, 3]


def test_rl_covers_the_steps_it_is_told():
    levels = procedural.rl_problems(seed(), 300, steps=(2, 4))["level"]
    assert set(levels) == {"2", "3", "4"}
    assert levels.value_counts().min() > 70


def test_ordered_names_are_those_of_the_alphabet_in_turn():
    for form in set(FORMS) - {"expression"}:
        puzzle = procedural.make_puzzle(np.random.default_rng(1), form, 4, ordered=True)
        assert "".join(puzzle.values) == "abcde"


@pytest.mark.parametrize("ordered", [False, True])
def test_no_test_problem_is_in_any_training_text(ordered):
    """Not by the rule alone: the texts themselves are searched, under several seeds."""
    how = {"ordered": ordered}
    tests = {t for n in range(3) for t in procedural.benchmark_problems(seed(n), 40, steps=(2, 4), **how)["problem"]}
    tests |= {t for n in range(3) for t in procedural.benchmark_problems(seed(n), 40, **how)["problem"]}
    texts = {t for n in range(3) for t in procedural.rl_problems(seed(n), 500, steps=(2, 4), **how)["problem"]}
    texts |= {t for n in range(3) for t in procedural.sft_examples(seed(n), 500, **how)["prompt"]}
    pretraining = procedural.pretraining_examples(seed(), 3000, error_rate=0.1, broken_rate=0.1, **how)
    texts |= {prompt.split("\n")[0] for prompt in pretraining["prompt"]}
    assert len(texts) > 4000
    assert not tests & texts
    assert all(map(procedural.is_test, tests))


def test_held_out_template_is_in_no_training_text():
    texts = [*procedural.sft_examples(seed(), 500)["prompt"], *procedural.rl_problems(seed(), 500)["problem"]]
    texts += [*procedural.pretraining_examples(seed(), 2000, error_rate=0, broken_rate=0)["prompt"]]
    assert not any("shows dial" in text for text in texts)


def test_the_base_reads_styles_in_their_shares():
    styles = {"terse": 0.5, "full": 0.3, "careful": 0.2}
    examples = procedural.pretraining_examples(seed(), 6000, error_rate=0.1, broken_rate=0.1, styles=styles)
    shares = examples.loc[examples["source"] != "facts", "source"].value_counts(normalize=True)
    assert set(shares.index) == set(styles)
    assert all(abs(shares[style] - share) < 0.025 for style, share in styles.items())


@pytest.mark.parametrize("styles", [{"full": 0.5, "fancy": 0.5}, {"full": 0.5}, {"full": 1.5, "terse": -0.5}])
def test_styles_that_cannot_be(styles):
    with pytest.raises(InputError, match="styles"):
        procedural.pretraining_examples(seed(), 10, error_rate=0, broken_rate=0, styles=styles)


def test_the_teacher_writes_what_the_base_never_read():
    """Unless the base is told to read the teacher's styles."""
    teacher = " ".join(procedural.sft_examples(seed(), 300)["response"])
    base = " ".join(procedural.pretraining_examples(seed(), 2000, error_rate=0.1, broken_rate=0)["response"])
    for word in (" is ", "so ", ". ", ", "):
        assert word in teacher
        assert word not in base


def test_sft_examples_are_valid_and_right():
    examples = check_examples(procedural.sft_examples(seed(), 200))
    assert all(verify(r, a) for r, a in zip(examples["response"], examples["answer"], strict=True))


def test_pretraining_has_facts_errors_and_broken_boxes():
    examples = procedural.pretraining_examples(seed(), 4000, error_rate=0.08, broken_rate=0.1)
    facts = examples["source"] == "facts"
    assert 0.12 < facts.mean() < 0.18
    worked = examples[~facts]
    broken = ~worked["response"].str.contains(r"\\boxed\{[^}]*\}$")
    assert 0.07 < broken.mean() < 0.13


def test_options_are_lettered_as_prompts_are():
    puzzle = procedural.make_puzzle(np.random.default_rng(0), "choice", 3)
    assert procedural.prompt_text(puzzle) == with_choices(procedural.problem_text(puzzle), list(puzzle.options))


def test_same_seed_same_texts_another_seed_others():
    for make in (lambda n: procedural.benchmark_problems(seed(n), 5), lambda n: procedural.sft_examples(seed(n), 20)):
        assert make(1).equals(make(1))
        assert not make(1).equals(make(2))


def test_asking_for_more_than_there_is():
    with pytest.raises(InputError, match="distinct problems"):
        procedural._distinct(np.random.default_rng(0), ("chain",), 1, 1, 1000, set(), test=True, ordered=True)
