"""The paper's own points, in this project's tables: what is visible in its figures, judged by the same code.

`points.csv` holds one row per pair of bars read off the published figures, scores in percent. Pass@64 is in none of
them, so only the claims about Pass@1 and about the generalization loss can be held against what is visible.
"""

import pandas as pd

from sftrl.errors import InputError
from sftrl.predict.judge import judge
from sftrl.predict.runs import runs_table
from sftrl.tables import BASE, RUN, direction, need

FIGURES = {  # which runs each published figure shows: (family, selections, examples or None, epochs or None)
    "mistral-epoch": ("Mistral-NeMo-12B-Instruct", ("none", "random"), (0, 25_000), None),
    "mistral-data": ("Mistral-NeMo-12B-Instruct", ("none", "random"), None, (0, 1)),
    "mistral-data-x3-2": (
        *("Mistral-NeMo-12B-Instruct", ("none", "random", "longest", "shortest")),
        *((0, 10_000, 50_000, 100_000, 200_000, 300_000, 500_000), (0, 1)),
    ),
    "qwen3-epoch": ("Qwen3-4B-base", ("none", "random"), (0, 10_000), None),
    "qwen3-data": ("Qwen3-4B-base", ("none", "random"), None, (0, 1)),
    "gen-loss-teaser": ("Llama3-8B-Instruct", ("random",), None, None),
}


def published_tables(points: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Turn the points into a results table (Pass@1 as fractions, no intervals: none were published) and a loss table.

    A run that stands in two figures is one run; it is an error if the figures disagree about it.
    """
    need(points, ["model", "selection", "unique_examples", "epochs", "post_sft", "post_rl", "val_loss"], "points")
    points = points.rename(columns={"model": "family", "unique_examples": "examples"})
    points["run"] = [
        BASE if s == "none" else f"{s}-{n // 1000}k-{e}ep"
        for s, n, e in zip(points["selection"], points["examples"], points["epochs"], strict=True)
    ]
    points = points.drop_duplicates([*RUN, "post_sft", "post_rl"])
    twice = points[points.duplicated(RUN)]
    if len(twice):
        raise InputError(f"points: {' '.join(twice.iloc[0][RUN])} has two different scores")
    stages = [
        points[[*RUN, "selection", "examples", "epochs"]].assign(
            rl_seed=seed, phase=phase, benchmark="average", **{"pass@1": points[phase] / 100}
        )
        for phase, seed in (("post_sft", float("nan")), ("post_rl", 0))
    ]
    losses = points.loc[points["val_loss"].notna(), [*RUN, "val_loss"]]
    losses = losses.rename(columns={"val_loss": "generalization_loss"}).reset_index(drop=True)
    return pd.concat(stages, ignore_index=True), losses


def published_figure(table: pd.DataFrame, name: str) -> pd.DataFrame:
    """Take the rows that the published figure of this name shows from a table that describes its runs."""
    family, selections, examples, epochs = FIGURES[name]
    rows = table[(table["family"] == family) & table["selection"].isin(selections)]
    if examples:
        rows = rows[rows["examples"].isin(examples)]
    if epochs:
        rows = rows[rows["epochs"].isin(epochs)]
    if name == "mistral-data-x3-2":
        rows = rows[(rows["selection"] != "random") | (rows["examples"] != 200_000)]
    return rows.reset_index(drop=True)


def published_pools(points: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Name the pools in which the visible points can be judged; which pool is chosen decides what one finds."""
    runs = runs_table(*published_tables(points), base=True)
    every, with_base = runs[runs["run"] != BASE], runs
    llama, mistral, qwen = (every[every["family"].str.startswith(f)] for f in ("Llama", "Mistral", "Qwen"))
    random = mistral[mistral["selection"] == "random"]
    epochs = random[random["examples"] == 25_000]
    found = {
        "Llama3 dataset": llama,
        "Mistral dataset": random,
        "Mistral dataset, 25k examples": epochs,
        "Mistral dataset, 25k, 2+ epochs": epochs[epochs["epochs"] > 1],
        "Mistral dataset, 1 epoch": random[random["epochs"] == 1],
        "Mistral instance": published_figure(mistral, "mistral-data-x3-2"),
        "Mistral, all": mistral,
        "Qwen3 dataset": qwen,
        "Qwen3 dataset and base": with_base[with_base["family"].str.startswith("Qwen")],
        "all, a mean per family": every,
    }
    return {name: pool.reset_index(drop=True) for name, pool in found.items()}


def held_against(reported: pd.DataFrame, judged: pd.DataFrame) -> pd.DataFrame:
    """Set every reported value beside what the visible points of the same model and level give.

    Args:
        reported: `level, model, statistic (r2 | spearman), predictor, value, std`.
        judged: `judge`'s rows for the pools of `published_pools`.

    Returns:
        The reported rows with `pool, n`, `visible` (in the direction that the predictor's meaning gives), its 95 %
        interval `low, high`, `halves` and `halves_sd` (the paper's protocol, for r2), and `finding`: "compatible" if
        the reported value lies in the interval, "above" or "below" it, or "not visible".
    """
    need(reported, ["level", "model", "statistic", "predictor", "value", "std"], "reported")
    of_rl = judged[judged["target"] == "post_rl"].set_index(["pool", "predictor"])
    rows = []
    for _, claim in reported.iterrows():
        pool = f"{claim['model'].split('-')[0]} {claim['level']}"
        row = claim.to_dict()
        if (pool, claim["predictor"]) in of_rl.index:
            seen, statistic = of_rl.loc[(pool, claim["predictor"])], claim["statistic"]
            ends = [seen[f"{statistic}{end}"] for end in ("", "_low", "_high")]
            if statistic == "spearman" and direction(claim["predictor"]) < 0:
                ends = [-ends[0], -ends[2], -ends[1]]
            row |= {"pool": pool, "n": int(seen["n"]), "visible": ends[0], "low": ends[1], "high": ends[2]}
            if statistic == "r2":
                row |= {"halves": seen["halves_r2"], "halves_sd": seen["halves_r2_sd"]}
            inside = ends[1] <= claim["value"] <= ends[2]
            row["finding"] = "compatible" if inside else "above" if claim["value"] > ends[2] else "below"
        else:
            row["finding"] = "not visible"
        rows.append(row)
    extra = ["pool", "n", "visible", "low", "high", "halves", "halves_sd", "finding"]
    return pd.DataFrame(rows, columns=[*reported.columns, *extra])


def judge_published(
    points: pd.DataFrame, *, splits: int = 1000, resamples: int = 10_000, seed: int = 0
) -> pd.DataFrame:
    """Judge Pass@1, the loss and both, and the trivial predictors, in every pool of the visible points."""
    rows = []
    for name, pool in published_pools(points).items():
        names = ["pass@1", "examples", "epochs"]
        if "generalization_loss" in pool and pool["generalization_loss"].notna().all():
            names[1:1] = ["generalization_loss", "pass@1 + generalization_loss"]
        for target in ("post_rl", "gain"):
            how = {"splits": splits, "resamples": resamples, "seed": seed}
            rows.append(judge(pool, names, target=target, pool=name, **how))
    return pd.concat(rows, ignore_index=True)
