"""Stand-ins for the paper's models: configurations, tokenizers and templates of the real forms, random weights.

Sizes are those of the published `config.json`; a stand-in keeps what decides the code's path (grouped heads, RoPE, tied
embeddings, special tokens, who adds BOS) and cuts width, depth and, unless asked not to, the vocabulary.
"""

import json
import shutil
from importlib.util import find_spec
from pathlib import Path

import torch
from tokenizers.processors import TemplateProcessing
from transformers import AutoModelForCausalLM, LlamaConfig, MistralConfig, PreTrainedTokenizerFast, Qwen3Config

from sftrl.models import build_tokenizer

CONFIGS = {
    "llama3-8b": LlamaConfig(
        vocab_size=128_256, hidden_size=4096, intermediate_size=14_336, num_hidden_layers=32, num_attention_heads=32,
        num_key_value_heads=8, head_dim=128, max_position_embeddings=8192, rope_theta=500_000.0, rms_norm_eps=1e-5,
        tie_word_embeddings=False, bos_token_id=128_000, eos_token_id=128_009,
    ),
    "mistral-nemo-12b": MistralConfig(
        vocab_size=131_072, hidden_size=5120, intermediate_size=14_336, num_hidden_layers=40, num_attention_heads=32,
        num_key_value_heads=8, head_dim=128, max_position_embeddings=131_072, rope_theta=1e6, sliding_window=None,
        tie_word_embeddings=False, bos_token_id=1, eos_token_id=2,
    ),
    "qwen3-4b": Qwen3Config(
        vocab_size=151_936, hidden_size=2560, intermediate_size=9728, num_hidden_layers=36, num_attention_heads=32,
        num_key_value_heads=8, head_dim=128, max_position_embeddings=32_768, rope_theta=1e6, tie_word_embeddings=True,
        bos_token_id=151_643, eos_token_id=151_643,
    ),
    "qwen3-0.6b": Qwen3Config(
        vocab_size=151_936, hidden_size=1024, intermediate_size=3072, num_hidden_layers=28, num_attention_heads=16,
        num_key_value_heads=8, head_dim=128, max_position_embeddings=32_768, rope_theta=1e6, tie_word_embeddings=True,
        bos_token_id=151_643, eos_token_id=151_643,
    ),
}  # fmt: skip
PARAMETERS = {"llama3-8b": 8_030_261_248, "mistral-nemo-12b": 12_247_782_400, "qwen3-4b": 4_022_468_096,
              "qwen3-0.6b": 596_049_920}  # fmt: skip

