"""Tiny families are ordinary Hugging Face folders, and text becomes the same tokens everywhere."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import tiny_folder, tiny_pair
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from sftrl import procedural
from sftrl.chat import encode_example, encode_prompt, render_prompt, template_hash
from sftrl.errors import InputError
from sftrl.models import ARCHITECTURES, build_tokenizer, load_model, load_tokenizer, weight_distance
from sftrl.recipes import Checkpoint

import numpy as np  # isort: skip


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer(procedural.tokenizer_texts(np.random.SeedSequence(0), 60), 320)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_saved_family_loads_as_any_model(tmp_path, architecture):
    folder = tiny_folder(tmp_path / architecture, architecture=architecture)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    assert model.config.model_type == architecture
    ids = torch.tensor([encode_prompt(tokenizer, "1+1?")])
    ours = load_model(Checkpoint(model=str(folder)))(ids).logits
    assert torch.equal(model(ids).logits, ours)
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id
    assert encode_prompt(load_tokenizer(Checkpoint(model=str(folder))), "1+1?") == ids[0].tolist()


def test_the_same_seed_builds_the_same_weights():
    states = [tiny_pair(seed)[0].state_dict() for seed in (0, 0, 1)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert any(not torch.equal(states[0][name], states[2][name]) for name in states[0])


@given(st.text(max_size=80))
@settings(max_examples=200, deadline=None)
def test_any_text_comes_back_from_its_tokens(text):
    assert TOKENIZER.decode(TOKENIZER(text)["input_ids"]) == text


TOKENIZER = build_tokenizer(procedural.tokenizer_texts(np.random.SeedSequence(0), 20), 320)


def test_digits_stand_alone_and_frequent_words_are_one_token(tokenizer):
    assert len(tokenizer.tokenize("097")) == 3
    assert len(tokenizer.tokenize("dial a shows 3.")) == 5  # "dial ", "a", " shows ", "3", "."
    assert len(tokenizer.tokenize("\\boxed{097}")) == 6


def test_an_example_is_what_the_chat_template_makes_of_the_conversation(tokenizer):
    ids, n_prompt = encode_example(tokenizer, "1+1?", "2")
    turns = [{"role": "user", "content": "1+1?"}, {"role": "assistant", "content": "2"}]
    assert ids == tokenizer.apply_chat_template(turns, return_dict=False)
    assert ids[:n_prompt] == encode_prompt(tokenizer, "1+1?")
    assert ids[-1] == tokenizer.eos_token_id


def test_generation_markers_cover_exactly_the_response(tokenizer):
    """The template's own `{% generation %}` marks what our prompt length says: tokenizers with and without agree."""
    ids, n_prompt = encode_example(tokenizer, "1+1?", "2 is it")
    turns = [{"role": "user", "content": "1+1?"}, {"role": "assistant", "content": "2 is it"}]
    marked = tokenizer.apply_chat_template(turns, return_dict=True, return_assistant_tokens_mask=True)
    assert marked["assistant_masks"] == [0] * n_prompt + [1] * (len(ids) - n_prompt)


def test_a_changed_template_has_another_hash(tokenizer):
    other = PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer, eos_token="<|end|>")
    assert template_hash(other) != template_hash(tokenizer)
    assert render_prompt(other, "x") == "x"


def test_an_empty_response_is_named(tokenizer):
    with pytest.raises(InputError, match="empty response"):
        encode_example(tokenizer, "x", "")


def test_no_eos_is_an_error(tokenizer):
    with pytest.raises(InputError, match="no EOS token"):
        encode_example(PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer), "x", "y")


def test_the_distance_of_weights_is_relative_to_the_bases():
    base, (other, _), (wider, _) = tiny_pair()[0], tiny_pair(), tiny_pair(hidden_size=64)
    assert weight_distance(base, base) == 0
    with torch.no_grad():
        for weights in other.parameters():
            weights *= 1.25
    assert weight_distance(other, base) == pytest.approx(0.25)
    assert weight_distance(base, other) == pytest.approx(0.2)
    other = tiny_pair(seed=1)[0]
    stacked = [torch.cat([w.flatten() for w in model.parameters()]) for model in (other, base)]
    assert weight_distance(other, base) == pytest.approx(((stacked[0] - stacked[1]).norm() / stacked[1].norm()).item())
    assert weight_distance(wider, base) is None
