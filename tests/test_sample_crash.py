"""An evaluation killed at any moment goes on where it was, and ends as if it had never been killed."""

import multiprocessing
import random
import time

import pandas as pd
import pytest
import torch
from tiny import tiny_folder

from sftrl.generations import Store, summarise
from sftrl.sample import evaluate_samples

PROBLEMS = pd.DataFrame(
    [{"benchmark": f"b{i % 2}", "id": str(i), "problem": f"{i} + 3 = ?", "answer": "7"} for i in range(30)]
)
KILLS = 20


def evaluate(store, model):
    torch.set_num_threads(1)
    evaluate_samples(store, model=model, problems=PROBLEMS, n=8, max_tokens=48, batch_tokens=8 * 64, progress=None)


@pytest.mark.filterwarnings("ignore:.*cut off")
def test_killed_at_twenty_moments(tmp_path):
    model = tiny_folder(tmp_path / "model")
    evaluate(tmp_path / "whole", model)
    whole = Store(tmp_path / "whole")
    assert len(whole.parts()) == KILLS + 10

    # Imported once, forked from there: twenty starts of an interpreter would take minutes.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["sftrl.sample", "transformers.models.llama.modeling_llama"])
    moments, seen = random.Random(0), []
    for kill in range(KILLS):
        process = context.Process(target=evaluate, args=(tmp_path / "killed", model))
        process.start()
        if kill % 4:  # wait for one more part than there was, so that every kill meets an evaluation under way
            before = count(tmp_path / "killed")
            while process.is_alive() and count(tmp_path / "killed") <= before:
                time.sleep(0.002)
            time.sleep(moments.uniform(0, 0.05))
        else:
            time.sleep(moments.uniform(0, 1.5))
        process.kill()
        process.join()
        assert process.exitcode == -9
        seen.append(count(tmp_path / "killed"))
    assert len(set(seen)) > KILLS / 2
    assert seen[-1] < len(whole.parts())

    evaluate(tmp_path / "killed", model)
    pd.testing.assert_frame_equal(Store(tmp_path / "killed").read(), whole.read())
    for ours, theirs in zip(*(summary(tmp_path / name) for name in ("killed", "whole")), strict=True):
        pd.testing.assert_frame_equal(ours, theirs)
    hidden = [path for path in (tmp_path / "killed").rglob(".*") if path.is_file()]
    assert hidden == []


def count(store):
    return len(list(store.glob("samples/*/[0-9]*.parquet")))


def summary(store):
    found = summarise(store, PROBLEMS, n=8)
    return found.benchmarks, found.problems, found.answers
