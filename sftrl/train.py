"""Pretraining, SFT and GRPO: TRL's and transformers' trainers, configured, on the tokens of `sftrl.chat`.

Each verb trains the model it is given in place and returns what was logged, a row a logged step. The reward of GRPO is
`sftrl.verify`: 1 for a right final answer and 0 for anything else (the paper's binary verifiable reward).
"""

import dataclasses
import math
import time
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import torch
from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase, PrinterCallback, TrainerCallback, get_scheduler
from transformers.utils import logging as transformers_logging

from sftrl.chat import encode_example
from sftrl.errors import InputError
from sftrl.models import load_model, load_tokenizer
from sftrl.recipes import Checkpoint, Grpo, Scratch, Sft
from sftrl.verify import verify_many


class Progress(TrainerCallback):
    """Print about ten lines a run, each with the step, the time it took and what was logged: fit for a log file."""

    def on_train_begin(self, args, state, control, **kwargs):
        self.started = time.time()

    def on_log(self, args, state, control, logs=None, **kwargs):
        every = max(1, state.max_steps // 10)
        if (state.global_step % every == 0 and state.global_step < state.max_steps) or state.global_step == 1:
            shown = {k.split("/")[-1]: logs[k] for k in ("loss", "reward", "completions/clipped_ratio") if k in logs}
            values = "  ".join(f"{name} {float(value):.3f}" for name, value in shown.items())
            seconds = time.time() - self.started
            print(f"step {state.global_step}/{state.max_steps}  {seconds:.0f} s  {values}", flush=True)


class MuonAdamW(torch.optim.Optimizer):
    """Muon for the matrices inside the layers and AdamW for the rest, as one optimizer for a trainer.

    At a few hundred thousand parameters it learned in minutes what AdamW alone did not. Weight decay keeps the weights
    small enough for fine-tuning to move them (chosen here).
    """

    def __init__(self, model: PreTrainedModel, *, matrix_learning_rate: float, learning_rate: float):
        named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
        matrices = [p for name, p in named if p.ndim == 2 and "embed" not in name and "lm_head" not in name]
        chosen = set(map(id, matrices))
        rest = [p for _, p in named if id(p) not in chosen]
        self.parts = [
            torch.optim.Muon(matrices, lr=matrix_learning_rate, weight_decay=0.1),
            torch.optim.AdamW(rest, lr=learning_rate, betas=(0.9, 0.95), weight_decay=0.01),
        ]
        super().__init__([dict(group) for part in self.parts for group in part.param_groups], {})

    @torch.no_grad()
    def step(self, closure=None):
        # A scheduler, and accelerate when it wraps this, write to the groups here, never to those of the parts.
        for part, group in zip(self.parts, self.param_groups, strict=True):
            part.param_groups[0]["lr"] = group["lr"]
            part.step()


def pretrain(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    examples: pd.DataFrame,
    recipe: Scratch,
    *,
    folder: Path,
    seed: int,
) -> pd.DataFrame:
    """Pretrain a tiny model, one pass over examples of `prompt` and `response`, on the responses' tokens.

    Args:
        folder: scratch space of the trainer.
        batch_size: examples a step.
        learning_rate: AdamW's, for embeddings and norms; the matrices have Muon's `matrix_learning_rate`.

    Returns:
        The log: `step, epoch, loss` in nats a token.
    """
    batch_size = recipe.batch_size
    steps = math.ceil(len(examples) / batch_size)
    optimizer = MuonAdamW(model, matrix_learning_rate=recipe.matrix_learning_rate, learning_rate=recipe.learning_rate)
    scheduler = get_scheduler("linear", optimizer, num_warmup_steps=steps // 50, num_training_steps=steps)
    settings = {"per_device_train_batch_size": batch_size, "num_train_epochs": 1, "seed": seed}
    return _run_sft(model, tokenizer, examples, folder, settings, None, {"optimizers": (optimizer, scheduler)})


def sft(checkpoint: Checkpoint, examples, recipe: Sft, *, epochs: int, folder: Path, seed: int) -> pd.DataFrame:
    """Fine-tune; interim."""
    model, tokenizer = load_model(checkpoint), load_tokenizer(checkpoint)
    log = _sft(model, tokenizer, examples, folder=folder / "trainer", epochs=epochs, seed=seed, **recipe.model_dump())
    model.save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    return log


def _sft(
    model,
    tokenizer,
    examples,
    *,
    folder,
    epochs,
    learning_rate,
    batch_size,
    micro_batch,
    scheduler,
    warmup_ratio,
    weight_decay,
    max_length,
    seed,
    trl,
):
    micro_batch = min(micro_batch, batch_size)
    settings = {
        "num_train_epochs": epochs,
        "learning_rate": learning_rate,
        "per_device_train_batch_size": micro_batch,
        "gradient_accumulation_steps": _whole(batch_size, micro_batch, "sft.batch_size", "sft.micro_batch"),
        "lr_scheduler_type": scheduler,
        "warmup_steps": math.ceil(warmup_ratio * epochs * math.ceil(len(examples) / batch_size)),
        "weight_decay": weight_decay,
        "seed": seed,
    }
    return _run_sft(model, tokenizer, examples, folder, settings | trl, max_length, {})


def _run_sft(model, tokenizer, examples, folder, settings, max_length, more) -> pd.DataFrame:
    from trl import SFTConfig, SFTTrainer  # seconds to import, so only where it is used

    rows = []
    for identifier, prompt, response in zip(examples["id"], examples["prompt"], examples["response"], strict=True):
        ids, n_prompt = encode_example(tokenizer, prompt, response)
        if max_length is not None and len(ids) > max_length:
            raise InputError(f"example {identifier}: {len(ids)} tokens, and sft.max_length is {max_length}")
        rows.append({"input_ids": ids, "labels": [-100] * n_prompt + ids[n_prompt:]})
    trainer = SFTTrainer(
        model=model,
        args=_arguments(
            SFTConfig, "sft.trl", settings, output_dir=str(folder), max_length=None,
            dataset_kwargs={"skip_prepare_dataset": True},
        ),
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
        callbacks=[Progress()],
        **more,
    )  # fmt: skip
    return _train(trainer, ["epoch", "loss"])


def grpo(checkpoint: Checkpoint, problems, recipe: Grpo, *, folder: Path, seed: int) -> pd.DataFrame:
    """RL; interim."""
    model, tokenizer = load_model(checkpoint), load_tokenizer(checkpoint)
    log = _grpo(model, tokenizer, problems, folder=folder / "trainer", seed=seed, **recipe.model_dump())
    model.save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    return log


def _grpo(
    model,
    tokenizer,
    problems,
    *,
    folder,
    steps,
    learning_rate,
    scheduler,
    prompts_per_step,
    group_size,
    micro_batch,
    temperature,
    max_tokens,
    seed,
    trl,
):
    from trl import GRPOConfig, GRPOTrainer

    rollouts = prompts_per_step * group_size
    micro_batch = micro_batch or rollouts
    settings = {
        "max_steps": steps,
        "learning_rate": learning_rate,
        "lr_scheduler_type": scheduler,
        "per_device_train_batch_size": micro_batch,
        "gradient_accumulation_steps": _whole(rollouts, micro_batch, "prompts_per_step x group_size", "micro_batch"),
        "num_generations": group_size,
        "temperature": temperature,
        "max_completion_length": max_tokens,
        "beta": 0.0,
        "seed": seed,
        # The trainer switches the cache off for training, and generation would recompute every prefix.
        "generation_kwargs": {"use_cache": True},
    }
    # A conversation is rendered by TRL with the chat template, a plain text is encoded as it is: as `sftrl.chat` does.
    conversations = problems["prompt"].map(lambda text: [{"role": "user", "content": text}])
    rows = problems.assign(prompt=conversations if tokenizer.chat_template else problems["prompt"])
    rows = rows.reindex(columns=["prompt", "answer", "answer_type", "choices", "tolerance"])
    trainer = GRPOTrainer(
        model=model,
        reward_funcs=reward,
        args=_arguments(GRPOConfig, "grpo.trl", settings | trl, output_dir=str(folder)),
        train_dataset=Dataset.from_list(rows.to_dict("records")),
        processing_class=tokenizer,
        callbacks=[Progress()],
    )
    return _train(
        trainer, ["reward", "entropy", "completions/clipped_ratio", "frac_reward_zero_std", "completions/mean_length"]
    )


def reward(completions: Sequence, answer: Sequence[str], answer_type, choices, tolerance, **_) -> list[float]:
    """Return 1.0 for each completion whose final answer is right, else 0.0, in TRL's reward interface."""
    texts = [c if isinstance(c, str) else c[-1]["content"] for c in completions]
    how = {"answer_types": list(answer_type), "choices": list(choices), "tolerance": list(tolerance)}
    verdicts = verify_many(texts, list(answer), **how)
    return [float(verdict.correct) for verdict in verdicts]


def _arguments(config, section: str, settings: dict, **more):
    known = {field.name for field in dataclasses.fields(config)}
    unknown = sorted(set(settings) - known)
    if unknown:
        raise InputError(f"{section}.{unknown[0]}: {config.__name__} has no such argument")
    defaults = {
        "bf16": torch.cuda.is_available(),
        "dataloader_pin_memory": torch.cuda.is_available(),
        "gradient_checkpointing": False,
        "max_grad_norm": 1.0,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
    }
    return config(**(defaults | settings | more))


def _train(trainer, columns: list[str]) -> pd.DataFrame:
    transformers_logging.disable_progress_bar()
    trainer.remove_callback(PrinterCallback)  # prints each step's dict; Progress says the same, readably
    trainer.train()
    log = pd.DataFrame([row for row in trainer.state.log_history if columns[-1] in row])
    return log[["step", *columns]].rename(columns=lambda name: name.removeprefix("completions/"))


def _whole(total: int, part: int, total_name: str, part_name: str) -> int:
    if total % part:
        raise InputError(f"{total_name} ({total}) is not a multiple of {part_name} ({part})")
    return total // part
