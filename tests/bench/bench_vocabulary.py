"""What a vocabulary of 151,936 tokens costs in memory: the loss of a response, and a step of SFT.

    python tests/bench/bench_vocabulary.py

A stand-in of Qwen3's shape, 2 layers of 128, float32, on a CPU; responses of 4,096 tokens, one at a time. Each case is
a child process of its own, whose peak resident size is compared with that of a child that only loads the model (for
SFT: that trains on one token), so what remains is what the length costs. The whole logits, which nothing here should
hold, would be tokens x vocabulary x 4 bytes, and their gradient as much again.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

TOKENS = 4096
VOCABULARIES = {"cut": 4096, "whole": 151_936}
REPEATS = 3  # the smallest counts: huge pages that the system makes of small ones only add
CASES = ("whole logits", "sftrl.loss", "sftrl.train.sft")


def measure(case: str, vocabulary: int, tokens: int) -> float:
    """Return the peak resident size of this process, in GB, after the case; `tokens` of 1 does as little as it can."""
    import pandas as pd
    import torch
    from standins import standin_folder

    from sftrl import train
    from sftrl.loss import response_loss
    from sftrl.models import load_model, load_tokenizer
    from sftrl.recipes import Checkpoint, Sft

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        changes = {"hidden_size": 128, "intermediate_size": 256, "max_position_embeddings": 8192}
        folder = standin_folder(Path(scratch) / "base", "qwen3-4b", vocab_size=vocabulary, **changes)
        checkpoint = Checkpoint(model=str(folder), dtype="float32")
        row = {"id": "a", "prompt": "1+1?", "response": "3" * tokens}
        if case == "sftrl.train.sft":
            recipe = Sft(batch_size=1, micro_batch=1, max_length=8192)
            train.sft(checkpoint, pd.DataFrame([row]), recipe, epochs=1, folder=Path(scratch) / "run", seed=0)
        else:
            model, tokenizer = load_model(checkpoint), load_tokenizer(checkpoint)
            if case == "sftrl.loss":
                response_loss(model, tokenizer, [row])
            else:
                with torch.inference_mode():
                    model(torch.full((1, tokens), 5)).logits.log_softmax(-1)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def main() -> None:
    print(f"{TOKENS} tokens; the whole logits of {VOCABULARIES['whole']:,} in float32 are "
          f"{TOKENS * VOCABULARIES['whole'] * 4 / 1e9:.2f} GB")  # fmt: skip
    print(f"{'GB above the same with one token':<34}" + "".join(f"{name:>16}" for name in VOCABULARIES))
    for case in CASES:
        added = []
        for vocabulary in VOCABULARIES.values():
            peaks = []
            for tokens in (1, TOKENS):
                command = [sys.executable, __file__, json.dumps([case, vocabulary, tokens])]
                runs = [subprocess.run(command, capture_output=True, text=True, check=True) for _ in range(REPEATS)]
                peaks.append(min(float(run.stdout.strip().splitlines()[-1]) for run in runs))
            added.append(peaks[1] - peaks[0])
        print(f"{case:<34}" + "".join(f"{value:>16.2f}" for value in added), flush=True)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(measure(*json.loads(sys.argv[1])))
    else:
        main()
