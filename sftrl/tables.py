"""What rooms meet by: the columns of the small tables, the two phases, and every predictor with what is known of it.

`results.csv` holds one row per (family, run, rl_seed, phase, benchmark), `predictors.csv` one per (family, run).
"""

import re
from typing import NamedTuple

import pandas as pd

from sftrl.errors import InputError
from sftrl.recipes import Decoding

PHASES = POST_SFT, POST_RL = ("post_sft", "post_rl")  # when a checkpoint was sampled
BASE = "base"  # the run without SFT: a reference, not one of the choices
AVERAGE = "average"  # the unweighted mean over benchmarks, which no benchmark may be called
RL_PROBLEMS = "rl"  # not a benchmark: some of the RL training problems, sampled after SFT alone

RUN = ["family", "run"]
DESCRIPTION = ["selection", "examples", "epochs", "learning_rate"]
# Scores that differ in one of these are not comparable.
SETTINGS = ("problems", "samples", *Decoding.model_fields, "verifier_version")


class Predictor(NamedTuple):
    """A number known before RL that may predict the score after it.

    Attributes:
        column: a regular expression that the column's name matches as a whole.
        direction: 1 where higher is better by its meaning, -1 where lower is, 0 where only runs can tell.
        label: as a reader would name it; `{}` stands for the expression's group.
        headline: whether a first look needs it.
    """

    column: str
    direction: int
    label: str
    headline: bool = False


# The first that matches a column describes it.
PREDICTORS = (
    Predictor(r"pass@(1|16|64)", 1, "Pass@{}", headline=True),
    Predictor(r"pass@(\d+)", 1, "Pass@{}"),
    Predictor(r"extrapolated_pass@(\d+)", 1, "forecast Pass@{}"),
    Predictor(r"majority@(\d+)", 1, "majority@{}"),
    Predictor(r"pass@(\d+)_rl", 1, "Pass@{} (RL problems)"),
    Predictor(r"signal_share_rl", 0, "informative groups (RL problems)", headline=True),
    Predictor(r"signal_share", 0, "informative groups"),
    Predictor(r"generalization_loss", -1, "loss", headline=True),
    Predictor(r"generalization_loss_example_mean", -1, "loss (example mean)"),
    Predictor(r"entropy", 0, "entropy", headline=True),
    Predictor(r"token_accuracy", 0, "token accuracy"),
    Predictor(r"sft_tokens", 0, "SFT tokens", headline=True),
    Predictor(r"epochs", 0, "epochs", headline=True),
    Predictor(r"(truncated|unparseable|empty)", 0, "{}"),
    Predictor(r"mean_tokens", 0, "response length"),
)


def predictor(column: str) -> Predictor | None:
    """Return what is known of a column as a predictor, or None if it is none."""
    return next((known for known in PREDICTORS if re.fullmatch(known.column, column)), None)


def need(table: pd.DataFrame, columns: list[str], name: str) -> None:
    """Raise `InputError` for the first column that a table lacks."""
    absent = [c for c in columns if c not in table]
    if absent:
        raise InputError(f"{name}: no column {absent[0]!r}; there are {list(table)}")
