"""GRPO in one process of a training: TRL's GRPOTrainer on prompts that are encoded as everywhere else."""

import functools
import os
from pathlib import Path

import torch
from trl import GRPOTrainer
from trl.trainer.utils import RepeatSampler

from sftrl.chat import encode_prompt
from sftrl.models import load_tokenizer, resolved_dtype, stop_ids
from sftrl.recipes import Checkpoint, Grpo
from sftrl.train import arguments, arrow, rollouts, weights
from sftrl.train.resumable import Resumable


class GrpoTrainer(Resumable, GRPOTrainer):
    """TRL's GRPOTrainer on prompts encoded by `sftrl.chat`, as for every other use of the model."""

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
    """TRL's RepeatSampler draws each epoch's order in turn; resumed, it would repeat the first epoch's order."""

    epoch = 0

    def __iter__(self):
        if self.shuffle:
            self.generator.manual_seed(self.seed)
            for _ in range(self.epoch):
                torch.randperm(self.num_samples, generator=self.generator)
        yield from super().__iter__()


def build(job: dict, folder: Path) -> GrpoTrainer:
    """Return the trainer of the job in `folder`."""
    recipe, layout = Grpo(**job["recipe"]), (job["micro_batch"], job["parts"])
    config = arguments.grpo_config(recipe, folder=folder, steps=job["steps"], seed=job["seed"], layout=layout)
    data = arrow.read_problems(folder / "trainer" / arrow.NAME)
    checkpoint, place = Checkpoint(**job["checkpoint"]), folder / "trainer"
    ends = stop_ids(checkpoint, load_tokenizer(checkpoint))
    policy = rollouts.Policy(recipe, ends, job["seed"])
    looked_at = {1, (job["steps"] + 1) // 2, job["steps"]}
    rewarded = rollouts.rewarded(place / "rollouts", looked_at, rollouts.READ * recipe.group_size)
    load = functools.partial(weights.load, GrpoTrainer, recipe, checkpoint, config, data, "grpo", reward_funcs=rewarded)
    if recipe.rollouts == "transformers":
        os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"  # experimental in TRL, whose version is pinned
        trainer = load(rollout_func=policy.rollouts)
    elif recipe.rollouts == "generate":
        trainer = load()
    else:
        from sftrl.train import colocated  # imports vLLM

        # By itself the engine takes the stop tokens from the folder's files, where the checkpoint may name others, and
        # reserves memory for the model's whole context.
        config.generation_kwargs = {"stop_token_ids": list(ends)} | (config.generation_kwargs or {})
        config.vllm_max_model_length = config.vllm_max_model_length or job["longest"]
        with colocated.started(resolved_dtype(checkpoint), job["seed"]):
            trainer = load()
        colocated.mend_sync(trainer.vllm_generation)
    if recipe.probes:
        problems = arrow.read_problems(place / arrow.PROBES)[:]
        trainer.add_callback(rollouts.Probing(trainer, policy, problems, recipe, place / "probes"))
    batches = config.steps_per_generation * config.num_iterations  # micro-batches that use one generation of rollouts
    trainer.steps_between_saves = max(1, batches // config.gradient_accumulation_steps)
    return trainer
