"""Sources: what a file or a hub's dataset holds arrives unchanged, and what cannot be read is named."""

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sftrl.errors import InputError
from sftrl.problems import load_examples, load_problems
from sftrl.problems.sources import Reservoir, read_file, read_hub
from sftrl.recipes import Source

RECORDS = [
    {"id": 1, "q": "None", "a": 12345678901234567890123, "list": ["x", "y"]},
    {"id": None, "q": "007", "a": 1.5, "list": None},
]


def test_json_and_json_lines_keep_every_value(tmp_path):
    (tmp_path / "r.json").write_text(json.dumps(RECORDS))
    (tmp_path / "r.jsonl").write_text("\n" + "\n\n".join(map(json.dumps, RECORDS)))
    for name in ("r.json", "r.jsonl"):
        assert read_file(tmp_path / name).to_dict("records") == RECORDS


def test_csv_cells_stay_text(tmp_path):
    (tmp_path / "r.csv").write_text('q,a\n"two\nlines",None\nNA,007\n,1e5\n')
    assert read_file(tmp_path / "r.csv").to_dict("list") == {"q": ["two\nlines", "NA", ""], "a": ["None", "007", "1e5"]}


def test_parquet_keeps_whole_numbers_beside_missing_ones(tmp_path):
    pd.DataFrame({"id": pd.array([1, None], dtype="Int64"), "list": [["x"], None]}).to_parquet(tmp_path / "r.parquet")
    table = read_file(tmp_path / "r.parquet")
    assert table["id"].tolist() == [1, None]
    assert list(table["list"][0]) == ["x"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("r.txt", "x", "one of .json, .jsonl, .csv, .parquet"),
        ("r.json", '{"a": 1}', "is a list, not dict"),
        ("r.json", '{"a": 1}\n{"a": 2}', r"not JSON: .*\.jsonl"),
        ("r.json", '[{"a": 1}, 2]', "r.json, record 2: a record is a JSON object, not int"),
        ("r.jsonl", '{"a": 1}\n\n{"a": ', "r.jsonl, line 3: not JSON"),
        ("r.jsonl", '{"a": 1}\n[1]', "r.jsonl, line 2: a record is a JSON object, not list"),
        ("r.csv", "", "r.csv: cannot be read"),
        ("r.csv", "a,b\n1,2\n1,2,3\n", "r.csv: cannot be read"),
        ("r.parquet", "not parquet", "r.parquet: cannot be read"),
        ("r.jsonl", b'{"a": "\xff"}', "r.jsonl: cannot be read"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=message):
        read_file(tmp_path / name)


def test_an_absent_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"absent\.csv: no such file"):
        read_file(tmp_path / "absent.csv")


