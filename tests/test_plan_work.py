"""FLOPs against torch's own count, activations against what autograd keeps, memory against published sums."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig, AutoModelForCausalLM

from sftrl.errors import InputError
from sftrl.plan.machines import machine, planned, recognised, utilisation
from sftrl.plan.shapes import shape
from sftrl.plan.work import activations, cache_bytes, decode_rate, forward, sampled, trained, training_memory

CONFIG = {
    "model_type": "qwen3", "vocab_size": 512, "hidden_size": 128, "intermediate_size": 384, "num_hidden_layers": 4,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32, "tie_word_embeddings": True,
}  # fmt: skip
TRAINING = {"precision": "auto", "adapters": 0, "recomputed": True, "gpus": 1, "split": False}


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    config = AutoConfig.for_model(**CONFIG)
    return AutoModelForCausalLM.from_config(config, attn_implementation="sdpa")


def test_flops_are_those_that_torch_counts():
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**CONFIG), attn_implementation="eager")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.zeros(3, 64, dtype=torch.long))
    # The eager attention computes the whole square; a causal kernel needs half of it.
    square = 4 * 4 * 128 * 64 / 2 * 3 * 64
    assert counter.get_total_flops() == pytest.approx(forward(shape(CONFIG), 3, 64) + square, rel=0.01)


def test_activations_are_about_what_autograd_keeps(model):
    """Counted without the logits and the weights, which a step holds apart."""
    model = model.to(torch.bfloat16).train()
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    tokens = 8 * 128
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model.model(torch.zeros(8, 128, dtype=torch.long))
    assert activations(shape(CONFIG), tokens, recomputed=False) == pytest.approx(sum(kept.values()), rel=0.25)
    model.float()


def test_recomputing_keeps_less():
    qwen = shape("Qwen/Qwen3-4B")
    assert activations(qwen, 8192, recomputed=True) < 0.2 * activations(qwen, 8192, recomputed=False)


@pytest.mark.parametrize(("precision", "each"), [("auto", 16), ("mixed", 16), ("bfloat16", 8)])
def test_bytes_a_parameter(precision, each):
    """Sixteen with fp32 masters and Adam (Rajbhandari et al. 2020, arXiv 1910.02054, section 3.1)."""
    llama = shape("meta-llama/Meta-Llama-3-8B")
    memory = training_memory(llama, tokens=1, logit_tokens=1, precision=precision, adapters=0, recomputed=True, split=1)
    held = sum(memory[part] for part in ("weights", "gradients", "optimizer"))
    assert held == pytest.approx(each * llama.parameters)
    halved = training_memory(llama, tokens=1, logit_tokens=1, precision=precision, adapters=0, recomputed=True, split=2)
    assert sum(halved[part] for part in ("weights", "gradients", "optimizer")) == pytest.approx(held / 2)


def test_an_adapter_has_little_to_train():
    llama, gpu = shape("meta-llama/Meta-Llama-3-8B"), machine("H100-80")
    work = {"examples": 1000, "length": 1000, "at_once": 16_000, "logit_tokens": 16_000}
    full = trained(llama, gpu, **work, **TRAINING)
    lora = trained(llama, gpu, **work, **TRAINING | {"adapters": 42e6, "precision": "bfloat16"})
    assert full.peak > 1.25e11 > 8e10 > lora.peak  # 8 billion parameters of 16 bytes fit no 80 GB
    frozen = trained(llama, gpu, **work, **TRAINING | {"adapters": 42e6})
    assert frozen.memory["weights"] == 2 * llama.parameters + 4 * 42e6  # masters in float32 of the adapters alone
    assert full.disk == frozen.disk == 2 * llama.parameters  # saved as the base was
    assert full.scratch == 12 * llama.parameters
    assert lora.seconds < full.seconds
    averaged = trained(llama, gpu, **work, **TRAINING | {"averaged": True})  # float32, in a checkpoint too
    assert averaged.peak == full.peak + 4 * llama.parameters
    assert averaged.scratch == full.scratch + 4 * llama.parameters


def test_a_published_run_is_estimated():
    """Llama-3-8B on 15T tokens took 1.3 million H100-hours (its model card), at sequences of 8,192."""
    llama, gpu = shape("meta-llama/Meta-Llama-3-8B"), machine("H100-80")
    work = {"examples": 15e12 / 8192, "length": 8192, "at_once": 8192, "logit_tokens": 8192}
    cost = trained(llama, gpu, **work, **TRAINING | {"recomputed": False})
    low, high = (cost.seconds / 3600 * planned("training") / share for share in reversed(utilisation("training")))
    assert low < 1.3e6 < high
    assert cost.flops == pytest.approx(6 * 8e9 * 15e12, rel=0.1)


def test_the_cache_of_llama_is_an_eighth_of_a_megabyte_a_token():
    assert cache_bytes(shape("meta-llama/Meta-Llama-3-8B"), 1) == 131_072


def test_decoding_is_bound_by_memory_and_then_by_arithmetic():
    llama, h100, a100 = shape("meta-llama/Meta-Llama-3-8B"), machine("H100-80"), machine("A100-80")
    rates = {gpu.name: decode_rate(llama, gpu, gpus=1, end=2000, length=1000) for gpu in (h100, a100)}
    assert rates["A100-80"] / rates["H100-80"] == pytest.approx(a100.bandwidth / h100.bandwidth, rel=0.01)
    tiny_cache = decode_rate(llama, a100, gpus=1, end=1, length=1)
    assert tiny_cache < 256 / (2 * llama.parameters / a100.bandwidth) * 1.001


def test_twice_the_samples_take_twice_as_long():
    llama, gpu = shape("meta-llama/Meta-Llama-3-8B"), machine("H100-80")
    work = {"prompts": 100, "prompt": 100, "response": 500, "longest": 1100, "gpus": 1}
    one, two = (sampled(llama, gpu, n=n, **work) for n in (64, 128))
    assert two.seconds == pytest.approx(2 * one.seconds, rel=0.01)
    assert two.tokens == 2 * one.tokens == 2 * 100 * 64 * 500


def test_devices_are_recognised_as_manifests_name_them():
    assert recognised("NVIDIA H100 80GB HBM3") == "H100-80"
    assert recognised("NVIDIA A100-SXM4-40GB") == "A100-40"
    assert recognised("NVIDIA GeForce RTX 4090") == "RTX-4090"
    assert recognised("NVIDIA H200") == "H200"
    assert recognised("NVIDIA GB10") is None
    assert recognised("x86_64") == "cpu"


def test_an_unknown_gpu_is_named():
    with pytest.raises(InputError, match="gpu: 'H1000' is not one of cpu, A100-40"):
        machine("H1000")
