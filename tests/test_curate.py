"""Curation: what is dropped is dropped for its reason, and nothing depends on order, growth or the process."""

import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sftrl.curate import (
    check_lengths,
    clean,
    deduplicate,
    drop_unreadable,
    example_lengths,
    normalise,
    prompt_lengths,
    select,
    split,
    token_counter,
)
from sftrl.errors import InputError


def examples(prompts, responses=None, **columns) -> pd.DataFrame:
    n = len(prompts)
    return pd.DataFrame(
        {
            "id": [f"e{i}" for i in range(n)],
            "prompt": prompts,
            "response": responses or [f"So it is \\boxed{{{i}}}." for i in range(n)],
            "answer": [str(i) for i in range(n)],
            "source": "test",
            **columns,
        }
    )


def many(n: int, first: int = 0) -> pd.DataFrame:
    table = examples([f"How much is {i} + {i * i}?" for i in range(first, first + n)])
    table["id"] = [f"e{i}" for i in range(first, first + n)]
    table["n_tokens"] = [(7 * i) % 23 for i in range(first, first + n)]
    return table


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("What is $x + 3$?", "what is x+3", True),  # case, spaces, dollars, punctuation
        (r"Find $\dfrac{1}{2}$.", r"Find \(\frac{1}{2}\)", True),  # sizes and delimiters of mathematics
        (r"$\left( 1, 2 \right)$", "(1, 2)", True),
        (r"$x^{10}$", "$x^10$", True),  # braces that group
        ("1\\,000", "1 000", True),
        ("ｘ＝１", "x=1", True),  # full-width forms
        (r"\textbf{Hint}: add", "Hint: add", True),
        (r"$x_{}^{} = 1$", "x = 1", True),  # empty sub- and superscripts
        (r"$1 \le x, \ldots$", r"$1 \leq x, \dots$", True),  # two names of one sign
        (r"$\leftarrow$", "$arrow$", False),  # no command cut in two
        ("$x+3$", "$x-3$", False),  # an operator
        ("What is 3.5?", "What is 35?", False),  # a decimal point
        ("$[0, 1)$", "$(0, 1]$", False),  # brackets
        (r"$\sin x$", r"$\cos x$", False),
        ("10 apples", "11 apples", False),
        ("x < 3", "x > 3", False),
        ("5!", "5", False),
        ("2 ⊕ 3", "2 ⊗ 3", False),  # signs that nobody thought of
        ("?", "...", False),  # nothing but punctuation
        ("Найдите x", "Найдите y", False),  # letters of any script
    ],
)
def test_normalise_keeps_what_decides_the_meaning(one, other, same):
    assert (normalise(one) == normalise(other)) is same


def test_normalise_is_idempotent_on_its_own_words():
    text = normalise("If $a+b=3$ and $ab = \\frac{1}{2}$, what is $a^2 + b^2$?")
    assert normalise(text) == text


def test_clean_drops_each_row_for_its_first_reason():
    table = examples(
        ["p0", " ", "p2", "p3", "p4", "p5"],
        ["\\boxed{0}", "\\boxed{1}", None, "<think>so", "Let us begin with", "<think>a</think> \\boxed{5}" + " x" * 20],
    )
    kept, report = clean(table, count_tokens=lambda texts: [len(t.split()) for t in texts], max_tokens=5)
    assert list(kept["id"]) == ["e0"]
    assert list(kept["n_tokens"]) == [1]
    assert dict(zip(report["reason"], report["dropped"], strict=True)) == {
        "empty prompt or response": 2,
        "cut off while thinking": 1,
        "no final answer": 1,
        "more than 5 tokens": 1,
    }
    assert len(table.columns) == 5  # the table given is not changed


def test_one_length_may_be_both_limits_and_none_may_cross():
    table = examples(["a", "b", "c"], ["\\boxed{1}", "so \\boxed{1}", "it is so \\boxed{1}"])
    words = {"count_tokens": lambda texts: [len(text.split()) for text in texts]}
    assert clean(table, min_tokens=2, max_tokens=2, **words)[0]["prompt"].tolist() == ["b"]
    with pytest.raises(InputError, match="max_tokens=2 is below min_tokens=3"):
        clean(table, min_tokens=3, max_tokens=2, **words)


