"""Curves over the steps of trainings elsewhere: what `sftrl.callback` left beside checkpoints of one's own, and what
03_evaluate measured of every step that a pattern names.
"""

from pathlib import Path

import pandas as pd

from sftrl.files import hash_path, read_table
from sftrl.stages.grpo import CURVES
from sftrl.steps import expand
from sftrl.study import Study
from sftrl.tables import AVERAGE, HELD_OUT_CURVE, POST_SFT, ROLLOUT_CURVE, RUN


def files(study: Study, name: str) -> dict[Path, tuple[str, bool]]:
    """Return a callback's tables, in a checkpoint's folder or in that of all steps, and (run, whether of its RL)."""
    found = {}
    for run in study.runs.values():
        for model in (run.model, run.post_rl) if run is not None else ():
            for folder in (Path(model), Path(model).parent) if model else ():
                if (folder / name).is_file():
                    found.setdefault(folder / name, (run.label, model == run.post_rl))
    return found


def hashes(study: Study) -> list[str]:
    """Name by their content the tables that are there."""
    return [hash_path(path) for name in (HELD_OUT_CURVE, ROLLOUT_CURVE) for path in files(study, name)]


def curves(study: Study, results: pd.DataFrame, predictors: pd.DataFrame) -> pd.DataFrame | None:
    """Return the curves over steps, `family, run, measured, step, generalization_loss, pass@1, ...`, or None.

    `measured` says where: `in SFT` or `in RL` by the callback, or `by 03_evaluate`. `marked` is true for the step from
    which the callback saw the held-out loss rise and Pass@k no longer.
    """
    found = [
        read_table(path).assign(family=study.families[0], run=run, measured="in RL" if of_rl else "in SFT")
        for path, (run, of_rl) in files(study, HELD_OUT_CURVE).items()
    ]
    steps = {
        f"{run.label}-{step}": {"run": run.label, "step": step}
        for run in study.params.runs
        if run.model and "*" in Path(run.model).name
        for step in expand(run.model)
    }
    rows = results[(results["benchmark"] == AVERAGE) & (results["phase"] == POST_SFT) & results["run"].isin(steps)]
    if len(rows):
        rows = rows.filter(regex=r"^(family|run|pass@\d+)$").merge(predictors, on=RUN)
        of_steps = pd.DataFrame([steps[run] for run in rows["run"]])
        found.append(rows.drop(columns="run").join(of_steps).assign(measured="by 03_evaluate"))
    if not found:
        return None
    table = pd.concat(found, ignore_index=True)
    kept = table.filter(regex=r"^(epoch|generalization_loss|entropy|pass@\d+|marked)$")
    return pd.concat([table[[*RUN, "measured", "step"]], kept], axis="columns")


def rl_curves(study: Study) -> pd.DataFrame | None:
    """Return what the callback kept of RL elsewhere, as rows of `rl_curves.csv`; None where there is none of it."""
    found = [
        read_table(path).assign(family=study.families[0], run=run, rl_seed=0)
        for path, (run, of_rl) in files(study, ROLLOUT_CURVE).items()
        if of_rl
    ]
    return pd.concat(found, ignore_index=True)[[*RUN, "rl_seed", "step", *CURVES]] if found else None
