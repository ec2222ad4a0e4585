"""A decision in words: which checkpoint, how sure, which cannot be distinguished from it, and what would settle it."""

import pandas as pd

from sftrl.predict.comparison import expected_regret
from sftrl.predict.forecast import COMBINED, FEWEST, NO_METRIC
from sftrl.tables import POST_RL, label

BASELINE = "pass@1"
NAMED = 4  # runs that a sentence can carry
MENTIONED = 0.05  # weight of a metric that is worth a mention


def advice(decision: pd.DataFrame) -> str:
    """Say for each family in a few sentences what a decision comes to.

    Args:
        decision: rows of `decide`, `replay` or `answer`.
    """
    return " ".join(_family(rows) for _, rows in decision.groupby("family", sort=False))


def advice_on_pairs(sharpened: pd.DataFrame) -> str:
    """Say what RL made of the pairs of runs in which SFT raised Pass@1 and lowered Pass@k, over all families.

    Args:
        sharpened: rows of `sharpened.csv`, as `overtraining` gives them.
    """
    row = sharpened[(sharpened["kind"] == "all") & (sharpened["outcome"] == POST_RL)].iloc[-1]
    over = "problems" if pd.isna(row["pairs_low"]) else "pairs"
    low, high = (row["low"], row["high"]) if over == "problems" else (row["pairs_low"], row["pairs_high"])
    pairs = "1 pair" if row["pairs"] == 1 else f"{row['pairs']} pairs"
    ended = f"{100 * abs(row['change']):.1f} points {'lower' if row['change'] < 0 else 'higher'}"
    return (
        f"In {pairs} of runs one has the higher Pass@1 and the lower Pass@k after SFT: RL from it ends {ended} than "
        f"from the other (change {100 * low:+.1f} to {100 * high:+.1f}, 95 % interval over {over})."
    )


def _family(decision: pd.DataFrame) -> str:
    rows = decision[decision["predictor"] == decision["predictor"].iloc[-1]]
    if POST_RL in rows and rows[POST_RL].notna().all():
        return f"{_replayed(decision, rows)} {_weights(decision)}"
    others = rows.iloc[1:]
    alike = others.loc[~others["apart"].astype(bool), "run"].tolist()
    first = f"Take {rows['run'].iloc[0]} ({rows['family'].iloc[0]}) to RL"
    return " ".join(
        [f"{first}: {_chance(rows)}.", _apart(alike, len(others)), _weights(decision), _next(decision, alike)]
    )


def _chance(rows: pd.DataFrame) -> str:
    best = rows.iloc[0]
    if best["calibration"]:
        return f"{best['p_best']:.0%} chance to be best, expected regret {100 * best['expected_regret']:.1f} points"
    if pd.notna(best["p_best"]):
        return f"{best['p_best']:.0%} chance to be best, if the assumed correlation holds"
    return "it ranks first; how far to trust that is unknown, as too few runs have been through RL"


def _replayed(decision: pd.DataFrame, rows: pd.DataFrame) -> str:
    best = rows.loc[rows[POST_RL].idxmax()]
    inside = rows[POST_RL].between(rows["low"], rows["high"]).sum()
    told = [
        f"All {len(rows)} runs ({best['family']}) have been through RL; {best['run']} ended best.",
        f"Of the results, each predicted from all others, {inside} lie in their 95 % intervals.",
    ]
    if (
        "replayed_regret" in rows and rows["replayed_regret"].notna().all()
    ):  # not by an earlier version, nor of few runs
        y, tried, cost = rows[POST_RL].to_numpy(), int(rows["tried"].iloc[0]), rows["replayed_regret"].iloc[0]
        told.append(f"Choosing among {tried} by what the others taught costs {100 * cost:.1f} points on average")
        plain = decision[decision["predictor"] == BASELINE]
        if len(plain):
            by_it = expected_regret(plain["value"].to_numpy(), plain[POST_RL].to_numpy(), tried)
            told[-1] += f", by {label(BASELINE)} alone {100 * by_it:.1f}"
        told[-1] += f", at random {100 * expected_regret(0 * y, y, tried):.1f}."
    return " ".join(told)


def _apart(alike: list[str], others: int) -> str:
    if not alike:
        return "Its interval is apart from that of every other run."
    return f"{len(alike)} of {others} other runs cannot be distinguished from it ({_names(alike)})."


def _names(runs: list[str]) -> str:
    return ", ".join(runs[:NAMED]) + (f" and {len(runs) - NAMED} more" if len(runs) > NAMED else "")


def _weights(decision: pd.DataFrame) -> str:
    weights = decision[decision["predictor"] != COMBINED].groupby("predictor", sort=False)["weight"].first()
    if not decision["calibration"].iloc[0]:
        return f"Ranked by {', '.join(label(name) for name in weights.index)}."
    counted = weights[weights >= MENTIONED].sort_values(ascending=False)
    shares = ", ".join(f"{label(name)} {share:.0%}" for name, share in counted.items())
    return f"The prediction weighs {shares}, by leave-one-out error on {decision['calibration'].iloc[0]} other runs."


def _next(decision: pd.DataFrame, alike: list[str]) -> str:
    if not decision["calibration"].iloc[0]:
        return f"RL of at least {FEWEST} runs of this family would say how far."
    if decision.groupby("predictor")["weight"].first()[NO_METRIC] > 0.5:
        return "No metric predicts better than the mean; more runs through RL would help."
    return f"To settle it, take {_names(alike)} through RL as well." if alike else "Nothing is left to settle."
