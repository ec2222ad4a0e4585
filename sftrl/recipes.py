"""Every setting of training, sampling and judging: its name, type, bounds and default, in this one place.

A recipe is a section of a params file, checked; the functions that do the work take it whole. Where the paper leaves a
setting open, the default is this project's choice. Types are strict: YAML reads `1e-5` as text, and text is no number.
"""

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Count = Annotated[int, Field(ge=1)]
Rate = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]


class Recipe(BaseModel):
    """Known keys only, exact types, never changed after it is made."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, serialize_by_alias=True)


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
    styles: dict[str, Share] | None = None  # of its solutions, shares that add up to 1; None: `sftrl.procedural`'s own
    ordered: bool = False  # names in alphabetical order, so that a value can be found by its place
    batch_size: Count = 32
    learning_rate: Rate = 0.006
    matrix_learning_rate: Rate = 0.02


class Source(Recipe):
    """Rows of a published set or of a file: where they are, and which of their columns ours are read from.

    What a known set leaves out here, the table in `sftrl.problems.table` says.
    """

    hub: str | None = None  # a dataset's name on the hub, or a folder laid out like one
    config: str | list[str] | None = None  # one configuration, or several put one after another
    data_dir: str | None = None
    data_files: str | list[str] | None = None  # patterns: these files alone are looked at
    split: str | list[str] | None = None  # of several, the first that is there
    revision: str | None = None  # branch, tag or commit
    path: str | Path | None = None  # a file, in the place of the hub
    columns: dict[str, str] | None = None  # our column: rule:published column
    where: dict[str, list[str | int | float | bool]] | None = None  # published column: values kept
    limit: Count | None = None  # read the first so many rows and no others: no random sample
    sample: Count | None = None  # a random draw of so many of the rows that `where` keeps, read as a stream
    shards: Count | None = None  # read so many of the set's files, drawn at random; with `sample`
    seed: int = 0  # of the draw
    expected: Count | None = None  # rows that must be there; None for any number
    incomplete: Literal["error", "drop"] = "error"  # what to do with rows that lack a text

    @model_validator(mode="after")
    def _one_draw(self):
        if self.shards is not None and (self.sample is None or self.path is not None):
            raise ValueError("'shards' draws among the files of a dataset of the hub: it goes with 'hub' and 'sample'")
        if self.limit is not None and self.sample is not None:
            raise ValueError("'sample' draws from all rows and 'limit' reads the first: give one")
        return self


class ProblemSource(Source):
    """A benchmark or a set of RL problems."""

    benchmark: Annotated[str, Field(min_length=1)]
    answer_type: str | dict[str, str] | None = None  # one for all, or the published type: ours
    tolerance: Annotated[float, Field(gt=0, lt=1)] | None = None  # relative error that a number is allowed
    images: Literal["needed", "ignore"] = "ignore"


class ExampleSource(Source):
    """A set of SFT examples."""

    source: Annotated[str, Field(min_length=1)]


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


class Trained(Recipe):
    """What a training's recipe has: further arguments of TRL's trainer, none that a key of the recipe decides."""

    owned: ClassVar[set[str]]  # arguments that keys decide
    averaged_steps: Count | None = None  # save the mean of the weights after each of so many last steps
    trl: dict[str, Any] = {}

    @model_validator(mode="after")
    def _each_key_once(self):
        if twice := sorted(self.owned & set(self.trl)):
            raise ValueError(f"trl.{twice[0]}: this recipe sets it by a key of its own")
        return self


class Sft(Trained):
    """Supervised fine-tuning. `trl` holds further arguments of TRL's SFTConfig, none that a key here decides."""

    learning_rate: Rate = 1.0e-5
    batch_size: Count = 32  # examples an optimizer step, over all processes
    micro_batch: Count | None = None  # of them at a time on a device; None: `sftrl.train.arguments.micro_batch`
    packing: bool = False  # a micro batch as one row without padding; the loss is the same
    scheduler: str = "cosine"
    warmup_ratio: Share = 0.05
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    max_length: Count = 512
    held_out_steps: Count | None = None  # log the held-out loss every so many steps, and at the last
    precision: Precision = "auto"
    lora: Lora | None = None
    owned: ClassVar = SFT_OWNED


class Probes(Recipe):
    """Held-out RL problems on which the policy is sampled while it is trained, the same for every candidate."""

    at: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]  # optimizer steps; 0: before the first
    problems: Count = 60  # of the RL problems, and none of them is trained on
    samples: Count = 16  # of each problem, at the temperature and length of the rollouts


OWN_PROCESS = ("transformers", "generate")  # kinds of rollouts that need no engine of vLLM's


