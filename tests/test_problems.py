"""Problems and examples: every published shape loads, and a broken row is named."""

import json
import re

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sftrl.errors import InputError
from sftrl.problems import (
    ANSWER_TYPES,
    BENCHMARKS,
    EXAMPLE_COLUMNS,
    PAPER_LISTS,
    PROBLEM_COLUMNS,
    RL_PROBLEMS,
    SFT_EXAMPLES,
    check_examples,
    check_problems,
    load_examples,
    load_problems,
    problem_source,
    with_choices,
)
from sftrl.problems.rules import RULES, aoval, boxed, first, gsm8k, joined, letter, number, options, text, user


def problem(**changes) -> dict:
    return {"id": "p1", "benchmark": "b", "problem": "What is 1+1?", "answer": "2", **changes}


def write(path, records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


# --- rules -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "value", "expected"),
    [
        (text, None, ""),
        (text, float("nan"), ""),
        (text, "  x ", "x"),
        (text, 17, "17"),
        (number, 142.0, "142"),  # AMC publishes floats
        (number, "025", "25"),  # AIME publishes three digits
        (number, "000", "0"),
        (number, "-3.0", "-3"),
        (number, "3.5", "3.5"),  # not whole: as published
        (number, r"336^\circ", "336"),  # one answer of AIME 2025
        (number, r"90^{\circ}", "90"),
        (number, 12345678901234567890, "12345678901234567890"),  # more digits than a float has
        (gsm8k, "He has 3.\n#### 1,600", "1600"),
        (gsm8k, "#### 3\n#### -4", "-4"),  # the last one
        (boxed, r"so $\boxed{\frac{1}{2}}$.", r"\frac{1}{2}"),
        (boxed, r"$\boxed{3}$, no: $\boxed{7}$", "7"),
        (boxed, r"\fbox{5}", "5"),
        (boxed, r"$\boxed 5$.", "5"),
        (boxed, r"\boxed{\{1,2\}}", r"\{1,2\}"),
        (boxed, r"\boxed{\text{(A)}}", r"\text{(A)}"),
        (joined, ["2"], "2"),
        (joined, ["$69$,$84$"], "$69$,$84$"),  # OlympiadBench: one string for several answers
        (joined, ["1", " 2"], "1, 2"),
        (first, ["a", "b"], "a"),
        (first, [], ""),
        (first, None, ""),
        (letter, 2, "C"),
        (letter, "0", "A"),
        (letter, "b", "B"),
        (options, [1, " x"], ["1", "x"]),
        (options, [], None),
        (options, None, None),
        (aoval, [[{"aoVal": "A", "content": "$1$ "}], [{"aoVal": "B", "content": "2"}]], ["$1$", "2"]),
        (user, "plain", "plain"),
        (user, [{"role": "system", "content": "s"}, {"role": "user", "content": " q "}], "q"),
    ],
)
def test_rules(rule, value, expected):
    assert rule(value) == expected
    assert RULES[rule.__name__] is rule


@pytest.mark.parametrize(
    ("rule", "value", "message"),
    [
        (gsm8k, "the answer is 3", "####"),
        (gsm8k, "####  ", "####"),
        (boxed, "the answer is 3", "boxed"),  # no guess from the words
        (boxed, r"\boxed{3", "boxed"),  # cut off
        (letter, "AB", "neither"),
        (letter, 26, "neither"),
        (aoval, [[{"aoVal": "B", "content": "x"}]], "labelled 'B'"),
        (user, [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}], "2 user turns"),
    ],
)
def test_rules_do_not_guess(rule, value, message):
    with pytest.raises(ValueError, match=message):
        rule(value)


@given(st.integers(), st.sampled_from(["{}", "{}.0", "{}.000", "0{}"]))
def test_number_writes_every_whole_number_one_way(value, form):
    written = form.format(value) if value >= 0 else "-" + form.format(-value)
    assert number(written) == str(value)


# --- the schema ------------------------------------------------------------------------------------------------------


def test_a_checked_table_has_the_schemas_columns_in_order():
    checked = check_problems(pd.DataFrame([problem(extra=1)]))
    assert list(checked.columns) == [*PROBLEM_COLUMNS, "extra"]
    assert checked.loc[0, ["answer_type", "choices", "solution", "level", "tolerance"]].tolist() == [None] * 5


