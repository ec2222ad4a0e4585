"""What is wrong with a study is said before any compute, all of it at once."""

import pytest
from test_study import smoke

from sftrl.errors import InputError
from sftrl.stages.preflight import preflight
from sftrl.study import Study
from sftrl.study.params import check


def study(**changes) -> Study:
    return Study(check(smoke(**changes), "test"))


def test_a_study_says_what_it_consists_of():
    assert preflight(study()) == ["study smoke: 1 family, each with 2 SFT runs, 3 RL runs and 6 evaluations"]
    assert "in 2 shards, 18 notebooks" in preflight(study(evaluation__shards=2))[0]


@pytest.mark.parametrize("name", ["gpt2", "Qwen/Qwen3-4B-Base"])
def test_a_name_on_the_hub_is_no_missing_folder(name):
    preflight(study(families={"x": {"model": name}}))


def test_every_fault_is_named(tmp_path):
    rows = tmp_path / "rl.jsonl"
    rows.write_text('{"problem": "1 + 1?"}\n')
    source = {"path": str(rows), "benchmark": "mine", "columns": {"problem": "problem", "answer": "answer"}}
    with pytest.raises(InputError) as error:
        preflight(study(runs=[{"name": "mine", "model": "runs/no/such/model"}], data__rl=[source]))
    assert "mine.model: runs/no/such/model is no folder" in str(error.value)
    assert "rl.jsonl" in str(error.value)
    with pytest.raises(InputError, match=r"evaluation\.max_tokens: 600 leaves no room for a prompt"):
        preflight(study(evaluation__max_tokens=600))
