"""`04_grpo`: RL from one checkpoint, with one seed."""

import pandas as pd

from sftrl.errors import InputError
from sftrl.files import read_table, write_table
from sftrl.recipes import Checkpoint, Grpo
from sftrl.stages import curation, sft
from sftrl.stages.job import Job, Work, given
from sftrl.study import Study
from sftrl.tables import problem_names

CURVES = ["reward", "entropy", "clipped_ratio", "frac_reward_zero_std", "mean_length"]


def job(study: Study, family: str, run: str, rl_seed: int) -> Job:
    """Return the job of one RL run."""
    if study.params.grpo is None:
        raise InputError("grpo: this study has no RL, so nothing is trained by 04_grpo")
    start, made_by = sft.checkpoint(study, family, run)
    return Job(
        "04_grpo",
        study.folder / family / "grpo" / f"{run}-seed{rl_seed}",
        study.settings(
            start=given(start, made_by),
            loading=study.loading(family, "").model_dump(mode="json"),
            prompt=study.params.data.prompt,
            grpo=recipe(study).model_dump(mode="json"),
        ),
        (curation.job(study), *made_by),
        # The same for every run: candidates meet the same problems, and draw from the same random numbers.
        {"order": study.seed("grpo", rl_seed)},
        keep=("trainer",),
    )


def recipe(study: Study) -> Grpo:
    """Return the RL recipe, without the seeds that are each run's own."""
    return Grpo(**study.params.grpo.model_dump(include=set(Grpo.model_fields)))


def checkpoint(study: Study, family: str, run: str, rl_seed: int) -> tuple[Checkpoint, tuple[Job, ...]]:
    """Return a run's checkpoint after RL, and the job that makes it, if one does."""
    settings = study.run(run)
    if settings is not None and settings.post_rl:
        return study.loading(family, settings.post_rl, settings), ()
    made = job(study, family, run, rl_seed)
    return study.loading(family, str(made.folder / "model")), (made,)


def problems(study: Study) -> pd.DataFrame:
    """Return the problems that RL learns from, with their `prompt`.

    Raises:
        InputError: fewer are left, without the probes, than one step takes.
    """
    table, aside = curation.read(study, "rl"), _held_out(study)
    if len(table) - aside < study.params.grpo.prompts_per_step:
        raise InputError(
            f"data.rl: {len(table)} problems are left after curation, {aside} of them for grpo.probes, and a step "
            f"takes {study.params.grpo.prompts_per_step}"
        )
    return study.prompts(table.iloc[: len(table) - aside], column="prompt")


def probes(study: Study) -> pd.DataFrame | None:
    """Return the RL problems that are probed and not trained on, or None where the study has no probes."""
    if not _held_out(study):
        return None
    return study.prompts(curation.read(study, "rl").tail(_held_out(study)), column="prompt")


def _held_out(study: Study) -> int:
    probed = study.params.grpo.probes
    return probed.problems if probed else 0


def train(
    study: Study, family: str, run: str, table: pd.DataFrame, work: Work, until: int | None = None
) -> pd.DataFrame:
    """Train, save the checkpoint, finish the job; return the log, a row a step.

    With `until` it stops at that step by `train.Interrupted`, and the same call goes on later.
    """
    if not work.done:
        from sftrl import train as trainers

        start, _ = sft.checkpoint(study, family, run)
        log = trainers.grpo(
            start,
            table,
            recipe(study),
            folder=work.folder,
            seed=work.seeds["order"],
            compute=study.params.compute,
            probes=probes(study),
            until=until,
        )
        write_table(log, work.folder / "log.csv")
        rollouts = study.params.grpo.prompts_per_step * study.params.grpo.group_size
        work.finish(tokens=int(log["mean_length"].sum() * rollouts))
    return read_table(work.folder / "log.csv")


def curves(study: Study) -> pd.DataFrame | None:
    """Return every RL run's log: `family, run, rl_seed, step, reward, ...`; None where the study has no RL."""
    if study.params.grpo is None:
        return None
    logs = [
        read_table(made.folder / "log.csv").assign(family=family, run=run, rl_seed=seed)
        for (family, run, seed), made in _trained(study).items()
    ]
    return pd.concat(logs, ignore_index=True)[["family", "run", "rl_seed", "step", *CURVES]] if logs else None


def probe_counts(study: Study) -> pd.DataFrame | None:
    """Return what the probes counted, a row a step of every RL run; None where the study has no probes.

    Columns `family, run, rl_seed, step, samples` (of each problem), `tokens` (of all responses together), and for each
    problem, as `benchmark/id`, the number of its samples that were right.
    """
    if study.params.grpo is None or study.params.grpo.probes is None:
        return None
    tables = []
    for (family, run, seed), made in _trained(study).items():
        counts = read_table(made.folder / "probes.csv")
        counts["problem"] = problem_names(counts)
        right = counts.pivot(index="step", columns="problem", values="correct")[list(counts["problem"].unique())]
        spent = counts.groupby("step").agg(samples=("samples", "first"), tokens=("tokens", "sum"))
        tables.append(spent.join(right).reset_index().assign(family=family, run=run, rl_seed=seed))
    if not tables:
        return None
    table = pd.concat(tables, ignore_index=True)
    first = ["family", "run", "rl_seed", "step", "samples", "tokens"]
    return table[[*first, *table.columns.drop(first)]]


def _trained(study: Study) -> dict[tuple[str, str, int], Job]:
    """Return the job of every (family, run, rl_seed) that this study takes through RL itself."""
    return {
        (family, run, seed): job(study, family, run, seed)
        for family in study.families
        for run in study.runs
        if not (study.run(run) and study.run(run).post_rl)
        for seed in study.rl_seeds(run)
    }
