"""The `transformers` engine: our own loop over the model's forward pass with a key-value cache.

`generate` has one random stream per batch, prefills a prompt once per sample, and computes finished rows until the last
one ends. Here each sample has its own stream, a prompt is prefilled once per batch, and finished rows leave the batch.
Rounding depends on a batch's shape; batches are formed from the missing samples in a fixed order, so a resumed run
forms the same batches and draws the same rows to the last bit.
"""

import contextlib
import functools
from collections.abc import Collection, Iterable, Iterator, Sequence
from importlib import metadata

import numpy as np
import torch
from transformers import PreTrainedModel

from sftrl.chat import encode_prompt
from sftrl.models import context_length, load_model, load_tokenizer, stop_ids
from sftrl.recipes import Checkpoint, Decoding, Sampling
from sftrl.sample.cache import roomy_cache
from sftrl.sample.requests import Draw, Request, Response, uniforms

LEAVE = 0.125  # finished rows leave the batch when they are this share of it, since leaving moves all others


def version(sampling: Sampling) -> str:
    """Return the engine's name and versions."""
    return f"transformers {metadata.version('transformers')}, torch {torch.__version__}"


@contextlib.contextmanager
def started(
    checkpoint: Checkpoint, sampling: Sampling, *, stop_ids: Collection[int], context: int, seed: int
) -> Iterator[Draw]:
    """Load the model; `context` and `seed` are for engines that need them in advance."""
    model = load_model(checkpoint).eval()
    yield functools.partial(
        draw, model, decoding=sampling.decoding, stop_ids=stop_ids, batch_tokens=sampling.batch_tokens
    )


def draw(
    model: PreTrainedModel,
    requests: Iterable[Request],
    decoding: Decoding,
    stop_ids: Collection[int],
    batch_tokens: int,
) -> Iterator[list[Response]]:
    """Yield the responses to the requests, one batch at a time."""
    for batch in cut_batches(requests, decoding.max_tokens, batch_tokens):
        yield draw_batch(model, batch, decoding, stop_ids)


def respond(checkpoint: Checkpoint, prompts: Sequence[str], decoding: Decoding, seed: int = 0) -> list[str]:
    """Return one response per prompt, as text; responses end where the model's context does."""
    tokenizer, model = load_tokenizer(checkpoint), load_model(checkpoint).eval()
    ids = [encode_prompt(tokenizer, prompt) for prompt in prompts]
    room = context_length(checkpoint) - max(map(len, ids))
    decoding = decoding.model_copy(update={"max_tokens": max(1, min(decoding.max_tokens, room))})
    seeds = np.random.SeedSequence(seed).generate_state(len(ids), np.uint64)
    drawn = draw_each(model, ids, seeds, decoding, stop_ids(checkpoint, tokenizer))
    return tokenizer.batch_decode([response.tokens for response in drawn], skip_special_tokens=True)


def draw_each(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    seeds: np.ndarray,
    decoding: Decoding,
    stop_ids: Collection[int],
) -> list[Response]:
    """Return one response per prompt of token ids, in the prompts' order; `seeds` has shape (prompts,)."""
    longest_first = sorted(range(len(prompts)), key=lambda place: -len(prompts[place]))
    requests = [Request("", "", place, int(seeds[place]), tuple(prompts[place])) for place in longest_first]
    batches = draw(model, requests, decoding, stop_ids, Sampling.model_fields["batch_tokens"].default)
    responses = [response for batch in batches for response in batch]
    return sorted(responses, key=lambda response: response.request.sample_index)


