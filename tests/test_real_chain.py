"""SFT, loss, sampling and GRPO on stand-ins of the paper's models: one precision and the same tokens all the way."""

import json

import pandas as pd
import pytest
import torch
from standins import standin_folder

from sftrl import train
from sftrl.chat import encode_prompt
from sftrl.generations import Store
from sftrl.loss import response_loss
from sftrl.models import load_model, load_tokenizer, resolved_dtype, stop_ids
from sftrl.recipes import Checkpoint, Grpo, Sampling, Sft
from sftrl.sample import fill

LORA = {"rank": 4, "alpha": 8.0}
ASKED = [f"What is {i} + 2?" for i in range(4)]
EXAMPLES = pd.DataFrame({"id": [f"e{i}" for i in range(4)], "prompt": ASKED,
                         "response": [f"It is \\boxed{{{i + 2}}}." for i in range(4)]})  # fmt: skip
PROBLEMS = pd.DataFrame({"id": [f"p{i}" for i in range(4)], "benchmark": "sums", "problem": ASKED, "prompt": ASKED,
                         "answer": [str(i + 2) for i in range(4)], "answer_type": "integer"})  # fmt: skip


@pytest.mark.parametrize("name", ["llama3-8b", "mistral-nemo-12b", "qwen3-4b"])
def test_the_chain_keeps_precision_ends_and_tokens(tmp_path, name):
    start = Checkpoint(model=str(standin_folder(tmp_path / "base", name, dtype="bfloat16")))
    tokenizer = load_tokenizer(start)
    wanted = [encode_prompt(tokenizer, prompt) for prompt in ASKED], stop_ids(start, tokenizer)

    recipe = Sft(batch_size=4, max_length=256, learning_rate=1e-2, packing=True, lora=LORA)
    train.sft(start, EXAMPLES, recipe, epochs=6, folder=tmp_path / "sft", seed=0)
    tuned = start.at(tmp_path / "sft" / "model")
    recipe = Grpo(steps=1, prompts_per_step=2, group_size=2, max_tokens=4, lora=LORA)
    train.grpo(tuned, PROBLEMS, recipe, folder=tmp_path / "grpo", seed=0)
    after = start.at(tmp_path / "grpo" / "model")

    losses = []
    for checkpoint in (start, tuned, after):
        tokenizer = load_tokenizer(checkpoint)
        assert ([encode_prompt(tokenizer, prompt) for prompt in ASKED], stop_ids(checkpoint, tokenizer)) == wanted
        assert resolved_dtype(checkpoint) == "bfloat16"
        model = load_model(checkpoint)
        assert model.dtype == torch.bfloat16
        losses.append(response_loss(model, tokenizer, EXAMPLES).per_token)
        store = tmp_path / f"store{len(losses)}"
        fill(store, checkpoint, PROBLEMS, Sampling(max_tokens=6), n=2, seed=0, progress=None)
        assert json.loads((store / "store.json").read_text())["dtype"] == "bfloat16"
        assert len(Store(store).read()) == 2 * len(PROBLEMS)
    assert losses[1] < losses[0]  # adapters were trained and merged into what is read afterwards
