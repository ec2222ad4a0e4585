"""`07_choose`: start RL on several SFT runs, drop the losers early, and say which to take to the end.

The segments are of `04_grpo`'s own jobs: each stops at a probe, saved, and goes on if the race asks for more of it.
When the race is over, `04_grpo` of the chosen run goes on from where it stands. The race's log is the job's, and a race
that was cut off goes on from it.
"""

from pathlib import Path

import pandas as pd

from sftrl.choose import Job as Segment
from sftrl.choose import Race, by_predictor, finished, measuring, replay
from sftrl.errors import InputError
from sftrl.files import read_table, write_table
from sftrl.predict import runs_table
from sftrl.recipes import Grpo
from sftrl.stages import curation, grpo, sft
from sftrl.stages.job import Job, Work
from sftrl.study import Study
from sftrl.tables import problem_names

LOG = "race.json"
CONSTANT = ("constant", "constant_with_warmup")  # schedules that do not depend on where RL ends


def job(study: Study, family: str) -> Job:
    """Return the job of a family's race."""
    made = [one for run in candidates(study) for one in sft.checkpoint(study, family, run)[1]]
    return Job(
        "07_choose",
        study.folder / family / "choose",
        study.settings("choose", grpo=_recipe(study).model_dump(mode="json"), runs=candidates(study)),
        (curation.job(study), *made),
        {"draws": study.seed("choose", family)},
        keep=(LOG,),
    )


def candidates(study: Study) -> list[str]:
    """Return the runs that may be taken to RL: all but the base, and those whose result of RL is given."""
    return [name for name, run in study.runs.items() if run is not None and not run.post_rl]


def _recipe(study: Study) -> Grpo:
    """Return the RL recipe, if a race can be run on it.

    Raises:
        InputError: no RL, no steps, no probes; a horizon beyond RL's end, or before it where the rate then depends on
            where RL ends; steps that are not probed.
    """
    if study.params.grpo is None:
        raise InputError("grpo: this study has no RL, so there is nothing to choose for")
    recipe, choose = grpo.recipe(study), study.params.choose
    if recipe.steps is None:
        raise InputError("grpo.epochs: a race is told in steps: give grpo.steps")
    if recipe.probes is None:
        raise InputError("grpo.probes: missing, and a race sees nothing else")
    horizon = choose.horizon or recipe.steps
    if horizon > recipe.steps:
        raise InputError(f"choose.horizon: {horizon} is beyond the last of {recipe.steps} steps")
    if horizon < recipe.steps and recipe.scheduler not in CONSTANT:
        raise InputError(
            f"choose.horizon: {horizon} of {recipe.steps} steps, and with grpo.scheduler {recipe.scheduler!r} the "
            f"curve depends on where RL ends: take {CONSTANT[1]!r}, or the horizon of grpo.steps"
        )
    for step in (0, *_steps(recipe, study)):
        if step not in recipe.probes.at:
            raise InputError(f"grpo.probes.at: step {step} is not probed, and the race (choose) needs it")
    return recipe


def _steps(recipe: Grpo, study: Study) -> list[int]:
    """Return the steps at which a segment may end."""
    horizon = study.params.choose.horizon or recipe.steps
    wanted = study.params.choose.probes or [step for step in recipe.probes.at if 0 < step <= horizon]
    return sorted({*wanted, horizon})


def start(study: Study, family: str, work: Work) -> Race:
    """Return the family's race, gone on from its log if there is one."""
    recipe, choose = _recipe(study), study.params.choose
    problems = grpo.probes(study)
    return Race(
        pd.DataFrame({"family": family, "run": candidates(study)}),
        choose.horizon or recipe.steps,
        list(problem_names(problems)),
        samples=recipe.probes.samples,
        rollouts=recipe.prompts_per_step * recipe.group_size,
        budget=choose.budget,
        margin=choose.margin,
        at=_steps(recipe, study),
        group_size=recipe.group_size,
        log=work.folder / LOG,
        seed=work.seeds["draws"],
    )


