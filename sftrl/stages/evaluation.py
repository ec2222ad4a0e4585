"""`03_evaluate`: many samples of one checkpoint, graded and counted."""

from pathlib import Path

import pandas as pd

from sftrl.errors import InputError
from sftrl.files import hash_value, read_table, write_json, write_table
from sftrl.generations import Summary, grade, import_samples, summarise
from sftrl.recipes import Checkpoint, Decoding, Sampling
from sftrl.stages import curation, grpo, held_out, on_policy, sft
from sftrl.stages.job import Job, Work, given
from sftrl.stages.scores import powers_of_two, score_table
from sftrl.study import Study
from sftrl.tables import PHASES, POST_RL, POST_SFT, RL_PROBLEMS, problem_names

ROLLOUTS = "rollouts.json"  # in the job's folder: what own rollouts tell, of a checkpoint before RL


def job(
    study: Study, family: str, phase: str, run: str, rl_seed: int | None = None, shard: int = 0, of: int = 1
) -> Job:
    """Return the job that evaluates one checkpoint, or one shard of its samples."""
    if phase not in PHASES:
        raise InputError(f"phase: {phase!r} is not one of {', '.join(PHASES)}")
    if not 0 <= shard < of:
        raise InputError(f"shard: {shard} is not one of {of} shards, which count from 0")
    section = study.params.evaluation
    rl_problems = section.rl_problems if phase == POST_SFT else 0
    # How another harness drew its samples is not known, so they tell nothing of the model's own distribution.
    read_again = phase == POST_SFT and of == 1 and not study.imported
    model, made_by = checkpoint(study, family, run, rl_seed)
    settings = study.settings(
        prompt=study.params.data.prompt,
        n=section.samples if phase == POST_SFT else section.samples_post_rl,
        sampling=sampling(study).model_dump(mode="json"),
        rl_problems=rl_problems,
        left_out_of_average=[*section.left_out_of_average, *([RL_PROBLEMS] if rl_problems else [])],
        group_size=study.group_size,
        model=given(model, made_by),
        loss=held_out.job(study, family, run).key if phase == POST_SFT and of == 1 else None,
        rollout_tokens=section.rollout_tokens if read_again else None,
        imported=curation.files(study) and curation.files(study)[run],
    )
    place = _place(study, family, phase, run, rl_seed)
    if of > 1:
        place = place / "shards" / f"{shard}-of-{of}"
    seeds = {"samples": study.seed("samples", family, phase, run, rl_seed)}
    return Job("03_evaluate", place, settings, (curation.job(study), *made_by), seeds)


def _place(study: Study, family: str, phase: str, run: str, rl_seed: int | None) -> Path:
    return study.folder / family / phase / (run if rl_seed is None else f"{run}-seed{rl_seed}")


def checkpoint(study: Study, family: str, run: str, rl_seed: int | None) -> tuple[Checkpoint, tuple[Job, ...]]:
    """Return the checkpoint of a run before RL, or after it with a seed; and the job that makes it, if one does."""
    return sft.checkpoint(study, family, run) if rl_seed is None else grpo.checkpoint(study, family, run, rl_seed)


def sampling(study: Study) -> Sampling:
    """Return how the study's checkpoints are sampled, without how many samples, which problems, how many shards."""
    return Sampling(**study.params.evaluation.model_dump(include=set(Sampling.model_fields)))


def problems(study: Study, work: Work | Job) -> pd.DataFrame:
    """Return what a checkpoint is sampled on, with its prompts: the benchmarks, some RL problems as one named `rl`.

    Raises:
        InputError: fewer RL problems than that are left after curation.
    """
    table, wanted = curation.read(study, "benchmarks"), work.settings["rl_problems"]
    if wanted:
        rl = curation.read(study, "rl")
        if len(rl) < wanted:
            raise InputError(f"evaluation.rl_problems: {wanted} requested, and {len(rl)} are left after curation")
        table = pd.concat([table, rl.head(wanted).assign(benchmark=RL_PROBLEMS)], ignore_index=True)
    return study.prompts(table)


def store(study: Study, family: str, phase: str, run: str, rl_seed: int | None) -> Path:
    """Return the folder of a checkpoint's samples, which all its shards fill.

    It is named by what is sampled from what, so that a retrained checkpoint starts a store of its own and more samples
    of the same one are added to those there; a store of imported samples by the files that held them.
    """
    evaluated = job(study, family, phase, run, rl_seed)
    data, *made_by = evaluated.inputs
    benchmarks = data.require()["outputs"]["benchmarks.parquet"]
    models = [_weights(made.require()["outputs"]) for made in made_by]
    rest = [evaluated.settings[name] for name in ("rl_problems", "model", "prompt")]
    how = evaluated.settings["imported"] or sampling(study).distribution
    key = [benchmarks, models, rest, how, evaluated.seeds]
    return evaluated.place / "stores" / hash_value(key)


def _weights(outputs: dict[str, dict]) -> dict[str, dict]:
    """Take the model's own files from those of a job: how fast it was trained is no part of what it is."""
    return {name: kept for name, kept in outputs.items() if name.startswith("model/")}


