"""What must be known of a checkpoint before anything is loaded or drawn: what it is, and where its responses end."""

import sys
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from transformers import AutoConfig, GenerationConfig, PreTrainedTokenizerBase
from transformers.utils.hub import cached_file

from sftrl.chat import encode_prompt
from sftrl.errors import InputError
from sftrl.files import hash_path, hash_value
from sftrl.recipes import Checkpoint

CONTENT = ["*.safetensors", "*.bin", "config.json", "generation_config.json", "tokenizer.json"]


@dataclass(frozen=True)
class Known:
    """A checkpoint's facts.

    Attributes:
        hash: names its content.
        dtype: of the weights as every engine will load them, such as `float32`; never `auto`.
        context: the longest sequence it takes, in tokens.
        stop_ids: the tokens that end a response, as its own files list them.
    """

    hash: str
    dtype: str
    context: int
    stop_ids: frozenset[int]


def describe(checkpoint: Checkpoint) -> Known:
    """Describe a checkpoint without loading its weights.

    `dtype: auto` is the type its config names, or float32 where it names none. Every engine is then told that type by
    name: vLLM's own `auto` would load a float32 checkpoint in half precision.

    Raises:
        InputError: the folder or the hub has no such model.
    """
    source, revision = checkpoint.model, checkpoint.revision
    try:
        config = AutoConfig.from_pretrained(source, revision=revision)
    except (OSError, ValueError) as error:
        raise InputError(f"model: {source} cannot be read: {str(error).splitlines()[0]}") from None
    try:
        ends = GenerationConfig.from_pretrained(source, revision=revision).eos_token_id
    except OSError:
        ends = GenerationConfig.from_model_config(config).eos_token_id
    dtype = (config.dtype or "float32") if checkpoint.dtype == "auto" else checkpoint.dtype
    return Known(
        hash=hash_model(source, revision),
        dtype=str(dtype).removeprefix("torch."),
        context=getattr(config.get_text_config(), "max_position_embeddings", None) or sys.maxsize,
        stop_ids=frozenset(ends if isinstance(ends, list) else [ends]) - {None},
    )


def hash_model(model: str, revision: str | None = None) -> str:
    """Name a model's content: the hash of its weights and configuration, or the commit of one on the hub."""
    if not Path(model).is_dir():
        return Path(cached_file(model, "config.json", revision=revision)).parent.name
    files = sorted({path for pattern in CONTENT for path in Path(model).glob(pattern)})
    return hash_value({path.name: hash_path(path) for path in files})


def hash_prompts(problems: pd.DataFrame) -> dict[str, str]:
    """Name each benchmark's prompts. Golds are not among them: a corrected answer needs no new samples."""
    return {
        str(name): hash_value(list(zip(group["id"].astype(str), group["problem"], strict=True)))
        for name, group in problems.groupby("benchmark", sort=True)
    }


def encode_prompts(
    tokenizer: PreTrainedTokenizerBase, problems: pd.DataFrame, max_tokens: int, context: int
) -> dict[tuple[str, str], tuple[int, ...]]:
    """Encode every problem's prompt.

    Raises:
        InputError: a prompt and `max_tokens` do not fit into the model's context together.
    """
    prompts = {}
    for benchmark, problem_id, text in zip(problems["benchmark"], problems["id"], problems["problem"], strict=True):
        ids = tuple(encode_prompt(tokenizer, text))
        if len(ids) + max_tokens > context:
            raise InputError(
                f"problems: {benchmark} {problem_id}: a prompt of {len(ids)} tokens and max_tokens {max_tokens} do not "
                f"fit into the model's context of {context}"
            )
        prompts[str(benchmark), str(problem_id)] = ids
    return prompts