@pytest.mark.parametrize("answer_type", ANSWER_TYPES)
def test_every_answer_type_passes(answer_type):
    answer = "B" if answer_type == "choice" else "12"
    check_problems(pd.DataFrame([problem(answer_type=answer_type, answer=answer)]))


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl"])
def test_the_check_takes_back_what_was_written(tmp_path, suffix):
    from sftrl.files import read_table, write_table

    rows = [problem(answer="B", answer_type="choice", choices=["1", "2"]), problem(id="p2", level="3")]
    checked = check_problems(pd.DataFrame(rows))
    write_table(checked, tmp_path / f"t{suffix}")
    again = check_problems(read_table(tmp_path / f"t{suffix}"))
    assert again["choices"][0] == ["1", "2"]
    assert again["choices"][1] is None
    assert again.drop(columns="choices").equals(checked.drop(columns="choices"))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"id": "1", "benchmark": "b", "problem": "x"}], "my.csv: no column 'answer'"),
        ([problem(), problem()], "my.csv, row 2: id 'p1' is already that of my.csv, row 1"),
        ([problem(), problem(id="p2", problem="  ")], "my.csv, row 2: problem is empty"),
        ([problem(answer=None)], "my.csv, row 1: answer is empty"),
        ([problem(answer=2)], "my.csv, row 1: answer is 2, which is not text"),
        ([problem(answer_type="int")], "my.csv, row 1: answer_type 'int' is not one of integer, number"),
        ([problem(answer_type="integer", answer="2.5")], "my.csv, row 1: the answer '2.5' is no integer"),
        (
            [problem(answer_type="choice", answer="C", choices=["x", "y"])],
            r"row 1: the answer 'C' is not .* \(A to B\)",
        ),
        ([problem(answer_type="choice", answer="a", choices=["x", "y"])], "the answer 'a' is not the letter"),
        ([problem(answer_type="choice", answer="12")], "the answer '12' is not the letter"),
        ([problem(answer_type="choice", answer="A", choices=["x"])], "choices must be two or more texts"),
        ([problem(answer_type="choice", answer="A", choices=["x", ""])], "choices must be two or more texts"),
        ([problem(tolerance="1 %")], "tolerance '1 %' is not a number between 0 and 1"),
        ([problem(tolerance=1.0)], "tolerance 1.0 is not a number between 0 and 1"),
        ([problem(answer_type="integer", choices=["1", "2"])], "choices are given, but answer_type is 'integer'"),
    ],
)
def test_a_broken_problem_is_named(rows, message):
    with pytest.raises(InputError, match=message):
        check_problems(pd.DataFrame(rows), "my.csv")


def test_ids_are_unique_within_a_benchmark_only():
    check_problems(pd.DataFrame([problem(), problem(benchmark="c")]))


def test_examples_are_checked_too():
    row = {"id": "e1", "prompt": "p", "response": "r"}
    assert list(check_examples(pd.DataFrame([{**row, "n_tokens": 3}])).columns) == [*EXAMPLE_COLUMNS, "n_tokens"]
    with pytest.raises(InputError, match="row 2: id 'e1' is already that of examples, row 1"):
        check_examples(pd.DataFrame([row, row]))
    with pytest.raises(InputError, match="row 1: response is empty"):
        check_examples(pd.DataFrame([{**row, "response": ""}]))
    with pytest.raises(InputError, match="no column 'prompt'"):
        check_examples(pd.DataFrame([{"id": "e1", "response": "r"}]))


def test_choices_are_lettered():
    assert with_choices("Which?", ["x", "y"]) == "Which?\nA. x\nB. y"
    assert with_choices("How many?", None) == "How many?"


# --- the benchmark table ---------------------------------------------------------------------------------------------

