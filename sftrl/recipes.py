"""Every setting of training, sampling and judging: its name, type, bounds and default, in this one place.

A recipe is a section of a params file, checked; the functions that do the work take it whole. Where the paper leaves a
setting open, the default is this project's choice. Types are strict: YAML reads `1e-5` as text, and text is no number.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Count = Annotated[int, Field(ge=1)]
Rate = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]


class Recipe(BaseModel):
    """Known keys only, exact types, never changed after it is made."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Checkpoint(Recipe):
    """A model and how it is loaded, the same for training, loss and sampling; `sftrl.models` reads it.

    What is left open is settled by its own files: the precision by `config.json`, the template by the tokenizer, the
    end of a response by the template.
    """

    model: str  # folder or hub name, of a model or of a PEFT adapter, which is merged into its base
    revision: str | None = None  # of a hub name: branch, tag or commit
    base: str | None = None  # of an adapter: the model under it, if another place than the adapter's files name
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    attention: Literal["eager", "sdpa", "flash_attention_2", "flash_attention_3", "flex_attention"] | None = None
    eos: str | None = None  # the token that ends a response in training
    stop: list[str] = []  # further tokens that end a response when it is sampled
    template: str | None = None  # a file in Jinja, or `plain`: the prompt as it is

    def at(self, folder: str | Path) -> "Checkpoint":
        """Return what was made of this checkpoint and saved whole in a folder, loaded in the same way."""
        return self.model_copy(update={"model": str(folder), "revision": None, "base": None})


HEAD_DIM = 32  # the smallest that vLLM's CPU attention takes


class Scratch(Recipe):
    """A tiny model, pretrained from scratch on generated maths."""

    architecture: Literal["llama", "mistral", "qwen3"]
    hidden_size: Annotated[int, Field(ge=HEAD_DIM, multiple_of=HEAD_DIM)] = 96
    layers: Count = 3
    context: Count = 512
    vocab_size: Count = 320
    examples: Count = 60_000
    error_rate: Share = 0.08
    broken_rate: Share = 0.1
    batch_size: Count = 32
    learning_rate: Rate = 0.006
    matrix_learning_rate: Rate = 0.02


class Lora(Recipe):
    """Low-rank adapters in the place of full training; what is saved is the merged model."""

    rank: Count = 16
    alpha: Rate = 32.0  # the update is scaled by alpha / rank
    targets: Annotated[list[str], Field(min_length=1)] | None = None  # such as q_proj; None: all but the LM head


# mixed: float32 weights, computed with in bfloat16. auto: mixed on a GPU, float32 on a CPU. bfloat16: without float32
# masters, refused where a step at the peak rate would leave most weights as they are; bfloat16-stuck: all the same.
Precision = Literal["auto", "float32", "mixed", "bfloat16", "bfloat16-stuck"]

# Arguments of TRL's trainers that the recipes decide, or on which saving and resuming rest.
TRAINER_OWNED = {
    "bf16", "data_seed", "fp16", "gradient_accumulation_steps", "learning_rate", "load_best_model_at_end",
    "logging_steps", "logging_strategy", "lr_scheduler_type", "max_steps", "model_init_kwargs", "num_train_epochs",
    "output_dir", "per_device_train_batch_size", "remove_unused_columns", "resume_from_checkpoint", "run_name",
    "save_only_model", "save_steps", "save_strategy", "save_total_limit", "seed", "weight_decay",
}  # fmt: skip
SFT_OWNED = TRAINER_OWNED | {
    "dataset_kwargs", "eval_packing", "max_length", "packing", "packing_strategy", "padding_free", "warmup_steps",
}  # fmt: skip
GRPO_OWNED = TRAINER_OWNED | {
    "beta", "generation_batch_size", "max_completion_length", "num_generations", "temperature", "use_vllm", "vllm_mode",
}  # fmt: skip


class Sft(Recipe):
    """Supervised fine-tuning. `trl` holds further arguments of TRL's SFTConfig, none that a key here decides."""

    learning_rate: Rate = 1.0e-5
    batch_size: Count = 32  # examples an optimizer step, over all processes
    micro_batch: Count | None = None  # of them at a time on a device; None: `sftrl.train.arguments.micro_batch`
    packing: bool = False  # a micro batch as one row without padding; the loss is the same
    scheduler: str = "cosine"
    warmup_ratio: Share = 0.05
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    max_length: Count = 512
    precision: Precision = "auto"
    lora: Lora | None = None
    trl: dict[str, Any] = {}

    @model_validator(mode="after")
    def _each_key_once(self):
        refuse_shadowed(self, SFT_OWNED)
        return self


