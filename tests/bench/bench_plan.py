"""The rates of one CPU core that `make plan` works with: CPU microseconds a token in training, sampling and `generate`.

    python tests/bench/bench_plan.py

Two sizes of model, one thread, CPU time of this process and its children, so that what else the machine does matters
little. Of training and RL, two runs of different length are timed and the difference is taken: what a run costs once
(imports, loading, saving) falls out. Tokens are those computed, padding included, as `sftrl.plan` counts them. What RL
takes beyond training on its tokens, at the rate of SFT, is its rollouts'. The last lines go into sftrl/plan/rates.yaml.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"

import contextlib
import io
import tempfile
from pathlib import Path

import numpy as np
import torch

from sftrl import procedural, train
from sftrl.chat import encode_prompt
from sftrl.models import build_model, build_tokenizer, load_model, load_tokenizer
from sftrl.recipes import Checkpoint, Decoding, Grpo, Scratch, Sft
from sftrl.sample import Request
from sftrl.sample.local import draw

SIZES = [{"hidden_size": 96, "layers": 3}, {"hidden_size": 192, "layers": 4}]
BATCH, PROMPTS, GROUP, LONGEST = 32, 12, 8, 100


def main() -> None:
    torch.set_num_threads(1)
    points = []
    for size in SIZES:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            tokenizer = build_tokenizer(procedural.tokenizer_texts(np.random.SeedSequence(0), 300), 320)
            model = build_model(Scratch(architecture="qwen3", **size), tokenizer, seed=0)
            model.save_pretrained(folder / "start")
            tokenizer.save_pretrained(folder / "start")
            checkpoint = Checkpoint(model=str(folder / "start"))
            millions = model.num_parameters() / 1e6
            training, rollouts = trainers(checkpoint, folder)
            points.append((millions, {"training": training, "sampling": sampling(checkpoint), "generate": rollouts}))
            rates = ", ".join(f"{use} {micro:.1f}" for use, micro in points[-1][1].items())
            print(f"{millions:.2f}M parameters, CPU microseconds a token: {rates}", flush=True)
    (small, low), (large, high) = points
    for use in low:
        more = (high[use] - low[use]) / (large - small)
        print(f"  {use}: {{base: {low[use] - more * small:.1f}, more: {more:.1f}}}")


def trainers(checkpoint: Checkpoint, folder: Path) -> tuple[float, float]:
    """Return microseconds a token of SFT, and of the rollouts of GRPO."""
    examples = procedural.sft_examples(np.random.SeedSequence(1), 40 * BATCH)
    problems = procedural.rl_problems(np.random.SeedSequence(2), 200).assign(prompt=lambda t: t["problem"])
    tokenizer = load_tokenizer(checkpoint)
    lengths = [
        len(tokenizer(p + r)["input_ids"]) + 3 for p, r in zip(examples["prompt"], examples["response"], strict=True)
    ]

    def sft(steps: int) -> float:
        recipe = Sft(learning_rate=1e-4, batch_size=BATCH, micro_batch=BATCH)
        return spent(lambda: train.sft(checkpoint, examples[: steps * BATCH], recipe, epochs=1, folder=folder, seed=0))

    def grpo(steps: int) -> float:
        recipe = Grpo(steps=steps, learning_rate=1e-6, prompts_per_step=PROMPTS, group_size=GROUP, max_tokens=LONGEST)
        return spent(lambda: train.grpo(checkpoint, problems, recipe, folder=folder, seed=0))

    sft(1)  # imports
    # Batches are shuffled: the longest of each is taken as that of a random one.
    random = np.random.default_rng(0)
    padded = np.mean([max(random.choice(lengths, BATCH)) for _ in range(1000)])
    training = (sft(40) - sft(10)) / (30 * BATCH * padded)
    grpo(1)
    step = (grpo(8) - grpo(2)) / 6
    prompt = np.mean([len(tokenizer(p)["input_ids"]) + 3 for p in problems["prompt"]])
    rows = PROMPTS * GROUP
    return training * 1e6, (step - training * rows * (prompt + LONGEST)) / (rows * LONGEST) * 1e6


def sampling(checkpoint: Checkpoint) -> float:
    """Return microseconds a token of the transformers engine."""
    model, tokenizer = load_model(checkpoint), load_tokenizer(checkpoint)
    problems = procedural.benchmark_problems(np.random.SeedSequence(3), 16)
    prompts = [tuple(encode_prompt(tokenizer, text)) for text in problems["problem"]]
    requests = [
        Request(row["benchmark"], row["id"], i, 64 * n + i, prompt)
        for n, (row, prompt) in enumerate(zip(problems.to_dict("records"), prompts, strict=True))
        for i in range(16)
    ]
    decoding, tokens = Decoding(max_tokens=LONGEST), []
    seconds = spent(
        lambda: tokens.extend(len(r.tokens) for b in draw(model, requests, decoding, (), 65_536) for r in b)
    )
    return seconds / sum(tokens) * 1e6


def spent(work) -> float:
    """Return the CPU seconds of this process and its children in `work`."""
    before = os.times()
    with contextlib.redirect_stdout(io.StringIO()):
        work()
    after = os.times()
    return sum(after[:4]) - sum(before[:4])


if __name__ == "__main__":
    main()
