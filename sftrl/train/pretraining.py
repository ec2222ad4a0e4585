"""Pretraining of a tiny family from scratch: Muon for the matrices, AdamW for the rest, one pass over the texts."""

import math
import tempfile
from pathlib import Path

import pandas as pd
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase, get_scheduler

from sftrl.recipes import Scratch, Sft
from sftrl.train import arguments, arrow, inside


class MuonAdamW(torch.optim.Optimizer):
    """Muon for the layers' matrices and AdamW for the rest, as one optimizer for a trainer.

    With a few hundred thousand parameters it learned in minutes what AdamW alone did not. Weight decay keeps the
    weights small, so that fine-tuning can move them (chosen here).
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
        # Schedulers and accelerate write to our groups, never to those of the parts.
        for part, group in zip(self.parts, self.param_groups, strict=True):
            part.param_groups[0]["lr"] = group["lr"]
            part.step()


def pretrain(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    examples: pd.DataFrame,
    recipe: Scratch,
    *,
    folder: str | Path,
    seed: int,
) -> pd.DataFrame:
    """Pretrain a tiny model in place, one pass over examples of `prompt` and `response`, on the responses' tokens.

    It takes minutes, so no checkpoints are saved.

    Args:
        recipe: `learning_rate` is AdamW's, for embeddings and norms; `matrix_learning_rate` is Muon's.
        folder: for temporary files, removed at the end.

    Returns:
        The log: `step, epoch, loss` (nats per token) and the other columns of `inside.SFT_LOG`.
    """
    steps = math.ceil(len(examples) / recipe.batch_size)
    rates = {"matrix_learning_rate": recipe.matrix_learning_rate, "learning_rate": recipe.learning_rate}
    optimizer = MuonAdamW(model, **rates)
    scheduler = get_scheduler("linear", optimizer, num_warmup_steps=steps // 50, num_training_steps=steps)
    as_sft = Sft(batch_size=recipe.batch_size, learning_rate=recipe.learning_rate, max_length=recipe.context)
    Path(folder).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        tokens = Path(scratch) / "tokens.arrow"
        arrow.write_examples(tokenizer, examples, tokens, max_length=recipe.context, context=None)
        config = arguments.sft_config(
            as_sft, folder=Path(scratch), epochs=1, rows=len(examples), seed=seed, layout=(recipe.batch_size, 1)
        )
        from sftrl.train.supervised import SftTrainer  # seconds to import

        trainer = SftTrainer(
            model=model,
            args=config,
            train_dataset=arrow.read_examples(tokens, recipe.batch_size, processes=1),
            processing_class=tokenizer,
            optimizers=(optimizer, scheduler),
        )
        return inside.table(inside.fit(trainer), inside.SFT_LOG)
