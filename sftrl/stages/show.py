"""What a notebook shows beside numbers: figures as pictures, completions before and after, graded responses."""

import io

import pandas as pd

from sftrl.generations import Grader, Store
from sftrl.generations.parts import read_part
from sftrl.recipes import Decoding
from sftrl.stages import evaluation

PARTS = 8  # of a store, at most, that examples are looked for in: a part is a batch of samples


def picture(figure, width: int = 800):
    """Return a matplotlib figure as an image that Jupyter displays, `width` pixels wide."""
    from IPython.display import Image

    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=160)
    return Image(drawn.getvalue(), width=width)


def learned(study, family: str, run: str, examples: pd.DataFrame) -> pd.DataFrame:
    """Return held-out examples with the teacher's response, the base's (`before`) and the run's (`after`)."""
    from sftrl.sample.local import respond
    from sftrl.stages import base, sft

    greedy = Decoding(temperature=0.0, max_tokens=study.params.evaluation.max_tokens)
    both = {"before": base.checkpoint(study, family)[0], "after": sft.checkpoint(study, family, run)[0]}
    made = {name: respond(checkpoint, list(examples["prompt"]), greedy) for name, checkpoint in both.items()}
    return examples[["prompt", "response"]].rename(columns={"response": "teacher"}).assign(**made)


def graded(study, family: str, phase: str, run: str, rl_seed: int | None, problems: pd.DataFrame) -> pd.DataFrame:
    """Return, of each benchmark, a right, a wrong and a cut-off response, as far as there are any among the first."""
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