def sample(
    study: Study, family: str, phase: str, run: str, rl_seed: int | None, shard: int, of: int, work: Work
) -> Summary:
    """Draw, or import, and grade what the checkpoint's store lacks, and read rollouts again; return the counts."""
    how, n = sampling(study), work.settings["n"]
    folder, table = store(study, family, phase, run, rl_seed), problems(study, work)
    model, _ = checkpoint(study, family, run, rl_seed)
    if not work.done and study.imported:
        tokenizer = None
        if study.params.data.sft is not None:  # the model was there for its loss, so its tokens can be counted too
            from sftrl.models import load_tokenizer

            tokenizer = load_tokenizer(model)
        import_samples(folder, study.imported[run], tokenizer=tokenizer, problems=table)
        grade(folder, table)
    elif not work.done:
        from sftrl.sample import fill  # torch takes seconds to import

        fill(folder, model, table, how, n=n, seed=work.seeds["samples"], shard=shard, of=of)
        if work.settings["rollout_tokens"] is not None:
            write_json(work.folder / ROLLOUTS, on_policy.measure(study, family, run, folder, table, how))
    # Where the numbers of samples were adapted, the pilot that decided them does not count.
    start = how.adaptive.pilot if how.adaptive else 0
    return summarise(folder, table.iloc[shard::of], n=counted(study, n), start=start)


def counted(study: Study, n: int) -> int:
    """Return how many samples of each problem count, at least: n, or what adaptive sampling draws at least."""
    adaptive = study.params.evaluation.adaptive
    return adaptive.fewest if adaptive else n


def score(study: Study, summary: Summary, work: Work) -> pd.DataFrame:
    """Turn counts into scores and finish the job; return a row a benchmark, and their average."""
    if not work.done:
        scores = score_table(
            summary,
            k=powers_of_two(counted(study, work.settings["n"])),
            group_size=work.settings["group_size"],
            left_out_of_average=work.settings["left_out_of_average"],
        )
        write_table(scores.assign(verifier_version=summary.verifier_version), work.folder / "scores.csv")
        write_table(summary.problems, work.folder / "counts.csv")
        samples, tokens = summary.problems["n"].sum(), (summary.problems["n"] * summary.problems["mean_tokens"]).sum()
        work.finish(samples=int(samples), tokens=None if pd.isna(tokens) else int(tokens))
    return read_table(work.folder / "scores.csv")


def all_of(study: Study, family: str) -> list[tuple[str, str, int | None]]:
    """List every evaluation of a family as (run, phase, rl_seed), in the order of the tables."""
    return [
        (run, phase, seed)
        for run in study.runs
        for phase, seed in [(POST_SFT, None), *((POST_RL, seed) for seed in study.rl_seeds(run))]
    ]


def results(study: Study) -> pd.DataFrame:
    """Return the rows of `results.csv`: what was run, how it was sampled, its scores, by benchmark and averaged."""
    given = study.params.evaluation
    how = given.model_dump(include=set(Decoding.model_fields))
    if study.imported:
        how = dict.fromkeys(how)  # another harness's, and not known
    tables = []
    for family in study.families:
        for run, phase, rl_seed in all_of(study, family):
            scores = read_table(job(study, family, phase, run, rl_seed).folder / "scores.csv")
            row = {"family": family, "run": run} | _description(study, run) | {"rl_seed": rl_seed, "phase": phase}
            scores = scores.assign(**row, **how)
            if given.adaptive:  # what every problem has at least; how many more differs by chance
                scores["samples"] = given.adaptive.fewest
            first = [*row, "benchmark", "problems", "samples", *how, "verifier_version"]
            tables.append(scores[[*first, *scores.columns.drop(first)]])
    # Phases may differ in samples, and so in the k that they have. Joined by rows, as empty columns join badly.
    rows = [row for table in tables for row in table.to_dict("records")]
    table = pd.DataFrame(rows).astype({"rl_seed": "Int64"})
    widest = max(tables, key=lambda t: len(t.columns))
    return table[widest.columns]


def problem_counts(study: Study) -> pd.DataFrame | None:
    """Return what every evaluation counted, a row a checkpoint, so that any score can be made again from it.

    Columns `family, run, phase, rl_seed, samples` (of each problem), and for each problem, as `benchmark/id`, how many
    of its samples were correct. None where the number of samples differs between problems (adaptive sampling).
    """
    if study.params.evaluation.adaptive:
        return None
    rows = []
    for family in study.families:
        for run, phase, rl_seed in all_of(study, family):
            counts = read_table(job(study, family, phase, run, rl_seed).folder / "counts.csv")
            right = dict(zip(problem_names(counts, "problem_id"), counts["c"], strict=True))
            row = {"family": family, "run": run, "phase": phase, "rl_seed": rl_seed, "samples": counts["n"].iloc[0]}
            rows.append(row | right)
    table = pd.DataFrame(rows)
    return table.astype(dict.fromkeys(table.columns.drop(["family", "run", "phase"]), "Int64"))


def _description(study: Study, run: str) -> dict:
    settings = study.run(run)
    if run not in study.sft_runs:
        return {"selection": "none", "examples": 0, "epochs": 0, "learning_rate": None, "data_seed": None}
    described = settings.model_dump(include={"selection", "examples", "epochs", "data_seed"})
    return described | {"learning_rate": sft.recipe(study, run).learning_rate}
