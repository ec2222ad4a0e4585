"""Samples drawn by other harnesses: small files written for these tests, in the harnesses' own formats."""

import json
import math
import re
import shutil
import zipfile
from pathlib import Path

import pandas as pd
import pytest
from datasets import Dataset
from tiny import tiny_pair

from sftrl.errors import InputError
from sftrl.generations import Store, grade, import_samples, require_same_problems, summarise
from sftrl.generations.importers import read_problems
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
    problems = import_samples(tmp_path, [GSM8K])
    assert list(problems["answer"]) == ["7", "5"]
    assert problems["problem"][0] == "Question: A box holds 3 red and 4 blue pens. How many pens?\nAnswer:"
    found, rates = counts(tmp_path, problems)
    assert found == [["gsm8k_cot", "0", 3, 2], ["gsm8k_cot", "1", 3, 2]]  # each once, though logged under two filters
    assert rates["unparseable"] == pytest.approx(1 / 6)
    assert math.isnan(rates["truncated"])
    assert math.isnan(rates["mean_tokens"])
    import_samples(tmp_path, [GSM8K])
    assert len(Store(tmp_path).read()) == 6


def test_lm_eval_with_the_tokenizer_knows_lengths(tmp_path):
    _, tokenizer = tiny_pair()
    problems = import_samples(tmp_path, [GSM8K], tokenizer=tokenizer)
    table = Store(tmp_path).read()
    assert list(table["n_tokens"]) == [len(tokenizer(text)["input_ids"]) for text in table["response"]]
    grade(tmp_path, problems)
    assert summarise(tmp_path, problems).benchmarks["truncated"][0] == 0


def test_lm_eval_before_named_arguments(tmp_path):
    (path,) = DATA.glob("samples_minerva*")
    problems = import_samples(tmp_path, [path])
    assert problems.to_numpy().tolist() == [
        ["minerva_math_algebra", "5", "Problem: What is half of 1?\nSolution:", "\\frac{1}{2}"]
    ]
    assert counts(tmp_path, problems)[0] == [["minerva_math_algebra", "5", 1, 1]]


def test_checkpoints_sampled_elsewhere_are_ranked(tmp_path):
    worse = tmp_path / GSM8K.name
    worse.write_text(GSM8K.read_text().replace("7", "8"))
    tables = []
    for run, path in (("worse", worse), ("better", GSM8K)):
        problems = import_samples(tmp_path / run, [path]).assign(answer=["7", "5"])
        grade(tmp_path / run, problems)
        scores = score_table(summarise(tmp_path / run, problems), k=[1, 2], group_size=2)
        tables.append(scores.assign(family="mine", run=run, phase="post_sft"))
    runs = runs_table(pd.concat(tables))
    assert list(decide(runs, predictors=("pass@1",))["run"]) == ["better", "worse"]


@pytest.mark.filterwarnings("ignore:.*cut off")
@pytest.mark.parametrize("name", ["lighteval|aime24|0", "aime24|0", "lighteval|aime24|0|0"])
def test_lighteval(tmp_path, name):
    problems = import_samples(tmp_path / "store", [details(tmp_path, name, "lighteval_details.json")])
    assert list(problems["answer"]) == ["42", "29"]
    found, rates = counts(tmp_path / "store", problems)
    assert found == [["aime24", "0", 2, 1], ["aime24", "1", 2, 1]]
    assert rates["truncated"] == 1 / 4  # 12 tokens of 12
    assert rates["mean_tokens"] == 9


def test_lighteval_before_version_0_11(tmp_path):
    problems = import_samples(tmp_path / "store", [details(tmp_path, "lighteval|x|0", "lighteval_details_old.json")])
    assert counts(tmp_path / "store", problems)[0] == [["x", "0", 2, 2]]


def test_lighteval_with_several_golds_takes_any(tmp_path):
    rows = json.loads((DATA / "lighteval_details.json").read_text())
    rows[0]["doc"] |= {"choices": ["41", "48", "42"], "gold_index": [2, 1]}
    path = tmp_path / "details_aime24_2025-06-01T10-20-30.123456.parquet"
    Dataset.from_list(rows).to_parquet(path)
    problems = import_samples(tmp_path / "store", [path])
    assert problems["alternatives"].tolist() == [["48"], None]
    assert counts(tmp_path / "store", problems)[0] == [["aime24", "0", 2, 2], ["aime24", "1", 2, 1]]


# A response may hold anything that Unicode, but not JSON lines, counts as a line's end.
LINE_ENDS = "\u2028\u2029\x85\x0b\x0c\x1c\x1d\x1e\r"


