"""What a job computes and holds: tokens, FLOPs, bytes and seconds, from a model's shape and plain numbers.

FLOPs: two for each active parameter and token, and four for each token, layer, unit of attention width and token that
it attends to, half the sequence on average; a backward pass costs twice a forward one (Kaplan et al. 2020,
arXiv 2001.08361, section 2.1), and recomputing activations one more forward pass.
"""

import math
from dataclasses import dataclass, replace

from sftrl.plan.machines import Cpu, Gpu, planned, rates
from sftrl.plan.shapes import Shape

# Bytes of a weight in training by precision; its gradient and each of Adam's two moments have as many.
WEIGHT = {"auto": 4, "float32": 4, "mixed": 4, "bfloat16": 2, "bfloat16-stuck": 2}
RESERVED = 2e9  # a CUDA context, NCCL's buffers, cuBLAS's workspace (chosen here)
FILLED = 0.9  # of a GPU's memory that vLLM takes (its default)
SEQUENCES = 256  # that vLLM runs at once (its default on 80 GB and less)


@dataclass(frozen=True)
class Cost:
    """What one job costs on the GPUs, or the core, that were requested.

    Attributes:
        tokens: trained on or sampled, the unit of its progress.
        flops: of all its GPUs.
        seconds: wall time, without the start-up that every job has.
        memory: bytes on each GPU, by what they are for.
        disk: bytes that stay; `scratch` those that go when it ends.
        gpus: that it holds.
    """

    tokens: float = 0
    flops: float = 0
    seconds: float = 0
    memory: dict[str, float] | None = None
    disk: float = 0
    scratch: float = 0
    gpus: int = 0

    @property
    def peak(self) -> float:
        """Bytes on each GPU."""
        return sum((self.memory or {}).values())

    def slower(self, factor: float) -> "Cost":
        """Return the same work at another speed."""
        return replace(self, seconds=self.seconds * factor)


def forward(shape: Shape, sequences: float, length: float) -> float:
    """Return the FLOPs of reading `sequences` of `length` tokens."""
    return sequences * length * (2 * shape.active + 4 * shape.layers * shape.attention * length / 2)


def activations(shape: Shape, tokens: float, recomputed: bool) -> float:
    """Return the bytes that a forward pass in bf16 keeps for the backward one, for `tokens` at once.

    Counted from what each operation saves: both norms' inputs in fp32 and outputs, queries, keys, values, the
    attention's result, the gate, its activation, the up projection and their product. With recomputation only the
    layers' inputs stay, and one layer's activations at a time.
    """
    layer = tokens * 2 * (8 * shape.hidden + 2 * shape.attention + 2 * shape.cached + 4 * shape.intermediate)
    if recomputed:
        return shape.layers * tokens * 2 * shape.hidden + layer
    return shape.layers * layer


def training_memory(
    shape: Shape,
    *,
    tokens: float,
    logit_tokens: float,
    precision: str,
    adapters: float,
    recomputed: bool,
    split: int,
    averaged: bool = False,
) -> dict[str, float]:
    """Return the bytes on each GPU that a training step holds.

    Args:
        tokens: at once on a GPU.
        logit_tokens: those of them whose logits are taken at once: in bf16, in fp32 and their gradient.
        precision: as `sftrl.recipes.Precision`; `auto` is mixed: fp32 weights, computed with in bf16.
        adapters: parameters of LoRA's adapters, which alone are trained; 0: all are.
        split: GPUs that share weights, gradients and optimizer (1: each holds all).
        averaged: the mean of the last steps' weights is kept, in fp32.
    """
    each, learned = WEIGHT[precision], adapters or shape.parameters
    frozen = shape.stored if adapters and precision in ("auto", "mixed") else each  # below adapters, as they were saved
    return {
        "weights": (shape.parameters * frozen + adapters * each) / split,
        "gradients": learned * each / split,
        "optimizer": learned * 2 * each / split,
        "average": learned * 4 * averaged / split,
        "activations": activations(shape, tokens, recomputed),
        "logits": logit_tokens * shape.vocabulary * (2 + 4 + 4),
        "reserved": RESERVED,
    }


def cache_bytes(shape: Shape, length: float) -> float:
    """Return the bytes of one sequence's keys and values in bf16."""
    return 2 * shape.layers * shape.cached * length


def sampling_memory(shape: Shape, *, longest: float, gpus: int, sequences: int = 1) -> dict[str, float]:
    """Return the bytes on each of `gpus` that share the weights, with room for `sequences` of `longest` tokens."""
    return {
        "weights": 2 * shape.parameters / gpus,
        "KV cache": sequences * cache_bytes(shape, longest) / gpus,
        "reserved": RESERVED,
    }


