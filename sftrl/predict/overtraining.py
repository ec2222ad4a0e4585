"""Pairs of runs with the same examples, one trained longer: does what SFT gains at the cost of Pass@k survive RL?

A pair in which SFT raises Pass@1 and lowers Pass@k is a quagmire (the paper's title) if RL ends lower from the longer
run. Two checkpoints are measured on the same problems, so changes are paired over problems.
"""

import itertools
import re
from collections.abc import Iterator

import numpy as np
import pandas as pd
from scipy import stats

from sftrl.errors import InputError
from sftrl.tables import AVERAGE, BASE, POST_RL, POST_SFT, RUN, need, problem_columns

MARGIN = 0.03  # a rise of Pass@1, and a fall of Pass@k, that counts (chosen here)


def overtraining(
    results: pd.DataFrame,
    counts: pd.DataFrame,
    probes: pd.DataFrame | None = None,
    *,
    left_out: tuple[str, ...] = (),
    margin: float = MARGIN,
    level: float = 0.95,
) -> dict[str, pd.DataFrame]:
    """Return every pair of runs, and the mean change after RL over the pairs that SFT sharpened.

    Pairs have the same selection, examples and draw, and differ in epochs; so has the base with a run on its own
    responses (`self`). A pair is `sharpened` if Pass@1 rises by `margin` and Pass@k at the largest k falls by it.

    Args:
        results: rows of `results.csv`.
        counts: rows of `problem_counts.csv`: `family, run, phase, rl_seed, samples` and for each problem, as
            `benchmark/id`, how many samples were correct.
        probes: rows of `rl_probes.csv`, likewise, with `step`.
        left_out: benchmarks outside the average.

    Returns:
        `pairs`: `family, fewer, more`, `pass@1_change`, `pass@k_change`, `sharpened`, and `post_rl_change` with its
        interval over problems, as shares; the mean over RL seeds, of which both have the same.
        `sharpened`: `family` (and `all`, if there are several), `kind` of pairs (`all`; where there are both, `epochs`
        and `self`, the base and its own responses), `outcome` (`post_rl`, `probe@step`, and the last probe less each
        one between it and step 0), `pairs`, `change`, an interval over problems (`low`, `high`) and one over pairs
        (`pairs_low`, `pairs_high`).

    Raises:
        InputError: a column is missing.
    """
    need(results, [*RUN, "phase", "benchmark", "selection", "examples", "epochs", "pass@1"], "results")
    need(counts, [*RUN, "phase", "rl_seed", "samples"], "problem_counts")
    before = results[(results["phase"] == POST_SFT) & (results["benchmark"] == AVERAGE)].set_index(RUN)
    known = [c for c in before if re.fullmatch(r"pass@\d+", c) and before[c].notna().all()]
    largest = max(known, key=lambda c: int(c[5:]))
    after = _rates(counts[counts["phase"] == POST_RL], left_out)
    on_the_way = {} if probes is None else {step: _rates(rows, ()) for step, rows in probes.groupby("step")}
    rows, changes = [], {}
    for family, fewer, more in _pairs(before):
        low, high = before.loc[(family, fewer)], before.loc[(family, more)]
        row = {"family": family, "fewer": fewer, "more": more}
        row |= {f"{name}_change": high[name] - low[name] for name in ("pass@1", largest)}
        row["sharpened"] = row["pass@1_change"] >= margin and row[f"{largest}_change"] <= -margin
        change = _change(after, family, fewer, more)
        if change is not None:
            row |= dict(zip(_NAMES, _mean(change, level), strict=True))
            if row["sharpened"]:
                found = {POST_RL: change} | {
                    f"probe@{step}": _change(rates, family, fewer, more) for step, rates in on_the_way.items()
                }
                changes[family, fewer, more] = {name: d for name, d in found.items() if d is not None}
        rows.append(row)
    columns = ["family", "fewer", "more", "pass@1_change", f"{largest}_change", "sharpened", *_NAMES]
    return {"pairs": pd.DataFrame(rows, columns=columns), "sharpened": _summary(changes, level)}


_NAMES = ("post_rl_change", "post_rl_change_low", "post_rl_change_high")


