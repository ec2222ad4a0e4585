"""Samples drawn by other harnesses: small files written for these tests, in the harnesses' own formats."""

import json
import math
import shutil
from pathlib import Path

import pandas as pd
import pytest
from datasets import Dataset
from tiny import tiny_pair

from sftrl.errors import InputError
from sftrl.generations import Store, grade, import_lighteval, import_lm_eval, summarise
from sftrl.predict import decide, runs_table
from sftrl.stages.scores import score_table

DATA = Path(__file__).parent / "data"
GSM8K = DATA / "samples_gsm8k_cot_2025-06-01T10-20-30.123456.jsonl"


def details(folder, name, source):
    """Write details as lighteval does: through a `datasets` table."""
    path = folder / f"details_{name}_2025-06-01T10-20-30.123456.parquet"
    Dataset.from_list(json.loads((DATA / source).read_text())).to_parquet(path)
    return path


def counts(folder, problems):
    grade(folder, problems)
    summary = summarise(folder, problems)
    return summary.problems[["benchmark", "problem_id", "n", "c"]].to_numpy().tolist(), summary.benchmarks.iloc[0]


def test_lm_eval(tmp_path):
    problems = import_lm_eval(tmp_path, [GSM8K])
    assert list(problems["answer"]) == ["7", "5"]
    assert problems["problem"][0] == "Question: A box holds 3 red and 4 blue pens. How many pens?\nAnswer:"
    found, rates = counts(tmp_path, problems)
    assert found == [["gsm8k_cot", "0", 3, 2], ["gsm8k_cot", "1", 3, 2]]  # each once, though logged under two filters
    assert rates["unparseable"] == pytest.approx(1 / 6)
    assert math.isnan(rates["truncated"])
    assert math.isnan(rates["mean_tokens"])
    import_lm_eval(tmp_path, [GSM8K])
    assert len(Store(tmp_path).read()) == 6


def test_lm_eval_with_the_tokenizer_knows_lengths(tmp_path):
    _, tokenizer = tiny_pair()
    problems = import_lm_eval(tmp_path, [GSM8K], tokenizer)
    table = Store(tmp_path).read()
    assert list(table["n_tokens"]) == [len(tokenizer(text)["input_ids"]) for text in table["response"]]
    grade(tmp_path, problems)
    assert summarise(tmp_path, problems).benchmarks["truncated"][0] == 0


def test_lm_eval_before_named_arguments(tmp_path):
    (path,) = DATA.glob("samples_minerva*")
    problems = import_lm_eval(tmp_path, [path])
    assert problems.to_numpy().tolist() == [
        ["minerva_math_algebra", "5", "Problem: What is half of 1?\nSolution:", "\\frac{1}{2}"]
    ]
    assert counts(tmp_path, problems)[0] == [["minerva_math_algebra", "5", 1, 1]]


def test_checkpoints_sampled_elsewhere_are_ranked(tmp_path):
    worse = tmp_path / GSM8K.name
    worse.write_text(GSM8K.read_text().replace("7", "8"))
    tables = []
    for run, path in (("worse", worse), ("better", GSM8K)):
        problems = import_lm_eval(tmp_path / run, [path]).assign(answer=["7", "5"])
        grade(tmp_path / run, problems)
        scores = score_table(summarise(tmp_path / run, problems), k=[1, 2], group_size=2)
        tables.append(scores.assign(family="mine", run=run, phase="post_sft"))
    runs = runs_table(pd.concat(tables))
    assert list(decide(runs, predictors=("pass@1",))["run"]) == ["better", "worse"]


@pytest.mark.filterwarnings("ignore:.*cut off")
@pytest.mark.parametrize("name", ["lighteval|aime24|0", "aime24|0", "lighteval|aime24|0|0"])
def test_lighteval(tmp_path, name):
    problems = import_lighteval(tmp_path / "store", [details(tmp_path, name, "lighteval_details.json")])
    assert list(problems["answer"]) == ["42", "29"]
    found, rates = counts(tmp_path / "store", problems)
    assert found == [["aime24", "0", 2, 1], ["aime24", "1", 2, 1]]
    assert rates["truncated"] == 1 / 4  # 12 tokens of 12
    assert rates["mean_tokens"] == 9


def test_lighteval_before_version_0_11(tmp_path):
    problems = import_lighteval(tmp_path / "store", [details(tmp_path, "lighteval|x|0", "lighteval_details_old.json")])
    assert counts(tmp_path / "store", problems)[0] == [["x", "0", 2, 2]]


def test_other_files_are_refused_by_name(tmp_path):
    with pytest.raises(InputError, match=r"arithmetic_mc.*line 1: not a logged sample of a generated task"):
        import_lm_eval(tmp_path, DATA.glob("samples_arithmetic_mc*"))
    with pytest.raises(InputError, match="not named as this harness"):
        import_lm_eval(tmp_path, [DATA / "lighteval_details.json"])
    with pytest.raises(InputError, match="no such file"):
        import_lighteval(tmp_path, [tmp_path / "details_x_2025-06-01T10-20-30.parquet"])
    broken = tmp_path / GSM8K.name
    broken.write_text(GSM8K.read_text()[:-30])
    with pytest.raises(InputError, match="line 4"):
        import_lm_eval(tmp_path, [broken])
    again = tmp_path / GSM8K.name.replace("10-20", "11-20")
    shutil.copy(GSM8K, again)
    with pytest.raises(InputError, match="gsm8k_cot: two of the files"):
        import_lm_eval(tmp_path, [GSM8K, again])
    assert not (tmp_path / "store.json").exists()
