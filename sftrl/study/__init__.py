"""A study: its checked params, its runs and its seeds.

    plan = Study.load("params/quick.yaml")
    plan = Study.from_notebook(globals())      # in a notebook, after the parameters cell

`params` says what a params file may hold; `sftrl.stages` says what a study consists of.
"""

from sftrl.study.study import Study

__all__ = ["Study"]
