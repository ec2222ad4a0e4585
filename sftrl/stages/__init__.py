"""The stages of a study, one file each: its job, the functions its notebook calls, its rows for the tables.

    plan = Study.from_notebook(globals())              # in a notebook, after the parameters cell
    work = stages.sft.job(plan, "qwen3-tiny", "random-1k-8ep").begin()
    log = stages.sft.train(...)                         # or the stored log, if the job is finished
    work.finish()

A stage is a notebook: `base` is 00_base, `curation` 01_curate, `sft` 02_sft, `evaluation` and `held_out` 03_evaluate,
`grpo` 04_grpo, `prediction` 05_predict, `race` 07_choose; `on_policy` and `measured` make predictors of what these
leave. Everything that a study makes lies under `runs/<study>/`, but for the small tables and figures in
`figures/<study>/`.
"""

from sftrl.stages import base, curation, evaluation, grpo, held_out, prediction, race, sft, show

__all__ = ["base", "curation", "evaluation", "grpo", "held_out", "prediction", "race", "sft", "show"]