def run_segment(study: Study, family: str, race: Race, segment: Segment) -> None:
    """Take a run's RL to the segment's end and tell the race what its probes saw.

    A training that breaks is told as a candidate that died.

    Raises:
        InputError: settings that RL refuses.
        train.Interrupted: the training was asked to stop before that.
    """
    from sftrl import train

    seed = study.rl_seed("post_rl", segment.run, None)
    work = grpo.job(study, family, segment.run, seed).begin()
    try:
        grpo.train(study, family, segment.run, grpo.problems(study), work, until=segment.until_step)
    except train.Interrupted:
        log, probes = train.so_far(work.folder)
        if segment.until_step not in set(probes["step"]):
            raise
    except RuntimeError as error:
        race.died(segment.run, str(error).splitlines()[-1])
        return
    else:
        log, probes = read_table(work.folder / "log.csv"), read_table(work.folder / "probes.csv")
    tell(race, segment, log, probes)


def tell(race: Race, segment: Segment, log: pd.DataFrame, probes: pd.DataFrame) -> None:
    """Tell every probe up to the segment's end that the race has not been told.

    Args:
        race: the race.
        segment: what was asked.
        log: of the training, `step, mean_length, frac_reward_zero_std, entropy`.
        probes: `step, benchmark, id, samples, correct, tokens`.
    """
    last = race.ledger.last_step(segment.run)
    for step, rows in probes.groupby("step"):
        if not last < step <= segment.until_step:
            continue
        steps = log[(log["step"] > last) & (log["step"] <= step)] if len(log) else log
        race.tell(
            segment._replace(until_step=int(step)),
            counts=dict(zip(problem_names(rows), rows["correct"], strict=True)),
            probe_tokens=rows["tokens"].sum(),
            tokens=steps["mean_length"].sum() * race.ledger.rollouts if len(steps) else 0,
            zero_advantage=float(steps["frac_reward_zero_std"].mean()) if len(steps) else None,
            entropy=float(steps["entropy"].iloc[-1]) if len(steps) else None,
        )
        last = step


def standing(race: Race) -> str:
    """Say which run the race would take now, or how many are not probed yet."""
    if waiting := race.ledger.unprobed:
        return f"{len(waiting)} candidates are to be probed before RL"
    choice = race.choice
    return (
        f"would take {choice.run} (best with {choice.p_best:.0%}, expected regret "
        f"{100 * choice.expected_regret:.1f} points, {choice.spent:.1%} spent)"
    )


def seen(race: Race) -> pd.DataFrame:
    """Return the score of every probe told: `run, step, score`."""
    rows = [(row["run"], row["step"], race.ledger.score(row)) for row in race.ledger.probes]
    return pd.DataFrame(rows, columns=["run", "step", "score"])


def command(study: Study, family: str, run: str) -> str:
    """Return the command that takes a run's RL on to its end."""
    return grpo.job(study, family, run, study.rl_seed("post_rl", run, None)).command


def finish(race: Race, work: Work) -> str:
    """Write the race's table, finish the job, and return the answer in a sentence."""
    choice = race.choice
    if not work.done:
        write_table(race.table(), work.folder / "candidates.csv")
        work.finish(choice=choice._asdict())
    return (
        f"Take {choice.run} to RL: the best of {len(race.runs)} with a chance of {choice.p_best:.0%}, expected regret "
        f"{100 * choice.expected_regret:.1f} points; {choice.spent:.1%} of the tokens of RL on all were spent on "
        f"finding it ({choice.why})."
    )


def on_paper(study: Study, **how) -> dict[str, pd.DataFrame]:
    """Replay races on a study's committed tables: `choose` (regret by policy and budget), `measuring`, `by_predictor`.

    They are written beside the tables, and the figure drawn from them. `how` holds further arguments of `replay`.

    Raises:
        InputError: the tables are not there; fewer than two families have no one to learn from, and are replayed alone.
    """
    from sftrl.figures import frontier, save

    recipe, folder = _recipe(study), Path(study.figures)
    probes, results, curves, predictors = (
        read_table(folder / f"{name}.csv") for name in ("rl_probes", "results", "rl_curves", "predictors")
    )
    families = finished(probes, results, curves, rollouts=recipe.prompts_per_step * recipe.group_size)
    made = {"choose": replay(families, **how), "measuring": measuring(families)}
    made["by_predictor"] = by_predictor(families, runs_table(results, predictors))
    for name, table in made.items():
        write_table(table, folder / f"{name}.csv")
    save(frontier(*made.values()), folder, "frontier")
    return made
