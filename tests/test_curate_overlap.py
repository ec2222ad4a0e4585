"""Contamination: what is copied is found, boilerplate is not, and only the training side loses rows."""

import numpy as np
import pandas as pd
import pytest

from sftrl.curate import contamination_table, decontaminate, overlaps
from sftrl.curate.text import tokens
from sftrl.errors import InputError

WORDS = [f"word{chr(97 + i % 26)}{chr(97 + i // 26)}" for i in range(300)]


def problems(texts, benchmark="bench") -> pd.DataFrame:
    return pd.DataFrame({"id": [f"p{i}" for i in range(len(texts))], "benchmark": benchmark, "problem": texts})


def training(texts) -> pd.DataFrame:
    return pd.DataFrame({"id": [f"t{i}" for i in range(len(texts))], "prompt": texts})


def sentence(rng, n: int) -> str:
    return " ".join(rng.choice(WORDS, n))


def test_exact_overlap_is_found_whatever_the_layout():
    pairs = overlaps(training(["Find  $X$.", "Find y"]), problems(["find x", "find z"]))
    assert pairs.to_dict("records") == [
        {"training_id": "t0", "benchmark": "bench", "problem_id": "p0", "rule": "exact", "share": 1.0}
    ]


def test_a_copy_inside_a_longer_prompt_is_found():
    rng = np.random.default_rng(0)
    question = sentence(rng, 30)
    pairs = overlaps(
        training([f"Solve this and box the answer: {question} Thank you.", sentence(rng, 30)]), problems([question])
    )
    assert list(pairs["training_id"]) == ["t0"]
    assert list(pairs["rule"]) == ["ngram"]
    assert pairs["share"][0] == 1


def test_a_copy_with_one_word_changed_is_found():
    rng = np.random.default_rng(1)
    words = sentence(rng, 60).split()
    changed = [*words[:30], "other", *words[31:]]
    assert len(overlaps(training([" ".join(changed)]), problems([" ".join(words)]))) == 1


def test_boilerplate_is_not_contamination():
    rng = np.random.default_rng(2)
    ending = "express your answer as a common fraction in lowest terms with no units please"
    texts = [f"{sentence(rng, 8)} {ending}" for _ in range(400)]
    shared_share = len(tokens(ending)) / (len(tokens(ending)) + 8)
    assert shared_share > 0.5  # most of each text is boilerplate
    assert overlaps(training(texts[:200]), problems(texts[200:])).empty


def test_other_numbers_make_it_a_template():
    rng = np.random.default_rng(8)
    before, after = sentence(rng, 20), sentence(rng, 20)
    bench = problems([f"{before} 17 {after}"])
    others = [sentence(rng, 40) for _ in range(100)]
    texts = [f"3. {before} 17 {after}", f"{before} 18 {after}", f"{before} {after}"]
    pairs = overlaps(training(texts + others), bench)
    assert list(pairs["rule"]) == ["ngram", "template", "template"]


def test_a_problem_copied_into_many_rows_is_found_in_all():
    rng = np.random.default_rng(3)
    question = sentence(rng, 40)
    copies = [f"{sentence(rng, 3)} {question}" for _ in range(500)]
    assert len(overlaps(training([*copies, sentence(rng, 40)]), problems([question, sentence(rng, 40)]))) == 500


def test_the_share_is_the_weighted_share_of_the_problems_ngrams():
    # Two documents, every n-gram of the problem in one of them: all weigh the same but those that the training has.
    words = WORDS[:12]
    pairs = overlaps(training([" ".join(words[:10])]), problems([" ".join(words)]), n=4, share=0.01)
    shared, alone = np.log((2 + 2) / (1 + 2)), np.log((2 + 2) / (1 + 1))  # 7 of the 9 4-grams are in both texts
    assert pairs["share"][0] == pytest.approx(7 * shared / (7 * shared + 2 * alone), abs=1e-4)


