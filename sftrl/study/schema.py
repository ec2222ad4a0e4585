"""What a params file may say: every key, its type and its bounds. An unknown or wrong key is an error by its name.

The defaults are the settings that the paper leaves open and this project chose; a params file discloses those it
changes. Strict types: YAML reads `1e-5` as text, and text is not a number here.
"""

import difflib
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from sftrl.errors import InputError
from sftrl.predict.judge import Intervals

Count = Annotated[int, Field(ge=1)]
Rate = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]


class Section(BaseModel):
    """A mapping of the params file: known keys only, exact types, never changed after it is read."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Generated(Section):
    """Generated maths in the place of a published data set: how many problems (of each benchmark) or examples."""

    procedural: Count


Source = str | dict[str, Any]  # a name from the tables in `sftrl.problems`, or a mapping that `load_problems` takes


class Scratch(Section):
    """A tiny family, pretrained from scratch by `00_base` on generated maths."""

    architecture: Literal["llama", "mistral", "qwen3"]
    hidden_size: Count = 96
    layers: Count = 3
    context: Count = 512
    vocab_size: Count = 320
    examples: Count = 60_000
    error_rate: Share = 0.08
    broken_rate: Share = 0.1
    batch_size: Count = 32
    learning_rate: Rate = 0.006
    matrix_learning_rate: Rate = 0.02


class Family(Section):
    """A model before SFT: a folder or hub name, or a tiny one to be made from scratch."""

    model: str | None = None
    revision: str | None = None
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    scratch: Scratch | None = None

    @model_validator(mode="after")
    def _one_origin(self):
        if (self.model is None) == (self.scratch is None):
            raise ValueError("give either 'model' or 'scratch'")
        return self


class Data(Section):
    """What is trained on and tested on. Every source is generated maths or a list of published sets."""

    benchmarks: Generated | list[Source]
    sft: Generated | list[Source] | None = None
    rl: Generated | list[Source] | None = None
    held_out: Count = 256
    prompt: str = "{problem}"
    max_response_tokens: Count | None = None
    decontaminate: bool = True

    @model_validator(mode="after")
    def _prompt_has_problem(self):
        if "{problem}" not in self.prompt:
            raise ValueError("'prompt' must contain {problem}")
        return self


class Sft(Section):
    """Supervised fine-tuning, the same recipe for every run. `trl` holds further arguments of TRL's SFTConfig."""

    learning_rate: Rate = 1.0e-5
    batch_size: Count = 32
    micro_batch: Count = 32
    scheduler: str = "cosine"
    warmup_ratio: Share = 0.05
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    max_length: Count = 512
    trl: dict[str, Any] = {}


class Grpo(Section):
    """GRPO with a 0/1 reward, the same recipe for every run. `trl` holds further arguments of TRL's GRPOConfig."""

    steps: Count
    learning_rate: Rate = 1.0e-6
    scheduler: str = "linear"
    prompts_per_step: Count = 24
    group_size: Annotated[int, Field(ge=2)] = 8
    micro_batch: Count | None = None
    temperature: Rate = 1.0
    max_tokens: Count = 128
    seeds: Annotated[list[int], Field(min_length=1)] = [0]
    base_seeds: Annotated[list[int], Field(min_length=1)] | None = None
    trl: dict[str, Any] = {}


class AdaptiveSampling(Section):
    """Samples where they narrow Pass@k (`sftrl.sample.Adaptive`), `samples` at most beside the pilot."""

    k: Count
    half_width: Rate
    pilot: Count = 16

    @property
    def fewest(self) -> int:
        """As of `sftrl.sample.Adaptive`, which takes long to import."""
        return 2 * self.k


class Evaluation(Section):
    """How checkpoints are sampled and graded. The two stages may differ in samples, in nothing else.

    With `rl_problems`, that many of the RL training problems are sampled after SFT too, for predictors that look where
    RL will look.
    """

    engine: Literal["transformers", "vllm"] = "transformers"
    samples: Count = 64
    samples_post_rl: Count = 64
    adaptive: AdaptiveSampling | None = None
    rl_problems: Annotated[int, Field(ge=0)] = 0
    temperature: Rate = 1.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    max_tokens: Count = 128
    batch_tokens: Count = 65_536
    shards: Count = 1
    tensor_parallel_size: Count = 1
    left_out_of_average: list[str] = []
    loss_token_budget: Count = 16_384

    @model_validator(mode="after")
    def _room_to_adapt(self):
        samples = min(self.samples, self.samples_post_rl)
        if self.adaptive and samples < self.adaptive.fewest:
            raise ValueError(f"'adaptive' with k = {self.adaptive.k} needs 'samples' of 2k or more, not {samples}")
        return self


