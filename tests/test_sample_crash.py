"""An evaluation killed at any moment goes on where it was, and ends as if it had never been killed."""

import multiprocessing
import random
import time

import pandas as pd
import pytest
import torch
from tiny import tiny_folder

from sftrl.generations import Store, summarise
from sftrl.recipes import Checkpoint, Sampling
from sftrl.sample import fill

PROBLEMS = pd.DataFrame(
    [{"benchmark": f"b{i % 2}", "id": str(i), "problem": f"{i} + 3 = ?", "answer": "7"} for i in range(30)]
)
KILLS = 20


def evaluate(store, model):
    torch.set_num_threads(1)
    recipe = Sampling(max_tokens=48, batch_tokens=8 * 64)
    fill(store, Checkpoint(model=str(model)), PROBLEMS, recipe, n=8, seed=0, progress=None)


@pytest.mark.filterwarnings("ignore:.*cut off")
def test_killed_at_twenty_moments(tmp_path):
    model = tiny_folder(tmp_path / "model")
    began = time.perf_counter()
    evaluate(tmp_path / "whole", model)
    whole = Store(tmp_path / "whole")
    seconds = time.perf_counter() - began

    # Imported once, forked from there: twenty starts of an interpreter would take minutes.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["sftrl.sample", "transformers.models.llama.modeling_llama"])
    moments, kills, under_way, stores = random.Random(0), 0, 0, [tmp_path / "killed-0"]
    while kills < KILLS:
        store = stores[-1]
        process = context.Process(target=evaluate, args=(store, model))
        process.start()
        if kills % 4:  # wait for one more part than there was, so that most kills meet sampling under way
            before = count(store)
            while process.is_alive() and count(store) <= before:
                time.sleep(0.002)
            time.sleep(moments.uniform(0, seconds / len(whole.parts())))
        else:
            time.sleep(moments.uniform(0, seconds / 4))
        process.kill()
        process.join()
        if process.exitcode == 0:  # it was done: kill the next one
            stores.append(tmp_path / f"killed-{len(stores)}")
        else:
            assert process.exitcode == -9
            kills += 1
            under_way += 0 < count(store) < len(whole.parts())
    assert under_way > KILLS / 2

    evaluate(stores[-1], model)
    for store in stores:
        pd.testing.assert_frame_equal(Store(store).read(), whole.read())
        for ours, theirs in zip(summary(store), summary(tmp_path / "whole"), strict=True):
            pd.testing.assert_frame_equal(ours, theirs)
        assert [path for path in store.rglob(".*") if path.is_file()] == []


def count(store):
    return len(list(store.glob("samples/*/[0-9]*.parquet")))


def summary(store):
    found = summarise(store, PROBLEMS, n=8)
    return found.benchmarks, found.problems, found.answers
