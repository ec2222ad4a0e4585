"""The logits of response tokens only, in chunks: full logits are never in memory.

The model's body gives hidden states; its head turns those of response tokens into logits, in float32. Some models scale
or cap their logits after the head. That is found by looking, not by name: a probe puts known numbers in the place of
the head's output and reads what comes out of the model. A model that does something else there is run whole, with a
warning.
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

# Tokens a forward pass and logits at once. On a CPU, what fits its caches is fastest; a GPU wants large products.
TOKEN_BUDGET = {"cpu": 1024, "gpu": 16_384}
CHUNK_LOGITS = {"cpu": 2**21, "gpu": 2**26}


class Example(NamedTuple):
    """A prompt and its response as tokens."""

    name: str
    ids: list[int]
    prompt_length: int
    n_bytes: int


def place(model) -> str:
    """Say which of the two limits of size hold for a model."""
    return "cpu" if model.device.type == "cpu" else "gpu"


def batches(lengths: list[int], token_budget: int) -> Iterator[list[int]]:
    """Yield indices of examples, longest first: little padding, within the budget, and memory peaks early."""
    batch: list[int] = []
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if batch and lengths[batch[0]] * (len(batch) + 1) > token_budget:
            yield batch
            batch = []
        batch.append(i)
    yield batch


def pad(batch: list[Example], token: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the padded ids, and row and column of each response token. Any pad token does: nothing looks at it."""
    ids = torch.full((len(batch), max(len(example.ids) for example in batch)), token)
    rows, columns = [], []
    for row, example in enumerate(batch):
        ids[row, : len(example.ids)] = torch.tensor(example.ids)
        columns.append(torch.arange(example.prompt_length, len(example.ids)))
        rows.append(torch.full_like(columns[-1], row))
    return ids, torch.cat(rows), torch.cat(columns)


def borders(rows: Tensor) -> np.ndarray:
    """Return where one example's tokens end and the next one's begin."""
    return (torch.nonzero(rows.diff()).flatten() + 1).numpy()


@contextmanager
def evaluating(*models) -> Iterator[None]:
    """Switch dropout off for a while."""
    training = [model.training for model in models]
    for model in models:
        model.eval()
    try:
        yield
    finally:
        for model, before in zip(models, training, strict=True):
            model.train(before)


def reader(model, chunk: int) -> Callable[[Tensor, Tensor, Tensor], Iterator[Tensor]]:
    """Return what yields the logits (tokens, vocabulary) that predict the tokens at (rows, columns) of padded ids.

    Args:
        model: a causal language model.
        chunk: tokens whose logits are yielded at a time.
    """
    after_head, chunk = _after_head(model), max(1, chunk)
    if after_head is None:
        warnings.warn(
            f"{type(model).__name__}: its logits are not its head's output, scaled or capped; they are held whole",
            stacklevel=3,
        )

        def whole(ids: Tensor, rows: Tensor, columns: Tensor) -> Iterator[Tensor]:
            logits = model(input_ids=ids.to(model.device), use_cache=False).logits[rows, columns - 1].float()
            yield from logits.split(chunk)

        return whole

    body, head = model.get_decoder(), model.get_output_embeddings()

    def chunked(ids: Tensor, rows: Tensor, columns: Tensor) -> Iterator[Tensor]:
        hidden = body(input_ids=ids.to(model.device), use_cache=False).last_hidden_state[rows, columns - 1]
        for states in hidden.split(chunk):
            yield after_head(head(states).float())

    return chunked


def _after_head(model) -> Callable[[Tensor], Tensor] | None:
    """Find what the model does to its head's output: nothing, a scale, or a soft cap; None if anything else.

    The probe runs the model on two tokens. A hook notes what enters the head, which must be what the body alone
    gives, and swaps what leaves it for a ramp of known values, to be found again in the model's logits.
    """
    head, body = model.get_output_embeddings(), model.get_decoder()
    if head is None or body is model:
        return None
    seen = {}

    def swap(module, inputs, output):
        ramp = torch.logspace(-2, 4.5, output.numel() // 2, device=output.device)
        seen["entered"] = inputs[0]
        seen["left"] = torch.cat([-ramp, output.new_zeros(output.numel() % 2), ramp]).to(output.dtype).view_as(output)
        return seen["left"].clone()

    ids = torch.arange(2, device=model.device)[None]  # two: of a padding token, all states may be 0
    hook = head.register_forward_hook(swap)
    try:
        logits = model(input_ids=ids, use_cache=False).logits.float()
    finally:
        hook.remove()
    if not seen or logits.shape != seen["left"].shape:
        return None
    precision = 4 * max(torch.finfo(x.dtype).eps for x in (seen["left"], seen["entered"]))
    hidden = getattr(body(input_ids=ids, use_cache=False), "last_hidden_state", None)
    if hidden is None or not _same(hidden.float(), seen["entered"].float(), 16 * precision):
        return None
    ramp, logits = seen["left"].float().flatten(), logits.flatten()
    ramp, logits = ramp[ramp != 0], logits[ramp != 0]
    scale = (logits / ramp).mean()  # over the ramp, so that rounding in bfloat16 averages out
    cap = logits[-1]  # where the ramp ends, every soft cap is reached
    if _same(ramp * scale, logits, precision):
        return lambda x: x if scale == 1 else x * scale
    if _same(torch.tanh(ramp / cap) * cap, logits, precision):
        return lambda x: torch.tanh(x / cap) * cap
    return None


def _same(left: Tensor, right: Tensor, precision: float) -> bool:
    return left.shape == right.shape and torch.allclose(left, right, rtol=precision, atol=precision)