class Predict(Section):
    """How predictors are judged."""

    resamples: Count = 2000
    intervals: Intervals = "fisher"
    leave_out: list[str] = ["base"]


class Run(Section):
    """One row of the grid: an SFT run, or a checkpoint of one's own (`name` and `model`)."""

    selection: Literal["random", "shortest", "longest", "mixed"] | None = None
    examples: Count | None = None
    epochs: Count | None = None
    learning_rate: Rate | None = None
    data_seed: int = 0
    rl_seeds: Annotated[list[int], Field(min_length=1)] | None = None
    name: Name | None = None
    model: str | None = None

    @model_validator(mode="after")
    def _one_kind(self):
        trained = (self.selection, self.examples, self.epochs)
        if self.model is None and None in trained:
            raise ValueError("a run needs 'selection', 'examples' and 'epochs' (or 'name' and 'model')")
        if self.model is not None and (self.name is None or any(trained)):
            raise ValueError("a checkpoint of one's own has 'name' and 'model' and no SFT settings")
        if self.name == "base":
            raise ValueError("'base' is the name of the model without SFT")
        return self

    @property
    def label(self) -> str:
        """The run's name in paths, tables and figures: `random-10k-3ep`, with what else sets it apart."""
        if self.name:
            return self.name
        size = f"{self.examples // 1000}k" if self.examples % 1000 == 0 else str(self.examples)
        rate = f"-lr{self.learning_rate:g}" if self.learning_rate else ""
        seed = f"-d{self.data_seed}" if self.data_seed else ""
        return f"{self.selection}-{size}-{self.epochs}ep{rate}{seed}"


class Params(Section):
    """A whole params file."""

    study: Name
    seed: Annotated[int, Field(ge=0)] = 0
    families: Annotated[dict[Name, Family], Field(min_length=1)]
    data: Data
    runs: list[Run] = []
    sft: Sft = Sft()
    grpo: Grpo | None = None
    evaluation: Evaluation = Evaluation()
    predict: Predict = Predict()

    @model_validator(mode="after")
    def _data_for_training(self):
        if self.data.sft is None and any(run.model is None for run in self.runs):
            raise ValueError("data.sft: missing, and 'runs' has runs with SFT")
        if self.data.rl is None and self.grpo is not None:
            raise ValueError("data.rl: missing, and the study has RL (a 'grpo' section)")
        if self.data.rl is None and self.evaluation.rl_problems:
            raise ValueError("data.rl: missing, and 'evaluation.rl_problems' asks for some")
        return self

    @model_validator(mode="after")
    def _distinct_runs(self):
        labels = [run.label for run in self.runs]
        twice = sorted({label for label in labels if labels.count(label) > 1})
        if twice:
            raise ValueError(f"'runs' holds {twice[0]!r} twice")
        return self


def check(values: dict, source: str) -> Params:
    """Return the checked params; `InputError` lists every wrong key of `source`, a line each."""
    try:
        return Params.model_validate(values)
    except ValidationError as error:
        lines = [_explain(problem, values) for problem in error.errors()]
        raise InputError(f"{source}: " + "\n  ".join(dict.fromkeys(lines))) from None


def _explain(problem: dict, values: dict) -> str:
    # pydantic adds the tried member of a union to the place; a reader of the YAML has never heard of it.
    place = [str(part) for part in problem["loc"] if not (isinstance(part, str) and ("[" in part or part in _UNION))]
    key = ".".join(place)
    kind, given = problem["type"], problem.get("input")
    if kind == "extra_forbidden":
        near = difflib.get_close_matches(place[-1], _KEYS, n=1)
        return f"{key}: unknown key" + (f" (did you mean {near[0]!r}?)" if near else "")
    if kind == "missing":
        return f"{key}: missing"
    if isinstance(given, str) and kind in ("float_type", "int_type"):
        try:
            hint = f"; YAML reads it as text, write {float(given):.1e}" if kind == "float_type" else ""
        except ValueError:
            hint = ""
        return f"{key}: {given!r} is not a number{hint}"
    message = problem["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    if kind == "value_error":
        return f"{key}: {message}" if key else message
    return f"{key}: {given!r} should be {message}"


_SECTIONS = (Params, Generated, Scratch, Family, Data, Sft, Grpo, AdaptiveSampling, Evaluation, Predict, Run)
_KEYS = sorted({name for section in _SECTIONS for name in section.model_fields})
_UNION = {"Generated", "str"}