def test_clean_can_verify_the_final_answer():
    table = examples(["p0", "p1", "p2"], ["\\boxed{0}", "\\boxed{1.0}", "\\boxed{17}"])
    table.loc[len(table)] = ["e3", "p3", "\\boxed{3}", None, "test"]
    kept, report = clean(table, verified=True)
    assert list(kept["id"]) == ["e0", "e1"]
    assert list(report["reason"]) == ["final answer is not the gold answer", "no gold answer to verify against"]


def test_nothing_can_be_verified_without_gold_answers():
    with pytest.raises(InputError, match="no example has a gold answer"):
        clean(examples(["a", "b"]).assign(answer=None), verified=True)


def test_clean_without_limits_counts_nothing_and_keeps_all():
    table = many(5)
    kept, report = clean(table)
    assert kept.equals(table)
    assert report.empty
    with pytest.raises(InputError, match="count_tokens"):
        clean(table, max_tokens=3)
    with pytest.raises(InputError, match="max_tokens=3 is below min_tokens=9"):
        clean(table, count_tokens=len, min_tokens=9, max_tokens=3)


def test_a_response_counts_its_own_tokens_and_the_eos():
    import tokenizers
    from transformers import PreTrainedTokenizerFast

    words = tokenizers.Tokenizer(tokenizers.models.WordLevel({"a": 0, "b": 1, "?": 2, "<s>": 3, "</s>": 4}, "?"))
    words.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, bos_token="<s>", eos_token="</s>")
    count = token_counter(tokenizer)
    assert count(["a b a", "", "b"]) == [4, 1, 2]
    assert count([]) == []
    assert count(["a b"] * 1001) == [3] * 1001


def test_deduplicate_keeps_the_first_and_says_what_went():
    table = examples(
        ["What is $1+1$?", "what is 1 + 1", "What is 1+2?", "What is 1+1?", "What is $1+1$"],
        ["\\boxed{2}", "Two: \\boxed{2}", "\\boxed{3}", "\\boxed{2}", "\\boxed{3}"],
    )
    table["answer"] = ["2", "2", "3", "2", "3"]
    kept, report = deduplicate(table)
    assert list(kept["id"]) == ["e0", "e2"]
    assert dict(zip(report["reason"], report["dropped"], strict=True)) == {
        "same prompt": 1,
        "same prompt and response": 1,
        "same prompt, other answer": 1,
    }
    two, _ = deduplicate(table, keep=2)
    assert list(two["id"]) == ["e0", "e1", "e2"]


def test_the_index_of_a_table_does_not_matter():
    table = pd.concat([many(30), many(30).assign(id=lambda t: t["id"] + "b")])  # every label twice
    once = table.reset_index(drop=True)
    assert deduplicate(table)[0].equals(deduplicate(once)[0])
    count = lambda texts: [len(text) for text in texts]  # noqa: E731
    assert clean(table, count_tokens=count, max_tokens=18)[0].equals(clean(once, count_tokens=count, max_tokens=18)[0])


def test_deduplicate_takes_problems_too():
    problems = pd.DataFrame({"id": ["a", "b"], "problem": ["Find $x$.", "find x"], "answer": ["1", "1"]})
    assert list(deduplicate(problems)[0]["id"]) == ["a"]


@pytest.mark.parametrize("how", ["random", "shortest", "longest"])
def test_a_smaller_selection_is_the_beginning_of_a_larger_one(how):
    table = many(200)
    small, large = select(table, 20, how, seed=3), select(table, 90, how, seed=3)
    assert list(large["id"][:20]) == list(small["id"])


def test_selections_are_what_they_are_called():
    table = many(100)
    lengths = np.sort(table["n_tokens"])
    assert list(select(table, 10, "shortest", 0)["n_tokens"]) == list(lengths[:10])
    assert list(select(table, 10, "longest", 0)["n_tokens"]) == list(lengths[::-1][:10])
    mixed = select(table, 11, "mixed", 0)
    assert sorted(mixed["n_tokens"]) == sorted([*lengths[:6], *lengths[-5:]])


@given(st.lists(st.integers(1, 4), min_size=1, max_size=30), st.data())
@settings(max_examples=50, deadline=None)
def test_a_selection_has_n_distinct_rows_whatever_the_ties(lengths, data):
    table = many(len(lengths)).assign(n_tokens=lengths)
    n = data.draw(st.integers(1, len(lengths)))
    for how in ("random", "shortest", "longest", "mixed"):
        assert select(table, n, how, seed=0)["id"].nunique() == n


