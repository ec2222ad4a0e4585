"""docs/contributing.md, followed to the letter on a copy of the package: a made-up predictor, a made-up setting."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def copy(tmp_path):
    for name in ("sftrl", "tests", "params", "notebooks"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__", "bench", "slurm"))
    return tmp_path


def edit(path: Path, before: str, after: str) -> None:
    text = path.read_text()
    assert text.count(before) == 1, f"{path.name} no longer has one {before!r}"
    path.write_text(text.replace(before, after))


def run(folder: Path, script: str) -> str:
    paths = os.pathsep.join([str(folder), str(folder / "tests")])
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script],
        cwd=folder, env=os.environ | {"PYTHONPATH": paths}, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-3000:]
    return result.stdout


def test_a_predictor_by_two_files(copy):
    edit(
        copy / "sftrl/stages/held_out.py",
        '        "entropy": loss.entropy,\n',
        '        "entropy": loss.entropy,\n        "luck": 1 - loss.entropy,\n',
    )
    edit(
        copy / "sftrl/tables.py",
        '    Predictor(r"token_accuracy"',
        '    Predictor(r"luck", 1, "the made-up one", "", headline=True),\n    Predictor(r"token_accuracy"',
    )
    said = run(
        copy,
        """
import simulated
from sftrl.figures import regrets, strength
from sftrl.predict import analyse
from sftrl.tables import headline, label

results, predictors = simulated.study(runs=8)
predictors["luck"] = range(len(predictors))
found = analyse(results, predictors, names=["pass@1", "luck"], per_benchmark=False, splits=20)
for name in ("judged", "compared", "regret"):
    assert "luck" in set(found[name]["predictor"]), name
assert "luck" in headline(["pass@1", "luck"]) and label("luck") == "the made-up one"
drawn = (strength(found["judged"]), regrets(found["regret"]))
texts = [t.get_text() for f in drawn for t in f.findobj() if hasattr(t, "get_text")]
print(sum("made-up" in text for text in texts))
""",
    )
    assert int(said) >= 2  # it stands in both figures


def test_a_decoding_setting_by_two_files(copy):
    edit(
        copy / "sftrl/recipes.py",
        "    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0\n",
        "    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0\n"
        "    min_p: Annotated[float, Field(ge=0, lt=1)] = 0.0  # of the likeliest token's chance\n",
    )
    edit(
        copy / "sftrl/sample/local.py",
        "    if decoding.top_p < 1:\n",
        "    chances = chances * (chances >= decoding.min_p * chances.amax(-1, keepdim=True))\n"
        "    if decoding.top_p < 1:\n",
    )
    said = run(
        copy,
        """
import numpy as np, pandas as pd, torch
from tiny import tiny_folder
from sftrl.files import read_json
from sftrl.recipes import Checkpoint, Decoding, Sampling
from sftrl.sample import fill
from sftrl.sample.local import choose
from sftrl.study import Study
from sftrl.stages import evaluation
from sftrl.tables import SETTINGS

logits = torch.log(torch.tensor([[0.5, 0.3, 0.2]])).expand(1000, -1)
drawn = choose(logits, np.linspace(0, 0.999, 1000), Decoding(min_p=0.5))
assert set(drawn.tolist()) == {0, 1}, set(drawn.tolist())
assert "min_p" in SETTINGS  # a column of results.csv, and the guard against mixing settings
problems = pd.DataFrame([{"benchmark": "b", "id": "1", "problem": "1 + 2 = ?", "answer": "3"}])
how = Sampling(min_p=0.25, max_tokens=4)
fill("store", Checkpoint(model=str(tiny_folder("model"))), problems, how, n=2, seed=0, progress=None)
assert read_json("store/store.json")["sampling"]["min_p"] == 0.25
plan = Study.load("params/smoke.yaml")
changed = Study(plan.params.model_copy(update={"evaluation": plan.params.evaluation.model_copy(update={"min_p": 0.5})}))
keys = {evaluation.job(s, "llama-smoke", "post_sft", "base").key for s in (plan, changed)}
print(len(keys))
""",
    )
    assert said.split()[-1] == "2"  # another setting, another job
