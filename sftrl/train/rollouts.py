"""GRPO's rollouts by the sampler of evaluation, a few of them kept for reading, and probes on held-out problems.

Each rollout has its own random numbers, derived from the seed, the step and its place in the batch. So RL runs with one
seed share problems and random numbers, whatever checkpoint they start from and on however many processes: differences
between candidates have less variance (common random numbers, chosen here).
"""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from accelerate.utils import gather_object
from transformers import TrainerCallback, TrainerState

from sftrl.chat import encode_prompt
from sftrl.files import read_table, write_table
from sftrl.recipes import Decoding, Grpo
from sftrl.sample.local import draw_each
from sftrl.sample.requests import Response
from sftrl.train.rewards import reward, texts

READ = 4  # groups of a step that are kept for reading
PROBED = ["step", "benchmark", "id", "samples", "correct", "tokens"]


class Policy:
    """Samples the model in training as evaluation would."""

    def __init__(self, recipe: Grpo, stop_ids: tuple[int, ...], seed: int):
        self.decoding = Decoding(temperature=recipe.temperature, max_tokens=recipe.max_tokens)
        self.stop_ids, self.seed = stop_ids, seed

    def rollouts(self, prompts: list, trainer) -> dict:
        """Draw one response per prompt, in the form of TRL's `rollout_func`."""
        ids = [encode_prompt(trainer.processing_class, prompt) for prompt in prompts]
        first, all_rows = trainer.accelerator.process_index * len(ids), trainer.accelerator.num_processes * len(ids)
        seeds = self.seeds(trainer.state.global_step + 1, all_rows)[first : first + len(ids)]
        drawn = self.draw(trainer, ids, seeds)
        return {"prompt_ids": ids, "completion_ids": [response.tokens for response in drawn], "logprobs": None}

    def seeds(self, step: int, rows: int) -> np.ndarray:
        """Return the rollouts' seeds at an optimizer step, counted from 1; step 0 is for the probes. Shape (rows,)."""
        return np.random.SeedSequence((self.seed, step)).generate_state(rows, np.uint64)

    def draw(self, trainer, prompts: list[list[int]], seeds: np.ndarray) -> list[Response]:
        """Return one response per prompt, in order; prompts are token ids, `seeds` has shape (prompts,)."""
        with evaluating(trainer) as model:
            return draw_each(model, prompts, seeds, self.decoding, self.stop_ids)


@contextlib.contextmanager
def evaluating(trainer) -> Iterator:
    """Yield the trainer's model, in evaluation mode inside the block, under the autocast of training."""
    # In training mode, gradient checkpointing would switch the cache off.
    model, training = trainer.accelerator.unwrap_model(trainer.model), trainer.model.training
    model.eval()
    try:
        with trainer.accelerator.autocast():
            yield model
    finally:
        model.train(training)


def rewarded(place: Path, steps: set[int], rows: int) -> Callable:
    """Return `reward`, wrapped to keep the first `rows` rollouts of the given optimizer steps under `place`."""

    def keeping(
        prompts: list, completions: list, completion_ids: list, trainer_state: TrainerState, **columns
    ) -> list[float]:
        rewards = reward(completions, **columns)
        step = trainer_state.global_step + 1
        if trainer_state.is_world_process_zero and step in steps:
            table = {name: columns[name] for name in ("benchmark", "id") if name in columns}
            table |= {
                "prompt": prompts,
                "response": texts(completions),
                "reward": rewards,
                "tokens": map(len, completion_ids),
            }
            write_table(pd.DataFrame(table).head(rows).assign(step=step), place / f"{step}.parquet")
        return rewards

    keeping.__name__ = reward.__name__  # the name in TRL's logs
    return keeping


class Probing(TrainerCallback):
    """Samples the policy on held-out problems at given optimizer steps; writes each step's counts under `place`.

    Each process draws its share of the responses: a process that waited for another to draw them all would wait beyond
    `ddp_timeout`, half an hour, where responses are long.
    """

    def __init__(self, trainer, policy: Policy, problems: dict[str, list], recipe: Grpo, place: Path):
        self.trainer, self.policy, self.place = trainer, policy, place
        self.at, self.samples = set(recipe.probes.at), recipe.probes.samples
        self.asked = {name: [v for v in column for _ in range(self.samples)] for name, column in problems.items()}

    def on_train_begin(self, args, state, control, **kwargs):
        if state.global_step == 0:
            self.probe(state)

    def on_step_end(self, args, state, control, **kwargs):
        self.probe(state)

    def probe(self, state: TrainerState) -> None:
        """Count correct responses, if this step is to be probed and was not yet."""
        path = self.place / f"{state.global_step}.parquet"
        if state.global_step not in self.at or path.exists():
            return
        tokenizer, accelerator = self.trainer.processing_class, self.trainer.accelerator
        rows = len(self.asked["prompt"])
        mine = range(accelerator.process_index, rows, accelerator.num_processes)
        ids = [encode_prompt(tokenizer, self.asked["prompt"][row]) for row in mine]
        drawn = self.policy.draw(self.trainer, ids, self.policy.seeds(0, rows)[mine])
        found = gather_object([(row, response.tokens) for row, response in zip(mine, drawn, strict=True)])
        if not state.is_world_process_zero:
            return
        drawn = [tokens for _, tokens in sorted(found)]
        table = pd.DataFrame({name: self.asked[name] for name in ("benchmark", "id")})
        responses = tokenizer.batch_decode(drawn, skip_special_tokens=True)
        table = table.assign(correct=reward(responses, **self.asked), tokens=[len(tokens) for tokens in drawn])
        counts = table.groupby(["benchmark", "id"], sort=False)[["correct", "tokens"]].sum().astype(int).reset_index()
        write_table(counts.assign(step=state.global_step, samples=self.samples)[PROBED], path)


def kept(place: Path) -> pd.DataFrame | None:
    """Return what was kept under `place`, one file per step, as one table; None if there is nothing."""
    files = sorted(place.glob("*.parquet"), key=lambda file: int(file.stem))
    return pd.concat(map(read_table, files), ignore_index=True) if files else None


def forget(place: Path, after: int) -> None:
    """Remove what was kept of lost steps, which are now repeated; on a GPU they may come out differently."""
    for name in ("probes", "rollouts"):
        for file in (place / name).glob("*.parquet"):
            if int(file.stem) > after:
                file.unlink()


def collect(place: Path, path: Path) -> None:
    """Write what was kept under `place` to `path`, if there is anything."""
    if (table := kept(place)) is not None:
        write_table(table, path)