def lm_eval_file(folder, rows):
    """Write rows (doc_id, target, responses, filter) as the harness does: non-ASCII as it is, a line a row."""
    path = folder / "samples_mine_2025-06-01T10-20-30.123456.jsonl"
    lines = [
        {
            "doc_id": doc,
            "target": target,
            "arguments": {"gen_args_0": {"arg_0": f"{doc}?", "arg_1": {"until": [], "max_gen_toks": 64}}},
            "resps": [responses],
            "filter": filter,
        }
        for doc, target, responses, filter in rows
    ]
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    path.write_text(text, encoding="utf-8", newline="\n")
    return path


def test_every_line_end_within_a_response_is_kept(tmp_path):
    response = f"one{LINE_ENDS}two \\boxed{{7}}"
    path = lm_eval_file(tmp_path, [(0, "7", [response], "none"), (1, "8", ["\\boxed{8}"], "none")])
    problems = import_samples(tmp_path / "store", [path])
    assert Store(tmp_path / "store").read()["response"][0] == response
    assert counts(tmp_path / "store", problems)[0] == [["mine", "0", 1, 1], ["mine", "1", 1, 1]]


def test_a_list_of_targets_is_alternatives(tmp_path):
    rows = [
        (0, ["7", "\\frac{1}{2}"], ["\\boxed{0.5}", "\\boxed{7}", "\\boxed{8}"], "none"),
        (1, [5], ["#### 5"] * 3, "none"),
    ]
    problems = import_samples(tmp_path / "store", [lm_eval_file(tmp_path, rows)])
    assert problems["answer"].tolist() == ["7", "5"]
    assert counts(tmp_path / "store", problems)[0] == [["mine", "0", 3, 2], ["mine", "1", 3, 3]]
    other = problems.assign(alternatives=[["8"], None])  # other alternatives are another gold: to be graded anew
    with pytest.raises(InputError, match="not graded"):
        summarise(tmp_path / "store", other)


@pytest.mark.parametrize("responses", [[[-1.5, False]], ["\\boxed{7}", [-1.5, False]]])
def test_log_likelihoods_are_refused_even_beside_a_text(tmp_path, responses):
    with pytest.raises(InputError, match="line 2: holds log-likelihoods, not generated text"):
        import_samples(
            tmp_path / "store", [lm_eval_file(tmp_path, [(0, "7", ["7"], "none"), (1, "7", responses, "none")])]
        )


def test_a_doc_is_read_once_under_all_filters_and_refused_when_it_is_there_twice(tmp_path):
    once = [(doc, "7", ["\\boxed{7}", "8"], filter) for filter in ("strict", "flexible", "none") for doc in range(3)]
    import_samples(tmp_path / "store", [lm_eval_file(tmp_path, once)])
    assert len(Store(tmp_path / "store").read()) == 6
    for more in (once[:1], [(0, "7", ["another", "8"], "fourth")]):  # two runs' files, one after the other
        with pytest.raises(InputError, match="line 10: doc_id 0 is there twice"):
            import_samples(tmp_path / "twice", [lm_eval_file(tmp_path, once + more)])


def inspect_log(**changes):
    """What Inspect writes, as far as it is read: two samples in two epochs, one of them with reasoning in parts."""

    def sample(identifier, epoch, text, tokens=9, reason="stop"):
        message = {"role": "assistant", "content": text, "source": "generate"}
        return {
            "id": identifier,
            "epoch": epoch,
            "input": [{"role": "user", "content": f"Problem {identifier}"}],
            "target": ["7", "seven"] if identifier == 1 else "1/2",
            "messages": [],
            "output": {
                "model": "mine",
                "choices": [{"message": message, "stop_reason": reason}],
                "usage": {"input_tokens": 5, "output_tokens": tokens, "total_tokens": 14},
            },
            "attachments": {"abc": "so \\boxed{8}"},
        }

    parts = [{"type": "reasoning", "reasoning": "\\boxed{1}"}, {"type": "text", "text": "It is \\boxed{7}."}]
    samples = [
        sample(1, 1, parts),
        sample(1, 2, "attachment://abc", tokens=12, reason="max_tokens"),
        sample("two", 1, f"half,{LINE_ENDS}so \\boxed{{0.5}}"),
        sample("two", 2, "\\boxed{2}"),
    ]
    log = {"version": 2, "status": "success", "eval": {"task": "suite/sums", "model": "mine"}, "samples": samples}
    return log | changes


def write_inspect(path, log):
    if path.suffix == ".json":
        path.write_text(json.dumps(log, ensure_ascii=False), encoding="utf-8")
        return path
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("header.json", json.dumps({key: log[key] for key in log if key != "samples"}))
        archive.writestr("summaries.json", "[]")
        for row in log["samples"]:
            archive.writestr(f"samples/{row['id']}_epoch_{row['epoch']}.json", json.dumps(row))
    return path


