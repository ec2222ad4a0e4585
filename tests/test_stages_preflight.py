"""What is wrong with a study is said before any compute, all of it at once."""

import json

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


def test_a_pattern_stands_for_the_folder_that_is_there(tmp_path):
    (tmp_path / "runs" / "a1b2").mkdir(parents=True)
    preflight(
        study(runs=[{"name": "mine", "model": f"{tmp_path}/runs/*"}], grpo=..., data__rl=..., evaluation__rl_problems=0)
    )


def test_every_fault_is_named(tmp_path):
    rows = tmp_path / "rl.jsonl"
    rows.write_text('{"problem": "1 + 1?"}\n')
    source = {"path": str(rows), "benchmark": "mine", "columns": {"problem": "problem", "answer": "answer"}}
    with pytest.raises(InputError) as error:
        preflight(study(runs=[{"name": "mine", "model": "runs/no/such/model"}], data__rl=[source]))
    assert "mine.model: there is no folder runs/no/such/model" in str(error.value)
    assert "rl.jsonl" in str(error.value)
    with pytest.raises(InputError, match=r"prompt and evaluation.max_tokens: 32 of 32 are longer"):
        preflight(study(evaluation__max_tokens=600))


@pytest.mark.parametrize(
    ("base", "message"),
    [(None, "names no base model; give its folder or name as `base`"), ("/no/such", "the base of this adapter is not")],
)
def test_an_adapter_without_its_base_is_named(tmp_path, base, message):
    (tmp_path / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": base}))
    own = {"grpo": ..., "data__rl": ..., "evaluation__rl_problems": 0}
    with pytest.raises(InputError, match=message):
        preflight(study(runs=[{"name": "mine", "model": str(tmp_path)}], **own))
    preflight(study(runs=[{"name": "mine", "model": str(tmp_path), "base": "Qwen/Qwen3-4B-Base"}], **own))


def test_settings_of_later_jobs_are_checked_before_the_first():
    with pytest.raises(InputError, match=r"sft\.trl\.adam_epsilon: '1e-8' is not float"):
        preflight(study(sft__trl={"adam_epsilon": "1e-8"}))
    with pytest.raises(InputError, match=r"grpo\.trl\.epsilom: GRPOConfig has no such argument \(did you"):
        preflight(study(grpo__trl={"epsilom": 0.2}))
    with pytest.raises(InputError, match=r"prompts_per_step x group_size \(16\) is not a multiple of compute"):
        preflight(study(compute={"processes": 3}, sft__batch_size=9))
    preflight(study(grpo__trl={"epsilon": 0.3}, compute={"processes": 2}))


def test_an_argument_that_the_engine_lacks_is_named_before_the_first_job():
    pytest.importorskip("vllm")
    with pytest.raises(InputError, match=r"vllm\.max_seqs: vLLM's EngineArgs has no such argument; max_num_seqs\?"):
        preflight(study(evaluation__engine="vllm", evaluation__vllm={"max_seqs": 3}))


def test_examples_and_prompts_that_do_not_fit_are_counted(tmp_path):
    """Of a local file and of generated maths, in the tokens of a model that is not made yet."""
    rows = [{"prompt": "1+1?", "response": f"{'1+1=2;' * n}\\boxed{{2}}", "answer": "2"} for n in (1, 60, 90)]
    path = tmp_path / "sft.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    columns = {"prompt": "prompt", "response": "response", "answer": "answer"}
    source = {"path": str(path), "source": "mine", "columns": columns}
    runs = [{"selection": "random", "examples": 2, "epochs": 1}]
    changes = {"data__sft": [source], "runs": runs, "data__held_out": 1}
    with pytest.raises(InputError, match=r"sft: 2 of 3 are longer than 256 tokens \(sft.max_length.*has 5\d\d$"):
        preflight(study(**changes))
    preflight(study(**changes, data__max_response_tokens=100))  # curation drops them
    with pytest.raises(InputError, match=r"benchmarks, prompt and evaluation.max_tokens: \d+ of 32 are longer than"):
        preflight(study(evaluation__max_tokens=500))
