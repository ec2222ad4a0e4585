"""SFT in one process of a training: TRL's SFTTrainer on tokens in Arrow."""

from pathlib import Path

import torch
from torch.utils.data import Sampler
from trl import SFTTrainer

from sftrl.recipes import Checkpoint, Sft
from sftrl.train import arguments, arrow, weights
from sftrl.train.resumable import Resumable


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


def build(job: dict, folder: Path) -> SftTrainer:
    """Return the trainer of the job in `folder`."""
    recipe, layout = Sft(**job["recipe"]), (job["micro_batch"], job["parts"])
    options = {"epochs": job["epochs"], "rows": job["rows"], "seed": job["seed"]}
    config = arguments.sft_config(recipe, folder=folder, layout=layout, **options)
    data = arrow.read_examples(folder / "trainer" / arrow.NAME, recipe.batch_size, job["processes"])
    trainer = weights.load(SftTrainer, recipe, Checkpoint(**job["checkpoint"]), config, data, "sft")
    trainer.examples = job["rows"]
    return trainer
