"""The params of the real models are the paper's grid, and fit the models that they name."""

from pathlib import Path

import pandas as pd
import pytest
from standins import CONFIGS

from sftrl.errors import InputError
from sftrl.problems import PAPER_LISTS, example_source, problem_source
from sftrl.recipes import Checkpoint
from sftrl.study import Study
from sftrl.study.params import check

ROOT = Path(__file__).resolve().parent.parent
MODELS = {
    "llama3-8b": "Llama3-8B-Instruct",
    "mistral-nemo-12b": "Mistral-NeMo-12B-Instruct",
    "qwen3-4b": "Qwen3-4B-base",
}
SFT_DATA = {"llama_nemotron_math": "Llama-Nemotron-SFT", "acereason_math": "AceReason-1.1-SFT"}


@pytest.fixture(params=CONFIGS)
def params(request):
    return Study.load(ROOT / "params" / f"{request.param}.yaml").params


@pytest.mark.parametrize("name", MODELS)
def test_the_grid_is_what_the_papers_figures_show(name):
    params = Study.load(ROOT / "params" / f"{name}.yaml").params
    points = pd.read_csv(ROOT / "figures" / "paper" / "points.csv", keep_default_na=False)
    shown = points[(points["model"] == MODELS[name]) & (points["selection"] != "none")]
    cells = {(row.selection, row.unique_examples, row.epochs) for row in shown.itertuples()}
    assert {(run.selection, run.examples, run.epochs) for run in params.runs} == cells
    (source,) = params.data.sft
    assert {SFT_DATA[example_source(source).source]} == set(shown["sft_data"])
    assert params.data.benchmarks == PAPER_LISTS["readers"]
    assert params.data.rl == ["math_train", "deepscaler"]
    assert (params.grpo.epochs, params.evaluation.samples, params.evaluation.samples_post_rl) == (3, 256, 64)


def test_the_model_is_pinned_and_what_is_asked_of_it_fits(params):
    (family,) = params.families.values()
    assert len(family.revision) == 40
    context = CONFIGS[params.study].max_position_embeddings
    assert params.sft.max_length <= context
    assert params.data.max_response_tokens < params.sft.max_length
    assert max(params.evaluation.max_tokens, params.grpo.max_tokens) < context
    assert isinstance(family, Checkpoint)


def test_the_sources_are_known_and_hold_the_largest_run(params):
    for source in [*params.data.benchmarks, *params.data.rl]:
        assert problem_source(source).split
    drawn = sum(example_source(source).sample for source in params.data.sft)
    assert drawn > 1.2 * max(run.examples for run in params.runs) + params.data.held_out


def test_a_run_has_examples_or_tokens():
    values = {
        "study": "x",
        "families": {"a": {"model": "m"}},
        "data": {"benchmarks": ["gsm8k"], "sft": ["gsm8k_train"]},
    }
    runs = [{"selection": how, "tokens": 2_000_000, "epochs": 1} for how in ("shortest", "longest")]
    labels = [run.label for run in check(values | {"runs": runs}, "x").runs]
    assert labels == ["shortest-2000ktok-1ep", "longest-2000ktok-1ep"]
    with pytest.raises(InputError, match="'examples' or 'tokens', not both"):
        check(values | {"runs": [runs[0] | {"examples": 5}]}, "x")
    with pytest.raises(InputError, match="a run needs 'selection', 'examples' and 'epochs'"):
        check(values | {"runs": [{"selection": "random", "epochs": 1}]}, "x")
    with pytest.raises(InputError, match="unknown key 'colums'"):
        check(values | {"data": {"benchmarks": [{"benchmark": "gsm8k", "colums": {}}]}}, "x")
