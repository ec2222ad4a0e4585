"""What a params file may contain: a study's sections, composed of recipes. A wrong key is an error that names it."""

import difflib
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationError, model_validator

from sftrl.errors import InputError
from sftrl.problems import example_source, problem_source
from sftrl.recipes import (
    Checkpoint,
    Choosing,
    Cluster,
    Compute,
    Count,
    Grpo,
    Judging,
    Rate,
    Recipe,
    Sampling,
    Scratch,
    Sft,
)
from sftrl.tables import BASE

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]


class Generated(Recipe):
    """Generated maths instead of a published data set: how many problems (of each benchmark) or examples."""

    procedural: Count
    steps: Annotated[list[Count], Field(min_length=2, max_length=2)] | None = None  # fewest and most, of problems
    ordered: bool = False  # names in alphabetical order, so that a value can be found by its place

    @property
    def options(self) -> dict:
        """What the generators of `sftrl.procedural` take beside a number."""
        return {"ordered": self.ordered} | ({"steps": tuple(self.steps)} if self.steps else {})


# A name from the tables in `sftrl.problems`, or a mapping of the keys of a source.
Problems = Annotated[str | dict[str, Any], AfterValidator(lambda spec: problem_source(spec) and spec)]
Examples = Annotated[str | dict[str, Any], AfterValidator(lambda spec: example_source(spec) and spec)]


class Family(Checkpoint):
    """A model before SFT: a folder or hub name, or a tiny one to be made from scratch."""

    model: str | None = None
    scratch: Scratch | None = None

    @model_validator(mode="after")
    def _one_origin(self):
        if (self.model is None) == (self.scratch is None):
            raise ValueError("give either 'model' or 'scratch'")
        return self


class Data(Recipe):
    """What is trained on and tested on. Every source is generated maths or a list of published sets.

    Where samples are imported, their files have the problems; `benchmarks` then gives other golds for the same ids.
    """

    benchmarks: Generated | list[Problems] | None = None
    sft: Generated | list[Examples] | None = None
    rl: Generated | list[Problems] | None = None
    held_out: Count = 256
    prompt: str = "{problem}"
    max_response_tokens: Count | None = None
    verified: bool = False  # keep the SFT examples whose final answer equals the gold one, which the set must have
    decontaminate: bool = True

    @model_validator(mode="after")
    def _prompt_has_problem(self):
        if "{problem}" not in self.prompt:
            raise ValueError("'prompt' must contain {problem}")
        return self

    @model_validator(mode="after")
    def _steps_are_of_problems(self):
        if isinstance(self.sft, Generated) and self.sft.steps:
            raise ValueError("'sft' has examples of every length; 'steps' is for 'benchmarks' and 'rl'")
        return self


class Rl(Grpo):
    """GRPO, the same recipe for every run, and the seeds that a run is repeated with (`base_seeds`: the base)."""

    seeds: list[int] = [0]
    base_seeds: list[int] | None = None


class Evaluation(Sampling):
    """How checkpoints are sampled and graded. The two phases may differ in samples, in nothing else.

    With `rl_problems`, that many of the RL training problems are sampled after SFT too, for predictors that look where
    RL will look.

    `import` gives each run's samples in files that another harness wrote (paths, which may hold `*`). Nothing is then
    sampled, and `samples` is how many of each problem there must be.
    """

    samples: Count = 64
    samples_post_rl: Count = 64
    rl_problems: Annotated[int, Field(ge=0)] = 0
    shards: Count = 1
    left_out_of_average: list[str] = []
    rollout_tokens: Annotated[int, Field(ge=0)] = 20_000  # of samples read again after SFT, for their entropy and KL
    loss_token_budget: Count = 16_384
    imported: Annotated[dict[str, list[str]], Field(min_length=1)] | None = Field(None, alias="import")

    @model_validator(mode="after")
    def _import_alone(self):
        of_import = {"imported", "samples", "left_out_of_average", "loss_token_budget"}
        if self.imported and (more := sorted(self.model_fields_set - of_import)):
            raise ValueError(f"{more[0]!r} is for sampling, and the samples are imported")
        return self

    @model_validator(mode="after")
    def _room_to_adapt(self):
        samples = min(self.samples, self.samples_post_rl)
        if self.adaptive and samples < self.adaptive.fewest:
            raise ValueError(f"'adaptive' with k = {self.adaptive.k} needs 'samples' of 2k or more, not {samples}")
        return self


