"""What a notebook shows: figures as pictures, responses to read, and tables with numbers as people read them."""

import io
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from sftrl.errors import InputError
from sftrl.figures.style import DPI
from sftrl.files import read_table
from sftrl.generations import Grader, Store
from sftrl.generations.parts import read_part
from sftrl.recipes import Decoding
from sftrl.stages import evaluation
from sftrl.tables import POST_RL, label

PIXELS = 110  # of a screen, an inch of a figure
PARTS = 8  # of a store, at most, that examples are looked for in: a part is a batch of samples


def picture(drawn: Figure | Path):
    """Return a figure, or a saved one, as an image that Jupyter displays in the figure's own size."""
    from IPython.display import Image

    if isinstance(drawn, Path):
        content = drawn.read_bytes()
    else:
        file = io.BytesIO()
        drawn.savefig(file, format="png", dpi=DPI)
        content = file.getvalue()
    width = int.from_bytes(content[16:20], "big")  # as the head of every PNG says
    return Image(content, width=width * PIXELS // DPI)


def texts(table: pd.DataFrame):
    """Return a table of texts for display in Jupyter: left-aligned, with line breaks, not truncated."""
    from IPython.display import HTML

    shown = table.astype(object).where(table.notna(), "–")
    with pd.option_context("display.max_colwidth", None):
        body = shown.to_html(index=False, border=0, classes="texts", formatters=dict.fromkeys(shown, str))
    look = "text-align: left !important; vertical-align: top; white-space: pre-wrap"
    return HTML(f"<style>table.texts :is(td, th) {{ {look} }}</style>{body}")


def encoded(study, family: str, prompt: str, response: str) -> None:
    """Print an example as the model reads it in training, evaluation and RL: the ids decoded, special tokens too."""
    from sftrl.chat import encode_example
    from sftrl.models import load_tokenizer
    from sftrl.stages import base

    tokenizer = load_tokenizer(base.checkpoint(study, family)[0])
    ids, n_prompt = encode_example(tokenizer, prompt, response)
    for name, part in (("prompt", ids[:n_prompt]), ("response", ids[n_prompt:])):
        print(f"{name}, {len(part)} tokens: {tokenizer.decode(part, skip_special_tokens=False)!r}")


def learned(study, family: str, run: str, examples: pd.DataFrame) -> pd.DataFrame:
    """Return held-out examples with the teacher's response, the base's (`before`) and the run's (`after`)."""
    from sftrl.sample.local import respond
    from sftrl.stages import base, sft

    greedy = Decoding(temperature=0.0, max_tokens=study.params.evaluation.max_tokens)
    both = {"before": base.checkpoint(study, family)[0], "after": sft.checkpoint(study, family, run)[0]}
    made = {name: respond(checkpoint, list(examples["prompt"]), greedy) for name, checkpoint in both.items()}
    return examples[["prompt", "response"]].rename(columns={"response": "teacher"}).assign(**made)


def graded(study, family: str, phase: str, run: str, rl_seed: int | None, problems: pd.DataFrame) -> pd.DataFrame:
    """Return a correct, a wrong and a truncated response of each benchmark, if there are any among the first."""
    store, grader = Store(evaluation.store(study, family, phase, run, rl_seed)), Grader(problems)
    tables = []
    for part in store.parts()[:PARTS]:
        grades = grader.read(part)
        rows = read_part(part, ["benchmark", "problem_id", "response", "finish_reason"])
        if grades is not None:
            tables.append(rows.assign(verdict=grades["verdict"], answer=grades["answer"]))
    rows = pd.concat(tables, ignore_index=True)
    rows["which"] = rows["verdict"].eq("correct").map({True: "right", False: "wrong"})
    rows.loc[rows["finish_reason"] == "length", "which"] = "cut off"
    known = problems.rename(columns={"id": "problem_id", "answer": "gold"})
    known = known.astype({"problem_id": str, "benchmark": str})[["benchmark", "problem_id", "problem", "gold"]]
    rows = rows.merge(known, on=["benchmark", "problem_id"])
    rows = rows.groupby(["benchmark", "which"], sort=False).head(1).sort_values(["benchmark", "which"])
    return rows[["benchmark", "which", "problem", "response", "answer", "gold"]].reset_index(drop=True)


def rollouts(folder: Path) -> pd.DataFrame:
    """Return a correct and a wrong rollout of each prompt kept at the first and last step of an RL job."""
    kept = read_table(folder / "rollouts.parquet")
    kept = kept[kept["step"].isin([kept["step"].min(), kept["step"].max()])]
    rows = kept.groupby(["step", "prompt", "reward"], sort=False).head(1)
    return rows[["step", "reward", "prompt", "response", "tokens"]].reset_index(drop=True)


def scores(table: pd.DataFrame) -> pd.DataFrame:
    """Return a checkpoint's scores for display: shares in percent, each Pass@1 with its 95 % interval."""
    ks = [c for c in table if c.startswith("pass@") and c[5:].isdigit()]
    shares = {c: c.replace("pass", "Pass") for c in ks[1:]} | {"truncated": "cut off", "unparseable": "no answer"}
    percent = {name: (100.0 * table[column]).round(1) for column, name in shares.items()}
    return pd.DataFrame(
        {
            "benchmark": table["benchmark"],
            "problems": table["problems"],
            "samples": table["samples"],
            "Pass@1": (100.0 * table["pass@1"]).round(1),
            "95 % interval": interval(table, "pass@1", 100, 1),
            **percent,
            "tokens": table["mean_tokens"].round(1),
        }
    )


def judged(said: dict[str, pd.DataFrame], pool: str = "all", target: str = POST_RL) -> pd.DataFrame | None:
    """Return how well each predictor did in a pool, the largest Spearman correlation first; print the other pools.

    None, with a line that says so, where too few runs have been through RL.

    Raises:
        InputError: there is no such pool.
    """
    if "judged" not in said or said["judged"]["r2"].isna().all():
        print("nothing to judge: too few runs have been through RL")
        return None
    print(f"pools: {', '.join(said['judged']['pool'].unique())}")
    rows = _of(said["judged"], pool, target)
    rows = rows[rows["r2"].notna()].sort_values("spearman", key=abs, ascending=False)
    return _table(
        rows,
        {
            "n": rows["n"],
            "r²": rows["r2"].round(2),
            "r², 95 %": interval(rows, "r2"),
            "p of r²": rows["p_r2"].round(4),
            "Spearman": rows["spearman"].round(2),
            "Spearman, 95 %": interval(rows, "spearman"),
            "r², other half": rows["halves_r2"].round(2),
            "R², other half": rows["halves_cod_median"].round(2),
            "R², leave-one-out": rows["loo_cod"].round(2),
        },
    )


def compared(said: dict[str, pd.DataFrame], pool: str = "all") -> pd.DataFrame:
    """Return each predictor's Spearman correlation beside Pass@1's, the smallest p-value first."""
    rows = _of(said["compared"], pool)
    rows = rows[rows["spearman"].notna()].sort_values("p_value")
    return _table(
        rows,
        {
            "Spearman": rows["spearman"].round(2),
            "of Pass@1": rows["baseline_spearman"].round(2),
            "difference of Fisher's z": rows["z_difference"].round(2),
            "95 %": interval(rows, "z"),
            "p": rows["p_value"].round(4),
        },
    )


def regret(said: dict[str, pd.DataFrame], pool: str = "all") -> pd.DataFrame:
    """Return what choosing by each predictor costs, in points of Pass@1 after RL, the lowest first."""
    rows = _of(said["regret"], pool)
    rows = rows[rows["regret"].notna()].sort_values("regret")
    return _table(
        rows,
        {
            "candidates": rows["candidates"].astype(int),
            "regret": (100 * rows["regret"]).round(1),
            "95 %": interval(rows, "regret", 100, 1),
            **({"less that of Pass@1": interval(rows, "difference", 100, 1)} if "difference" in rows else {}),
            "regret among all": (100 * rows["regret_of_all"]).round(1),
            **({"tokens a run": rows["tokens"].round().astype("Int64")} if "tokens" in rows else {}),
        },
    )


def order(said: dict[str, pd.DataFrame], pool: str = "all") -> pd.DataFrame:
    """Return each predictor's place by its Spearman correlation, and where it comes to stand without one run, or one
    benchmark; empty for a pool whose order was not asked for."""
    rows = said["order"][said["order"]["pool"] == pool]
    shown = {"strength": rows["strength"].astype(float).round(2), "place": rows["place"].astype(int)}
    for one in ("run", "benchmark"):
        ends = [f"place_without_{one}_{end}" for end in ("low", "high")]
        if rows[ends].notna().all(axis=None):
            shown[f"without one {one}"] = [f"{low:.0f} to {high:.0f}" for low, high in rows[ends].to_numpy()]
    return _table(rows, shown)


def _of(table: pd.DataFrame, pool: str, target: str = POST_RL) -> pd.DataFrame:
    if pool not in set(table["pool"]):
        raise InputError(f"pool: {pool!r} is not one of {', '.join(table['pool'].unique())}")
    return table[(table["pool"] == pool) & (table["target"] == target)]


def _table(rows: pd.DataFrame, columns: dict) -> pd.DataFrame:
    return pd.DataFrame({"predictor": rows["predictor"].map(label), **columns}).reset_index(drop=True)


def interval(rows: pd.DataFrame, name: str, scale: float = 1.0, digits: int = 2) -> list[str]:
    """Return a column's intervals (`name_low`, `name_high`) as texts."""
    ends = zip(scale * rows[f"{name}_low"], scale * rows[f"{name}_high"], strict=True)
    return ["–" if pd.isna(low) else f"{low:.{digits}f} to {high:.{digits}f}" for low, high in ends]