class Grpo(Trained):
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
    # transformers: the sampler of evaluation; generate: TRL's call of `model.generate`; the other two: vLLM through TRL
    rollouts: Literal["transformers", "generate", "colocate", "server"] = "transformers"
    probes: Probes | None = None
    precision: Precision = "auto"
    lora: Lora | None = None
    owned: ClassVar = GRPO_OWNED

    @model_validator(mode="after")
    def _one_length(self):
        if (self.steps is None) == (self.epochs is None):
            raise ValueError("give either 'steps' or 'epochs'")
        if self.probes and self.steps and max(self.probes.at) > self.steps:
            raise ValueError(f"probes.at: {max(self.probes.at)} is beyond the last of {self.steps} steps")
        if self.steps and (self.averaged_steps or 0) > self.steps:
            raise ValueError(f"averaged_steps: {self.averaged_steps}, and there are {self.steps} steps")
        return self


class Compute(Recipe):
    """Where a training runs. The batches stay the same; rollouts by `generate` or vLLM are other draws then."""

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


# Arguments of vLLM's engine that a key of a recipe, or the problems at hand, decide.
VLLM_OWNED = ("model", "tokenizer", "revision", "dtype", "seed", "max_model_len", "tensor_parallel_size")
# Arguments of vLLM's engine that say where and how fast it computes: any other may change what a sample looks like.
VLLM_PLACEMENT = {
    "async_scheduling",
    "block_size",
    "compilation_config",
    "cpu_offload_gb",
    "cudagraph_capture_sizes",
    "disable_custom_all_reduce",
    "disable_log_stats",
    "distributed_executor_backend",
    "download_dir",
    "enable_chunked_prefill",
    "enable_expert_parallel",
    "enable_prefix_caching",
    "enforce_eager",
    "gpu_memory_utilization",
    "kv_cache_memory_bytes",
    "max_cudagraph_capture_size",
    "max_num_batched_tokens",
    "max_num_seqs",
    "max_parallel_loading_workers",
    "num_gpu_blocks_override",
    "pipeline_parallel_size",
    "trust_remote_code",
}


class Sampling(Decoding):
    """How a store is filled: by which engine, and how."""

    engine: Literal["transformers", "vllm"] = "transformers"
    # A seed for each sample is exact whatever is resumed; one for a shard is faster with vLLM, which draws row by row
    # where each row has its own.
    seeds: Literal["sample", "shard"] = "sample"
    batch_tokens: Count = 65_536  # prompts and responses that the transformers engine holds at once
    tensor_parallel_size: Count = 1  # GPUs that share the weights, with vLLM
    vllm: dict[str, Any] = {}  # further arguments of vLLM's engine, by vLLM's names
    adaptive: Adaptive | None = None

    @model_validator(mode="after")
    def _of_one_engine(self):
        twice = [name for name in VLLM_OWNED if name in self.vllm]
        if twice:
            raise ValueError(f"vllm.{twice[0]}: set by a key of its own, or by the problems; leave it out here")
        if self.engine != "vllm":
            for name in ("seeds", "tensor_parallel_size", "vllm"):
                if getattr(self, name) != Sampling.model_fields[name].default:
                    raise ValueError(f"{name}: only the vllm engine has a use for it, and engine is {self.engine!r}")
        return self

    @property
    def decoding(self) -> Decoding:
        """The part that shapes a response."""
        return Decoding(**{name: getattr(self, name) for name in Decoding.model_fields})

    @property
    def distribution(self) -> dict[str, Any]:
        """What the distribution of samples depends on, as JSON values: a store's key and path are made of this.

        The engine is part of it: where two engines round differently, or one is wrong, a mixture would hide it. How
        many GPUs, how much memory and whose seeds are not: another value adds to the samples that are there.
        """
        chosen = {name: value for name, value in self.vllm.items() if name not in VLLM_PLACEMENT}
        return self.decoding.model_dump() | {"engine": self.engine} | ({"vllm": chosen} if chosen else {})


Intervals = Literal["jackknife-normal", "normal-theory", "bootstrap"]  # of correlations; docs/statistics.md


class Judging(Recipe):
    """How predictors are judged."""

    resamples: Count = 2000
    intervals: Intervals = "jackknife-normal"
    leave_out: list[str] = ["base"]  # runs that are references, not choices
    live: Share | None = None  # pool `live`: runs with at least this Pass@1 after SFT
    core: list[str] = []  # pool `core`: predictors and outcome averaged over these benchmarks alone


class Choosing(Recipe):
    """How the checkpoint for RL is found by starting RL on several (`sftrl.choose`)."""

    budget: Rate = 0.10  # of the tokens of RL on all candidates: for probes, and RL on those not taken
    margin: Share = 0.01  # stop when the regret is expected to be less, a share
    horizon: Count | None = None  # the step at which the best is wanted; None: grpo.steps
    probes: list[Count] | None = None  # of grpo.probes.at, where a segment may end; None: all after 0


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