# What a conversation of one user turn and one answer looks like in each form; the layout is a fact, the code is ours.
TEMPLATES = {
    "llama3": (
        "{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ m['role'] }}<|end_header_id|>\n\n"
        "{{ m['content'] | trim }}<|eot_id|>{% endfor %}"
        "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
    ),
    "mistral": (
        "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}[INST]{{ m['content'] }}[/INST]"
        "{% else %}{{ m['content'] }}{{ eos_token }}{% endif %}{% endfor %}"
    ),
    "chatml": (
        "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    ),
    "plain": None,
}
# As Llama 3.2's: a system turn of its own that prints today's date.
DATED = (
    "{{ bos_token }}{% if date_string is not defined %}{% if strftime_now is defined %}"
    '{% set date_string = strftime_now("%d %b %Y") %}{% else %}{% set date_string = "26 Jul 2024" %}{% endif %}'
    "{% endif %}<|start_header_id|>system<|end_header_id|>\n\nToday Date: {{ date_string }}\n\n<|eot_id|>"
    + TEMPLATES["llama3"].removeprefix("{{ bos_token }}")
)
# The real forms' special tokens, and which of them the tokenizer's own configuration calls BOS, EOS and padding.
SPECIAL = {
    "llama3": {
        "tokens": ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"],
        "bos_token": "<|begin_of_text|>",
        "eos_token": "<|eot_id|>",
    },
    "mistral": {"tokens": ["<s>", "</s>", "[INST]", "[/INST]"], "bos_token": "<s>", "eos_token": "</s>"},
    "chatml": {
        "tokens": ["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        "eos_token": "<|endoftext|>",
        "pad_token": "<|endoftext|>",
    },
    "plain": {"tokens": ["<|begin_of_text|>", "<|end_of_text|>"], "bos_token": "<|begin_of_text|>",
              "eos_token": "<|end_of_text|>"},
}  # fmt: skip
FORMS = {"llama3-8b": "llama3", "mistral-nemo-12b": "mistral", "qwen3-4b": "chatml", "qwen3-0.6b": "chatml"}


def tokenizer_of(form: str, template: str | None = None) -> PreTrainedTokenizerFast:
    """Build a small tokenizer with the special tokens, BOS habit and template of a real form."""
    inner = build_tokenizer(["What is 1 + 2? The answer is \\boxed{3}."], 320).backend_tokenizer
    special = {key: value for key, value in SPECIAL[form].items() if key != "tokens"}
    inner.add_special_tokens(SPECIAL[form]["tokens"])
    if "bos_token" in special:  # Llama's and Mistral's put it before every text by themselves
        bos = special["bos_token"]
        inner.post_processor = TemplateProcessing(single=f"{bos} $A", special_tokens=[(bos, inner.token_to_id(bos))])
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, chat_template=template or TEMPLATES[form], clean_up_tokenization_spaces=False, **special
    )


def shrunk(name: str, tokenizer, *, vocab_size: int | None = None, dtype: str = "float32", **changes):
    """Return a real configuration cut to two narrow layers, with heads grouped as they are there."""
    whole = CONFIGS[name].to_dict()
    group = whole["num_attention_heads"] // whole["num_key_value_heads"]
    small = {
        "vocab_size": vocab_size or len(tokenizer), "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
        "num_attention_heads": group, "num_key_value_heads": 1, "head_dim": 32, "dtype": dtype,
        "max_position_embeddings": 512, "bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id, "layer_types": None, "initializer_range": 0.1, **changes,
    }  # fmt: skip
    return type(CONFIGS[name])(**{key: small.get(key, value) for key, value in whole.items()})


def standin_folder(path: str | Path, name: str, *, seed: int = 0, template: str | None = None, **changes) -> Path:
    """Write a random stand-in for a real model as an ordinary Hugging Face folder."""
    tokenizer = tokenizer_of(FORMS[name], template)
    torch.manual_seed(seed)
    config = shrunk(name, tokenizer, **changes)
    AutoModelForCausalLM.from_config(config, dtype=config.dtype).save_pretrained(path)
    tokenizer.save_pretrained(path)
    return Path(path)


def tekken_folder(path: str | Path) -> Path:
    """Write what Mistral-NeMo's repository holds of a tokenizer: `tokenizer.json` and, beside it, `tekken.json`.

    Both say the same; `tekken.json` is the one that mistral-common carries (v3, July 2024: NeMo's).
    """
    from transformers.integrations.mistral.tokenizer import MistralConverter

    tekken = Path(find_spec("mistral_common").origin).parent / "data" / "tekken_240718.json"
    path = Path(path)
    path.mkdir(parents=True, exist_ok=True)
    shutil.copy(tekken, path / "tekken.json")
    MistralConverter(str(tekken)).converted().save(str(path / "tokenizer.json"))
    names = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "chat_template": TEMPLATES["mistral"], **names}
    (path / "tokenizer_config.json").write_text(json.dumps(settings))
    # The published file names the version of transformers that wrote it, by which transformers 5 mends its pattern.
    config = CONFIGS["mistral-nemo-12b"].to_dict() | {"transformers_version": "4.43.0", "dtype": "bfloat16"}
    (path / "config.json").write_text(json.dumps(config | {"architectures": ["MistralForCausalLM"]}))
    return path
