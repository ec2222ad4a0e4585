"""How weights are loaded for training and how they are saved: precision, adapters, one folder."""

import json
from pathlib import Path

import torch
from safetensors import SafetensorError

from sftrl.errors import InputError
from sftrl.files import whole_folder
from sftrl.models import load_config, load_model, load_tokenizer, resolved_dtype
from sftrl.recipes import Checkpoint, Grpo, Sft
from sftrl.train import lora
from sftrl.train.arguments import resolve
from sftrl.train.averaging import Averaging
from sftrl.train.resumable import Resumable, sync

HALF_STUCK = 0.5  # a bfloat16 run is refused if a step changes a smaller share of the weights (chosen here)


def training_dtype(recipe: Sft | Grpo, stored: torch.dtype) -> torch.dtype:
    """Return the dtype of the weights in training. Frozen weights under adapters need no float32 masters."""
    precision = resolve(recipe.precision)
    if precision.startswith("bfloat16"):
        return torch.bfloat16
    return stored if precision == "mixed" and recipe.lora is not None else torch.float32


def check_moves(model: torch.nn.Module, recipe: Sft | Grpo) -> None:
    """Raise InputError if a step of Adam, about as large as the learning rate, would not change most bfloat16 weights.

    A weight has 8 significant bits, so a step below about 1/512 of its value rounds to nothing.
    """
    if recipe.precision != "bfloat16":
        return
    moved = count = 0
    for weight in (p.detach() for p in model.parameters() if p.requires_grad and p.dtype == torch.bfloat16):
        moved += int(((weight.float() - recipe.learning_rate * weight.sign()).bfloat16() != weight).sum())
        count += weight.numel()
    if count and moved / count < HALF_STUCK:
        raise InputError(
            f"precision: in bfloat16 a step at the rate {recipe.learning_rate:g} moves {moved / count:.1%} of the "
            "weights; 'mixed' keeps them in float32, 'bfloat16-stuck' trains all the same"
        )


def load(kind: type, recipe: Sft | Grpo, checkpoint: Checkpoint, config, data, section: str, **more) -> Resumable:
    """Return a trainer of `kind` with the checkpoint's model, which it will save in the checkpoint's dtype."""
    stored = getattr(torch, resolved_dtype(checkpoint))
    adapters = lora.peft_config(recipe.lora, load_config(checkpoint), section) if recipe.lora else None
    # On the CPU: the trainer moves it, whole or in shards.
    name = str(training_dtype(recipe, stored)).removeprefix("torch.")
    model = load_model(checkpoint, dtype=name, device="cpu")
    tokenizer = load_tokenizer(checkpoint)
    trainer = kind(
        model=model, args=config, train_dataset=data, processing_class=tokenizer, peft_config=adapters, **more
    )
    check_moves(trainer.model, recipe)
    trainer.stored, trainer.lora = stored, recipe.lora
    if recipe.averaged_steps:
        trainer.averaging = Averaging(trainer.model, recipe.averaged_steps)
        trainer.add_callback(trainer.averaging)
    return trainer


def save(trainer: Resumable, folder: Path) -> None:
    """Write the model in the checkpoint's dtype, adapters merged, and its tokenizer to `folder/"model"`."""
    weights = trainer.accelerator.get_state_dict(trainer.model_wrapped)  # gathers shards, so every process calls it
    if not trainer.is_world_process_zero():
        return
    model = trainer.accelerator.unwrap_model(trainer.model)
    if trainer.lora:
        model, weights = model.get_base_model(), lora.merge(weights, trainer.lora)
    tied = model.all_tied_weights_keys  # written once; gathered from shards, they no longer share their storage
    weights = {name: weight.to(trainer.stored) for name, weight in weights.items() if name not in tied}
    with whole_folder(folder / "model") as temporary:
        try:
            model.save_pretrained(temporary, state_dict=weights)
        except SafetensorError as error:  # for example a full disk
            raise OSError(error) from error
        config = json.loads((temporary / "config.json").read_text())
        if config["dtype"] != str(trainer.stored).removeprefix("torch."):
            config["dtype"] = str(trainer.stored).removeprefix("torch.")
            (temporary / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
        trainer.processing_class.save_pretrained(temporary)
        sync(temporary)
