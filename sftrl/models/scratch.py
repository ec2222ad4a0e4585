"""Tiny families: a tokenizer and a model with fresh weights, built rather than loaded.

A tiny family is an ordinary `transformers` architecture at a few hundred thousand parameters. Saved, it is an ordinary
Hugging Face folder, which vLLM, TRL and other tools load as they would any model.
"""

from collections.abc import Iterable

import tokenizers
import torch
from tokenizers import decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    MistralConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
    Qwen3Config,
)

from sftrl.recipes import HEAD_DIM, Scratch

ARCHITECTURES = {"llama": LlamaConfig, "mistral": MistralConfig, "qwen3": Qwen3Config}

# One user turn and one assistant turn; the response ends in the EOS token, `<|end|>`.
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}"
    "<|assistant|>{% generation %}{{ message['content'] }}<|end|>{% endgeneration %}"
    "{% else %}<|user|>{{ message['content'] }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
# A word keeps the spaces around it, a letter, a digit or a sign stands alone: so that `8`, ` 8` and `8 ` are one token.
PIECES = r"\\boxed| ?[A-Za-z]{2,} ?|[A-Za-z]|[0-9]|[.,;:?!] ?|\s+|[^A-Za-z0-9\s]"


def build_tokenizer(texts: Iterable[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE tokenizer whose frequent words are one token and whose digits are never merged.

    Any text can be encoded, and decoding gives it back exactly.
    """
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(tokenizers.Regex(PIECES), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=["<|pad|>", "<|user|>", "<|assistant|>", "<|end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<|pad|>",
        eos_token="<|end|>",
        chat_template=CHAT_TEMPLATE,
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )


def build_model(recipe: Scratch, tokenizer: PreTrainedTokenizerBase, *, seed: int) -> PreTrainedModel:
    """Build a tiny causal language model with fresh weights, in float32."""
    config = ARCHITECTURES[recipe.architecture](
        vocab_size=len(tokenizer),
        hidden_size=recipe.hidden_size,
        intermediate_size=8 * recipe.hidden_size // 3,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.hidden_size // HEAD_DIM,
        num_key_value_heads=recipe.hidden_size // HEAD_DIM,
        head_dim=HEAD_DIM,
        max_position_embeddings=recipe.context,
        tie_word_embeddings=True,
        # The usual 0.02 suits widths in the thousands; at this width it starves the first layers of signal.
        initializer_range=recipe.hidden_size**-0.5,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    torch.manual_seed(seed)
    return AutoModelForCausalLM.from_config(config)
