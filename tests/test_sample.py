"""The transformers engine: the right distribution, the right stops, and every sample its own whatever is beside it."""

import re
import shutil
from itertools import chain

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from tiny import tiny_folder, tiny_pair

from sftrl import progress
from sftrl.chat import encode_prompt
from sftrl.errors import InputError
from sftrl.generations import Store, sample_seed, summarise
from sftrl.recipes import Checkpoint, Decoding, Sampling
from sftrl.sample import Request, fill
from sftrl.sample.local import choose, cut_batches, draw_batch
from sftrl.sample.requests import uniforms

PROBLEMS = pd.DataFrame(
    [
        {
            "benchmark": "sums" if i % 3 else "long",
            "id": f"{i}",
            "problem": "1 + " * (i % 4) + f"{i} = ?",
            "answer": f"{i}",
        }
        for i in range(9)
    ]
)


STOPS = (3,)


def decoding(temperature=1.0, top_p=1.0, max_tokens=24):
    return Decoding(temperature=temperature, top_p=top_p, max_tokens=max_tokens)


def requests(tokenizer, n, problems=PROBLEMS, seed=0):
    """Ask for n samples of every problem, longest prompts first, as `fill` does."""
    prompts = {
        (b, p): tuple(encode_prompt(tokenizer, text))
        for b, p, text in zip(problems["benchmark"], problems["id"], problems["problem"], strict=True)
    }
    return [
        Request(*name, i, None if seed is None else sample_seed(seed, *name, i), prompts[name])
        for name in sorted(prompts, key=lambda name: (-len(prompts[name]), name))
        for i in range(n)
    ]


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_folder(tmp_path_factory.mktemp("tiny"))


# Random numbers and the draw


def test_uniforms_are_uniform_and_independent():
    seeds = np.array([sample_seed(0, "b", "p", i) for i in range(2000)], dtype=np.uint64)
    table = np.stack([uniforms(seeds, step) for step in range(50)])
    assert table.min() >= 0
    assert table.max() < 1
    assert stats.kstest(table.ravel(), "uniform").pvalue > 1e-3
    for other in (np.roll(table, 1, 0), np.roll(table, 1, 1)):  # the next step, the next sample
        assert abs(np.corrcoef(table.ravel(), other.ravel())[0, 1]) < 4 / table.size**0.5
    near = np.arange(2000, dtype=np.uint64)  # seeds that differ in one bit
    assert stats.kstest(uniforms(near, 0), "uniform").pvalue > 1e-3


def test_uniforms_are_splitmix64():
    # The first outputs of the generator seeded with 1234567, as published with it.
    outputs = [6457827717110365317, 3203168211198807973, 9817491932198370423]
    ours = [uniforms(np.array([1234567], dtype=np.uint64), step)[0] for step in range(3)]
    assert ours == [(output >> 12) / 2**52 for output in outputs]


@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 1.0), (0.6, 1.0), (1.0, 0.7), (0.6, 0.95)])
def test_tokens_are_drawn_from_the_distribution(temperature, top_p):
    logits = torch.tensor([2.0, 1.5, 1.0, 0.0, -1.0, -40.0])
    chances = torch.softmax(logits / temperature, -1).double()
    kept = int((chances.cumsum(0) < top_p).sum()) + 1  # the fewest that reach top_p; these logits are in order
    chances[kept:] = 0
    seeds = np.array([sample_seed(1, "b", "p", i) for i in range(100_000)], dtype=np.uint64)
    drawn = choose(logits.expand(len(seeds), -1), uniforms(seeds, 0), decoding(temperature, top_p))
    counts = torch.bincount(drawn, minlength=6).numpy()
    expected = (chances / chances.sum()).numpy() * len(seeds)
    possible = expected > 1
    assert counts[~possible].sum() == 0
    assert stats.chisquare(counts[possible], expected[possible] * counts.sum() / expected[possible].sum()).pvalue > 1e-3


def test_the_ends_of_the_unit_interval_draw_possible_tokens():
    logits = torch.tensor([[-torch.inf, 0.0, 0.0, -torch.inf]]).expand(2, -1)
    ends = np.array([0.0, 1 - 2.0**-52])
    assert choose(logits, ends, decoding()).tolist() == [1, 2]


# The loop


