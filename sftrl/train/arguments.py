"""From a recipe to the arguments of TRL's trainers: batch sizes, types and precision are checked."""

import dataclasses
import difflib
import math
import os
import time
import typing
import urllib.request
from pathlib import Path

import torch
from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError
from transformers.integrations import integration_utils

from sftrl.errors import InputError
from sftrl.recipes import Grpo, Sft

# TRL's arguments for its own generation.
GENERATED = {
    "cache_implementation", "generation_kwargs", "min_p", "repetition_penalty", "top_k", "top_p",
    "transformers_continuous_batching_config", "use_transformers_continuous_batching",
}  # fmt: skip
DEVICE_TOKENS = 16_384  # tokens of a micro-batch on a GPU, unless the recipe says otherwise (chosen here)


def micro_batch(given: int | None, batch: int, longest: int, names: tuple[str, str]) -> tuple[int, int]:
    """Split a process's `batch` of sequences into equal parts; return (sequences a part, parts).

    If `given` is None: on a GPU, as many sequences of the `longest` length (in tokens) as fit into `DEVICE_TOKENS`; on
    a CPU, all of them.

    Raises:
        InputError: the batch is not a multiple of `given`; `names` are the two keys for the message.
    """
    if given is None:
        fits = max(1, DEVICE_TOKENS // longest) if torch.cuda.is_available() else batch
        part = max(part for part in range(1, batch + 1) if batch % part == 0 and part <= fits)
    else:
        part = min(given, batch)
    return part, whole(batch, part, *names)


def layout(recipe: Sft | Grpo, processes: int, longest: int = 1) -> tuple[int, int]:
    """Split the batch of each of `processes` as `micro_batch` does; InputError names what does not divide."""
    if isinstance(recipe, Sft):
        batch = whole(recipe.batch_size, processes, "sft.batch_size", "compute.processes")
        names = ("sft.batch_size" if processes == 1 else "sft.batch_size / compute.processes", "sft.micro_batch")
    else:
        names = ("prompts_per_step x group_size", "micro_batch")
        batch = whole(recipe.prompts_per_step * recipe.group_size, processes, names[0], "compute.processes")
    return micro_batch(recipe.micro_batch, batch, longest, names)


def whole(total: int, part: int, total_name: str, part_name: str) -> int:
    """Return total / part; InputError with the two names if it is not an integer."""
    if total % part:
        raise InputError(f"{total_name} ({total}) is not a multiple of {part_name} ({part})")
    return total // part


def resolve(precision: str) -> str:
    """Return the given precision, with `auto` resolved for this machine."""
    if precision == "auto":
        return "mixed" if torch.cuda.is_available() else "float32"
    return precision


def sft_config(recipe: Sft, *, folder: Path, epochs: int, rows: int, seed: int, layout: tuple[int, int]):
    """Return TRL's `SFTConfig`; `layout` is the result of `micro_batch`, `rows` the number of examples."""
    from trl import SFTConfig  # seconds to import, so only where it is used

    settings = {
        "num_train_epochs": epochs,
        "learning_rate": recipe.learning_rate,
        "per_device_train_batch_size": layout[0],
        "gradient_accumulation_steps": layout[1],
        "lr_scheduler_type": recipe.scheduler,
        "warmup_steps": math.ceil(recipe.warmup_ratio * epochs * math.ceil(rows / recipe.batch_size)),
        "weight_decay": recipe.weight_decay,
        "seed": seed,
        # Micro-batches flattened into one row; no example attends to another. The batches stay those of the recipe,
        # where TRL's `packing` would put other examples into a step.
        "padding_free": recipe.packing,
        "max_length": None,
        "dataset_kwargs": {"skip_prepare_dataset": True},
        "remove_unused_columns": False,
        "bf16": resolve(recipe.precision) == "mixed",
    }
    return _config(SFTConfig, "sft", settings, recipe.trl, folder)


def grpo_config(recipe: Grpo, *, folder: Path, steps: int, seed: int, layout: tuple[int, int]):
    """Return TRL's `GRPOConfig`; `layout` is the result of `micro_batch`."""
    from trl import GRPOConfig

    settings = {
        "max_steps": steps,
        "learning_rate": recipe.learning_rate,
        "per_device_train_batch_size": layout[0],
        "gradient_accumulation_steps": layout[1],
        "lr_scheduler_type": recipe.scheduler,
        "num_generations": recipe.group_size,
        "temperature": recipe.temperature,
        "max_completion_length": recipe.max_tokens,
        "beta": 0.0,
        "seed": seed,
        "bf16": resolve(recipe.precision) == "mixed",
    }
    given = dict(recipe.trl)
    if recipe.rollouts == "transformers":
        if other := sorted(GENERATED & set(given)):
            raise InputError(f"grpo.trl.{other[0]}: is for TRL's own generation; give grpo.rollouts: generate with it")
    elif recipe.rollouts == "generate":
        # The trainer disables the cache for training; generation would then recompute every prefix.
        given["generation_kwargs"] = {"use_cache": True} | (given.get("generation_kwargs") or {})
    else:
        settings |= {"use_vllm": True, "vllm_mode": recipe.rollouts}
        check_sampling(given.get("generation_kwargs") or {})
    return _config(GRPOConfig, "grpo", settings, given, folder)


def check_sampling(arguments: dict) -> None:
    """Raise InputError if vLLM's SamplingParams lacks one of `arguments`, or vLLM is not installed."""
    try:
        from vllm import SamplingParams
    except ImportError:
        raise InputError(
            "grpo.rollouts: needs vLLM, which is not installed; 'transformers' and 'generate' do without"
        ) from None
    unknown = sorted(set(arguments) - set(SamplingParams.__struct_fields__))
    if unknown:
        raise InputError(f"grpo.trl.generation_kwargs.{unknown[0]}: vLLM's SamplingParams has no such argument")


def check_server(given: dict) -> None:
    """Wait until the vLLM server answers, as long as TRL would, which loads the weights first.

    Args:
        given: arguments of TRL's GRPOConfig; `vllm_server_*` say where the server is and how long to wait, in seconds.

    Raises:
        InputError: nothing answers there.
    """
    from trl import GRPOConfig

    fields = GRPOConfig.__dataclass_fields__
    names = ("vllm_server_base_url", "vllm_server_host", "vllm_server_port", "vllm_server_timeout")
    base, host, port, seconds = (given.get(name, fields[name].default) for name in names)
    place, until = base or f"http://{host}:{port}", time.monotonic() + seconds
    while True:
        try:
            with urllib.request.urlopen(f"{place}/health", timeout=10):
                return
        except (OSError, ValueError) as error:
            if time.monotonic() >= until:
                raise InputError(
                    f"grpo.rollouts: no vLLM server answers at {place} ({error}); start one, or name its place: "
                    "trl: {vllm_server_base_url: ...}"
                ) from None
            time.sleep(1)


def check_types(config: type, section: str, given: dict) -> None:
    """Raise InputError if a key of `given` is no field of the dataclass `config`, or has a value of the wrong type."""
    known = [field.name for field in dataclasses.fields(config) if field.init]
    hints = typing.get_type_hints(config)
    for name, value in given.items():
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            raise InputError(f"{section}.trl.{name}: {config.__name__} has no such argument{hint}")
        try:
            TypeAdapter(hints[name], config=ConfigDict(strict=True)).validate_python(value)
        except ValidationError:
            expected = getattr(hints[name], "__name__", None) or str(hints[name])
            expected = expected if isinstance(hints[name], type) else str(hints[name]).replace("typing.", "")
            raise InputError(f"{section}.trl.{name}: {value!r} is not {expected}") from None
        except PydanticUserError:
            continue  # a type that pydantic cannot check: the trainer will


def _config(config: type, section: str, settings: dict, given: dict, folder: Path):
    check_types(config, section, given)
    on_gpu = torch.cuda.is_available()
    defaults = {
        "dataloader_pin_memory": on_gpu,
        "ddp_find_unused_parameters": False,
        "gradient_checkpointing": on_gpu,  # a CPU has more memory than time
        "logging_steps": 1,
        "max_grad_norm": 1.0,
        "report_to": "none",
        "save_strategy": "no",  # `sftrl.train.resumable` saves by time
        "disable_tqdm": True,
        "use_cpu": not on_gpu,
        "run_name": "/".join(folder.resolve().parts[-5:]),
    }
    try:
        made = config(**(defaults | settings | given), output_dir=str(folder / "trainer"))
    except (ValueError, TypeError, ImportError) as error:
        raise InputError(f"{section}: {error}") from None
    for tracker in made.report_to:
        available = getattr(integration_utils, f"is_{tracker}_available", None)
        if available is None or not available():
            raise InputError(f"{section}.trl.report_to: {tracker} is not installed, or no tracker that is known")
        os.environ["TENSORBOARD_LOGGING_DIR"] = str(folder / "tensorboard")  # the trainer's own folder is removed
    made._n_gpu = min(made.n_gpu, 1)  # with several GPUs the Trainer would use DataParallel and a larger batch
    return made
