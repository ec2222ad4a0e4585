"""The jobs of a study: where each writes, what it depends on, and what it must wait for.

A notebook begins its job; the Snakefile makes a rule of it. Both read the same three things here: `folder`, `settings`
and `inputs`. A job is run again when its settings or its inputs change, and for no other reason, so the settings of a
job hold the sections that it reads and nothing else.
"""

from dataclasses import dataclass, field
from pathlib import Path

from sftrl.errors import InputError
from sftrl.files import hash_value
from sftrl.study.manifest import Stage, require
from sftrl.study.study import Study
from sftrl.tables import RL_PROBLEMS as RL

STAGES = ("post_sft", "post_rl")


@dataclass(frozen=True)
class Job:
    """One notebook run.

    Attributes:
        folder: where it writes; its manifest comes last.
        settings: what it depends on, as JSON values.
        inputs: folders of earlier jobs, and how to make each, for the message where one is missing.
        seeds: the seeds it uses, by use.
        keep: what in the folder outlives an interrupted run.
    """

    folder: Path
    settings: dict
    inputs: dict[Path, str] = field(default_factory=dict)
    seeds: dict[str, int] = field(default_factory=dict)
    keep: tuple[str, ...] = ()

    def begin(self) -> Stage:
        """Check that the inputs are whole, and clear the folder.

        Raises:
            InputError: an earlier stage is missing or unfinished; it names the folder and what makes it.
        """
        return Stage(self.folder, self.settings, self.inputs, self.seeds, self.keep)


def base(study: Study, family: str) -> Job:
    """`00_base`: pretrain a family from scratch."""
    scratch = study.params.families[family].scratch
    if scratch is None:
        raise InputError(f"families.{family}: is a model already; only a family with 'scratch' is made by 00_base")
    return Job(
        study.folder / family / "base",
        study.settings(scratch=scratch.model_dump()),
        seeds={use: study.seed("base", family, use) for use in ("texts", "weights", "order")},
    )


def curate(study: Study) -> Job:
    """`01_curate`: the data of all runs."""
    # Lengths are counted in the first family's tokens; a family made from scratch has none before it is made.
    first = study.families[0]
    return Job(
        study.folder / "data",
        study.settings("data"),
        _model(study, first, "base"),
        {use: study.seed(use) for use in ("benchmarks", "sft", "rl", "split")},
    )


def sft(study: Study, family: str, run: str) -> Job:
    """`02_sft`: one run of the grid."""
    settings = study.run(run)
    if settings is None or settings.model is not None:
        raise InputError(f"run: {run!r} has no SFT; the runs with SFT are {', '.join(study.sft_runs) or 'none'}")
    recipe = study.params.sft.model_dump(mode="json")
    if settings.learning_rate is not None:
        recipe["learning_rate"] = settings.learning_rate
    return Job(
        study.folder / family / "sft" / run,
        study.settings(family=study.params.families[family].model_dump(), run=settings.model_dump(), sft=recipe),
        _data(study) | _model(study, family, "base"),
        {"select": study.seed("select", settings.data_seed), "order": study.seed("sft", family, run)},
    )


def grpo(study: Study, family: str, run: str, rl_seed: int) -> Job:
    """`04_grpo`: RL from one checkpoint, with one seed."""
    if study.params.grpo is None:
        raise InputError("grpo: this study has no RL, so nothing is trained by 04_grpo")
    recipe = study.params.grpo.model_dump(mode="json", exclude={"seeds", "base_seeds"})
    return Job(
        _grpo_folder(study, family, run, rl_seed),
        study.settings(family=study.params.families[family].model_dump(), prompt=study.params.data.prompt, grpo=recipe),
        _data(study) | _model(study, family, run),
        {"order": study.seed("grpo", family, run, rl_seed)},
    )


