"""Shared definitions: the columns of the small tables, the two phases, and the table of predictors.

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

# What `sftrl.callback` leaves in a trainer's folder, where 05_predict looks for it.
HELD_OUT_CURVE, ROLLOUT_CURVE = "held_out_curve.csv", "rollout_curve.csv"

RUN = ["family", "run"]
DESCRIPTION = ["selection", "examples", "epochs", "learning_rate", "data_seed"]
# Scores that differ in one of these are not comparable.
SETTINGS = ("problems", "samples", *Decoding.model_fields, "verifier_version")


SAMPLED, SAMPLED_RL = "sampled_tokens", "sampled_tokens_rl"  # of the scores' benchmarks, of RL problems
FREE = ""  # known without a token


class Predictor(NamedTuple):
    """A number that may predict the score after RL: known before it, but for those named `early_`, of its first steps.

    Attributes:
        column: a regular expression that the column's name matches as a whole.
        direction: 1 where higher is better by its meaning, -1 where lower is, 0 where only runs can tell.
        label: as a reader would name it; `{}` stands for the expression's group.
        unit: "%" for a share, which tables hold as a fraction and figures show in percent; "" for a plain number.
        headline: whether a first look needs it.
        cost: the column that holds how many tokens were sampled or read to measure it; `FREE`; or None, not known.
    """

    column: str
    direction: int
    label: str
    unit: str = ""
    headline: bool = False
    cost: str | None = None


# The only list of predictors. Of `results.csv` and `predictors.csv` every column is judged that one of these matches;
# `_rl` marks what was measured on RL problems. The first that matches a column describes it. docs/statistics.md has the
# definition of each, and where it comes from.
PREDICTORS = (
    Predictor(r"pass@(1|16|64)", 1, "Pass@{}", "%", headline=True, cost=SAMPLED),
    Predictor(r"pass@(\d+)", 1, "Pass@{}", "%", cost=SAMPLED),
    Predictor(r"extrapolated_pass@(\d+)", 1, "forecast Pass@{}", "%", cost=SAMPLED),
    Predictor(r"majority@(\d+)", 1, "majority@{}", "%", cost=SAMPLED),
    Predictor(r"pass@(1|16|64)_rl", 1, "Pass@{} (RL problems)", "%", cost=SAMPLED_RL),
    Predictor(r"generalization_loss", -1, "loss", "nats/token", headline=True, cost="held_out_tokens"),
    Predictor(r"generalization_loss_example_mean", -1, "loss (example mean)", "nats/token", cost="held_out_tokens"),
    Predictor(r"coverage_tail@(\d+)", -1, "references rarer than 1 in {}", "%", cost="held_out_tokens"),
    Predictor(r"signal_share_rl", 0, "informative groups (RL problems)", "%", headline=True, cost=SAMPLED_RL),
    Predictor(r"signal_share", 0, "informative groups", "%", cost=SAMPLED),
    Predictor(r"reachable_share_rl", 1, "RL problems within reach of a group", "%", cost=SAMPLED_RL),
    Predictor(r"reachable_share", 1, "problems within reach of a group", "%", cost=SAMPLED),
    Predictor(r"reward_variance_rl", 0, "variance of rewards (RL problems)", cost=SAMPLED_RL),
    Predictor(r"reward_variance", 0, "variance of rewards", cost=SAMPLED),
    Predictor(r"success_variance_rl", 0, "variance of success rates (RL problems)", cost=SAMPLED_RL),
    Predictor(r"success_variance", 0, "variance of success rates", cost=SAMPLED),
    Predictor(r"distinct_correct_rl", 1, "distinct solutions (RL problems)", "in 16 samples", cost=SAMPLED_RL),
    Predictor(r"distinct_correct", 1, "distinct solutions", "in 16 samples", cost=SAMPLED),
    Predictor(r"rollout_entropy", 0, "entropy of own rollouts", "nats/token", cost="rollout_tokens"),
    Predictor(r"rollout_kl", 0, "KL from the base on own rollouts", "nats/token", cost="rollout_tokens"),
    Predictor(r"kl_from_base", 0, "KL from the base", "nats/token", cost="held_out_tokens"),
    Predictor(r"weight_distance", 0, "distance of weights from the base", "%", cost=FREE),
    Predictor(r"entropy", 0, "entropy", "nats/token", headline=True, cost="held_out_tokens"),
    Predictor(r"token_accuracy", 0, "token accuracy", "%", cost="held_out_tokens"),
    Predictor(r"mean_tokens", 0, "response length", "tokens", cost=SAMPLED),
    Predictor(r"(truncated|unparseable|empty)", 0, "{} responses", "%", cost=SAMPLED),
    Predictor(r"early_no_signal", 0, "groups without signal (first 5 % of RL)", "%", cost="early_tokens"),
    Predictor(r"early_entropy_slope", 0, "slope of entropy (first 5 % of RL)", "nats/step", cost="early_tokens"),
    Predictor(r"sft_tokens", 0, "SFT tokens", headline=True, cost=FREE),
    Predictor(r"epochs", 0, "epochs", headline=True, cost=FREE),
    Predictor(r"examples", 0, "examples", cost=FREE),
)
# Judged where all their columns are there: `a + b` is a regression on both, `average(a, b)` the mean of the two,
# standardised, losses with their sign flipped. The paper's "both" may be either.
COMBINATIONS = (
    "pass@1 + generalization_loss",
    "average(generalization_loss, pass@64)",
    "pass@64 + generalization_loss",
)


def predictor(column: str) -> Predictor | None:
    """Return what is known of a column as a predictor, or None if it is none."""
    return next((known for known in PREDICTORS if re.fullmatch(known.column, column)), None)


def direction(name: str) -> int:
    """Say which way is better by a predictor's meaning: 1 higher, -1 lower, 0 not known before looking at the runs."""
    known = predictor(name)
    return known.direction if known else int(name.startswith("average("))


