"""Pretraining, SFT and GRPO: TRL's and transformers' trainers, configured, on the tokens of `sftrl.chat`.

`sft` and `grpo` take a checkpoint and leave another in `folder/"model"`, whole or not at all. Until it is there,
`folder/"trainer"` holds what the same call goes on from after it was cut off. They return what was logged, a row a
step. One process or many, on one machine: `Compute` says, and the batches of an optimizer step stay the same.
"""

from pathlib import Path

import pandas as pd

from sftrl.errors import InputError
from sftrl.files import read_json, write_table
from sftrl.models import context_length, load_tokenizer
from sftrl.recipes import Checkpoint, Compute, Grpo, Sft
from sftrl.train import arguments, arrow, inside, launch
from sftrl.train.pretraining import MuonAdamW, pretrain
from sftrl.train.resumable import Interrupted, checkpoints
from sftrl.train.rewards import reward
from sftrl.train.rollouts import PROBED, kept

__all__ = ["Interrupted", "MuonAdamW", "grpo", "pretrain", "reward", "sft", "so_far"]


def sft(
    checkpoint: Checkpoint,
    examples: pd.DataFrame,
    recipe: Sft,
    *,
    epochs: int,
    folder: str | Path,
    seed: int,
    compute: Compute | None = None,
    held_out: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Fine-tune on examples of `id, prompt, response`, on the responses' tokens and the EOS token (TRL's SFTTrainer).

    With `recipe.held_out_steps`, the log has `held_out_loss` too: `sftrl.loss` on the `held_out` examples.

    Returns:
        The log: `step, epoch, loss` in nats a token, `learning_rate, grad_norm`, and where known `tokens_per_second`
        and `gpu_gigabytes`, the most that one GPU held.

    Raises:
        InputError: before a weight is loaded, an example that is too long, batches that do not divide, an argument
            that `SFTConfig` does not know or of another type, too few GPUs, other settings than those of the
            unfinished training in the folder; a full disk.
        Interrupted: SIGTERM came; what was done is saved, and the same call goes on.
    """
    from trl import SFTConfig

    folder, compute = Path(folder), compute or Compute()
    launch.check_compute(compute, recipe)
    arguments.check_types(SFTConfig, "sft", recipe.trl)
    batch = arguments.whole(recipe.batch_size, compute.processes, "sft.batch_size", "compute.processes")
    names = ("sft.batch_size" if compute.processes == 1 else "sft.batch_size / compute.processes", "sft.micro_batch")
    arguments.micro_batch(recipe.micro_batch, batch, 1, names)
    tokenizer = load_tokenizer(checkpoint)
    room = {"max_length": recipe.max_length, "context": context_length(checkpoint)}
    longest = arrow.write_examples(tokenizer, examples, folder / "trainer" / arrow.NAME, **room)
    if recipe.held_out_steps:
        if held_out is None:
            raise InputError("sft.held_out_steps: there are no held-out examples")
        write_table(held_out[["id", "prompt", "response"]], folder / "trainer" / arrow.HELD_OUT)
    part, parts = arguments.micro_batch(recipe.micro_batch, batch, longest, names)
    job = _job("sft", checkpoint, recipe, seed) | {"epochs": epochs, "rows": len(examples)}
    return launch.run(folder, job | {"micro_batch": part, "parts": parts}, compute)


def grpo(
    checkpoint: Checkpoint,
    problems: pd.DataFrame,
    recipe: Grpo,
    *,
    folder: str | Path,
    seed: int,
    compute: Compute | None = None,
    probes: pd.DataFrame | None = None,
    until: int | None = None,
) -> pd.DataFrame:
    """Train by GRPO on problems with a known answer (TRL's GRPOTrainer), one on-policy update a step, no KL term.

    Args:
        problems: columns `prompt`, `answer`, and `answer_type`, `choices`, `tolerance` where known. An answer that the
            verifier cannot read rewards nothing.
        seed: of the order of problems and of the rollouts: runs with one seed have them in common.
        probes: the held-out problems of `recipe.probes`, columns `benchmark` and `id` too.
        until: stop at this step, saved, by `Interrupted`; the same call with a later one, or None, goes on. `so_far`
            has what there is then.

    Some rollouts, with their rewards, are left in `folder/"rollouts.parquet"`: `step, benchmark, id, prompt, response,
    reward, tokens` of the first groups of the first, the middle and the last step; the probes' counts in
    `folder/"probes.csv"`: `step, benchmark, id, samples, correct, tokens`, a row a step and problem.

    Returns:
        The log: `step, reward, entropy, clipped_ratio, frac_reward_zero_std, mean_length, learning_rate, grad_norm`,
        and the last two columns of `sft`.

    Raises:
        InputError, Interrupted: as `sft`; also fewer problems than a step takes, probes without problems or with
            weights in shards, which our sampler cannot read.
    """
    from trl import GRPOConfig

    folder, compute = Path(folder), compute or Compute()
    launch.check_compute(compute, recipe)
    arguments.check_types(GRPOConfig, "grpo", recipe.trl)
    rollouts = recipe.prompts_per_step * recipe.group_size
    batch = arguments.whole(rollouts, compute.processes, "prompts_per_step x group_size", "compute.processes")
    names = ("prompts_per_step x group_size", "micro_batch")
    arguments.micro_batch(recipe.micro_batch, batch, 1, names)
    if len(problems) < recipe.prompts_per_step:
        raise InputError(f"grpo.prompts_per_step: {recipe.prompts_per_step}, and there are {len(problems)} problems")
    if (recipe.probes is None) != (probes is None):
        raise InputError("grpo.probes: the recipe's steps and the problems go together")
    tokenizer = load_tokenizer(checkpoint)
    room = {"max_tokens": recipe.max_tokens, "context": context_length(checkpoint)}
    prompt = arrow.write_problems(tokenizer, problems, folder / "trainer" / arrow.NAME, **room)
    if probes is not None:
        arrow.write_problems(tokenizer, probes, folder / "trainer" / arrow.PROBES, **room)
    longest = prompt + recipe.max_tokens
    part, parts = arguments.micro_batch(recipe.micro_batch, batch, longest, names)
    passes = (recipe.epochs or 0) * recipe.trl.get("num_iterations", 1)
    steps = recipe.steps or passes * (len(problems) // recipe.prompts_per_step)
    job = _job("grpo", checkpoint, recipe, seed) | {"steps": steps, "longest": longest}
    return launch.run(folder, job | {"micro_batch": part, "parts": parts}, compute, until)


def so_far(folder: str | Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return log and probes, as `grpo` leaves them, of a training in `folder` that stopped on the way."""
    place = Path(folder) / "trainer"
    saved = checkpoints(place)
    history = read_json(saved[-1] / "trainer_state.json")["log_history"] if saved else []
    probes = kept(place / "probes")
    log = inside.table([row for row in history if "loss" in row], inside.GRPO_LOG)
    return log, pd.DataFrame(columns=PROBED) if probes is None else probes


def _job(kind: str, checkpoint: Checkpoint, recipe: Sft | Grpo, seed: int) -> dict:
    settings = {"checkpoint": checkpoint.model_dump(mode="json"), "recipe": recipe.model_dump(mode="json")}
    return {"kind": kind, "seed": seed, **settings}