@pytest.mark.parametrize(
    ("architecture", "change"),
    [
        ("llama", {}),
        ("qwen3", {}),
        ("mistral", {"sliding_window": 4096}),  # wider than any sequence: as if there were none
        ("mistral", {"sliding_window": 8}),
        ("llama", {"num_key_value_heads": 1, "num_attention_heads": 2}),
    ],
)
def test_greedy_equals_generate(architecture, change):
    model, tokenizer = tiny_pair(architecture=architecture, hidden_size=64)
    if change:
        config = model.config
        for name, value in change.items():
            setattr(config, name, value)
        torch.manual_seed(0)
        model = type(model)(config).eval()
    batch = requests(tokenizer, 1)  # of several lengths, so with padding
    for response in draw_batch(model, batch, decoding(temperature=0), STOPS):
        prompt = torch.tensor([response.request.prompt])
        expected = model.generate(
            prompt, max_new_tokens=24, do_sample=False, eos_token_id=3, pad_token_id=0, use_cache=True
        )
        assert response.tokens == expected[0, prompt.shape[1] :].tolist()


def test_stops_and_lengths():
    model, tokenizer = tiny_pair()
    responses = draw_batch(model, requests(tokenizer, 40), decoding(max_tokens=60), STOPS)
    stopped = [response for response in responses if response.finish_reason == "stop"]
    assert 20 < len(stopped) < len(responses) - 20
    for response in responses:
        assert (response.tokens[-1] == 3) == (response.finish_reason == "stop")
        assert 3 not in response.tokens[:-1]
        assert response.finish_reason == "stop" or len(response.tokens) == 60


def test_a_sample_does_not_depend_on_its_batch():
    model, tokenizer = tiny_pair()
    everything = requests(tokenizer, 8)
    together = {r.request: r.tokens for r in draw_batch(model, everything, decoding(), STOPS)}
    assert len({tuple(tokens) for tokens in together.values()}) > len(everything) / 2  # samples of a prompt differ
    for size in (1, 7):
        for start in range(0, 21, size):
            for response in draw_batch(model, everything[start : start + size], decoding(), STOPS):
                assert response.tokens == together[response.request]


def test_what_is_left_is_cut_at_the_same_places():
    _, tokenizer = tiny_pair()
    everything = requests(tokenizer, 10)
    batches = list(cut_batches(everything, 24, 300))
    assert len(batches) > 5
    assert list(chain(*batches)) == everything
    assert all(len(batch) * (max(len(r.prompt) for r in batch) + 24) <= 300 for batch in batches)
    for done in ({0}, {0, 1, 2}, {1, 3}, set(range(len(batches) - 1))):
        left = [batch for i, batch in enumerate(batches) if i not in done]
        assert list(cut_batches(list(chain(*left)), 24, 300)) == left
    assert [len(batch) for batch in cut_batches(everything[:2], 24, 1)] == [1, 1]  # one row at least


# The verb


def evaluate(folder, model, n=4, problems=PROBLEMS, dtype="auto", **options):
    """Fill a store; options are those of `Sampling` and of `fill`."""
    recipe = {"max_tokens": 24, "batch_tokens": 600}
    recipe |= {name: options.pop(name) for name in list(options) if name in Sampling.model_fields}
    options = {"seed": 0, "progress": None} | options
    return fill(folder, Checkpoint(model=str(model), dtype=dtype), problems, Sampling(**recipe), n=n, **options)


@pytest.mark.filterwarnings("ignore:.*cut off")
def test_a_store_is_filled_graded_and_grown(tmp_path, folder):
    lines = []
    drawn = evaluate(tmp_path, folder, progress=lines.append)
    assert drawn.samples == 36
    assert drawn.tokens == Store(tmp_path).read()["n_tokens"].sum()
    assert lines[-1].startswith("36 of 36 samples in ")
    assert lines[-1].endswith(" tokens/s")
    summary = summarise(tmp_path, PROBLEMS, n=4)
    assert list(summary.problems["n"]) == [4] * 9
    assert list(summary.benchmarks["benchmark"]) == ["long", "sums"]
    assert evaluate(tmp_path, folder, progress=lines.append).samples == 0
    assert lines[-1] == "all 36 samples are there"
    before = Store(tmp_path).read()
    assert evaluate(tmp_path, folder, n=6).samples == 18
    after = Store(tmp_path).read()
    pd.testing.assert_frame_equal(after[after["sample_index"] < 4].reset_index(drop=True), before)
    assert set(summarise(tmp_path, PROBLEMS, n=6).problems["n"]) == {6}


