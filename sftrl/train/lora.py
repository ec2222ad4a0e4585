"""Low-rank adapters: targets are checked before any weight is loaded; saving merges them into the weights."""

import torch
from transformers import AutoModelForCausalLM, PreTrainedConfig

from sftrl.errors import InputError
from sftrl.recipes import Lora


def peft_config(lora: Lora, config: PreTrainedConfig, section: str):
    """Return PEFT's configuration of `lora` for a model with this `config`.

    Raises:
        InputError: a target that matches no linear layer, or the LM head, which TRL's trainers do not adapt.
    """
    from peft import LoraConfig

    with torch.device("meta"):
        skeleton = AutoModelForCausalLM.from_config(config)
    head = skeleton.get_output_embeddings()
    layers = {
        name.rpartition(".")[2]: None
        for name, module in skeleton.named_modules()
        if isinstance(module, torch.nn.Linear) and module is not head
    }
    for target in lora.targets or []:
        if target not in layers:
            raise InputError(f"{section}.lora.targets: no layer is called {target!r}; there are {', '.join(layers)}")
    targets = lora.targets or list(layers)
    return LoraConfig(r=lora.rank, lora_alpha=lora.alpha, target_modules=targets, task_type="CAUSAL_LM")


def merge(weights: dict[str, torch.Tensor], lora: Lora) -> dict[str, torch.Tensor]:
    """Return the weights of the plain model from those of the adapted one: W + alpha / rank * B A, in float32.

    B has shape (out, rank), A (rank, in), W (out, in).
    """
    merged = {}
    for name, weight in weights.items():
        if ".lora_" in name:
            continue
        plain = name.removeprefix("base_model.model.").replace(".base_layer.", ".")
        a, b = (weights.get(name.replace("base_layer.weight", f"lora_{part}.default.weight")) for part in "AB")
        if ".base_layer.weight" in name and a is not None:
            weight = weight.float() + lora.alpha / lora.rank * (b.float() @ a.float())
        merged[plain] = weight
    return merged
