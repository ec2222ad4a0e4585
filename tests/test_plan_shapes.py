"""Parameter counts of published models to the digit, and configs that cannot be read."""

import json

import pytest
from transformers import GPT2Config

from sftrl.errors import InputError
from sftrl.plan.shapes import _count_on_meta, read_config, shape

# Counted by the model cards or by summing the tensors of the published checkpoints.
PUBLISHED = {
    "meta-llama/Meta-Llama-3-8B": 8_030_261_248,
    "meta-llama/Llama-3.2-1B": 1_235_814_400,
    "mistralai/Mistral-Nemo-Base-2407": 12_247_782_400,
    "mistralai/Mistral-7B-v0.1": 7_241_732_096,
    "Qwen/Qwen3-0.6B": 596_049_920,
    "Qwen/Qwen3-1.7B": 1_720_574_976,
    "Qwen/Qwen3-4B": 4_022_468_096,
    "Qwen/Qwen3-8B": 8_190_735_360,
}


@pytest.mark.parametrize(("model", "parameters"), PUBLISHED.items())
def test_published_counts_to_the_digit(model, parameters):
    assert shape(model).parameters == parameters
    assert _count_on_meta(read_config(model), model) == parameters  # as transformers builds it


def test_another_architecture_is_built_on_the_meta_device():
    config = read_config("Qwen/Qwen3-0.6B") | {"model_type": "qwen2", "num_hidden_layers": 2, "head_dim": 64}
    biases = 2 * (16 + 2 * 8) * 64
    norms = 2 * 2 * 64
    fewer_layers = read_config("Qwen/Qwen3-0.6B") | {"num_hidden_layers": 2, "head_dim": 64}
    assert shape(config).parameters == shape(fewer_layers).parameters + biases - norms


def test_an_untied_embedding_is_looked_up_and_not_multiplied():
    untied = shape("Qwen/Qwen3-8B")
    assert untied.parameters - untied.active == untied.vocabulary * untied.hidden
    tied = shape("Qwen/Qwen3-0.6B")
    assert tied.parameters == tied.active


def test_a_folder_is_read(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(read_config("Qwen/Qwen3-0.6B")))
    assert shape(str(tmp_path)) == shape("Qwen/Qwen3-0.6B")
    # Numbers that a token leaves in a layer's cache: keys and values of eight heads of 128.
    assert shape(str(tmp_path)).cached == 2 * 8 * 128


def test_an_adapter_has_the_shape_of_the_model_under_it(tmp_path):
    base = tmp_path / "base"
    base.mkdir()
    (base / "config.json").write_text(json.dumps(read_config("Qwen/Qwen3-0.6B")))
    (tmp_path / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(base)}))
    assert shape(str(tmp_path)) == shape("Qwen/Qwen3-0.6B")


def test_names_of_its_own_for_its_sizes(tmp_path):
    GPT2Config().save_pretrained(tmp_path)
    found = shape(str(tmp_path))
    assert found.parameters == 124_439_808  # GPT-2's own report rounds it to 124M
    assert (found.hidden, found.intermediate, found.layers) == (768, 3072, 12)


def test_a_config_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(InputError, match="nobody/nothing: its config cannot be read"):
        shape("nobody/nothing")
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(InputError, match=r"config.json: not JSON"):
        shape(str(tmp_path))
    (tmp_path / "config.json").write_text('{"model_type": "llama", "vocab_size": 10}')
    with pytest.raises(InputError, match="'hidden_size'"):
        shape(str(tmp_path))