class Grpo(Recipe):
    """GRPO with a 0/1 reward. `trl` holds further arguments of TRL's GRPOConfig, none that a key here decides."""

    steps: Count | None = None  # optimizer steps, or:
    epochs: Count | None = None  # passes over the problems
    learning_rate: Rate = 1.0e-6
    scheduler: str = "linear"
    prompts_per_step: Count = 24
    group_size: Annotated[int, Field(ge=2)] = 8
    micro_batch: Count | None = None  # rollouts at a time on a device; None: `sftrl.train.arguments.micro_batch`
    temperature: Rate = 1.0
    max_tokens: Count = 128
    rollouts: Literal["transformers", "colocate", "server"] = "transformers"  # the last two are vLLM's
    precision: Precision = "auto"
    lora: Lora | None = None
    trl: dict[str, Any] = {}

    @model_validator(mode="after")
    def _each_key_once(self):
        refuse_shadowed(self, GRPO_OWNED)
        if (self.steps is None) == (self.epochs is None):
            raise ValueError("give either 'steps' or 'epochs'")
        return self


class Compute(Recipe):
    """Where a training runs. Of these, no key changes what is computed but by the order of additions."""

    processes: Count = 1  # each with a GPU of its own, where there are GPUs
    # TRL's own accelerate configuration of that name; None: data parallel
    accelerate: Literal["multi_gpu", "fsdp1", "fsdp2", "zero1", "zero2", "zero3"] | None = None
    save_minutes: Rate = 30.0  # between two checkpoints to resume from


class Decoding(Recipe):
    """How a response is drawn: logits over `temperature` (0: greedy), the `top_p` nucleus kept, up to `max_tokens`."""

    temperature: Annotated[float, Field(ge=0)] = 1.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    max_tokens: Count = 128


class Adaptive(Recipe):
    """Sample until each benchmark's mean Pass@k has an interval over samples of at most +- `half_width` (a share)."""

    k: Count
    half_width: Rate
    pilot: Count = 16  # samples a problem that decide and do not count
    level: Annotated[float, Field(gt=0, lt=1)] = 0.95

    @property
    def fewest(self) -> int:
        """Fresh samples that every problem gets at least: below 2k the variance of Pass@k has no unbiased estimate."""
        return 2 * self.k


class Sampling(Decoding):
    """How a store is filled: by which engine, and how. Of these, only the decoding and the engine choose samples."""

    engine: Literal["transformers", "vllm"] = "transformers"
    batch_tokens: Count = 65_536  # prompts and responses that the transformers engine holds at once
    tensor_parallel_size: Count = 1  # GPUs that share the weights, with vLLM
    adaptive: Adaptive | None = None

    @property
    def decoding(self) -> Decoding:
        """The part that shapes a response."""
        return Decoding(**{name: getattr(self, name) for name in Decoding.model_fields})


Intervals = Literal["fisher", "bootstrap"]


class Judging(Recipe):
    """How predictors are judged."""

    resamples: Count = 2000
    intervals: Intervals = "fisher"
    leave_out: list[str] = ["base"]


def refuse_shadowed(recipe: Recipe, owned: set[str]) -> None:
    """Raise ValueError if `trl` holds an argument that a key of the recipe decides already."""
    twice = sorted(set(recipe.trl) & owned)
    if twice:
        raise ValueError(f"trl.{twice[0]}: this recipe sets it by a key of its own")


class Ask(Recipe):
    """What the jobs of one stage ask a cluster for; None: what `sftrl.plan` estimates, with room."""

    minutes: Count | None = None
    memory_gb: Count | None = None  # of the machine, not of its GPUs
    partition: str | None = None


class Cluster(Recipe):
    """What a study is planned for, and what its jobs ask a scheduler for. It changes no number of any result."""

    gpu: str | None = None  # a name of sftrl/plan/rates.yaml; None: CPU cores
    base: Ask = Ask()
    curate: Ask = Ask()
    sft: Ask = Ask()
    grpo: Ask = Ask()
    evaluate: Ask = Ask()
    predict: Ask = Ask()
