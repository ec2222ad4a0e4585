"""What each process of a training does: load, train or go on, save. `launch` writes the job that it reads."""

import fcntl
import json
import os
import shutil
import time
from pathlib import Path

import pandas as pd
import torch
from torch.utils.data import Sampler
from transformers import AutoConfig, AutoModelForCausalLM, PrinterCallback
from transformers.utils import logging as transformers_logging
from trl import GRPOTrainer, SFTTrainer
from trl.trainer.utils import RepeatSampler

from sftrl.chat import encode_prompt
from sftrl.errors import InputError
from sftrl.files import read_json, whole_folder, write_table
from sftrl.models import load_tokenizer
from sftrl.recipes import Checkpoint, Grpo, Sft
from sftrl.train import arguments, arrow, lora
from sftrl.train.resumable import Interrupted, Resumable, StopSignal, Watch, checkpoints, sync
from sftrl.train.rewards import reward

# What is kept of a trainer's log. The last two are about the machine and differ from run to run.
MACHINE = ["tokens_per_second", "gpu_gigabytes"]
SFT_LOG = ["step", "epoch", "loss", "learning_rate", "grad_norm", *MACHINE]
GRPO_LOG = [
    "step", "reward", "entropy", "completions/clipped_ratio", "frac_reward_zero_std", "completions/mean_length",
    "learning_rate", "grad_norm", *MACHINE,
]  # fmt: skip
LOCK_SECONDS = 120  # for a stopping process of the same training to save and leave


def run(folder: Path, launched: bool = False) -> None:
    """Train the job in `folder/"trainer"`; leave `folder/"model"`, then the log, whose presence says it is finished.

    Args:
        launched: the end of standard input is a wish to stop.

    Raises:
        InputError: settings that a trainer refuses, another training under way in the folder, a full disk.
        Interrupted: it was asked to stop before its last step, and has saved.
    """
    place, stop = folder / "trainer", StopSignal(launched)
    job = read_json(place / "job.json")
    with (place / "lock").open("w") as lock, stop.listening():
        if os.environ.get("RANK", "0") == "0":
            _take(lock, place)
            for stale in (place / "saving", *folder.glob(".model.*")):
                shutil.rmtree(stale, ignore_errors=True)
        trainer, recipe, stored = (_sft if job["kind"] == "sft" else _grpo)(job, folder)
        _check_room(trainer, place)
        trainer.save_seconds = 60 * job["save_minutes"]
        history = fit(trainer, stop)
        _save_model(trainer, recipe, stored, folder)
        if trainer.is_world_process_zero():
            write_table(table(history, SFT_LOG if job["kind"] == "sft" else GRPO_LOG), place / "log.parquet")


def fit(trainer: Resumable, stop: StopSignal | None = None) -> list[dict]:
    """Train to the last step, from the newest whole checkpoint if there is one; return what was logged, a row a step.

    Raises:
        Interrupted: `stop` was asked for before the last step.
    """
    transformers_logging.disable_progress_bar()
    trainer.remove_callback(PrinterCallback)  # prints each step's dict; Watch says the same, readably
    trainer.add_callback(Watch(trainer, stop or StopSignal()))
    saved = checkpoints(Path(trainer.args.output_dir))
    trainer.train(resume_from_checkpoint=str(saved[-1]) if saved else None)
    step, steps = trainer.state.global_step, trainer.state.max_steps
    if step < steps:
        raise Interrupted(
            f"{trainer.args.output_dir}: stopped at step {step} of {steps}; the same call goes on from it"
        )
    return [row for row in trainer.state.log_history if "loss" in row]


def table(history: list[dict], columns: list[str]) -> pd.DataFrame:
    """Return the logged rows with the `columns` that are known, under their short names."""
    log = pd.DataFrame(history)
    return log[[name for name in columns if name in log]].rename(columns=lambda name: name.rpartition("/")[2])


class SftTrainer(Resumable, SFTTrainer):
    """TRL's, on rows of which the first `examples` have a loss."""

    examples: int | None = None

    def _get_train_sampler(self, train_dataset=None):
        if self.examples in (None, len(self.train_dataset)):
            return super()._get_train_sampler(train_dataset)
        self.epoch_sampler = FilledSampler(self.examples, len(self.train_dataset), self.args.seed)
        return self.epoch_sampler


class FilledSampler(Sampler):
    """Each epoch `examples` in the order that accelerate gives them to one process, then the rows that fill up."""

    def __init__(self, examples: int, rows: int, seed: int):
        self.examples, self.rows, self.seed, self.epoch = examples, rows, seed, 0

    def __iter__(self):
        generator = torch.Generator().manual_seed(self.seed + self.epoch)
        yield from torch.randperm(self.examples, generator=generator).tolist()
        yield from range(self.examples, self.rows)

    def __len__(self):
        return self.rows