# One row of each set in its published shape; the texts are ours.
PUBLISHED = {
    "math500": (
        {"problem": "1+1?", "solution": r"It is $\boxed{2}$.", "answer": "2", "subject": "Algebra", "level": 1,
         "unique_id": "test/algebra/1.json"},
        {"id": "test/algebra/1.json", "answer": "2", "level": "1"},
    ),
    "aime_1983_2024": (
        {"ID": "1983-1", "Year": 1983, "Problem Number": 1, "Question": "1+1?", "Answer": "002", "Part": None},
        {"id": "1983-1", "answer": "2", "answer_type": "integer", "level": "1983"},
    ),
    "aime_2024": (
        {"id": 60, "problem": "1+1?", "solution": "2", "answer": "002", "url": "u", "year": "2024"},
        {"id": "60", "answer": "2", "answer_type": "integer"},
    ),
    "aime_2025": ({"question": "1+1?", "answer": r"2^\circ"}, {"answer": "2", "answer_type": "integer"}),
    "gsm8k": (
        {"question": "1+1?", "answer": "1+1 = <<1+1=2>>2\n#### 2,000"},
        {"answer": "2000", "answer_type": "integer", "solution": "1+1 = <<1+1=2>>2\n#### 2,000"},
    ),
    "amc": ({"id": 0, "problem": "1+1?", "answer": 2.0, "url": "u"}, {"id": "0", "answer": "2"}),
    "olympiadbench": (
        {"id": 7, "question": "x^2=1?", "solution": ["first", "second"], "final_answer": ["1,-1"], "context": None,
         "is_multiple_answer": True, "unit": None, "answer_type": "Numerical", "error": None, "subfield": "Algebra"},
        {"id": "7", "answer": "1,-1", "answer_type": "set", "solution": "first", "level": "Algebra"},
    ),
    "minerva": (
        {"problem": "1+1?", "solution": r"so \boxed{2.0e3} $\mathrm{m}$", "type": "Astronomy", "idx": 0},
        {"answer": "2.0e3", "answer_type": None, "level": "Astronomy"},
    ),
    "math": (
        {"problem": "1+1?", "level": "Level 1", "type": "Algebra", "solution": r"It is $\boxed{2}$."},
        {"answer": "2", "level": "Level 1"},
    ),
    "mmlu_math": (
        {"question": "1+1?", "subject": "abstract_algebra", "choices": ["0", "1", "2", "3"], "answer": 2},
        {"answer": "C", "answer_type": "choice", "choices": ["0", "1", "2", "3"], "level": "abstract_algebra"},
    ),
    "imo_answerbench": (
        {"Problem ID": "imo-1", "Problem": "1+1?", "Short Answer": " $2$ ", "Category": "Algebra"},
        {"id": "imo-1", "answer": "$2$", "level": "Algebra"},
    ),
    "tal_scq5k_en": (
        {"queId": "q1", "problem": "1+1? ", "answer_value": "B", "difficulty": "0", "qtype": "single_choice",
         "answer_option_list": [[{"aoVal": "A", "content": "1 "}], [{"aoVal": "B", "content": "2 "}]]},
        {"id": "q1", "problem": "1+1?", "answer": "B", "choices": ["1", "2"], "answer_type": "choice"},
    ),
    "mathvista": (
        {"pid": "1", "question": "How many?", "query": "Hint: ... How many?", "answer": "2", "image": "images/1.jpg"},
        {"id": "1", "problem": "Hint: ... How many?", "answer": "2"},
    ),
    "math_train": (
        {"problem": "1+1?", "level": "Level 1", "type": "Algebra", "solution": r"It is $\boxed{2}$."},
        {"answer": "2", "benchmark": "math_train"},
    ),
    "deepscaler": ({"problem": "1+1?", "answer": "2", "solution": "s"}, {"answer": "2", "solution": "s"}),
}  # fmt: skip


def test_every_set_of_the_table_has_its_row_here():
    assert set(PUBLISHED) == {*BENCHMARKS, *RL_PROBLEMS}
    assert {name for names in PAPER_LISTS.values() for name in names} <= set(BENCHMARKS)
    assert all(len(names) == 7 for names in PAPER_LISTS.values())


@pytest.mark.parametrize("name", [*BENCHMARKS, *RL_PROBLEMS])
def test_every_entry_of_the_table_is_a_whole_source(name):
    source = problem_source({"benchmark": name, "images": "ignore"})
    assert source.split
    assert source.revision is None or re.fullmatch("[0-9a-f]{40}", source.revision)
    # Another copy has commits and files of its own.
    assert problem_source({"benchmark": name, "images": "ignore", "hub": "some/copy"}).revision is None