def test_the_answer_is_that_of_a_plain_quadratic_search():
    rng = np.random.default_rng(4)
    base = [sentence(rng, rng.integers(3, 40)) for _ in range(30)]
    texts = [f"{sentence(rng, 5)} {base[i]}" if i % 3 else sentence(rng, 20) for i in rng.integers(0, 30, 80)]
    n, share = 5, 0.4

    def grams(text):
        words = tokens(text)
        return {tuple(words[i : i + n]) for i in range(len(words) - n + 1)}

    distinct, targets = list(dict.fromkeys(texts)), list(dict.fromkeys(base))
    frequency = {}
    for text in distinct + targets:
        for gram in grams(text):
            frequency[gram] = frequency.get(gram, 0) + 1
    weight = {gram: np.log((2 + len(distinct) + len(targets)) / (1 + count)) for gram, count in frequency.items()}
    expected = set()
    for i, text in enumerate(texts):
        for j, problem in enumerate(base):
            total = sum(weight[gram] for gram in grams(problem))
            if text == problem or (total and sum(weight[g] for g in grams(problem) & grams(text)) / total >= share):
                expected.add((f"t{i}", f"p{j}"))
    found = overlaps(training(texts), problems(base), n=n, share=share)
    assert set(zip(found["training_id"], found["problem_id"], strict=True)) == expected
    assert len(expected) > 20


def test_chunks_change_nothing(monkeypatch):
    rng = np.random.default_rng(5)
    base = [sentence(rng, 20) for _ in range(20)]
    texts = [f"{sentence(rng, 4)} {base[i]}" for i in rng.integers(0, 20, 50)]
    whole = overlaps(training(texts), problems(base))
    monkeypatch.setattr("sftrl.curate.overlap.CHUNK", 7)
    assert overlaps(training(texts), problems(base)).equals(whole)
    assert len(whole) == 50


def test_a_problem_shorter_than_an_ngram_matches_exactly_or_not_at_all():
    pairs = overlaps(
        training(["2 + 2", "What is 2 + 2 + 3? Is 2 2 2 + + 2 + 2 2 + 2?"]), problems(["What is 2+2?", "2 + 2"])
    )
    assert list(zip(pairs["training_id"], pairs["problem_id"], strict=True)) == [("t0", "p1")]


def test_a_short_problem_must_occur_whole_and_nearly_alone():
    rng = np.random.default_rng(9)
    words = sentence(rng, 12).split()
    bench, others = problems([" ".join(words)]), [sentence(rng, 40) for _ in range(100)]
    asked, in_passing = f"Answer this: {' '.join(words)}", f"{' '.join(words)} {sentence(rng, 60)}"
    pairs = overlaps(training([asked, in_passing, " ".join(words[:11]), *others]), bench)
    assert list(pairs["training_id"]) == ["t0"]


@pytest.mark.parametrize(
    ("length", "kept", "added", "found"),
    [(16, 15, 41, True), (15, 14, 0, False), (15, 15, 40, True), (15, 15, 41, False)],
)
def test_a_problem_is_short_below_two_ngrams_and_an_instruction_has_forty_tokens(length, kept, added, found):
    rng = np.random.default_rng(10)
    words, others = sentence(rng, length).split(), [sentence(rng, 40) for _ in range(100)]
    text = f"{' '.join(words[:kept])} {sentence(rng, added)}"
    assert len(overlaps(training([text, *others]), problems([" ".join(words)]))) == found


def test_empty_sides_have_no_overlap():
    assert overlaps(training([]), problems(["a b c"])).empty
    assert overlaps(training(["a b c"]), problems([])).empty


def test_only_the_training_side_loses_rows():
    rng = np.random.default_rng(6)
    base = [sentence(rng, 20) for _ in range(5)]
    benchmark = problems(base)
    before = benchmark.copy()
    kept, pairs = decontaminate(training([base[1], sentence(rng, 20), base[3]]), benchmark)
    assert list(kept["id"]) == ["t1"]
    assert list(pairs["problem_id"]) == ["p1", "p3"]
    assert benchmark.equals(before)