class GrpoTrainer(Resumable, GRPOTrainer):
    """TRL's, on prompts that are encoded by `sftrl.chat`, as for every other use of the model."""

    def _tokenize_prompts(self, prompts):
        return [encode_prompt(self.processing_class, prompt) for prompt in prompts], None, {}

    def _get_train_sampler(self, dataset=None):
        given = super()._get_train_sampler(dataset)
        settings = {
            name: getattr(given, name) for name in ("mini_repeat_count", "batch_size", "repeat_count", "shuffle")
        }
        self.epoch_sampler = PromptSampler(given.data_source, seed=given.seed, **settings)
        return self.epoch_sampler


class PromptSampler(RepeatSampler):
    """TRL's, which draws an order for each epoch in turn, and so would give a resumed epoch the order of the first."""

    epoch = 0

    def __iter__(self):
        if self.shuffle:
            self.generator.manual_seed(self.seed)
            for _ in range(self.epoch):
                torch.randperm(self.num_samples, generator=self.generator)
        yield from super().__iter__()


def _sft(job: dict, folder: Path):
    recipe, checkpoint = Sft(**job["recipe"]), Checkpoint(**job["checkpoint"])
    layout, processes = (job["micro_batch"], job["parts"]), job["processes"]
    options = {"epochs": job["epochs"], "rows": job["rows"], "seed": job["seed"]}
    config = arguments.sft_config(recipe, folder=folder, layout=layout, **options)
    data = arrow.read_examples(folder / "trainer" / "data.arrow", recipe.batch_size, processes)
    trainer, stored = _trainer(SftTrainer, recipe, checkpoint, config, data, "sft")
    trainer.examples = job["rows"]
    return trainer, recipe, stored


def _grpo(job: dict, folder: Path):
    recipe, checkpoint = Grpo(**job["recipe"]), Checkpoint(**job["checkpoint"])
    layout = (job["micro_batch"], job["parts"])
    config = arguments.grpo_config(recipe, folder=folder, steps=job["steps"], seed=job["seed"], layout=layout)
    data = arrow.read_problems(folder / "trainer" / "data.arrow")
    trainer, stored = _trainer(GrpoTrainer, recipe, checkpoint, config, data, "grpo", reward_funcs=reward)
    batches = config.steps_per_generation * config.num_iterations  # rollouts are drawn for so many micro batches
    trainer.steps_between_saves = max(1, batches // config.gradient_accumulation_steps)
    return trainer, recipe, stored


def _trainer(kind: type, recipe: Sft | Grpo, checkpoint: Checkpoint, config, data, section: str, **more):
    source = AutoConfig.from_pretrained(checkpoint.model, revision=checkpoint.revision)
    stored = arguments.stored_dtype(checkpoint, source)
    adapters = lora.peft_config(recipe.lora, source, section) if recipe.lora else None
    # To the CPU: the trainer moves it, whole or in shards.
    model = AutoModelForCausalLM.from_pretrained(
        checkpoint.model, revision=checkpoint.revision, dtype=arguments.training_dtype(recipe, stored)
    )
    trainer = kind(
        model=model,
        args=config,
        train_dataset=data,
        processing_class=load_tokenizer(checkpoint.model, checkpoint.revision),
        peft_config=adapters,
        **more,
    )
    arguments.check_moves(trainer.model, recipe)
    return trainer, stored


def _save_model(trainer: Resumable, recipe: Sft | Grpo, stored: torch.dtype, folder: Path) -> None:
    """Write the model in the checkpoint's own dtype, adapters merged, and its tokenizer to `folder/"model"`."""
    weights = trainer.accelerator.get_state_dict(trainer.model_wrapped)  # of all shards: every process takes part
    if not trainer.is_world_process_zero():
        return
    model = trainer.accelerator.unwrap_model(trainer.model)
    if recipe.lora:
        model, weights = model.get_base_model(), lora.merge(weights, recipe.lora)
    cast = {}  # by storage, so that tied weights stay one
    weights = {name: cast.setdefault(weight.data_ptr(), weight.to(stored)) for name, weight in weights.items()}
    with whole_folder(folder / "model") as temporary:
        model.save_pretrained(temporary, state_dict=weights)
        config = json.loads((temporary / "config.json").read_text())
        if config["dtype"] != str(stored).removeprefix("torch."):
            config["dtype"] = str(stored).removeprefix("torch.")
            (temporary / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
        trainer.processing_class.save_pretrained(temporary)
        sync(temporary)


def _take(lock, place: Path) -> None:
    """Lock the folder for this training; a training that is being stopped gets time to leave."""
    until = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > until:
                raise InputError(f"{place}: another training is under way there") from None
            time.sleep(0.5)


def _check_room(trainer: Resumable, place: Path) -> None:
    """Raise InputError if the disk has no room for two checkpoints (the new beside the old) and the model."""
    sizes = [(p.numel(), p.element_size(), p.requires_grad) for p in trainer.model.parameters()]
    model = sum(count * size for count, size, _ in sizes)
    checkpoint = sum(count * 3 * size for count, size, trained in sizes if trained)  # weights and Adam's two moments
    needed, free = model + 2 * checkpoint, shutil.disk_usage(place).free
    if free < needed:
        raise InputError(f"{place}: {free / 1e9:.1f} GB are free, and training needs {needed / 1e9:.1f} GB to save")
