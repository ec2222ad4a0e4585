"""SFT in one process of a training: TRL's SFTTrainer on tokens in Arrow."""

from pathlib import Path

import pandas as pd
import torch
from accelerate.utils import gather_object
from torch.utils.data import Sampler
from transformers import TrainerCallback
from trl import SFTTrainer

from sftrl.files import read_table
from sftrl.loss import response_loss
from sftrl.recipes import Checkpoint, Sft
from sftrl.train import arguments, arrow, weights
from sftrl.train.resumable import Resumable
from sftrl.train.rollouts import evaluating


class SftTrainer(Resumable, SFTTrainer):
    """TRL's SFTTrainer on rows of which the first `examples` have a loss; the others fill up the last batch."""

    examples: int | None = None

    def _get_train_sampler(self, train_dataset=None):
        if self.examples in (None, len(self.train_dataset)):
            return super()._get_train_sampler(train_dataset)
        self.epoch_sampler = FilledSampler(self.examples, len(self.train_dataset), self.args.seed)
        return self.epoch_sampler


class FilledSampler(Sampler):
    """Yields the `examples` in the order that accelerate gives them to one process, then the rows that fill up."""

    def __init__(self, examples: int, rows: int, seed: int):
        self.examples, self.rows, self.seed, self.epoch = examples, rows, seed, 0

    def __iter__(self):
        generator = torch.Generator().manual_seed(self.seed + self.epoch)
        yield from torch.randperm(self.examples, generator=generator).tolist()
        yield from range(self.examples, self.rows)

    def __len__(self):
        return self.rows


class HeldOutLoss(TrainerCallback):
    """Logs the loss on held-out examples every `every` steps and at the last: `held_out_loss`, nats per token.

    Each process reads its share: none waits for another beyond `ddp_timeout`, where there are many examples.
    """

    def __init__(self, trainer: SftTrainer, examples: pd.DataFrame, every: int):
        self.trainer, self.examples, self.every, self.loss = trainer, examples, every, None

    def on_step_end(self, args, state, control, **kwargs):
        due = state.global_step % self.every == 0 or state.global_step == state.max_steps
        if not due:
            return
        accelerator = self.trainer.accelerator
        share, sums = self.examples.iloc[accelerator.process_index :: accelerator.num_processes], []
        if len(share):
            with evaluating(self.trainer) as model:
                read = response_loss(model, self.trainer.processing_class, share)
            sums = [(read.nll_sum, read.n_tokens)]
        nats, tokens = map(sum, zip(*gather_object(sums), strict=True))
        self.loss = nats / tokens

    def on_log(self, args, state, control, logs=None, **kwargs):
        if self.loss is not None and "loss" in logs:
            state.log_history[-1]["held_out_loss"], self.loss = self.loss, None


def build(job: dict, folder: Path) -> SftTrainer:
    """Return the trainer of the job in `folder`."""
    recipe, layout = Sft(**job["recipe"]), (job["micro_batch"], job["parts"])
    options = {"epochs": job["epochs"], "rows": job["rows"], "seed": job["seed"]}
    config = arguments.sft_config(recipe, folder=folder, layout=layout, **options)
    data = arrow.read_examples(folder / "trainer" / arrow.NAME, recipe.batch_size, job["processes"])
    trainer = weights.load(SftTrainer, recipe, Checkpoint(**job["checkpoint"]), config, data, "sft")
    trainer.examples = job["rows"]
    if recipe.held_out_steps:
        examples = read_table(folder / "trainer" / arrow.HELD_OUT)
        trainer.add_callback(HeldOutLoss(trainer, examples, recipe.held_out_steps))
    return trainer