@pytest.mark.filterwarnings("ignore:.*cut off")
@pytest.mark.parametrize("suffix", [".json", ".eval"])
def test_inspect(tmp_path, suffix):
    path = write_inspect(tmp_path / f"2025-06-01T10-20-30_sums_abc{suffix}", inspect_log())
    problems = import_samples(tmp_path / "store", [path])
    assert problems[["benchmark", "id", "problem", "answer"]].to_numpy().tolist() == [
        ["sums", "1", "Problem 1", "7"],
        ["sums", "two", "Problem two", "1/2"],
    ]
    found, rates = counts(tmp_path / "store", problems)
    assert found == [["sums", "1", 2, 1], ["sums", "two", 2, 1]]
    assert rates["truncated"] == 1 / 4
    assert rates["mean_tokens"] == (9 + 12 + 9 + 9) / 4
    assert Store(tmp_path / "store").read()["response"][0] == "It is \\boxed{7}."


@pytest.mark.filterwarnings("ignore:.*cut off")
def test_inspect_with_two_choices_a_call_numbers_all_and_knows_no_length_of_one(tmp_path):
    log = inspect_log()
    for row in log["samples"]:
        row["output"]["choices"] *= 2
    import_samples(tmp_path / "store", [write_inspect(tmp_path / "log.json", log)])
    table = Store(tmp_path / "store").read()
    assert table["sample_index"].tolist() == [0, 1, 2, 3] * 2
    assert table["response"][:4].tolist() == ["It is \\boxed{7}."] * 2 + ["so \\boxed{8}"] * 2
    assert table["n_tokens"].isna().all()  # what is told is their sum


def with_first_sample(**changes):
    log = inspect_log()
    log["samples"][0] |= changes
    return log


@pytest.mark.parametrize(
    ("log", "message"),
    [
        (inspect_log(status="cancelled"), "did not finish .status 'cancelled'"),
        (with_first_sample(error={"message": "no answer"}), "sample 1, epoch 1: ended in an error"),
        (with_first_sample(target=""), "sample 1, epoch 1: not a sampled response .*no gold answer"),
        (with_first_sample(choices=["7", "8"]), "several options are right together"),
        (with_first_sample(epoch=2), "sums 1: sample 1 is there twice"),
        ({"some": "JSON"}, "not an Inspect log"),
        ([1], "not an Inspect log"),
    ],
)
def test_inspect_logs_that_do_not_count_are_named(tmp_path, log, message):
    with pytest.raises(InputError, match=message):
        import_samples(tmp_path / "store", [write_inspect(tmp_path / "log.json", log)])
    assert not (tmp_path / "store").exists()


def test_an_inspect_log_that_this_python_cannot_unpack_is_named(tmp_path):
    path = write_inspect(tmp_path / "log.eval", inspect_log())
    # A log written with INSPECT_USE_ZSTD: method 93 in the headers of the zip.
    headers = re.compile(rb"(PK\x03\x04.{4}|PK\x01\x02.{6})\x08\x00", re.S)
    path.write_bytes(headers.sub(lambda match: match[1] + b"\x5d\x00", path.read_bytes()))
    with pytest.raises(InputError, match=r"log\.eval: .*convert it: inspect log convert"):
        import_samples(tmp_path / "store", [path])


def plain(path, rows):
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8", newline="\n")
    return path


def test_plain_json_lines(tmp_path):
    rows = [
        {"problem_id": 1, "response": f"a{LINE_ENDS}b \\boxed{{3}}", "gold": 3, "problem": "1 + 2?"},
        {"problem_id": "2", "response": "\\boxed{5}", "gold": ["4", "5"], "n_tokens": 7, "finish_reason": "length"},
        {"problem_id": 1, "response": "", "gold": 3},
        {"problem_id": "2", "response": "\\boxed{6}", "gold": ["4", "5"], "sample_index": 3, "more": "left out"},
    ]
    problems = import_samples(tmp_path / "store", [plain(tmp_path / "mine.jsonl", rows)])
    assert problems["problem"].tolist() == ["1 + 2?", ""]
    table = Store(tmp_path / "store").read()
    assert list(zip(table["problem_id"], table["sample_index"], strict=True)) == [
        ("1", 0),
        ("1", 1),
        ("2", 0),
        ("2", 3),
    ]
    assert counts(tmp_path / "store", problems)[0] == [["mine", "1", 2, 1], ["mine", "2", 2, 1]]


@pytest.mark.parametrize(
    ("gold", "answer"),
    [("2 + 5 = 7\n#### 7", "7"), ("so \\boxed{8}", "8"), (" The answer is 4 ", "The answer is 4")],
)
def test_a_worked_gold_gives_its_final_answer_and_another_is_taken_whole(tmp_path, gold, answer):
    path = plain(tmp_path / "mine.jsonl", [{"problem_id": 1, "response": "3", "gold": gold}])
    assert read_problems([path])["answer"].tolist() == [answer]


