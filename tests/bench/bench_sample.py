"""Sampling throughput: both engines with the store and the grading around them, against the bare engines.

    python tests/bench/bench_sample.py

Tokens of responses a second of wall time, one thread. Everyone draws as many responses to the same prompts from the
same untrained model of 0.4M parameters, at temperature 1 and with the same stop tokens (eight, so that responses end
at all lengths, as those of a trained model do). Rounds are interleaved; a ratio is the median over rounds.

* transformers: `generate` is given the very same sorted batches; `static loop` is a bare forward loop over
  transformers' static cache, no stops handled, counted with all tokens that it computes.
* vllm: `LLM.generate` is given all requests at once, each with its seed; the engine both with a seed for each sample
  and with one for all.

Ours with store and grading are timed from the first request to the last grade; loading and starting are left out.

First, what adaptive sampling saves: samples a problem, pilot included, against equal numbers of equal variance.
"""

import os

os.environ |= {"OMP_NUM_THREADS": "1", "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_LOGGING_LEVEL": "ERROR"}

import bisect
import functools
import importlib.util
import statistics
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy import stats
from transformers import StaticCache

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tiny import tiny_pair

from sftrl.chat import encode_prompt
from sftrl.generations import sample_seed
from sftrl.passk import pass_at_k
from sftrl.recipes import Adaptive, Checkpoint, Decoding, Sampling
from sftrl.sample import Drawn, Request, fill, local, vllm_engine
from sftrl.sample.adaptive import allocate
from sftrl.sample.local import cut_batches

STOPS, MAX_TOKENS, BATCH_TOKENS, ROUNDS = list(range(3, 11)), 64, 65536, 5
PROBLEMS = pd.DataFrame(
    [
        {
            "benchmark": f"b{i % 7}",
            "id": str(i),
            "problem": " + ".join(str(j) for j in range(3 + i % 9)) + "?",
            "answer": "3",
        }
        for i in range(28)
    ]
)


def main() -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    model, tokenizer = tiny_pair(hidden_size=96, layers=3)
    model.generation_config.eos_token_id = STOPS
    adaptive_table()
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        report("transformers", *transformers_contestants(folder, model, tokenizer))
        if not importlib.util.find_spec("vllm"):
            print("vllm is not installed: left out")
            return
        sampling, checkpoint = Sampling(engine="vllm"), Checkpoint(model=folder)
        with vllm_engine.started(checkpoint, sampling, stop_ids=STOPS, context=160, seed=0) as draw:
            report("vllm", *vllm_contestants(folder, draw.args[0], tokenizer))


def adaptive_table() -> None:
    rates, random = np.random.default_rng(0).beta(0.25, 0.6, size=60), np.random.default_rng(3)

    @functools.cache
    def variance(n: int, k: int) -> np.ndarray:  # of each problem's Pass@k
        right = np.arange(n + 1)
        fail = (1 - pass_at_k(n, right, k)) ** 2
        return np.array([stats.binom.pmf(right, n, p) @ fail - (1 - p) ** (2 * k) for p in rates])

    print(f"{'k':<6}{'half-width':>12}{'pilot':>8}{'samples':>10}{'equal':>8}{'ratio':>8}")
    for k, half_width, pilot in [(1, 0.01, 8), (1, 0.005, 16), (8, 0.01, 16), (16, 0.01, 16), (64, 0.02, 16)]:
        spent, reached = [], []
        for _ in range(12):
            n = allocate(
                random.binomial(pilot, rates), len(rates), Adaptive(k=k, half_width=half_width, pilot=pilot), 4096
            )
            spent.append(n.mean() + pilot)
            reached.append(sum(variance(size, k)[n == size].sum() for size in set(n.tolist())))
        equal = bisect.bisect_left(range(4096), -np.mean(reached), lo=k, key=lambda n: -variance(n, k).sum())
        ours = np.mean(spent)
        print(f"{k:<6}{half_width:>12}{pilot:>8}{ours:>10.0f}{equal:>8}{ours / equal:>8.2f}", flush=True)


def report(engine: str, bare: str, contestants: dict) -> None:
    for draw in contestants.values():
        draw()  # everything imported and warm
    speeds = {name: [] for name in contestants}
    for _ in range(ROUNDS):
        for name, draw in contestants.items():
            began = time.perf_counter()
            tokens, seconds = draw(), None
            if isinstance(tokens, Drawn):
                tokens, seconds = tokens.tokens, tokens.seconds
            speeds[name].append(tokens / (seconds or time.perf_counter() - began))
    print(f"\n{engine:<34}{'tokens/s':>10}{f'x {bare}':>18}")
    for name, values in speeds.items():
        ratio = statistics.median(ours / theirs for ours, theirs in zip(values, speeds[bare], strict=True))
        print(f"  {name:<32}{statistics.median(values):>10,.0f}{ratio:>18.2f}", flush=True)


