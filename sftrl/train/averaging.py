"""The mean of the weights of a training's last steps: an outcome that depends less on the step at which it ends.

Tail averaging as in stochastic weight averaging (arXiv 1803.05407), at a constant rate. TRL's `BEMACallback` keeps an
exponential mean, begins anew when a training is resumed, and copies the whole model to the CPU at each update.
"""

from pathlib import Path

import torch
from torch.distributed.tensor import DTensor
from transformers import TrainerCallback

from sftrl.errors import InputError


class Averaging(TrainerCallback):
    """Keeps the mean, in float32, of the trained weights after each of the last `steps` steps.

    It changes nothing of the training: `use` puts the mean in the place of the weights when that is over. Each process
    keeps the mean of what it holds, of weights in shards (FSDP2) its own.
    """

    def __init__(self, model: torch.nn.Module, steps: int):
        self.model, self.steps = model, steps
        self.count, self.mean = 0, []

    def on_train_begin(self, args, state, control, **kwargs):
        if self.steps > state.max_steps:
            raise InputError(f"averaged_steps: {self.steps}, and the training has {state.max_steps} steps")
        path = Path(args.output_dir, f"checkpoint-{state.global_step}", self._name(args.process_index))
        if path.exists():
            kept = torch.load(path, map_location=args.device)
            self.count, self.mean = kept["count"], kept["mean"]

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step <= state.max_steps - self.steps:
            return
        weights = self._weights()
        if not self.mean:
            self.mean = [torch.zeros_like(weight, dtype=torch.float32) for weight in weights]
        self.count += 1
        for mean, weight in zip(self.mean, weights, strict=True):
            mean.lerp_(weight.float(), 1 / self.count)

    def save(self, folder: Path, rank: int) -> None:
        """Write the mean so far into a checkpoint, from which a resumed training takes it.

        Of whole weights the first process writes it for all.
        """
        if self.count and (rank == 0 or self._sharded()):
            torch.save({"count": self.count, "mean": self.mean}, folder / self._name(rank))

    @torch.no_grad()
    def use(self) -> None:
        """Put the mean in the place of the weights."""
        for weight, mean in zip(self._weights(), self.mean, strict=True):
            weight.copy_(mean)

    def _weights(self) -> list[torch.Tensor]:
        """Return the trained weights, as far as this process holds them."""
        trained = [p.detach() for p in self.model.parameters() if p.requires_grad]
        return [p.to_local() if isinstance(p, DTensor) else p for p in trained]

    def _sharded(self) -> bool:
        return any(isinstance(p, DTensor) for p in self.model.parameters())

    def _name(self, rank: int) -> str:
        return f"average-{rank if self._sharded() else 0}.pt"
