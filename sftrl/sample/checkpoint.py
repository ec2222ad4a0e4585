"""What is computed before loading: hashes of a checkpoint and of prompts, and the prompts' token ids."""

from pathlib import Path

import pandas as pd
from transformers import PreTrainedTokenizerBase

from sftrl.chat import encode_prompt
from sftrl.errors import InputError
from sftrl.files import hash_path, hash_value
from sftrl.models.locate import find_file, locate
from sftrl.recipes import Checkpoint

CONTENT = ["*.safetensors", "*.bin", "config.json", "adapter_config.json", "generation_config.json", "tokenizer.json"]


def hash_model(checkpoint: Checkpoint) -> str:
    """Return the hash of a checkpoint's weights and configuration, or for a hub model its commit.

    An adapter's hash covers its base too.

    Raises:
        InputError: no such model.
    """
    place = locate(checkpoint)
    weights = _hash_files(place.weights, place.revision, "config.json")
    if place.adapter is None:
        return weights
    return hash_value([weights, _hash_files(place.adapter, place.adapter_revision, "adapter_config.json")])


def _hash_files(model: str, revision: str | None, config: str) -> str:
    if not Path(model).is_dir():
        return Path(find_file(model, revision, config)).parent.name
    files = sorted({path for pattern in CONTENT for path in Path(model).glob(pattern)})
    return hash_value({path.name: hash_path(path) for path in files})


def hash_prompts(problems: pd.DataFrame) -> dict[str, str]:
    """Return a hash of each benchmark's prompts. Golds are left out: a corrected gold needs no new samples."""
    return {
        str(name): hash_value(list(zip(group["id"].astype(str), group["problem"], strict=True)))
        for name, group in problems.groupby("benchmark", sort=True)
    }


def encode_prompts(
    tokenizer: PreTrainedTokenizerBase, problems: pd.DataFrame, max_tokens: int, context: int
) -> dict[tuple[str, str], tuple[int, ...]]:
    """Return the token ids of every problem's prompt, by (benchmark, id).

    Raises:
        InputError: a prompt and `max_tokens` together exceed the model's `context` (tokens).
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
