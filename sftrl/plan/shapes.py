"""What a model's config says about its size: parameters, widths, the cache that a token leaves.

Plain arithmetic for the architectures of this project's studies; any other is built on the meta device, where a tensor
has a shape and no memory.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml

from sftrl.errors import InputError
from sftrl.files import read_json

NEEDED = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


@dataclass(frozen=True)
class Shape:
    """The size of a dense decoder.

    Attributes:
        parameters: all of them, a tied embedding once.
        active: those that a token is multiplied with: all but an input embedding of its own.
        vocabulary, hidden, intermediate, layers: as in the config.
        attention: width of all query heads together.
        cached: width of all keys and values of a layer together: numbers that a token leaves in a layer's cache.
        stored: bytes of a weight as it is saved; 2 (bfloat16) where the config names no dtype.
    """

    parameters: int
    active: int
    vocabulary: int
    hidden: int
    intermediate: int
    layers: int
    attention: int
    cached: int
    stored: int = 2


def shape(model: str | dict) -> Shape:
    """Return a model's shape.

    Args:
        model: a folder with a `config.json`, a hub name, or the config as a mapping.

    Raises:
        InputError: the config cannot be read, or lacks a size.
    """
    config = model if isinstance(model, dict) else read_config(model)
    name = config.get("model_type", "the config") if isinstance(model, dict) else model
    if "hidden_size" not in config:
        config = config | _renamed(config)
    for key in NEEDED:
        if not isinstance(config.get(key), int):
            raise InputError(f"{name}: the config has no {key!r}, which a plan needs")
    vocabulary, hidden, intermediate, layers, heads = (config[key] for key in NEEDED)
    head_dim = config.get("head_dim") or hidden // heads
    attention, cached = heads * head_dim, 2 * (config.get("num_key_value_heads") or heads) * head_dim
    tied = bool(config.get("tie_word_embeddings"))
    count = _count(config, attention, cached, head_dim, tied) or _count_on_meta(config, name)
    active = count if tied else count - vocabulary * hidden
    stored = BYTES.get(str(config.get("dtype") or config.get("torch_dtype")), 2)
    return Shape(count, active, vocabulary, hidden, intermediate, layers, attention, cached, stored)


def read_config(model: str) -> dict:
    """Return the config of a folder or a hub name; sizes that were published are known without a network.

    Of an adapter's folder it is that of the model under it.

    Raises:
        InputError: it cannot be read.
    """
    if Path(model).is_dir():
        adapter = Path(model) / "adapter_config.json"
        if adapter.is_file() and not (Path(model) / "config.json").is_file():
            return read_config(str(read_json(adapter).get("base_model_name_or_path")))
        return read_json(Path(model) / "config.json")
    published = yaml.safe_load((Path(__file__).parent / "published.yaml").read_text())
    if model in published:
        return published[model]
    try:
        from transformers import AutoConfig  # seconds to import

        return AutoConfig.from_pretrained(model).to_dict()
    except (OSError, ValueError) as error:
        raise InputError(f"{model}: its config cannot be read: {str(error).splitlines()[0]}") from None


def _renamed(config: dict) -> dict:
    """Return sizes by their usual names, of an architecture such as GPT-2 that has names of its own for them."""
    from transformers import CONFIG_MAPPING

    kind = config.get("model_type")
    names = CONFIG_MAPPING[kind].attribute_map if kind in CONFIG_MAPPING else {}
    sizes = {usual: config[own] for usual, own in names.items() if own in config}
    if "n_inner" in config and "hidden_size" in sizes:  # the inner width; null stands for four times the outer one
        sizes["intermediate_size"] = config["n_inner"] or 4 * sizes["hidden_size"]
    return sizes


def _count(config: dict, attention: int, cached: int, head_dim: int, tied: bool) -> int | None:
    """Count the parameters, or return None for an architecture that is not known here."""
    kind = config.get("model_type")
    if kind not in ("llama", "mistral", "qwen3") or config.get("attention_bias") or config.get("mlp_bias"):
        return None
    hidden, embedding = config["hidden_size"], config["vocab_size"] * config["hidden_size"]
    layer = hidden * (2 * attention + cached) + 3 * hidden * config["intermediate_size"] + 2 * hidden
    if kind == "qwen3":
        layer += 2 * head_dim  # the norms of queries and keys
    return embedding * (1 if tied else 2) + config["num_hidden_layers"] * layer + hidden


def _count_on_meta(config: dict, name: str) -> int:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    try:
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**config))
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{name}: no model can be built from the config: {error}") from None
    return sum(p.numel() for p in model.parameters())


@cache
def known(model: str) -> Shape:
    """As `shape` for a folder or hub name, read once."""
    return shape(model)