# --- datasets.load_dataset, on folders laid out as a dataset of the hub is -------------------------------------------


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A folder for a dataset, and a cache that goes with it."""
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()
    folder = tmp_path / "hub"
    folder.mkdir()
    return folder


def configurations(folder, **parts):
    """Write each part as a configuration with one split, `test`."""
    lines = ["---", "configs:"]
    for name, records in parts.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
        lines += [f"- config_name: {name}", "  data_files:", "  - split: test", f"    path: {name}.jsonl"]
    (folder / "README.md").write_text("\n".join([*lines, "---", ""]))


def test_configurations_are_put_one_after_another(hub):
    configurations(hub, I=[{"question": "1+1?", "answer": "2"}], II=[{"question": "2+2?", "answer": "4^\\circ"}])
    spec = {"benchmark": "aime_2025", "hub": str(hub), "config": ["I", "II"], "expected": 2}
    assert load_problems(spec)["answer"].tolist() == ["2", "4"]
    assert load_problems({**spec, "config": "II", "expected": 1})["answer"].tolist() == ["4"]


def test_parquet_with_lists_and_a_split_loads_as_the_table_says(hub):
    rows = [{"question": "1+1?", "subject": "abstract_algebra", "choices": ["1", "2", "3", "4"], "answer": 1},
            {"question": "Who?", "subject": "astronomy", "choices": ["a", "b", "c", "d"], "answer": 0}]  # fmt: skip
    (hub / "data").mkdir()
    pd.DataFrame(rows).to_parquet(hub / "data" / "test-00000-of-00001.parquet")
    loaded = load_problems({"benchmark": "mmlu_math", "hub": str(hub), "config": None, "expected": 1})
    assert loaded["answer"].tolist() == ["B"]
    assert loaded["choices"].tolist() == [["1", "2", "3", "4"]]


def test_a_conversation_column_and_streaming(hub):
    rows = [{"input": [{"role": "user", "content": f"{i}?"}], "output": f"{i}", "reasoning": "on"} for i in range(5)]
    configurations(hub, SFT=rows)
    spec = {"source": "llama_nemotron_math", "hub": str(hub), "config": "SFT", "split": "test"}
    assert load_examples(spec)["prompt"].tolist() == [f"{i}?" for i in range(5)]
    assert load_examples({**spec, "limit": 3})["prompt"].tolist() == ["0?", "1?", "2?"]


def test_a_folder_within_the_dataset(hub):
    (hub / "EN").mkdir()
    row = {"queId": "q", "problem": "1+1?", "answer_value": "B", "difficulty": "0",
           "answer_option_list": [[{"aoVal": "A", "content": "1"}], [{"aoVal": "B", "content": "2"}]]}  # fmt: skip
    (hub / "EN" / "test.jsonl").write_text(json.dumps(row))
    spec = {"benchmark": "tal_scq5k_en", "hub": str(hub), "data_dir": "EN", "expected": 1}
    assert load_problems(spec)["choices"].tolist() == [["1", "2"]]


def test_columns_that_nobody_wants_stay_unread(hub):
    configurations(hub, A=[{"q": "x", "image": "y"}])
    for limit in (None, 1):
        for sample in (None, 1) if limit is None else (None,):
            source = Source(hub=str(hub), config="A", split="test", limit=limit, sample=sample)
            rows, _, _ = read_hub(source, ["q", "absent"], [], lambda rows: np.ones(len(rows), dtype=bool))
            assert list(rows.columns) == ["q"]


def test_only_the_rows_picked_are_read_and_keep_their_place(hub):
    rows = [{"q": f"{i}?", "a": "" if i == 3 else "1", "k": "even" if i % 2 == 0 else "odd"} for i in range(100)]
    configurations(hub, A=rows[:50], B=rows[50:])
    spec = {"benchmark": "mine", "hub": str(hub), "config": ["A", "B"], "split": "test", "where": {"k": ["even"]}}
    spec["columns"] = {"problem": "q", "answer": "a"}
    every = load_problems(spec)["problem"].tolist()
    assert every == [f"{i}?" for i in range(0, 100, 2)]
    drawn = load_problems({**spec, "sample": 20})["problem"].tolist()
    assert len(set(drawn)) == 20
    assert set(drawn) < set(every)
    assert drawn == load_problems({**spec, "sample": 20, "seed": 0})["problem"].tolist()
    assert drawn != load_problems({**spec, "sample": 20, "seed": 1})["problem"].tolist()
    with pytest.raises(InputError, match="cannot draw a sample of 51 from 50 rows"):
        load_problems({**spec, "sample": 51})
    with pytest.raises(InputError, match="split test, row 4: answer is empty"):
        load_problems({**spec, "where": {"k": ["odd"]}})


SHARDS = 10


@pytest.fixture(params=["parquet", "jsonl"])
def sharded(request, hub):
    """A set in ten files of unequal size, with what `where` needs and a column that nobody wants."""
    (hub / "data").mkdir()
    number = 0
    for shard in range(SHARDS):
        rows = pd.DataFrame({"i": range(number, number + 30 + 4 * shard)})
        number += len(rows)
        rows = rows.assign(q=rows["i"].map("{}?".format), a=rows["i"].astype(str), k=(rows["i"] % 2).map("k{}".format))
        rows["image"] = "x" * 50
        path = hub / "data" / f"train-{shard:05}-of-{SHARDS:05}.{request.param}"
        if request.param == "parquet":
            rows.to_parquet(path)
        else:
            rows.to_json(path, orient="records", lines=True)
    return {"source": "mine", "hub": str(hub), "split": "train", "columns": {"prompt": "q", "response": "a"}}, number


def numbers(examples: pd.DataFrame) -> list[int]:
    return examples["response"].astype(int).tolist()


def test_a_streamed_draw_is_of_all_files_and_of_none_twice(sharded, monkeypatch):
    monkeypatch.setattr("sftrl.problems.sources.BATCH", 7)  # several batches a file
    spec, total = sharded
    drawn = numbers(load_examples({**spec, "sample": 120}))
    assert drawn == sorted(set(drawn))
    assert min(drawn) < 30 < total - 66 < max(drawn)
    assert numbers(load_examples({**spec, "sample": total})) == list(range(total))
    small = numbers(load_examples({**spec, "sample": 40}))
    assert set(small) < set(drawn)  # nested
    assert small != numbers(load_examples({**spec, "sample": 40, "seed": 1}))
    odd = numbers(load_examples({**spec, "sample": 30, "where": {"k": ["k1"]}}))
    assert all(i % 2 for i in odd)
    assert load_examples({**spec, "sample": 40, "expected": total}).shape[0] == 40
    with pytest.raises(InputError, match=f"{total} rows, where 3 are expected"):
        load_examples({**spec, "sample": 40, "expected": 3})
    with pytest.raises(InputError, match=f"cannot draw a sample of {total + 1} from {total} rows"):
        load_examples({**spec, "sample": total + 1})


def test_a_draw_from_some_files_reads_only_these(sharded, monkeypatch):
    spec, total = sharded
    seen = []
    keep = Reservoir.add
    monkeypatch.setattr(
        Reservoir, "add", lambda self, table, *rest: (seen.append(len(table)), keep(self, table, *rest))
    )
    drawn = numbers(load_examples({**spec, "sample": 40, "shards": 3}))
    assert len(drawn) == 40
    assert sum(seen) < total / 2
    starts = np.cumsum([0] + [30 + 4 * shard for shard in range(SHARDS)])
    assert len({int(np.searchsorted(starts, i, side="right")) for i in drawn}) <= 3
    others = {tuple(numbers(load_examples({**spec, "sample": 10, "shards": 3, "seed": seed}))) for seed in range(4)}
    assert len(others) == 4
    with pytest.raises(InputError, match=f"`shards` is 11, and the set has {SHARDS} files"):
        load_examples({**spec, "sample": 10, "shards": 11})


def test_nothing_of_a_stream_is_prepared(sharded, tmp_path):
    spec, _ = sharded
    load_examples({**spec, "sample": 5})
    assert not list((tmp_path / "cache").rglob("*.arrow"))


def test_files_given_by_pattern_are_all_that_is_prepared(hub, tmp_path):
    (hub / "SFT" / "math").mkdir(parents=True)
    (hub / "SFT" / "code").mkdir()
    (hub / "SFT" / "math" / "a.jsonl").write_text('{"input": "1+1?", "output": "2", "reasoning": "on"}\n')
    (hub / "SFT" / "code" / "b.jsonl").write_text("this is not even JSON\n")  # would be an error if it were read
    lines = ["configs:", "- config_name: SFT", "  data_files:"]
    lines += [f"  - split: {name}\n    path: SFT/{name}/*.jsonl" for name in ("math", "code")]
    (hub / "README.md").write_text("\n".join(["---", *lines, "---", ""]))
    spec = {"source": "llama_nemotron_math", "hub": str(hub)}
    assert len(load_examples({**spec, "data_files": "SFT/math/*.jsonl"})) == 1
    assert len(load_examples({**spec, "data_files": "SFT/math/*.jsonl", "sample": 1})) == 1
    with pytest.raises(InputError, match="cannot be loaded"):  # without the pattern, all splits are prepared
        load_examples({**spec, "config": "SFT"})


def test_the_first_split_that_is_there_is_read_and_named(hub):
    (hub / "train.jsonl").write_text(json.dumps({"problem": "1+1?", "solution": r"\boxed{2}"}))
    spec = {"benchmark": "minerva", "hub": str(hub), "expected": 1}
    with pytest.warns(UserWarning, match="split 'train' is read; there is no 'test'"):
        assert load_problems(spec)["answer"].tolist() == ["2"]
    with pytest.raises(InputError, match="split validation: cannot be loaded"):
        load_problems({**spec, "split": ["test", "validation"]})


@given(st.lists(st.integers(1, 30), min_size=1, max_size=8), st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_a_reservoir_holds_the_smallest_numbers_however_rows_come(sizes, size, seed):
    import pyarrow as pa

    chance = np.random.default_rng(seed)
    total = sum(sizes)
    keys, wanted = chance.random(total), chance.random(total) < 0.7
    reservoir, first = Reservoir(size), 0
    for rows in sizes:
        part = slice(first, first + rows)
        reservoir.add(pa.table({"i": np.arange(total)[part]}), keys[part], wanted[part], first)
        reservoir._shrink() if rows % 2 else None
        first += rows
    places = np.flatnonzero(wanted)
    assert list(reservoir.rows().index) == sorted(places[np.argsort(keys[places])][:size])


def test_every_row_of_a_stream_is_as_likely_as_any_other(sharded):
    """In 60 draws of 120 rows, how often each came is as binomial counts are, in small files and in large."""
    spec, total = sharded
    counts = np.zeros(total)
    for seed in range(60):
        counts[numbers(load_examples({**spec, "sample": 120, "seed": seed}))] += 1
    share = 120 / total
    chi2 = ((counts - 60 * share) ** 2).sum() / (60 * share * (1 - share))
    assert abs(chi2 - total) < 4 * np.sqrt(2 * total)
    starts = np.cumsum([0] + [30 + 4 * shard for shard in range(SHARDS)])
    by_file = np.add.reduceat(counts, starts[:-1]) / np.diff(starts) / 60
    assert np.allclose(by_file, share, atol=5 * np.sqrt(share / 60 / 30))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"config": "III"}, "III.*cannot be loaded: .*'III' not found"),
        ({"split": "train"}, 'split train: cannot be loaded: Unknown split "train"'),
        ({"split": None}, "`split` is missing"),
        ({"expected": 30}, "1 rows, where 30 are expected"),
        ({"hub": "/nowhere/at/all"}, "/nowhere/at/all.*cannot be loaded"),
    ],
)
def test_what_the_hub_does_not_have_is_named(hub, changes, message):
    configurations(hub, I=[{"question": "1+1?", "answer": "2"}])
    with pytest.raises(InputError, match=message):
        load_problems({"benchmark": "aime_2025", "hub": str(hub), "config": "I", "expected": 1, **changes})


def test_a_hub_out_of_reach_is_named():
    with pytest.raises(InputError, match=r"opencompass/AIME2025 .AIME2025-I., split test: cannot be loaded"):
        load_problems("aime_2025")


# --- the published sets themselves, where a developer has them -------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "file", "rows"),
    [
        ("math500", "math500.jsonl", 500),
        ("aime_1983_2024", "aime_1983_2023.json", 975),
        ("aime_2024", "aime24.jsonl", 30),
        ("gsm8k", "gsm8k_test.jsonl", 1319),
        ("amc", "amc.json", 83),
        ("olympiadbench", "olympiadbench.jsonl", 675),
        ("minerva", "minerva_math.jsonl", 272),
        ("mmlu_math", "mmlu_stem.jsonl", 1064),
        ("tal_scq5k_en", "tal_scq5k_en_test.jsonl", 2000),
        ("imo_answerbench", "imo_answerbench_v2.csv", 400),
    ],
)
def test_a_published_benchmark_loads_whole(shared, name, file, rows):
    loaded = load_problems({"benchmark": name, "path": shared(f"data/benchmarks/{file}"), "expected": rows})
    assert len(loaded) == rows


def test_a_year_of_aime_can_be_taken(shared):
    path = shared("data/benchmarks/aime_1983_2023.json")
    loaded = load_problems({"benchmark": "aime_1983_2024", "path": path, "where": {"Year|year": [2022, 2023]}})
    assert len(loaded) == 60
    assert set(loaded["level"]) == {"2022", "2023"}


def test_published_training_sets_load_whole(shared):
    with pytest.warns(UserWarning, match="4 of 7474 rows left out"):  # two have no answer, two an empty one
        problems = load_problems(
            {"benchmark": "math_train", "path": shared("data/rl/math_train.json"), "expected": 7474}
        )
    assert len(problems) == 7470
    gsm8k = {"source": "gsm8k_train", "path": shared("data/sft/gsm8k_train.jsonl"), "expected": 7473}
    assert load_examples(gsm8k)["answer"].str.fullmatch(r"-?\d+").all()
    path = shared("data/sft/math_test_with_solutions.jsonl")
    examples = load_examples({"source": "math_solutions", "path": path, "expected": 5000})
    as_benchmark = load_problems({"benchmark": "math", "path": path, "expected": 5000})
    assert examples["answer"].tolist() == as_benchmark["answer"].tolist()
    assert tuple(examples["answer"][:2]) == ("2", "10")


def test_answers_boxed_in_solutions_are_the_published_answers(shared):
    from sftrl.curate import normalise

    five = load_problems({"benchmark": "math500", "path": shared("data/benchmarks/math500.jsonl")})
    whole = load_problems({"benchmark": "math", "path": shared("data/sft/math_test_with_solutions.jsonl")})
    answers = dict(zip(whole["problem"].map(normalise), whole["answer"].map(normalise), strict=True))
    same = [answers[normalise(p)] == normalise(a) for p, a in zip(five["problem"], five["answer"], strict=True)]
    assert sum(same) >= 490
