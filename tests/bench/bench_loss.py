"""The response-only loss against Hugging Face's Trainer.evaluate and against a bare forward pass.

    python tests/bench/bench_loss.py

Speed: tokens of prompt and response a CPU second, one thread, on the same examples of mixed length. The Trainer
evaluates pre-tokenized examples with its default batch of 8, gives its loss only, and knows neither entropy nor
accuracy; ours tokenizes too. The bare pass runs the model on the same tokens packed into rows of 1,024, one at a time
(the fastest way here), and drops its logits. Memory: the peak resident size of a child process that does nothing else.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    DataCollatorForSeq2Seq,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    PrinterCallback,
    Trainer,
    TrainingArguments,
    logging,
)

from sftrl.chat import encode_example
from sftrl.loss import response_loss

MODELS = {
    "small vocabulary (4k), 4 layers of 256": {"vocab_size": 4096, "hidden_size": 256, "num_hidden_layers": 4},
    "large vocabulary (128k), 2 layers of 128": {"vocab_size": 131_072, "hidden_size": 128, "num_hidden_layers": 2},
}
SMALL, LARGE = MODELS
REPEATS = 3


def build(name: str) -> tuple[LlamaForCausalLM, PreTrainedTokenizerFast]:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    sizes = MODELS[name]
    heads = sizes["hidden_size"] // 32
    config = LlamaConfig(
        **sizes,
        intermediate_size=3 * sizes["hidden_size"],
        num_attention_heads=heads,
        num_key_value_heads=heads,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
    )
    words = {word: i for i, word in enumerate(["<pad>", "<bos>", "<eos>", *(f"w{i}" for i in range(1000))])}
    backend = Tokenizer(models.WordLevel(words, unk_token="<pad>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<bos>", eos_token="<eos>", pad_token="<pad>"
    )
    return LlamaForCausalLM(config).eval(), tokenizer


def mixed_lengths(count: int) -> list[dict]:
    """Responses of 10 to 900 tokens, log-normal about 130, as solutions of mathematics problems are."""
    random = np.random.default_rng(0)

    def text(median: float, most: int) -> str:
        size = int(np.clip(random.lognormal(np.log(median), 0.8), 10, most))
        return " ".join(f"w{i}" for i in random.integers(0, 1000, size))

    return [{"id": str(i), "prompt": text(50, 120), "response": text(130, 900)} for i in range(count)]


def trainer_of(model, tokenizer, examples, folder: str) -> Trainer:
    rows = []
    for example in examples:
        ids, prompt = encode_example(tokenizer, example["prompt"], example["response"])
        rows.append({"input_ids": ids, "labels": [-100] * prompt + ids[prompt:]})
    options = TrainingArguments(
        folder, use_cpu=True, report_to=[], prediction_loss_only=True, disable_tqdm=True, dataloader_pin_memory=False
    )
    trainer = Trainer(model, options, eval_dataset=rows, data_collator=DataCollatorForSeq2Seq(tokenizer))
    trainer.remove_callback(PrinterCallback)  # it would print every evaluation between our lines
    return trainer


def speed(name: str, count: int) -> None:
    model, tokenizer = build(name)
    examples = mixed_lengths(count)
    encoded = [encode_example(tokenizer, e["prompt"], e["response"])[0] for e in examples]
    tokens = sum(len(ids) for ids in encoded)
    packed = torch.cat([torch.tensor(ids) for ids in encoded])[: tokens // 1024 * 1024].view(-1, 1024)

    @torch.inference_mode()
    def bare():
        for rows in packed.split(1):
            model(input_ids=rows, use_cache=False)

    with tempfile.TemporaryDirectory() as folder:
        trainer = trainer_of(model, tokenizer, examples, folder)
        ways = {
            "ours": lambda: response_loss(model, tokenizer, examples),
            "Trainer.evaluate": trainer.evaluate,
            "bare forward, packed": bare,
        }
        took = {way: [] for way in ways}
        for repeat in range(REPEATS + 1):  # the first warms up
            for way, run in ways.items():
                start = time.process_time()
                run()
                if repeat:
                    took[way].append(time.process_time() - start)
    rates = {way: (packed.numel() if "bare" in way else tokens) / statistics.median(t) for way, t in took.items()}
    print(f"{name}: {count} examples, {tokens} tokens, median of {REPEATS}")
    for way, rate in rates.items():
        print(f"  {way:22} {rate:9.0f} tokens/CPU-s   ours / this = {rates['ours'] / rate:.2f}")


def child(way: str) -> None:
    """Print the peak resident size in MiB, and the loss, after running one way."""
    model, tokenizer = build(LARGE)
    examples = mixed_lengths(8)
    loss = float("nan")
    if way == "ours":
        loss = response_loss(model, tokenizer, examples).per_token
    elif way == "Trainer.evaluate":
        with tempfile.TemporaryDirectory() as folder:
            loss = trainer_of(model, tokenizer, examples, folder).evaluate()["eval_loss"]
    # Not ru_maxrss: a child starts with its parent's.
    peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    print(json.dumps({"peak": int(peak.split()[1]) / 1024, "loss": loss}))


def memory() -> None:
    peaks = {}
    print(f"peak resident memory, {LARGE}: 8 examples, one batch of the Trainer")
    for way in ("model loaded", "ours", "Trainer.evaluate"):
        output = subprocess.run([sys.executable, __file__, way], check=True, capture_output=True, text=True).stdout
        result = json.loads(output.splitlines()[-1])
        peaks[way] = result["peak"]
        print(f"  {way:22} {result['peak']:7.0f} MiB   loss {result['loss']:.4f}")
    ours, theirs, loaded = peaks["ours"], peaks["Trainer.evaluate"], peaks["model loaded"]
    print(f"  ours / theirs = {ours / theirs:.2f}; beyond the loaded model {(ours - loaded) / (theirs - loaded):.3f}")


def main() -> None:
    speed(SMALL, 32)
    speed(LARGE, 8)
    memory()


if __name__ == "__main__":
    logging.set_verbosity_error()
    if len(sys.argv) > 1:
        child(sys.argv[1])
    else:
        main()