def evaluate(
    study: Study, family: str, stage: str, run: str, rl_seed: int | None = None, shard: int = 0, of: int = 1
) -> Job:
    """`03_evaluate`: one checkpoint, or one shard of its samples."""
    if stage not in STAGES:
        raise InputError(f"stage: {stage!r} is not one of {', '.join(STAGES)}")
    if not 0 <= shard < of:
        raise InputError(f"shard: {shard} is not one of {of} shards, which count from 0")
    given = study.params.evaluation
    passed_on = {"engine", "temperature", "top_p", "max_tokens", "batch_tokens", "tensor_parallel_size", "adaptive"}
    sampling = {"n": given.samples if stage == "post_sft" else given.samples_post_rl}
    sampling |= given.model_dump(include=passed_on)
    rl_problems = given.rl_problems if stage == "post_sft" else 0
    settings = study.settings(
        prompt=study.params.data.prompt,
        sampling=sampling,
        rl_problems=rl_problems,
        left_out_of_average=[*given.left_out_of_average, *([RL] if rl_problems else [])],
        group_size=study.group_size,
        loss_token_budget=given.loss_token_budget,
        # Other models than those of the study's own stages are named, since no input folder stands for them.
        model=study.checkpoint_name(family, run) if rl_seed is None else None,
        revision=study.revision(family, run, rl_seed),
    )
    folder = evaluation_folder(study, family, stage, run, rl_seed)
    if of > 1:
        folder = folder / "shards" / f"{shard}-of-{of}"
    seeds = {"samples": study.seed("samples", family, stage, run, rl_seed)}
    inputs = _data(study) | _model(study, family, run, rl_seed)
    return Job(folder, settings, inputs, seeds, keep=("stores", "shards"))


def store(study: Study, family: str, stage: str, run: str, rl_seed: int | None) -> Path:
    """Return the folder of a checkpoint's samples, which all its shards fill.

    It is named by what is sampled from what, so that a retrained checkpoint starts a store of its own and more samples
    of the same one are added to those there.
    """
    job = evaluate(study, family, stage, run, rl_seed)
    benchmarks = require(data_folder(study))["outputs"]["benchmarks.parquet"]
    models = [require(folder)["id"] for folder in _model(study, family, run, rl_seed)]
    sampling = {k: v for k, v in job.settings["sampling"].items() if k not in ("n", "batch_tokens", "adaptive")}
    rest = [job.settings[name] for name in ("rl_problems", "model", "prompt")]
    key = [benchmarks, models, rest, sampling, job.seeds]
    return job.folder / "stores" / hash_value(key)


def predict(study: Study) -> Job:
    """`05_predict`: tables, figures and judgements from all runs."""
    inputs: dict[Path, str] = {}
    for family in study.families:
        for run in study.runs:
            jobs = [evaluate(study, family, "post_sft", run)]
            jobs += [evaluate(study, family, "post_rl", run, rl_seed) for rl_seed in study.rl_seeds(run)]
            inputs |= {job.folder: f"03_evaluate for run {run!r}" for job in jobs}
            if run in study.sft_runs:
                inputs[study.folder / family / "sft" / run] = f"02_sft for run {run!r}"
            inputs |= {_grpo_folder(study, family, run, s): f"04_grpo for run {run!r}" for s in study.rl_seeds(run)}
    return Job(
        study.folder / "predict",
        study.settings("predict", "runs", "evaluation"),
        inputs,
        {"resamples": study.seed("resamples")},
    )


def data_folder(study: Study) -> Path:
    """Return the folder of the curated data."""
    return study.folder / "data"


def evaluation_folder(study: Study, family: str, stage: str, run: str, rl_seed: int | None) -> Path:
    """Return the folder of one checkpoint's evaluation."""
    return study.folder / family / stage / (run if rl_seed is None else f"{run}-seed{rl_seed}")


def checkpoint(study: Study, family: str, run: str, rl_seed: int | None = None) -> str:
    """Return what to load: the folder of a model that an earlier job made, or the folder or hub name that was given."""
    made = list(_model(study, family, run, rl_seed))
    return str(made[0] / "model") if made else study.checkpoint_name(family, run)


def _grpo_folder(study: Study, family: str, run: str, rl_seed: int) -> Path:
    return study.folder / family / "grpo" / f"{run}-seed{rl_seed}"


def _data(study: Study) -> dict[Path, str]:
    return {data_folder(study): "01_curate"}


def _model(study: Study, family: str, run: str, rl_seed: int | None = None) -> dict[Path, str]:
    """Return the job that makes a checkpoint, or nothing where the checkpoint was given."""
    if rl_seed is not None:
        return {_grpo_folder(study, family, run, rl_seed): f"04_grpo for run {run!r} and rl_seed {rl_seed}"}
    if run in study.sft_runs:
        return {study.folder / family / "sft" / run: f"02_sft for run {run!r}"}
    if run == "base" and study.params.families[family].scratch:
        return {study.folder / family / "base": f"00_base for family {family!r}"}
    return {}