def decode_rate(shape: Shape, gpu: Gpu, *, gpus: int, end: float, length: float, filled: float = FILLED) -> float:
    """Return the tokens a second of sampling at the roofline: the slower of reading memory and multiplying.

    As many sequences run at once as vLLM allows and the memory beside the weights holds: in pages, so each has what it
    has come to so far (Kwon et al. 2023, arXiv 2309.06180). Room is counted for their tokens at the end, on average.

    Args:
        end: tokens of a sequence when it ends, on average.
        length: and while it grows.
        filled: share of each GPU's memory that the engine takes.
    """
    room = filled * gpu.memory * gpus - 2 * shape.parameters - RESERVED * gpus
    rows = max(1, min(SEQUENCES, math.floor(room / cache_bytes(shape, end))))
    read = (2 * shape.parameters + rows * cache_bytes(shape, length)) / (gpu.bandwidth * gpus)
    multiplied = 2 * shape.active * rows / (gpu.flops * gpus)
    return rows / max(read, multiplied)


def sampled(
    shape: Shape, on: Gpu | Cpu, *, prompts: float, n: float, prompt: float, response: float, longest: float, gpus: int,
    use: str = "sampling", filled: float = FILLED,
) -> Cost:  # fmt: skip
    """Return the cost of `n` responses of `response` tokens to each of `prompts`, each read once.

    Args:
        longest: tokens of prompt and response that one sequence must find room for.
        use: the utilisation that it is planned with.
        filled: share of each GPU's memory that the engine takes.
    """
    drawn = prompts * n * response
    flops = forward(shape, prompts, prompt) + drawn * (
        2 * shape.active + 4 * shape.layers * shape.attention * (prompt + response / 2)
    )
    disk = prompts * n * (response * 3 + 40)  # about three compressed bytes a token, and a row's other columns
    if isinstance(on, Cpu):
        return Cost(drawn, flops, (drawn + prompts * prompt) * on.seconds(use, shape.active), disk=disk)
    end, length = prompt + response, prompt + response / 2
    rate = decode_rate(shape, on, gpus=gpus, end=end, length=length, filled=filled)
    seconds = drawn / rate + forward(shape, prompts, prompt) / (on.flops * gpus)
    memory = sampling_memory(shape, longest=longest, gpus=gpus)
    return Cost(drawn, flops, seconds / planned(use), memory, disk, gpus=gpus)


def trained(
    shape: Shape, on: Gpu | Cpu, *, examples: float, length: float, at_once: float, logit_tokens: float, precision: str,
    adapters: float, recomputed: bool, gpus: int, split: bool, averaged: bool = False,
) -> Cost:  # fmt: skip
    """Return the cost of training on `examples` of `length` tokens, padding included, each seen once.

    Args:
        at_once: tokens on a GPU at once.
        split: the GPUs share weights, gradients and optimizer, and do not each hold all.
    The others are `training_memory`'s.
    """
    # Of an adapter's training, the backward pass has no gradients of weights to compute.
    flops = forward(shape, examples, length) * ((2 if adapters else 3) + recomputed)
    # What stays is saved as the base was; a checkpoint to resume from has what is trained, and Adam's two moments.
    size = {
        "disk": shape.parameters * shape.stored,
        "scratch": (adapters or shape.parameters) * (3 * WEIGHT[precision] + 4 * averaged),
    }
    if isinstance(on, Cpu):
        return Cost(examples * length, flops, examples * length * on.seconds("training", shape.active), **size)
    memory = training_memory(
        shape, tokens=at_once, logit_tokens=logit_tokens, precision=precision, adapters=adapters, recomputed=recomputed,
        split=gpus if split else 1, averaged=averaged,
    )  # fmt: skip
    seconds = flops / (on.flops * gpus * planned("training"))
    return Cost(examples * length, flops, seconds, memory, gpus=gpus, **size)


def together(first: Cost, second: Cost, *, held_at_once: bool) -> Cost:
    """Return the cost of both, one after the other; in memory both at once, or the larger."""
    memory = max(first.memory or {}, second.memory or {}, key=lambda m: sum(m.values()))
    if held_at_once and first.memory and second.memory:
        memory = {name: first.memory.get(name, 0) + second.memory.get(name, 0) for name in first.memory | second.memory}
        memory["reserved"] = RESERVED
    return Cost(
        first.tokens + second.tokens, first.flops + second.flops, first.seconds + second.seconds, memory or None,
        first.disk + second.disk, max(first.scratch, second.scratch), max(first.gpus, second.gpus),
    )  # fmt: skip


def start_up(on: Gpu | Cpu) -> float:
    """Return the seconds that every job takes beside its work."""
    return rates()["overhead"]["cpu" if isinstance(on, Cpu) else "gpu"]["seconds"]
