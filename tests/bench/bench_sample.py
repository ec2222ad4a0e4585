"""Sampling throughput: both engines with the store and the grading around them, against the bare engines.

    python tests/bench/bench_sample.py

Tokens of responses a second of wall time, one thread. Everyone draws as many responses to the same prompts from the
same untrained model of 0.4M parameters, at temperature 1 and with the same stop tokens (eight, so that responses end
at all lengths, as those of a trained model do). Rounds are interleaved; a ratio is the median over rounds.

* transformers: `generate` is given the very same sorted batches; `static loop` is a bare forward loop over
  transformers' static cache, no stops handled, counted with all tokens that it computes.
* vllm: `LLM.generate` is given all requests at once, each with its seed.

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
from sftrl.sample import Adaptive, Decoding, Request, evaluate_samples
from sftrl.sample.adaptive import allocate
from sftrl.sample.local import cut_batches, sample_batches
from sftrl.sample.vllm_engine import load_vllm

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
    report("transformers", *transformers_contestants(model, tokenizer))
    if not importlib.util.find_spec("vllm"):
        print("vllm is not installed: left out")
        return
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        report("vllm", *vllm_contestants(folder, tokenizer))


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
            n = allocate(random.binomial(pilot, rates), len(rates), Adaptive(k, half_width, pilot), 4096)
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
            tokens = draw()
            speeds[name].append(tokens / (time.perf_counter() - began))
    print(f"\n{engine:<34}{'tokens/s':>10}{f'x {bare}':>18}")
    for name, values in speeds.items():
        ratio = statistics.median(ours / theirs for ours, theirs in zip(values, speeds[bare], strict=True))
        print(f"  {name:<32}{statistics.median(values):>10,.0f}{ratio:>18.2f}", flush=True)


def requests(tokenizer, n: int) -> list[Request]:
    return [
        Request(b, p, i, sample_seed(0, b, p, i), tuple(encode_prompt(tokenizer, text)))
        for b, p, text in zip(PROBLEMS["benchmark"], PROBLEMS["id"], PROBLEMS["problem"], strict=True)
        for i in range(n)
    ]


def filled(tokenizer, model, n: int, **options) -> int:
    with tempfile.TemporaryDirectory() as folder:
        options |= {"problems": PROBLEMS, "n": n, "max_tokens": MAX_TOKENS, "progress": None}
        return evaluate_samples(folder, model=model, tokenizer=tokenizer, **options).tokens


def transformers_contestants(model, tokenizer, n: int = 32) -> tuple[str, dict]:
    wanted = requests(tokenizer, n)
    decoding = Decoding(1.0, 1.0, MAX_TOKENS, tuple(STOPS))

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
        "engine, store and grading": lambda: filled(tokenizer, model, n, batch_tokens=BATCH_TOKENS),
        "engine": lambda: sum(len(r.tokens) for b in sample_batches(model, wanted, decoding, BATCH_TOKENS) for r in b),
        "generate": generate,
        "static loop": static_loop,
    }


def vllm_contestants(folder: str, tokenizer, n: int = 32) -> tuple[str, dict]:
    from vllm import SamplingParams

    llm = load_vllm(folder, dtype="float32", context=160)
    wanted = requests(tokenizer, n)

    def generate() -> int:
        parameters = [
            SamplingParams(temperature=1.0, max_tokens=MAX_TOKENS, stop_token_ids=STOPS, seed=r.seed) for r in wanted
        ]
        prompts = [{"prompt_token_ids": list(r.prompt)} for r in wanted]
        outputs = llm.generate(prompts, parameters, use_tqdm=False)
        return sum(len(output.outputs[0].token_ids) for output in outputs)

    return "LLM.generate", {
        "engine, store and grading": lambda: filled(tokenizer, llm, n, engine="vllm"),
        "LLM.generate": generate,
    }


if __name__ == "__main__":
    main()