@pytest.mark.filterwarnings("ignore:.*cut off")
@pytest.mark.parametrize("adaptive", [None, {"k": 1, "half_width": 0.3, "pilot": 2}])
def test_what_was_drawn_and_not_graded_is_graded(tmp_path, folder, adaptive):
    """As where a process was killed between the two."""
    drawn = evaluate(tmp_path, folder, adaptive=adaptive).samples
    shutil.rmtree(tmp_path / "grades")
    assert evaluate(tmp_path, folder, adaptive=adaptive).samples == 0
    assert summarise(tmp_path, PROBLEMS).problems["n"].sum() == drawn


def test_progress_is_told_by_time(tmp_path, folder, monkeypatch):
    lines = []
    evaluate(tmp_path / "a", folder, progress=lines.append, batch_tokens=200)
    assert len(lines) == 1  # within the first half minute: the last alone
    monkeypatch.setattr(progress, "LOG", 0.0)
    evaluate(tmp_path / "b", folder, progress=lines.append, batch_tokens=200)
    assert len(lines) > 5
    assert re.fullmatch(r"\d+ of 36 samples in 0:\d\d, 0:\d\d left; [\d,]+ tokens/s", lines[1])
    assert lines[-1].startswith("36 of 36 samples")
    lines.clear()
    evaluate(tmp_path / "b", folder, progress=None, n=5)
    assert lines == []


def test_shards_together_are_the_whole(tmp_path, folder):
    for shard in range(3):
        evaluate(tmp_path / "three", folder, shard=shard, of=3)
        mine = PROBLEMS.iloc[shard::3]
        assert set(Store(tmp_path / "three").read()["problem_id"]) >= set(mine["id"])
        assert len(summarise(tmp_path / "three", mine, n=4).problems) == 3
    evaluate(tmp_path / "one", folder)
    pd.testing.assert_frame_equal(Store(tmp_path / "three").read(), Store(tmp_path / "one").read())
    assert evaluate(tmp_path / "three", folder).samples == 0  # one process finds what three have drawn


def test_the_seed_decides(tmp_path, folder):
    tables = {}
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        evaluate(tmp_path / name, folder, seed=seed)
        tables[name] = Store(tmp_path / name).read()
    pd.testing.assert_frame_equal(tables["a"], tables["b"])
    assert (tables["a"]["response"] != tables["c"]["response"]).mean() > 0.5


def test_a_model_is_told_apart_by_its_weights(tmp_path):
    path = tiny_folder(tmp_path / "model")
    evaluate(tmp_path / "store", path)
    model, _ = tiny_pair()
    model.save_pretrained(path)
    assert evaluate(tmp_path / "store", path).samples == 0  # the same weights, written again
    with torch.no_grad():
        model.lm_head.weight[5, 0] += 1e-3
    model.save_pretrained(path)
    with pytest.raises(InputError, match="model is"):
        evaluate(tmp_path / "store", path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seed": 1}, "sampling.seed is 0 there and 1 here"),
        ({"temperature": 0.7}, "sampling.temperature"),
        ({"max_tokens": 25}, "sampling.max_tokens"),
        ({"dtype": "bfloat16"}, "dtype is 'float32' there and 'bfloat16' here"),
        ({"problems": PROBLEMS.assign(problem="?")}, "benchmarks.long"),
    ],
)
def test_another_setting_is_refused_before_sampling(tmp_path, folder, options, message):
    evaluate(tmp_path, folder, n=1)
    with pytest.raises(InputError, match=message):
        evaluate(tmp_path, folder, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n": 0}, "n: 0 is not at least 1"),
        ({"temperature": 0.0}, "n: 4 greedy samples"),
        ({"shard": 3, "of": 3}, "shard: 3"),
        ({"max_tokens": 250}, "long 0: a prompt of .* tokens and max_tokens 250 do not fit"),
        ({"problems": PROBLEMS.assign(answer="")}, "long 0: the gold answer ''"),
        ({"model": "/no/such/folder"}, "/no/such/folder: no such folder"),
    ],
)
def test_slips_are_named_before_anything_is_written(tmp_path, folder, options, message):
    with pytest.raises(InputError, match=message):
        evaluate(tmp_path, **{"model": folder, **options})
    assert not (tmp_path / "store.json").exists()


def test_a_full_disk_stops_the_evaluation_and_keeps_what_was_drawn(tmp_path, folder, monkeypatch):
    evaluate(tmp_path, folder, n=1)

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("sftrl.files.os.fsync", full)
    with pytest.raises(InputError, match="No space left on device"):
        evaluate(tmp_path, folder)
    monkeypatch.undo()
    assert len(Store(tmp_path).read()) == 9
    assert evaluate(tmp_path, folder).samples == 27
