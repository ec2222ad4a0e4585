"""Peak memory, tokens a second and the share of the chip's bf16 limit: loss, SFT and GRPO of random models.

    python tests/bench/bench_gpu.py [MODEL ...]

MODEL is a name of `sftrl/plan/published.yaml`, whose shape gets random weights in bfloat16, or `tiny`. Default: a 1B
and a 4B on a GPU, `tiny` on a CPU. Nothing is downloaded. SFT and GRPO run as in a study, each in a process of its own
on a GPU, in full and by LoRA; GRPO's rollouts are those of the transformers engine and count in its tokens and time.

The limit is the data sheet's (`sftrl/plan/rates.yaml`). The share counts the arithmetic that the work needs, not what
gradient checkpointing computes twice; padding and start-up are left out, as is each training's first step.
"""

import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from sftrl import train
from sftrl.loss import response_loss
from sftrl.models import build_tokenizer, load_model, load_tokenizer
from sftrl.plan import machines, shapes, work
from sftrl.recipes import Checkpoint, Grpo, Lora, Sft

TINY = {"model_type": "qwen3", "vocab_size": 1024, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 32, "tie_word_embeddings": True}  # fmt: skip
ON_GPU = ["meta-llama/Llama-3.2-1B", "Qwen/Qwen3-4B-Base"]
COLUMNS = ["model", "what", "GB", "tokens/s", "of the limit"]


def random_model(name: str, folder: Path) -> Checkpoint:
    """Write a model of the shape, with random weights and a small byte-level tokenizer."""
    tokenizer = build_tokenizer(["What is 1 + 2? The answer is \\boxed{3}."], 320)
    ids = {f"{end}_token_id": getattr(tokenizer, f"{end}_token_id") for end in ("bos", "eos", "pad")}
    shape = TINY if name == "tiny" else shapes.read_config(name)
    config = AutoConfig.for_model(**shape | ids | {"max_position_embeddings": 8192})
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return Checkpoint(model=str(folder))


def trained(log: pd.DataFrame) -> tuple[float, float]:
    """Return the peak memory in GB, NaN on a CPU, and the median of tokens a second after the first step."""
    memory = log["gpu_gigabytes"].max() if "gpu_gigabytes" in log else float("nan")
    return memory, log["tokens_per_second"].median()


def measured(checkpoint: Checkpoint, place: Path, length: int, batch: int, steps: int) -> Iterator[tuple]:
    """Yield what was done, GB, tokens a second and FLOPs a token, each as it is known.

    Args:
        length: tokens of a response in SFT and the loss; a rollout has up to half as many.
        batch: responses a step.
    """
    shape = shapes.shape(checkpoint.model)
    once = work.forward(shape, 1, length) / length
    rows = [{"id": str(i), "prompt": f"{i}?", "response": "3" * length} for i in range(batch * steps)]

    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    model, tokenizer = load_model(checkpoint), load_tokenizer(checkpoint)
    response_loss(model, tokenizer, rows[:1])
    began = time.perf_counter()
    tokens = response_loss(model, tokenizer, rows).n_tokens
    seconds = time.perf_counter() - began
    memory = torch.cuda.max_memory_reserved() / 1e9 if torch.cuda.is_available() else float("nan")
    yield "loss", memory, tokens / seconds, once
    del model
    if torch.cuda.is_available():
        torch.cuda.empty_cache()

    problems = pd.DataFrame({"prompt": [row["prompt"] for row in rows], "answer": "3", "answer_type": "integer"})
    for name, lora in (("", None), (" LoRA", Lora(rank=16))):
        backward = 1 if lora else 2  # under adapters, no gradients of weights
        recipe = Sft(batch_size=batch, max_length=length + 64, lora=lora)
        log = train.sft(checkpoint, pd.DataFrame(rows), recipe, epochs=1, folder=place / f"sft{name}", seed=0)
        yield f"SFT{name}", *trained(log), once * (1 + backward)
        sizes = {"steps": steps, "prompts_per_step": max(1, batch // 4), "group_size": 4, "max_tokens": length // 2}
        log = train.grpo(checkpoint, problems, Grpo(**sizes, lora=lora), folder=place / f"grpo{name}", seed=0)
        drawn = work.forward(shape, 1, length // 2) / (length // 2)  # once to sample, and again to train on it
        yield f"GRPO{name}", *trained(log), drawn * (2 + backward)


def table(name: str) -> pd.DataFrame:
    """Measure one model; return a row for each kind of work, and print it."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    known = machines.recognised(device) if torch.cuda.is_available() else None
    limit = machines.machine(known).flops if known else float("nan")
    sizes = (48, 4, 3) if name == "tiny" else (2048, 16, 5)
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        checkpoint = random_model(name, Path(scratch) / "model")
        for what, memory, rate, flops in measured(checkpoint, Path(scratch), *sizes):
            rows.append((name, what, memory, rate, rate * flops / limit))
            print(f"| {name} | {what} | {memory:.1f} | {rate:,.0f} | {rate * flops / limit:.3f} |", flush=True)
    return pd.DataFrame(rows, columns=COLUMNS)


if __name__ == "__main__":
    on_gpu = torch.cuda.is_available()
    print(torch.cuda.get_device_name() if on_gpu else "a CPU: nan where only a GPU has a number")
    print("| " + " | ".join(COLUMNS) + " |\n" + "|---" * len(COLUMNS) + "|")
    for each in sys.argv[1:] or (ON_GPU if on_gpu else ["tiny"]):
        table(each)