def cut_batches(requests: Iterable[Request], max_tokens: int, batch_tokens: int) -> Iterator[list[Request]]:
    """Yield batches whose prompts and responses fit into `batch_tokens`; requests must come longest prompt first.

    Resumed after any of the batches, the remaining requests form the same batches.
    """
    batch: list[Request] = []
    rows = 0
    for request in requests:
        if not batch:
            rows = max(1, batch_tokens // (len(request.prompt) + max_tokens))
        batch.append(request)
        if len(batch) == rows:
            yield batch
            batch = []
    if batch:
        yield batch


@torch.inference_mode()
def draw_batch(
    model: PreTrainedModel, batch: list[Request], decoding: Decoding, stop_ids: Collection[int]
) -> list[Response]:
    """Draw one response for each request, all at once."""
    device = model.device
    prompts = list(dict.fromkeys(request.prompt for request in batch))
    longest = max(map(len, prompts))
    # Rows are padded on the left, so that every row's next token is at the same place.
    tokens = torch.zeros(len(prompts), longest, dtype=torch.long)
    mask = torch.zeros(len(prompts), longest + decoding.max_tokens, dtype=torch.long)
    for row, prompt in enumerate(prompts):
        tokens[row, longest - len(prompt) :] = torch.tensor(prompt)
        mask[row, longest - len(prompt) :] = 1
    mask = mask.to(device)
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    padded = min(map(len, prompts)) < longest

    cache = roomy_cache(model.config, longest + decoding.max_tokens)
    # Each prompt is read once; then its row of the cache is copied for each of its samples.
    place = {prompt: row for row, prompt in enumerate(prompts)}
    rows = torch.tensor([place[request.prompt] for request in batch], device=device)
    logits = model(
        tokens.to(device),
        attention_mask=mask[:, :longest] if padded else None,
        position_ids=positions[:, :longest],
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    ).logits[:, -1]
    logits, mask, positions = logits[rows], mask[rows], positions[rows]
    cache.batch_select_indices(rows)

    drawn = torch.zeros(len(batch), decoding.max_tokens, dtype=torch.long)
    length = torch.full((len(batch),), decoding.max_tokens)
    stops = torch.tensor(sorted(stop_ids), device=device)
    seeds = np.array([request.seed for request in batch], dtype=np.uint64)
    present = torch.arange(len(batch))  # which request each row of the batch is
    running = torch.ones(len(batch), dtype=torch.bool, device=device)
    for step in range(decoding.max_tokens):
        chosen = choose(logits, uniforms(seeds, step), decoding)
        drawn[present, step] = chosen.cpu()
        stopped = running & torch.isin(chosen, stops)
        length[present[stopped.cpu()]] = step + 1
        running &= ~stopped
        left = int(running.sum())
        if left == 0 or step + 1 == decoding.max_tokens:
            break
        if left <= (1 - LEAVE) * len(running):
            keep = running.nonzero()[:, 0]
            cache.batch_select_indices(keep)
            chosen, mask, positions, running = chosen[keep], mask[keep], positions[keep], running[keep]
            present, seeds = present[keep.cpu()], seeds[keep.cpu().numpy()]
        at = longest + step
        logits = model(
            chosen[:, None],
            attention_mask=mask[:, : at + 1] if padded else None,
            position_ids=positions[:, at : at + 1],
            past_key_values=cache,
            use_cache=True,
        ).logits[:, -1]

    responses = []
    for request, row, n in zip(batch, drawn.tolist(), length.tolist(), strict=True):
        reason = "stop" if row[n - 1] in stop_ids else "length"
        responses.append(Response(request, row[:n], reason))
    return responses


def choose(logits: torch.Tensor, uniform: np.ndarray, decoding: Decoding) -> torch.Tensor:
    """Draw one token per row by inverting the distribution's cumulative sum at `uniform`.

    Args:
        logits: (rows, vocabulary).
        uniform: (rows,), in [0, 1).

    Returns:
        (rows,) token ids.
    """
    if decoding.temperature == 0:
        return logits.argmax(-1)
    chances = torch.softmax(logits.float() / decoding.temperature, -1)
    if decoding.top_p < 1:
        ordered, tokens = chances.sort(dim=-1, descending=True, stable=True)
        before = ordered.cumsum(-1) - ordered  # the nucleus: the fewest tokens that reach top_p together
        chances = chances.scatter(-1, tokens, ordered.masked_fill(before >= decoding.top_p, 0))
    # In doubles, u * total stays below total, so a token of chance 0 is never drawn.
    running = chances.double().cumsum(-1)
    target = torch.from_numpy(uniform).to(logits.device)[:, None] * running[:, -1:]
    return torch.searchsorted(running, target, right=True)[:, 0]
