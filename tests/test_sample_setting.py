"""A new decoding setting touches three files: the recipe, our own engine, and the page that describes it."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tiny import tiny_folder

from sftrl.recipes import Decoding

ROOT = Path(__file__).resolve().parent.parent

# What a contributor writes to add min_p: tokens less likely than this share of the likeliest are left out.
FIELD = "    min_p: Annotated[float, Field(ge=0, lt=1)] = 0.0\n"
USE = """\
    if decoding.min_p > 0:
        chances = chances.masked_fill(chances < decoding.min_p * chances.max(-1, keepdim=True).values, 0)
"""

SCRIPT = """
import importlib.util, sys
from types import SimpleNamespace
import pandas as pd
from sftrl.generations import Store
from sftrl.recipes import Checkpoint, Decoding, Sampling
from sftrl.sample import Request, fill
from sftrl.sample.vllm_engine import draw
from sftrl.tables import SETTINGS

model, folder = sys.argv[1:]
problems = pd.DataFrame([{"benchmark": "b", "id": "1", "problem": "1 + 2 = ?", "answer": "3"}])
responses = {}
for min_p in (0.0, 0.999):
    store = f"{folder}/{min_p}"
    fill(store, Checkpoint(model=model), problems, Sampling(max_tokens=8, min_p=min_p), n=30, seed=0, progress=None)
    assert Store(store).key["sampling"]["min_p"] == min_p
    responses[min_p] = Store(store).read()["response"].nunique()
assert responses[0.0] > 20 and responses[0.999] == 1, responses  # next to greedy
assert "min_p" in SETTINGS  # scores that differ in it are not comparable

if importlib.util.find_spec("vllm"):
    given = []
    config = SimpleNamespace(scheduler_config=SimpleNamespace(max_num_seqs=1))
    done = SimpleNamespace(request_id="0", outputs=[SimpleNamespace(index=0, token_ids=[3], finish_reason="stop")])
    engine = SimpleNamespace(vllm_config=config, add_request=lambda *args: given.append(args[2]), step=lambda: [done])
    list(draw(SimpleNamespace(llm_engine=engine), [Request("b", "1", 0, 5, (1, 2))], Decoding(min_p=0.25), (3,)))
    assert given[0].min_p == 0.25 and given[0].seed == 5
print("all of it")
"""


def insert(path, after, text):
    source = path.read_text()
    assert len(re.findall(after, source)) == 1
    path.write_text(re.sub(after, lambda match: match[0] + text, source))


def test_a_setting_is_added_to_the_recipe_and_to_our_engine_and_nowhere_else(tmp_path):
    shutil.copytree(ROOT / "sftrl", tmp_path / "sftrl", ignore=shutil.ignore_patterns("__pycache__"))
    insert(tmp_path / "sftrl" / "recipes.py", r"    top_p: .*\n", FIELD)
    insert(tmp_path / "sftrl" / "sample" / "local.py", r"    chances = torch\.softmax\(.*\n", USE)
    model = tiny_folder(tmp_path / "model")
    ran = subprocess.run(
        [sys.executable, "-c", SCRIPT, model, tmp_path],
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert ran.stdout.endswith("all of it\n"), ran.stderr[-2000:]


@pytest.mark.parametrize("name", Decoding.model_fields)
def test_no_setting_is_forgotten_by_our_engine(name):
    """What vLLM takes by name, ours must read; and vLLM must know the name."""
    assert f"decoding.{name}" in (ROOT / "sftrl" / "sample" / "local.py").read_text()
    if importlib.util.find_spec("vllm"):
        from vllm import SamplingParams

        assert name in SamplingParams.__struct_fields__