def test_a_selection_does_not_depend_on_the_order_of_the_rows():
    table = many(100)
    shuffled = table.sample(frac=1, random_state=0)
    for how in ("random", "shortest", "longest", "mixed"):
        assert select(table, 30, how, 5).equals(select(shuffled, 30, how, 5))


def test_seeds_draw_different_selections():
    table = many(100)
    assert set(select(table, 30, "random", 0)["id"]) != set(select(table, 30, "random", 1)["id"])


def test_select_counts_tokens_where_the_table_has_not():
    table = examples(["a", "b", "c"], ["1 2 3", "1", "1 2"])
    counted = select(table, 2, "shortest", 0, count_tokens=lambda texts: [len(text.split()) for text in texts])
    assert list(counted["id"]) == ["e1", "e2"]
    with pytest.raises(InputError, match="n_tokens"):
        select(table, 2, "shortest", 0)


@pytest.mark.parametrize(
    ("n", "how", "message"),
    [
        (11, "random", "cannot select 11 examples"),
        (0, "random", "cannot select 0 examples"),
        (5, "short", "'short' is not one of random, shortest, longest, mixed"),
    ],
)
def test_select_says_what_is_wrong(n, how, message):
    with pytest.raises(InputError, match=message):
        select(many(10), n, how, 0)


def test_an_id_that_occurs_twice_is_named():
    with pytest.raises(InputError, match="id 'e3' occurs twice"):
        select(pd.concat([many(10), many(4, first=3)[:1]]), 2, "random", 0)


@given(st.lists(st.integers(1, 40), min_size=2, max_size=40), st.data())
@settings(max_examples=100, deadline=None)
def test_equal_tokens_are_equal_but_for_one_example(lengths, data):
    table = many(len(lengths)).assign(n_tokens=lengths)
    tokens = data.draw(st.integers(2 * max(lengths), max(2 * max(lengths), sum(lengths))))
    if tokens > sum(lengths):
        return
    for how in ("random", "shortest", "longest", "mixed"):
        chosen = select(table, None, how, seed=0, tokens=tokens)
        assert chosen["id"].is_unique
        left = table[~table["id"].isin(chosen["id"])]
        total = chosen["n_tokens"].sum()
        assert total <= tokens
        # No room for one more of each half, unless all are taken.
        assert left.empty or tokens - total < 2 * max(lengths)
        if how != "mixed":
            assert left.empty or tokens - total < left["n_tokens"].max()
            fewer = select(table, None, how, seed=0, tokens=max(lengths))
            assert list(chosen["id"][: len(fewer)]) == list(fewer["id"])


def test_equal_examples_are_not_equal_tokens_and_tokens_are():
    table = many(2000)
    by_number = {how: select(table, 200, how, 0)["n_tokens"].sum() for how in ("shortest", "longest")}
    assert by_number["longest"] > 5 * by_number["shortest"]
    chosen = {how: select(table, None, how, 0, tokens=4000) for how in ("random", "shortest", "longest", "mixed")}
    assert all(3975 < rows["n_tokens"].sum() <= 4000 for rows in chosen.values())
    assert len(chosen["shortest"]) > 2 * len(chosen["longest"])
    median = table["n_tokens"].median()
    assert chosen["mixed"].loc[chosen["mixed"]["n_tokens"] < median, "n_tokens"].sum() == pytest.approx(2000, abs=25)


@pytest.mark.parametrize(
    ("n", "tokens", "message"),
    [
        (5, 100, "a number of examples or a number of tokens"),
        (None, None, "a number of examples or a number of tokens"),
        (None, 10_000, "cannot select 10,000 tokens .random.: there are"),
        (None, 0, "cannot select 0 tokens"),
    ],
)
def test_a_budget_is_one_thing(n, tokens, message):
    with pytest.raises(InputError, match=message):
        select(many(10), n, "random", 0, tokens=tokens)


def test_a_budget_of_one_token_takes_an_example_of_one():
    assert list(select(many(3).assign(n_tokens=[2, 1, 3]), None, "shortest", 0, tokens=1)["id"]) == ["e1"]


def test_a_budget_below_the_first_example_is_said():
    with pytest.raises(InputError, match="the first example alone has more"):
        select(many(10), None, "longest", 0, tokens=3)


