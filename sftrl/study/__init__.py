"""A study: its checked params, the jobs it consists of, and the manifests they leave.

    plan = Study.load("params/quick.yaml")
    plan = Study.from_notebook(globals())      # in a notebook, after the parameters cell
    stage = jobs.sft(plan, "qwen3-tiny", "random-1k-8ep").begin()

The modules: `schema` (what a params file may say), `study`, `jobs` (folders, settings, inputs), `manifest`, `sources`
(from params to data) and `collect` (from finished jobs to tables). Everything a study makes lies under `runs/<study>/`,
but for the small tables and figures in `figures/<study>/`.
"""

from sftrl.study import jobs
from sftrl.study.study import Study

__all__ = ["Study", "jobs"]
