"""The curation stage on a stand-in: what does not fit is found before anything is trained."""

import pandas as pd
import pytest
from standins import standin_folder

from sftrl.errors import InputError
from sftrl.stages import curation
from sftrl.study import Study
from sftrl.study.params import check


def study(folder, **sections) -> Study:
    values = {
        "study": "x",
        "families": {"qwen": {"model": str(folder)}},
        "data": {"benchmarks": {"procedural": 4}, "sft": {"procedural": 60}, "rl": {"procedural": 8}, "held_out": 8},
        "runs": [{"selection": "longest", "tokens": 100, "epochs": 1}],
        "grpo": {"steps": 1, "max_tokens": 32},
        "evaluation": {"max_tokens": 32},
        "sft": {"max_length": 512},
    }
    for name, changes in sections.items():
        values[name] = values[name] | changes if isinstance(changes, dict) else changes
    return Study(check(values, "x"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return standin_folder(tmp_path_factory.mktemp("model"), "qwen3-4b")


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({}, None),
        ({"sft": {"max_length": 90}}, r"qwen: sft: \d+ of \d+ are longer than 90 tokens \(sft.max_length; data.max_"),
        ({"sft": {"max_length": 90}, "runs": [{"name": "mine", "model": "a/model"}]}, None),  # nothing is trained
        ({"evaluation": {"max_tokens": 480}}, r"benchmarks, prompt and evaluation.max_tokens: \d+ of 32 .* 512 tokens"),
        ({"grpo": {"max_tokens": 500}}, r"qwen: rl, prompt and grpo.max_tokens: \d+ of 8 are longer"),
    ],
)
def test_what_does_not_fit_is_told_with_its_number(folder, sections, message):
    plan = study(folder, **sections)
    tables = {"benchmarks": curation.benchmarks(plan)} | curation.hold_out(
        plan, curation.clean(plan, curation.training(plan))[0], 0
    )
    if message is None:
        curation.check_lengths(plan, tables)
        return
    with pytest.raises(InputError, match=message):
        curation.check_lengths(plan, tables)


def test_a_run_of_more_tokens_than_there_are_is_named(folder):
    plan = study(folder)
    object.__setattr__(plan.run("longest-100tok-1ep"), "tokens", 10**7)
    with pytest.raises(InputError, match=r"asks for 10000000 tokens; \d+ are left"):
        curation.hold_out(plan, curation.clean(plan, curation.training(plan))[0], 0)


def test_verified_needs_gold_answers(folder):
    plan = study(folder, data={"verified": True})
    tables = curation.training(plan)
    kept, dropped = curation.clean(plan, tables)
    assert 0 < len(kept["sft"]) <= len(tables["sft"])
    assert set(dropped["table"]) <= {"sft", "rl"}
    without = {"sft": tables["sft"].assign(answer=pd.Series([None] * len(tables["sft"]), dtype=object))}
    with pytest.raises(InputError, match="no example has a gold answer"):
        curation.clean(plan, without)