def test_problems_that_no_response_could_solve_are_dropped_and_counted():
    rows = [("a", "2", "integer"), ("b", "not a number at all", "integer"), ("c", "\\frac{1}{2}", None)]
    problems = pd.DataFrame(rows, columns=["id", "answer", "answer_type"]).assign(benchmark="b", problem="?")
    kept, report = drop_unreadable(problems)
    assert list(kept["id"]) == ["a", "c"]
    assert report.to_dict("records") == [
        {"step": "drop_unreadable", "reason": "gold answer cannot be read", "dropped": 1}
    ]
    assert drop_unreadable(kept)[1].empty


def test_lengths_are_those_of_the_ids_that_are_trained_on_and_sampled_from():
    from tiny import tiny_pair

    from sftrl.chat import encode_example, encode_prompt

    _, tokenizer = tiny_pair()
    table = many(12)
    ids = [encode_example(tokenizer, p, r)[0] for p, r in zip(table["prompt"], table["response"], strict=True)]
    assert example_lengths(tokenizer, table.drop(columns="n_tokens")).tolist() == list(map(len, ids))
    counted = table.assign(n_tokens=token_counter(tokenizer)(list(table["response"])))
    assert example_lengths(tokenizer, counted).tolist() == list(map(len, ids))
    assert prompt_lengths(tokenizer, table["prompt"]).tolist() == [
        len(encode_prompt(tokenizer, p)) for p in table["prompt"]
    ]


def test_what_is_too_long_is_refused_with_its_number():
    lengths, ids = pd.Series([3, 900, 20, 600], index=[7, 8, 9, 10]), pd.Series(list("abcd"))
    check_lengths(lengths, 900, ids, "SFT examples", "sft.max_length = 900")
    message = r"SFT examples: 2 of 4 are longer than 512 tokens \(sft.max_length = 512\); the longest, b, has 900"
    with pytest.raises(InputError, match=message):
        check_lengths(lengths, 512, ids, "SFT examples", "sft.max_length = 512")


def test_split_keeps_a_prompt_on_one_side():
    table = pd.concat([many(50), many(50).assign(id=lambda t: t["id"] + "b", prompt=lambda t: t["prompt"].str.upper())])
    training, held_out = split(table, 10, seed=0)
    assert len(held_out) == 20
    assert len(training) == 80
    assert not set(training["prompt"].map(normalise)) & set(held_out["prompt"].map(normalise))


@given(st.integers(5, 60), st.integers(1, 60), st.integers(0, 3))
@settings(max_examples=30, deadline=None)
def test_a_share_held_out_does_not_move_when_data_comes_in(n, more, seed):
    try:
        _, before = split(many(n), 0.3, seed)
    except InputError:  # a side may be empty by chance on so few rows
        return
    grown = pd.concat([many(more, first=n), many(n)])
    training, after = split(grown, 0.3, seed)
    assert set(before["id"]) <= set(after["id"])
    assert not set(before["id"]) & set(training["id"])


def test_a_number_held_out_never_takes_a_training_prompt_when_data_comes_in():
    training, _ = split(many(100), 20, seed=0)
    _, after = split(many(150), 20, seed=0)
    assert not set(training["id"]) & set(after["id"])


def test_split_is_a_fair_draw():
    table = many(4000)
    _, held_out = split(table, 0.25, seed=1)
    assert abs(len(held_out) - 1000) < 5 * np.sqrt(4000 * 0.25 * 0.75)
    assert abs(held_out["n_tokens"].mean() - table["n_tokens"].mean()) < 1


@pytest.mark.parametrize(
    ("held_out", "says"),
    [
        *[(wrong, "give a number of prompts, or a share") for wrong in (0, -1, 0.0, 1.0, 1.5, True)],
        *[(wrong, "there are 10 distinct prompts, and some must be trained on") for wrong in (10, 11)],
        (1e-18, "leaves one side empty"),
    ],
)
def test_split_leaves_neither_side_empty(held_out, says):
    with pytest.raises(InputError, match=says):
        split(many(10), held_out, 0)
    assert len(split(many(10), 9, 0)[0]) == len(split(many(10), 1, 0)[1]) == 1


def test_nothing_depends_on_the_hash_seed():
    code = (
        "import pandas as pd; from sftrl.curate import select, split;"
        "t = pd.DataFrame({'id': [f'e{i}' for i in range(99)], 'prompt': [f'p{i}' for i in range(99)],"
        "'response': 'r', 'n_tokens': 3});"
        "print(*select(t, 9, 'mixed', 1)['id'], *split(t, 9, 1)[1]['id'])"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, text=True
        ).stdout
        for seed in ("1", "2")
    }
    assert len(outputs) == 1
    assert outputs.pop().strip()
