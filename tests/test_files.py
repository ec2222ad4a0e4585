"""Writes are atomic, tables come back as they were, hashes see names and bytes."""

import errno

import pandas as pd
import pytest

from sftrl import files
from sftrl.errors import InputError


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "x.json"
    files.write_json(path, {"a": 1})
    with pytest.raises(ValueError):
        files.write_json(path, {"a": float("nan")})
    assert files.read_json(path) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["x.json"]


def test_a_full_disk_is_named(tmp_path):
    with (
        pytest.raises(InputError, match=r"x\.csv: cannot be written: No space left"),
        files.whole_file(tmp_path / "x.csv"),
    ):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["t.csv", "t.parquet", "t.jsonl"])
def test_tables_come_back(tmp_path, name):
    table = pd.DataFrame({"id": ["a", "b"], "x": [0.1, 1 / 3], "text": ['say "hi"\nthere', "é"]})
    files.write_table(table, tmp_path / name)
    pd.testing.assert_frame_equal(files.read_table(tmp_path / name), table, atol=1e-9)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("rows", [0, 5, 3000])
def test_a_parquet_file_is_read_in_blocks_as_in_one(tmp_path, rows):
    """Whatever stands in one block of rows alone: nothing but nulls, numbers without one."""
    late = [None] * (rows // 2) + list(range(rows - rows // 2))
    table = pd.DataFrame({"whole": range(rows), "late": late, "text": [None if i is None else str(i) for i in late]})
    table["flag"] = [None if i is None else i > 3 for i in late]
    table["list"] = [["a"] * (i % 3) for i in range(rows)]
    files.write_table(table.assign(seed=pd.array(late, dtype="Int64")), tmp_path / "t.parquet")
    pd.testing.assert_frame_equal(files.read_table(tmp_path / "t.parquet"), pd.read_parquet(tmp_path / "t.parquet"))


BROKEN = [("t.parquet", b"PAR1 not really"), ("t.json", b"{")]


@pytest.mark.parametrize(("name", "content"), BROKEN)
def test_a_broken_file_is_named(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    read = files.read_json if name.endswith("json") else files.read_table
    with pytest.raises(InputError, match=name):
        read(tmp_path / name)


def test_an_absent_file_is_named(tmp_path):
    for read, name in ((files.read_json, "no.json"), (files.read_table, "no.csv"), (files.hash_path, "no")):
        with pytest.raises(InputError, match=name):
            read(tmp_path / name)


def test_hash_of_a_folder_sees_names_and_bytes(tmp_path):
    for name, inside, content in (("a", "x", "1"), ("b", "x", "1"), ("c", "y", "1"), ("d", "x", "2")):
        (tmp_path / name).mkdir()
        (tmp_path / name / inside).write_text(content)
    a, b, c, d = (files.hash_path(tmp_path / name) for name in "abcd")
    assert a == b
    assert len({a, c, d}) == 3


def test_hash_of_a_value_does_not_see_the_order_of_keys():
    assert files.hash_value({"a": 1, "b": [2]}) == files.hash_value({"b": [2], "a": 1}) != files.hash_value({"a": 1})
