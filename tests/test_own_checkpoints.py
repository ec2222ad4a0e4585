"""A user's own checkpoints, made by transformers and peft alone, ranked as the README and its params file say."""

from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from peft import LoraConfig, get_peft_model
from test_notebooks import call, project
from transformers import ByT5Tokenizer, LlamaConfig, LlamaForCausalLM

from sftrl.errors import InputError
from sftrl.stages import curation
from sftrl.study import Study

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def mine(tmp_path):
    """Two byte-level models without chat template, and a LoRA adapter of the first."""
    tokenizer = ByT5Tokenizer()
    for seed, name in enumerate(("base", "tuned")):
        torch.manual_seed(seed)
        config = LlamaConfig(
            vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
            max_position_embeddings=1024, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
        )  # fmt: skip
        model = LlamaForCausalLM(config)
        model.save_pretrained(tmp_path / "mine" / name)
        tokenizer.save_pretrained(tmp_path / "mine" / name)
    base = LlamaForCausalLM.from_pretrained(tmp_path / "mine" / "base")
    adapted = get_peft_model(base, LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False))
    adapted.save_pretrained(tmp_path / "mine" / "adapter")
    return project(tmp_path)


def study(folder: Path, **family) -> dict:
    """The params file of the repository with what its comments say to put in."""
    values = yaml.safe_load((ROOT / "params" / "own-checkpoints.yaml").read_text())
    values["families"] = {"mine": {"model": "mine/base"} | family}
    values["runs"] = [{"name": "tuned", "model": "mine/tuned"}, {"name": "adapter", "model": "mine/adapter"}]
    values["data"] |= {"benchmarks": {"procedural": 2}, "sft": {"procedural": 40}, "held_out": 8}
    values["evaluation"] |= {"samples": 4, "max_tokens": 12, "shards": 2}
    (folder / "params" / "own-checkpoints.yaml").write_text(yaml.safe_dump(values))
    return values


def test_byte_level_models_and_an_adapter_are_ranked(mine):
    study(mine, template="plain")
    result = call(mine, "python", "-m", "sftrl", "study", "params/own-checkpoints.yaml", "--cores", "1", timeout=1800)
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-3000:]
    figures = mine / "figures" / "own-checkpoints"
    decision = pd.read_csv(figures / "decision.csv")
    assert set(decision["run"]) == {"tuned", "adapter"}
    assert set(decision["predictor"]) == {"pass@1", "generalization_loss", "combined"}
    results = pd.read_csv(figures / "results.csv")
    assert (results["samples"] == 4).all()  # two shards, together every sample
    assert set(results["phase"]) == {"post_sft"}
    losses = pd.read_csv(figures / "predictors.csv").set_index("run")["generalization_loss"]
    assert losses.between(3, 8).all()  # of an untrained model, about the logarithm of its 384 tokens
    assert losses.nunique() == 3
    assert "Take " in result.stdout


def test_without_a_template_the_first_job_says_what_to_give(mine, monkeypatch):
    monkeypatch.chdir(mine)
    study(mine)
    plan = Study.load("params/own-checkpoints.yaml")
    with pytest.raises(InputError, match="no chat template; give a file as `template`, or `template: plain`"):
        curation.clean(plan, curation.training(plan))