def test_the_counts_that_were_confirmed():
    expected = {name: problem_source(name).expected for name in ("deepscaler", "aime_2025", "imo_answerbench")}
    assert expected == {"deepscaler": 40_315, "aime_2025": 30, "imo_answerbench": 400}


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_row_becomes_a_problem(name, tmp_path):
    row, expected = PUBLISHED[name]
    spec = {"benchmark": name, "path": write(tmp_path / "rows.jsonl", [row])}
    if name == "mathvista":
        spec["images"] = "ignore"
    loaded = load_problems(spec)
    assert list(loaded.columns) == PROBLEM_COLUMNS
    assert loaded.loc[0, list({"benchmark": name, **expected})].to_dict() == {"benchmark": name, **expected}


@pytest.mark.parametrize(
    ("name", "row", "expected"),
    [
        (
            "llama_nemotron_math",
            {"input": [{"role": "user", "content": "1+1?"}], "output": "<think>2</think>2", "reasoning": "on"},
            {"prompt": "1+1?", "response": "<think>2</think>2", "answer": None},
        ),
        ("acereason_math", {"category": "math", "source": "x", "input": "1+1?", "output": "2"}, {"prompt": "1+1?"}),
        ("gsm8k_train", {"question": "1+1?", "answer": "so\n#### 2"}, {"response": "so\n#### 2", "answer": "2"}),
        (
            "math_solutions",
            {"problem": "1+1?", "solution": r"$\boxed{2}$", "level": "Level 1", "type": "Algebra"},
            {"prompt": "1+1?", "response": r"$\boxed{2}$", "answer": "2"},
        ),
    ],
)
def test_a_published_row_becomes_an_example(name, row, expected, tmp_path):
    other = {**row, "reasoning": "off", "category": "code"}  # rows of the other kinds stay out
    rows = [row, other] if name in ("llama_nemotron_math", "acereason_math") else [row]
    loaded = load_examples({"source": name, "path": write(tmp_path / "rows.jsonl", rows)})
    assert list(loaded.columns) == EXAMPLE_COLUMNS
    assert len(loaded) == 1
    assert loaded.loc[0, ["source", *expected]].to_dict() == {"source": name, **expected}


def test_every_sft_set_names_a_split_and_maps_prompt_and_response():
    for entry in SFT_EXAMPLES.values():
        assert entry["split"]
        assert {"prompt", "response"} <= set(entry["columns"])


def test_tolerances_are_those_of_the_spec(tmp_path):
    assert [BENCHMARKS[name]["tolerance"] for name in ("gsm8k", "minerva")] == [None, 0.01]
    path = tmp_path / "own.jsonl"
    path.write_text('{"problem": "pi?", "answer": "3.14"}\n')
    spec = {"benchmark": "own", "path": str(path), "columns": {"problem": "problem", "answer": "answer"}}
    assert load_problems({**spec, "tolerance": 0.01}).loc[0, "tolerance"] == 0.01
    assert load_problems(spec).loc[0, "tolerance"] is None


def test_images_are_needed_and_that_is_said():
    with pytest.raises(InputError, match=r"mathvista: .* images"):
        load_problems("mathvista")


# --- specs -----------------------------------------------------------------------------------------------------------


def rows_file(tmp_path):
    return write(tmp_path / "rows.jsonl", [{"q": f"{i}+1?", "a": i + 1} for i in range(4)])


def test_a_set_of_ones_own_needs_only_columns(tmp_path):
    spec = {"benchmark": "mine", "path": rows_file(tmp_path), "columns": {"problem": "q", "answer": "a"}}
    loaded = load_problems({**spec, "answer_type": "integer"})
    assert loaded["answer"].tolist() == ["1", "2", "3", "4"]
    assert set(loaded["answer_type"]) == {"integer"}
    assert load_problems({**spec, "limit": 2})["answer"].tolist() == ["1", "2"]
    assert load_problems({**spec, "where": {"a": [2, "3"]}})["answer"].tolist() == ["2", "3"]
    assert len(load_problems({**spec, "sample": 3})) == 3