@pytest.mark.parametrize(("index", "allowed"), [(-1, False), (0, True), (2**20 - 1, True), (2**20, False)])
def test_a_given_sample_index_is_from_zero_to_a_million(tmp_path, index, allowed):
    path = plain(tmp_path / "mine.jsonl", [{"problem_id": 1, "response": "3", "gold": 3, "sample_index": index}])
    if allowed:
        assert len(read_problems([path])) == 1
    else:
        with pytest.raises(InputError, match=f"line 1: .*sample_index {index} is not from 0"):
            read_problems([path])


def test_a_problem_with_two_golds_in_its_rows_is_named(tmp_path):
    rows = [{"problem_id": 1, "response": "3", "gold": gold} for gold in (3, 4)]
    with pytest.raises(InputError, match=r"mine 1: has the golds \('3',\) and \('4',\)"):
        read_problems([plain(tmp_path / "mine.jsonl", rows)])


def test_golds_of_ones_own(tmp_path):
    rows = [{"benchmark": "sums", "problem_id": i, "response": f"\\boxed{{{i}}}"} for i in range(3)]
    path = plain(tmp_path / "mine.jsonl", rows)
    with pytest.raises(InputError, match="sums 0: no gold; give the problems"):
        import_samples(tmp_path / "store", [path])
    mine = pd.DataFrame([{"benchmark": "sums", "id": str(i), "problem": "?", "answer": "1"} for i in range(3)])
    problems = import_samples(tmp_path / "store", [path], problems=mine)
    assert counts(tmp_path / "store", problems)[0] == [["sums", "0", 1, 0], ["sums", "1", 1, 1], ["sums", "2", 1, 0]]
    with pytest.raises(InputError, match=r"sums 2: in .*, not in the problems given \(1 such problems of 3\)"):
        import_samples(tmp_path / "other", [path], problems=mine[:2])
    with pytest.raises(InputError, match=r"sums 3: in the problems given, not in"):
        import_samples(tmp_path / "other", [path], problems=pd.concat([mine, mine[:1].assign(id="3")]))


def test_runs_sampled_on_different_problems_are_named(tmp_path):
    problems = import_samples(tmp_path / "a", [GSM8K])
    require_same_problems({"a": problems, "b": problems.sample(frac=1, random_state=0)})
    with pytest.raises(InputError, match=r"gsm8k_cot 1: in a, not in b \(1 such problems of 2\)"):
        require_same_problems({"a": problems, "b": problems[:1]})
    with pytest.raises(InputError, match=r"gsm8k_cot 0: the gold is '7' in a and '9' in b \(1 problems differ\)"):
        require_same_problems({"a": problems, "b": problems.assign(answer=["9", "5"])})


def test_a_killed_import_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr("sftrl.generations.importers.PART_ROWS", 2)
    import_samples(tmp_path, [GSM8K])
    whole = Store(tmp_path).read()
    first, second, third = Store(tmp_path).parts()
    second.unlink()
    import_samples(tmp_path, [GSM8K])
    assert first in Store(tmp_path).parts()
    assert third in Store(tmp_path).parts()
    pd.testing.assert_frame_equal(Store(tmp_path).read(), whole)


def test_other_files_are_refused_by_name(tmp_path):
    with pytest.raises(InputError, match=r"arithmetic_mc.*line 1: not a logged sample of a generated task"):
        import_samples(tmp_path, DATA.glob("samples_arithmetic_mc*"))
    with pytest.raises(InputError, match="not named as this harness"):
        import_samples(tmp_path, [DATA / "lighteval_details.json"], "lighteval")
    with pytest.raises(InputError, match="format: 'helm' is not one of lm_eval"):
        import_samples(tmp_path, [GSM8K], "helm")
    with pytest.raises(InputError, match="no harness is known to name its files so"):
        import_samples(tmp_path, [DATA / "verify_golds.csv"])
    with pytest.raises(InputError, match="line 1: not problem_id and response"):
        import_samples(tmp_path, [plain(tmp_path / "bad.jsonl", [{"id": 1, "response": "x"}])])
    with pytest.raises(InputError, match="no such file"):
        import_samples(tmp_path, [tmp_path / "details_x_2025-06-01T10-20-30.parquet"])
    broken = tmp_path / GSM8K.name
    broken.write_text(GSM8K.read_text()[:-30])
    with pytest.raises(InputError, match="line 4"):
        import_samples(tmp_path, [broken])
    again = tmp_path / GSM8K.name.replace("10-20", "11-20")
    shutil.copy(GSM8K, again)
    with pytest.raises(InputError, match="gsm8k_cot 0: sample 0 is there twice; do two of the files"):
        import_samples(tmp_path, [GSM8K, again])
    assert not (tmp_path / "store.json").exists()