def _pairs(before: pd.DataFrame) -> list[tuple[str, str, str]]:
    """Name the pairs (family, fewer epochs, more epochs) of runs that differ in epochs alone, and base to `self`."""
    same = ["selection", "examples", *(["data_seed"] if "data_seed" in before else [])]
    known = before[before["examples"].notna()].reset_index()
    pairs = []
    for (family, *_), group in known[known["run"] != BASE].groupby(["family", *same], sort=False, dropna=False):
        runs = group.sort_values("epochs", kind="stable")["run"]
        if group["epochs"].is_unique:
            pairs += [(family, fewer, more) for fewer, more in itertools.combinations(runs, 2)]
    bases = set(known.loc[known["run"] == BASE, "family"])
    own = known[(known["selection"] == "self") & known["family"].isin(bases)]
    return pairs + [(family, BASE, run) for family, run in zip(own["family"], own["run"], strict=True)]


def _rates(counts: pd.DataFrame, left_out: tuple[str, ...]) -> pd.DataFrame:
    """Return the share of correct samples, a row a (family, run, rl_seed), a column a problem that all were asked."""
    problems = [c for c in problem_columns(counts) if c.partition("/")[0] not in left_out]
    table = counts.set_index([*RUN, "rl_seed"]).sort_index()
    return table[problems].dropna(axis="columns").div(table["samples"], axis="index")


def _change(rates: pd.DataFrame, family: str, fewer: str, more: str) -> pd.Series | None:
    """Return the change of each problem's rate from one run to the other, over the RL seeds that both have."""
    try:
        one, other = rates.loc[(family, fewer)], rates.loc[(family, more)]
    except KeyError:
        return None
    seeds = one.index.intersection(other.index)
    return (other.loc[seeds] - one.loc[seeds]).mean() if len(seeds) else None


def _mean(change: pd.Series, level: float) -> tuple[float, float, float]:
    """Return the mean over benchmarks of the mean over problems, with its interval over problems (normal)."""
    parts = [part for _, part in change.groupby(change.index.str.partition("/").get_level_values(0))]
    if min(map(len, parts)) < 2:
        raise InputError("problem_counts: a benchmark has one problem, and an interval over problems needs two")
    mean = float(np.mean([part.mean() for part in parts]))
    half = stats.norm.ppf((1 + level) / 2) * np.sqrt(sum(part.var() / len(part) for part in parts)) / len(parts)
    return mean, mean - half, mean + half


def _summary(changes: dict[tuple, dict[str, pd.Series]], level: float) -> pd.DataFrame:
    columns = ["family", "kind", "outcome", "pairs", "change", "low", "high", "pairs_low", "pairs_high"]
    rows = []
    for family, kind, found in _groups(changes):
        outcomes = {name: [change[name] for change in found] for name in found[0]}
        *earlier, last = [name for name in outcomes if name.startswith("probe@") and name != "probe@0"] or [None]
        for name in earlier:
            outcomes[f"{last} less {name}"] = [b - a for a, b in zip(outcomes[name], outcomes[last], strict=True)]
        for name, each in outcomes.items():
            change, low, high = _mean(pd.concat(each, axis=1).mean(axis=1), level)
            row = [family, kind, name, len(each), change, low, high, np.nan, np.nan]
            if len(each) > 1:
                means = [_mean(one, level)[0] for one in each]
                half = stats.t.ppf((1 + level) / 2, len(each) - 1) * np.std(means, ddof=1) / np.sqrt(len(each))
                row[-2:] = change - half, change + half
            rows.append(row)
    return pd.DataFrame(rows, columns=columns)


def _groups(changes: dict[tuple, dict[str, pd.Series]]) -> Iterator[tuple[str, str, list[dict[str, pd.Series]]]]:
    """Group pairs by family, and all if there are several; in each all kinds, and each kind if there are both."""
    families = list(dict.fromkeys(family for family, *_ in changes))
    for family in [*families, *(["all"] if len(families) > 1 else [])]:
        by_kind: dict[str, list] = {"all": [], "epochs": [], "self": []}
        for (name, fewer, _), change in changes.items():
            if family in (name, "all"):
                by_kind["all"].append(change)
                by_kind["self" if fewer == BASE else "epochs"].append(change)
        both = by_kind["epochs"] and by_kind["self"]
        yield from ((family, kind, found) for kind, found in by_kind.items() if kind == "all" or both)