def test_ids_come_from_the_text_and_do_not_move(tmp_path):
    spec = {"benchmark": "mine", "columns": {"problem": "q", "answer": "a"}}
    rows = [{"q": "x", "a": 1}, {"q": "y", "a": 2}, {"q": "x", "a": 3}]
    one = load_problems({**spec, "path": write(tmp_path / "1.jsonl", rows)})
    two = load_problems({**spec, "path": write(tmp_path / "2.jsonl", [{"q": "z", "a": 0}, *rows])})
    assert one["id"].tolist() == two["id"].tolist()[1:]
    assert one["id"][2] == one["id"][0] + "-2"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"colums": {}}, "unknown key 'colums'.*did you mean 'columns'"),
        ({"benchmark": ""}, "does not say which benchmark"),
        ({"columns": None}, "`columns` must say"),
        ({"shards": 2, "sample": 2}, "'shards' draws among the files of a dataset of the hub"),
        ({"limit": 2, "sample": 2}, "'sample' draws from all rows and 'limit' reads the first"),
        ({"seed": "0"}, r"`seed` is '0' and should be a valid integer"),
        ({"tolerance": 2.0}, "`tolerance` is 2.0 and should be less than 1"),
        ({"columns": {"problem": "q"}}, "does not say where 'answer' is read from"),
        ({"columns": {"problem": "q", "answer": "answer"}}, r"no column 'answer' for answer \(there are: q, a\)"),
        ({"columns": {"problem": "question|query", "answer": "a"}}, "no column 'question' or 'query' for problem"),
        ({"columns": {"problem": "q", "answer": "a", "solution": "s"}}, "no column 's' for solution"),
        ({"columns": {"problem": "q", "answer": "a", "topic": "s"}}, "unknown column 'topic'"),
        ({"columns": {"problem": "q", "answer": "box:a"}}, "unknown rule 'box' .*did you mean 'boxed'"),
        ({"columns": {"problem": "q", "answer": "boxed:a"}}, r"rows.jsonl, row 1, column 'a': no .*rule 'boxed'"),
        ({"where": {"level": [1]}}, "no column 'level' for where"),
        ({"where": {"a": "17"}}, "`where` is '17' and should be a valid list"),
        ({"where": {"a": [17]}}, "no rows where"),
        ({"expected": 5}, "4 rows, where 5 are expected: .*`expected: 4`"),
        ({"incomplete": "skip"}, "`incomplete` is 'skip' and should be 'error' or 'drop'"),
        ({"limit": 0}, "`limit` is 0 and should be greater than or equal to 1"),
        ({"hub": "a/b"}, "`hub` is for a dataset of the hub, and `path` for a file"),
        ({"path": "nowhere.jsonl"}, "nowhere.jsonl: no such file"),
    ],
)
def test_a_slip_in_a_spec_is_named(changes, message, tmp_path):
    spec = {"benchmark": "mine", "path": rows_file(tmp_path), "columns": {"problem": "q", "answer": "a"}}
    with pytest.raises(InputError, match=message):
        load_problems({**spec, **changes})


def test_an_unknown_set_is_named():
    with pytest.raises(InputError, match="unknown benchmark 'math50': did you mean 'math500'"):
        load_problems("math50")
    with pytest.raises(InputError, match="unknown source 'nemotron'"):
        load_examples("nemotron")


def test_a_broken_row_is_named_by_its_number_in_the_file(tmp_path):
    rows = [{"q": "x", "a": "1", "k": "no"}, {"q": "y", "a": "2", "k": "yes"}, {"q": " ", "a": "3", "k": "yes"}]
    spec = {"benchmark": "mine", "path": write(tmp_path / "rows.jsonl", rows), "where": {"k": ["yes"]}}
    spec["columns"] = {"problem": "q", "answer": "a"}
    with pytest.raises(InputError, match=r"rows\.jsonl, row 3: problem is empty"):
        load_problems(spec)
    with pytest.warns(UserWarning, match="1 of 2 rows left out, without problem or answer"):
        assert load_problems({**spec, "incomplete": "drop"})["answer"].tolist() == ["2"]


def test_published_answer_types_outside_the_table_are_named(tmp_path):
    row = {**PUBLISHED["olympiadbench"][0], "answer_type": "Matrix"}
    with pytest.raises(InputError, match="row 1: answer type 'Matrix' is not one of Numerical"):
        load_problems({"benchmark": "olympiadbench", "path": write(tmp_path / "rows.jsonl", [row])})