def requests(tokenizer, n: int, seed: int | None = 0) -> list[Request]:
    prompts = {
        (b, p): tuple(encode_prompt(tokenizer, text))
        for b, p, text in zip(PROBLEMS["benchmark"], PROBLEMS["id"], PROBLEMS["problem"], strict=True)
    }
    return [
        Request(*name, i, None if seed is None else sample_seed(seed, *name, i), prompts[name])
        for name in sorted(prompts, key=lambda name: (-len(prompts[name]), name))
        for i in range(n)
    ]


def filled(model: str, n: int, **options) -> Drawn:
    with tempfile.TemporaryDirectory() as folder:
        sampling = Sampling(max_tokens=MAX_TOKENS, batch_tokens=BATCH_TOKENS, **options)
        return fill(folder, Checkpoint(model=model), PROBLEMS, sampling, n=n, seed=0, progress=None)


def drawn(batches) -> int:
    return sum(len(response.tokens) for batch in batches for response in batch)


def transformers_contestants(folder: str, model, tokenizer, n: int = 32) -> tuple[str, dict]:
    wanted = requests(tokenizer, n)
    decoding = Decoding(max_tokens=MAX_TOKENS)

    @torch.inference_mode()
    def generate() -> int:
        total = 0
        for batch in cut_batches(wanted, MAX_TOKENS, BATCH_TOKENS):
            padded = tokenizer.pad(
                {"input_ids": [list(r.prompt) for r in batch]}, padding_side="left", return_tensors="pt"
            )
            out = model.generate(
                **padded, max_new_tokens=MAX_TOKENS, do_sample=True, top_k=0, pad_token_id=0, use_cache=True
            )[:, padded["input_ids"].shape[1] :]
            ends = torch.isin(out, torch.tensor(STOPS)).int()
            total += int((ends.cumsum(1) - ends == 0).sum())
        return total

    @torch.inference_mode()
    def static_loop() -> int:
        total = 0
        for batch in cut_batches(wanted, MAX_TOKENS, BATCH_TOKENS):
            rows, longest = len(batch), max(len(r.prompt) for r in batch)
            cache = StaticCache(config=model.config, max_cache_len=longest + MAX_TOKENS)
            token, position = torch.full((rows, longest), 20), torch.arange(longest)[None]
            for _ in range(MAX_TOKENS):
                logits = model(token, position_ids=position, past_key_values=cache, logits_to_keep=1).logits[:, -1]
                token, position = torch.multinomial(logits.softmax(-1), 1), position[:, -1:] + 1
            total += rows * MAX_TOKENS
        return total

    return "generate", {
        "engine, store and grading": lambda: filled(folder, n),
        "engine": lambda: drawn(local.draw(model, wanted, decoding, STOPS, BATCH_TOKENS)),
        "generate": generate,
        "static loop": static_loop,
    }


def vllm_contestants(folder: str, llm, tokenizer, n: int = 32) -> tuple[str, dict]:
    from vllm import SamplingParams

    wanted, seedless = requests(tokenizer, n), requests(tokenizer, n, None)
    decoding = Decoding(max_tokens=MAX_TOKENS)

    def generate() -> int:
        parameters = [
            SamplingParams(temperature=1.0, max_tokens=MAX_TOKENS, stop_token_ids=STOPS, seed=r.seed) for r in wanted
        ]
        prompts = [{"prompt_token_ids": list(r.prompt)} for r in wanted]
        outputs = llm.generate(prompts, parameters, use_tqdm=False)
        return sum(len(output.outputs[0].token_ids) for output in outputs)

    return "LLM.generate", {
        "engine, store and grading": lambda: filled(folder, n, engine="vllm"),
        "the same, seeds: shard": lambda: filled(folder, n, engine="vllm", seeds="shard"),
        "engine": lambda: drawn(vllm_engine.draw(llm, wanted, decoding, STOPS)),
        "engine, seeds: shard": lambda: drawn(vllm_engine.draw(llm, seedless, decoding, STOPS)),
        "LLM.generate": generate,
    }


if __name__ == "__main__":
    main()