def test_the_table_counts_each_problem_once_and_names_every_pair():
    rng = np.random.default_rng(7)
    base = [sentence(rng, 20) for _ in range(10)]
    bench = pd.concat([problems(base[:4], "one"), problems(base[4:8], "two")], ignore_index=True)
    sft = training([base[0], base[0].upper(), f"please {base[5]}", sentence(rng, 20), base[9]])
    rl = problems([base[9], base[4]], "ignored")
    table, pairs = contamination_table({"sft": sft, "rl": rl}, bench)
    table = table.set_index(["training", "benchmark"])
    assert list(table.index) == [("sft", "rl"), ("sft", "one"), ("sft", "two"), ("rl", "one"), ("rl", "two")]
    assert table.loc[("sft", "one")].to_dict() == {
        "problems": 4, "exact": 1, "ngram": 0, "template": 0, "contaminated": 0.25, "rows": 2,
    }  # fmt: skip
    assert table.loc[("sft", "two"), "ngram"] == 1
    assert table.loc[("sft", "rl"), "exact"] == 1
    assert table.loc[("rl", "two"), "exact"] == 1
    assert table.loc[("rl", "one"), "contaminated"] == 0
    assert list(pairs.columns) == ["training", "training_id", "benchmark", "problem_id", "rule", "share"]
    assert len(pairs) == 5


def test_single_tokens_may_be_counted_and_a_whole_share_asked_for():
    pairs = overlaps(training(["two red pens", "red pens"]), problems(["red pens cost two"]), n=1, share=1)
    assert pairs.empty
    pairs = overlaps(training(["so two red pens cost"]), problems(["red pens cost two"]), n=1, share=1)
    assert pairs[["rule", "share"]].to_numpy().tolist() == [["ngram", 1.0]]


def test_bad_settings_are_named():
    for n, share in [(0, 0.5), (8, 0), (8, 1.5)]:
        with pytest.raises(InputError, match="overlap"):
            overlaps(training(["a"]), problems(["a"]), n=n, share=share)
    with pytest.raises(InputError, match="'problem' or 'prompt'"):
        overlaps(pd.DataFrame({"text": ["a"]}), problems(["a"]))


# --- on published sets, where a developer has them -------------------------------------------------------------------


@pytest.fixture
def published(shared):
    from sftrl.problems import load_problems

    def load(benchmark, file):
        return load_problems({"benchmark": benchmark, "path": shared(f"data/{file}"), "incomplete": "drop"})

    return load


def test_known_overlaps_of_published_sets_are_found(published):
    math500 = published("math500", "benchmarks/math500.jsonl")
    whole = published("math", "sft/math_test_with_solutions.jsonl")
    kept, pairs = decontaminate(whole, math500)
    assert set(pairs.loc[pairs["rule"] == "exact", "problem_id"]) == set(math500["id"])  # all of it is in the test set
    assert len(kept) <= 4500
    aime = published("aime_1983_2024", "benchmarks/aime_1983_2023.json")
    found = overlaps(math500, aime)
    assert found.loc[found["rule"] == "exact", "problem_id"].nunique() >= 6


@pytest.mark.filterwarnings("ignore:.*rows left out")
def test_boilerplate_of_published_sets_is_not_flagged(published):
    train = published("math_train", "rl/math_train.json")
    pairs = overlaps(train, published("math500", "benchmarks/math500.jsonl"))
    assert (pairs["rule"] != "exact").all()
    assert pairs["problem_id"].nunique() < 25  # a rule of any shared 8-gram flags 208 of the 500


@pytest.mark.filterwarnings("ignore:.*rows left out")
def test_math_holds_much_of_aime_and_mmlu(published):
    train = published("math_train", "rl/math_train.json")
    whole = published("math", "sft/math_test_with_solutions.jsonl")
    mmlu = published("mmlu_math", "benchmarks/mmlu_stem.jsonl")
    exact = overlaps(pd.concat([train, whole]), mmlu).query("rule == 'exact'")
    assert exact["problem_id"].nunique() >= 154
    aime = published("aime_1983_2024", "benchmarks/aime_1983_2023.json")
    assert overlaps(train, aime).query("rule != 'template'")["problem_id"].nunique() > 400
