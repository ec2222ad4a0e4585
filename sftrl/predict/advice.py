"""A decision in a sentence: which checkpoint, how sure, who cannot be told apart, by what, and what would settle it."""

import pandas as pd

from sftrl.predict.comparison import expected_regret
from sftrl.predict.foretell import COMBINED, FEWEST, NO_METRIC
from sftrl.tables import POST_RL, label

NAMED = 4  # runs that a sentence can carry
HEARD = 0.05  # weight of a metric that is worth a mention
TRIED = 5  # checkpoints among which a replayed choice is priced, as in `regret`


def advice(decision: pd.DataFrame) -> str:
    """Say in one sentence for each family what a decision comes to.

    Args:
        decision: rows of `decide`, `replay` or `answer`.
    """
    return " ".join(_sentence(family) for _, family in decision.groupby("family", sort=False))


def _sentence(decision: pd.DataFrame) -> str:
    rows = decision[decision["predictor"] == decision["predictor"].iloc[-1]]
    best, others = rows.iloc[0], rows.iloc[1:]
    alike = others.loc[~others["apart"], "run"].tolist()
    family = f" ({best['family']})"
    if POST_RL in rows and rows[POST_RL].notna().all():
        return _replayed(decision, rows, alike)
    if best["calibration"]:
        points = 100 * best["expected_regret"]
        sure = f"chance to be best {best['p_best']:.0%}, expected regret {points:.1f} points"
    elif pd.notna(best["p_best"]):
        sure = f"chance to be best {best['p_best']:.0%}, if the assumed correlation holds"
    else:
        sure = "a ranking only, as too few runs have been through RL to tell how far to trust it"
    parts = [f"Take {best['run']}{family} to RL: {sure}", _apart(alike, len(others)), _told_by(decision)]
    return "; ".join([*parts, _settles(decision, alike)]) + "."


def _replayed(decision: pd.DataFrame, rows: pd.DataFrame, alike: list[str]) -> str:
    best, winner = rows.iloc[0], rows.loc[rows[POST_RL].idxmax()]
    score, y = rows["predicted"].to_numpy(), rows[POST_RL].to_numpy()
    tried = min(TRIED, len(rows))
    cost, chance = (100 * expected_regret(s, y, tried) for s in (score, 0 * score))
    lost = 100 * (winner[POST_RL] - best[POST_RL])
    ended = "the best of all" if lost == 0 else f"{lost:.1f} points below the best, {winner['run']}"
    parts = [
        f"All {len(rows)} runs ({best['family']}) have been through RL; replayed leave-one-out, the advice is to take "
        f"{best['run']} (chance to be best {best['p_best']:.0%}, expected regret {100 * best['expected_regret']:.1f} "
        f"points), which ended {ended}",
        f"taking one in {tried} in this way costs {cost:.1f} points on average, at random {chance:.1f}",
        _apart(alike, len(rows) - 1),
    ]
    return "; ".join([*parts, _told_by(decision)]) + "."


def _apart(alike: list[str], others: int) -> str:
    if not alike:
        return "every other is told apart from it"
    return f"{len(alike)} of {others} others cannot be told apart from it ({_names(alike)})"


def _names(runs: list[str]) -> str:
    return ", ".join(runs[:NAMED]) + (f" and {len(runs) - NAMED} more" if len(runs) > NAMED else "")


def _told_by(decision: pd.DataFrame) -> str:
    weights = decision[decision["predictor"] != COMBINED].groupby("predictor", sort=False)["weight"].first()
    if not decision["calibration"].iloc[0]:
        return "told by " + ", ".join(label(name) for name in weights.index)
    runs = decision["calibration"].iloc[0]
    counted = weights[weights >= HEARD].sort_values(ascending=False)
    shares = ", ".join(f"{label(name)} {share:.0%}" for name, share in counted.items())
    return f"told by {shares} (weights: how well each foretold {runs} calibration runs, left out in turn)"


def _settles(decision: pd.DataFrame, alike: list[str]) -> str:
    if not decision["calibration"].iloc[0]:
        return f"RL of at least {FEWEST} runs of this family would settle that"
    if decision.groupby("predictor")["weight"].first()[NO_METRIC] > 0.5:
        return "no metric foretells better than the mean: more calibration runs would settle it"
    return f"RL of {_names(alike)} as well would settle it" if alike else "nothing is left to settle"