class Run(Checkpoint):
    """One row of the grid: an SFT run, or a checkpoint of one's own (`name` and `model`).

    An SFT run has a number of `examples`, or as many as make so many response `tokens`: a fair budget between
    selections of short and of long ones. Selection `self` is a control that teaches nothing new: random prompts with
    responses that the base draws itself at a low `temperature`, right or wrong (chosen here).

    A checkpoint of one's own is loaded as its family says, but for what is given here. `post_rl` is what RL made of it,
    where that is known.
    """

    selection: Literal["random", "shortest", "longest", "mixed", "self"] | None = None
    examples: Count | None = None
    tokens: Count | None = None
    temperature: Rate | None = None  # of the base's own responses, which `self` trains on
    epochs: Count | None = None
    learning_rate: Rate | None = None
    data_seed: int = 0
    rl_seeds: list[int] | None = None  # None: the study's; []: no RL
    name: Name | None = None
    model: str | None = None
    post_rl: str | None = None

    @model_validator(mode="after")
    def _one_kind(self):
        trained = (self.selection, self.examples or self.tokens, self.epochs)
        if self.model is None and None in trained:
            raise ValueError("a run needs 'selection', 'examples' and 'epochs' (or 'name' and 'model')")
        if (self.selection == "self") != (self.temperature is not None):
            raise ValueError("'temperature' is for selection 'self', the base's own responses, and goes with it")
        if self.examples and self.tokens:
            raise ValueError("a run has 'examples' or 'tokens', not both")
        if self.model is not None and (self.name is None or any(trained)):
            raise ValueError("a checkpoint of one's own has 'name' and 'model' and no SFT settings")
        if self.model is None and (loading := sorted(self.model_fields_set & LOADING)):
            raise ValueError(f"{loading[0]!r} is for a checkpoint of one's own ('name' and 'model')")
        if self.name == BASE:
            raise ValueError("'base' is the name of the model without SFT")
        return self

    @property
    def label(self) -> str:
        """The run's name in paths, tables and figures: `random-10k-3ep`, with what else sets it apart."""
        if self.name:
            return self.name
        count = self.examples or self.tokens
        size = (f"{count // 1000}k" if count % 1000 == 0 else str(count)) + ("tok" if self.tokens else "")
        rate = f"-lr{self.learning_rate:g}" if self.learning_rate else ""
        seed = f"-d{self.data_seed}" if self.data_seed else ""
        kind = f"{self.selection}{self.temperature:g}" if self.temperature else self.selection
        return f"{kind}-{size}-{self.epochs}ep{rate}{seed}"


LOADING = set(Checkpoint.model_fields) | {"post_rl"}


class Params(Recipe):
    """A whole params file."""

    study: Name
    seed: Annotated[int, Field(ge=0)] = 0
    families: Annotated[dict[Name, Family], Field(min_length=1)]
    data: Data
    runs: list[Run] = []
    sft: Sft = Sft()
    grpo: Rl | None = None
    evaluation: Evaluation = Evaluation()
    predict: Judging = Judging()
    choose: Choosing = Choosing()
    compute: Compute = Compute()
    cluster: Cluster = Cluster()

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
    def _problems_and_who_solves_them(self):
        if self.evaluation.imported is None:
            if self.data.benchmarks is None:
                raise ValueError("data.benchmarks: missing")
        elif self.grpo or len(self.families) > 1 or any(run.model is None or run.post_rl for run in self.runs):
            raise ValueError(
                "evaluation.import: ranks checkpoints that are there, of one family: without 'grpo', 'post_rl' and "
                "runs of SFT"
            )
        return self

    @model_validator(mode="after")
    def _rl_is_told(self):
        for run in self.runs:
            if run.rl_seeds and self.grpo is None:
                raise ValueError(f"runs: {run.label} has 'rl_seeds', and the study has no RL (no 'grpo' section)")
            if run.rl_seeds and run.post_rl:
                raise ValueError(f"runs: {run.label} has 'post_rl', a result of RL, and 'rl_seeds' to make others")
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


def _sections(model: type[Recipe]) -> set[type[Recipe]]:
    """Return a section and all that stand in it."""
    found, text = {model}, [field.annotation for field in model.model_fields.values()]
    while text:
        kind = text.pop()
        text += getattr(kind, "__args__", ())
        if isinstance(kind, type) and issubclass(kind, Recipe) and kind not in found:
            found |= _sections(kind)
    return found


_KEYS = sorted({f.alias or name for section in _sections(Params) for name, f in section.model_fields.items()})
_UNION = {"Generated", "str"}
