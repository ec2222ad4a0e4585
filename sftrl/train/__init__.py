"""Pretraining, SFT and GRPO: TRL's and transformers' trainers, configured, on the tokens of `sftrl.chat`.

`sft` and `grpo` take a checkpoint and write a new one to `folder/"model"`, atomically. Until then `folder/"trainer"`
holds the state from which the same call resumes after an interruption. Both return the log, one row per step. `Compute`
sets the number of processes, on one machine; the batch of an optimizer step does not depend on it.
"""

from pathlib import Path

import pandas as pd

from sftrl.errors import InputError
from sftrl.files import hash_path, read_json, write_table
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
    """Fine-tune on examples with the columns `id, prompt, response` (TRL's SFTTrainer).

    The loss is over the tokens of the response and EOS. With `recipe.held_out_steps`, the log also has `held_out_loss`,
    the loss of `sftrl.loss` on the `held_out` examples.

    Returns:
        The log: `step, epoch, loss` (nats per token), `learning_rate, grad_norm`, and where known `tokens_per_second`
        and `gpu_gigabytes` (peak memory of the first process's GPU).

    Raises:
        InputError: before any weight is loaded: an example that is too long, batches that do not divide, an argument
            that `SFTConfig` does not have or of the wrong type, too few GPUs, an unfinished training in the folder with
            other settings. Later: a full disk.
        Interrupted: SIGTERM arrived; the state is saved, and the same call resumes.
    """
    from trl import SFTConfig

    folder, compute = Path(folder), compute or Compute()
    launch.check_compute(compute, recipe)
    arguments.check_types(SFTConfig, "sft", recipe.trl)
    arguments.layout(recipe, compute.processes)
    tokenizer = load_tokenizer(checkpoint)
    room = {"max_length": recipe.max_length, "context": context_length(checkpoint)}
    longest = arrow.write_examples(tokenizer, examples, folder / "trainer" / arrow.NAME, **room)
    if recipe.held_out_steps:
        if held_out is None:
            raise InputError("sft.held_out_steps: there are no held-out examples")
        write_table(held_out[["id", "prompt", "response"]], folder / "trainer" / arrow.HELD_OUT)
    part, parts = arguments.layout(recipe, compute.processes, longest)
    job = _job("sft", checkpoint, recipe, seed) | {"epochs": epochs, "rows": len(examples)}
    if recipe.held_out_steps:
        job["held_out"] = hash_path(folder / "trainer" / arrow.HELD_OUT)
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
    """Train by GRPO on problems with a known answer (TRL's GRPOTrainer): on-policy, one update per step, no KL term.

    Args:
        problems: columns `prompt`, `answer`, and `answer_type`, `choices`, `tolerance` where known. If the verifier
            cannot read an answer, every rollout on it gets reward 0.
        seed: determines the order of the problems and the rollouts' random numbers; runs with equal seeds share them.
        probes: the held-out problems of `recipe.probes`, with the columns `benchmark` and `id` too.
        until: save and raise `Interrupted` at this step; the same call with a later step, or None, resumes. Meanwhile
            `so_far` returns log and probes.

    Some rollouts are written to `folder/"rollouts.parquet"`: `step, benchmark, id, prompt, response, reward, tokens` of
    the first groups of the first, the middle and the last step. The probes' counts are written to
    `folder/"probes.csv"`: `step, benchmark, id, samples, correct, tokens`, one row per step and problem.

    Returns:
        The log: `step, reward, entropy, clipped_ratio, frac_reward_zero_std, mean_length, learning_rate, grad_norm`,
        and the last two columns of `sft`.

    Raises:
        InputError, Interrupted: as `sft`; also fewer problems than a step takes, probes without problems, probes with
            sharded weights, which our sampler cannot read, or no vLLM server where its rollouts are wanted.
    """
    from trl import GRPOConfig

    folder, compute = Path(folder), compute or Compute()
    launch.check_compute(compute, recipe)
    arguments.check_types(GRPOConfig, "grpo", recipe.trl)
    arguments.layout(recipe, compute.processes)
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
    part, parts = arguments.layout(recipe, compute.processes, longest)
    passes = (recipe.epochs or 0) * recipe.trl.get("num_iterations", 1)
    steps = recipe.steps or passes * (len(problems) // recipe.prompts_per_step)
    job = _job("grpo", checkpoint, recipe, seed) | {"steps": steps, "longest": longest}
    if probes is not None:
        job["probes"] = hash_path(folder / "trainer" / arrow.PROBES)
    if recipe.rollouts == "server":
        arguments.check_server(recipe.trl)
    return launch.run(folder, job | {"micro_batch": part, "parts": parts}, compute, until)


def so_far(folder: str | Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the log and the probes, in `grpo`'s form, of an unfinished training in `folder`."""
    place = Path(folder) / "trainer"
    saved = checkpoints(place)
    history = read_json(saved[-1] / "trainer_state.json")["log_history"] if saved else []
    probes = kept(place / "probes")
    log = inside.table([row for row in history if "loss" in row], inside.GRPO_LOG)
    return log, pd.DataFrame(columns=PROBED) if probes is None else probes


def _job(kind: str, checkpoint: Checkpoint, recipe: Sft | Grpo, seed: int) -> dict:
    settings = {"checkpoint": checkpoint.model_dump(mode="json"), "recipe": recipe.model_dump(mode="json")}
    return {"kind": kind, "seed": seed, **settings}