def label(name: str) -> str:
    """Name a predictor, or a combination of several, as a reader would."""

    def read(word: re.Match) -> str:
        known = predictor(word[0])
        return known.label.format(*re.fullmatch(known.column, word[0]).groups()) if known else word[0]

    return re.sub(r"[\w@]+", read, name)


def headline(names: list[str]) -> list[str]:
    """Pick the predictors that a first look needs: of the Pass@k, k = 1, 16 and 64, or the largest there is."""
    ks = [name for name in names if re.fullmatch(r"pass@\d+", name)]
    largest = max(ks, key=lambda name: int(name[5:]), default=None)
    wanted = {*COMBINATIONS[:2], *([] if "pass@64" in names else [largest])}
    return [name for name in names if name in wanted or getattr(predictor(name), "headline", False)]


def need(table: pd.DataFrame, columns: list[str], name: str) -> None:
    """Raise `InputError` for the first column that a table lacks."""
    absent = [c for c in columns if c not in table]
    if absent:
        raise InputError(f"{name}: no column {absent[0]!r}; there are {list(table)}")


# Of the tables of counts, `problem_counts.csv` and `rl_probes.csv`: every other column is a problem.
COUNT_KEYS = (*RUN, "phase", "rl_seed", "step", "samples", "tokens")


def problem_names(rows: pd.DataFrame, identifier: str = "id") -> pd.Series:
    """Return each problem's name in a table of counts: `benchmark/id`."""
    return rows["benchmark"] + "/" + rows[identifier].astype(str)


def problem_columns(table: pd.DataFrame) -> list[str]:
    """Return the columns of a table of counts that hold a problem."""
    return [name for name in table if name not in COUNT_KEYS]


DECIMALS = 8  # of every number in a judgement: what is beyond differs between machines, and says nothing


def rounded(table: pd.DataFrame) -> pd.DataFrame:
    """Round the numbers of a judgement, so that no residue such as 1e-16 or -0.0 reaches a table."""
    numbers = table.select_dtypes("float").columns
    return table.assign(**{c: table[c].round(DECIMALS) + 0.0 for c in numbers})
