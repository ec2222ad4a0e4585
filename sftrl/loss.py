"""Negative log-likelihood of responses, and of nothing else: the generalization loss of held-out SFT examples.

The loss is the sum over response tokens, EOS included, over their number; the prompt only conditions. It does not
depend on how examples are batched: they are sorted by length, padded on the right (a causal model never sees what
follows, so no mask is needed), and each token's value is summed by example in double precision.

The logits never stand in memory whole. The model's body gives hidden states; its head turns those of response tokens
into logits a chunk at a time, in float32. Some models scale or cap their logits after the head. That is found by
looking, not by name: a probe puts known numbers in the place of the head's output and reads what comes out of the
model. A model that does something else there is run whole, with a warning.
"""

import math
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from sftrl.chat import encode_example
from sftrl.errors import InputError

# Tokens a forward pass and logits at once. On a CPU, what fits its caches is fastest; a GPU wants large products.
TOKEN_BUDGET = {"cpu": 1024, "gpu": 16_384}
CHUNK_LOGITS = {"cpu": 2**21, "gpu": 2**26}
LONE_SURROGATE = re.compile("[\ud800-\udfff]")  # of no character; tokenizers raise a bare TypeError


@dataclass(frozen=True)
class ResponseLoss:
    """What the responses of some examples cost a model, in nats.

    `per_example` has a row for each example used, in the order given: `id, n_tokens, n_bytes, nll_sum, per_token,
    entropy, token_accuracy`.
    """

    nll_sum: float
    n_tokens: int  # response tokens, EOS included
    n_bytes: int  # UTF-8 bytes of the response texts
    entropy: float  # of the next-token distribution, mean over response tokens, nats
    token_accuracy: float  # share of response tokens than which none was likelier
    per_example: pd.DataFrame
    skipped: tuple[str, ...]  # ids of the examples left out as too long

    @property
    def per_token(self) -> float:
        """Mean over tokens: the generalization loss."""
        return self.nll_sum / self.n_tokens

    @property
    def example_mean(self) -> float:
        """Mean over examples of each one's own mean over tokens: short responses weigh as much as long ones."""
        return float(self.per_example["per_token"].mean())

    @property
    def bits_per_byte(self) -> float:
        """Bits to write a byte of response text, its EOS paid for too: comparable between tokenizers."""
        return self.nll_sum / math.log(2) / self.n_bytes


class _Example(NamedTuple):
    name: str
    ids: list[int]
    prompt_length: int
    n_bytes: int


def response_loss(
    model,
    tokenizer,
    examples: Sequence[Mapping] | pd.DataFrame,
    *,
    token_budget: int | None = None,
    max_length: int | None = None,
    too_long: Literal["error", "skip"] = "error",
) -> ResponseLoss:
    """Measure a causal language model's loss on the responses of examples.

    Args:
        model: a causal language model of transformers, on any device, in any dtype.
        tokenizer: its tokenizer; `sftrl.chat.encode_example` says what tokens an example becomes.
        examples: rows with `id, prompt, response`.
        token_budget: the most tokens, padding included, of one forward pass; a longer example goes alone. Default:
            1,024 on CPU, 16,384 elsewhere.
        max_length: the most tokens of an example, if fewer than the model's context.
        too_long: what to do with an example beyond that: raise, or leave it out and list it in `skipped`.

    Raises:
        InputError: no example left; one without a field, without response, too long, with half a surrogate pair or with
            a token beyond the model's vocabulary; a loss that is not finite. It names the example. Or a token_budget or
            max_length below 1.
    """
    for setting, value in (("token_budget", token_budget), ("max_length", max_length)):
        if value is not None and not (isinstance(value, int) and value >= 1):
            raise InputError(f"{setting} = {value!r}: a number of tokens, at least 1, is needed, or None")
    place = "cpu" if model.device.type == "cpu" else "gpu"
    token_budget = token_budget or TOKEN_BUDGET[place]
    encoded, skipped = _encode(model, tokenizer, examples, max_length, too_long)
    totals = np.zeros((len(encoded), 3))  # nll, entropy and right tokens, summed
    with _evaluating(model), torch.inference_mode():
        score = _scorer(model, CHUNK_LOGITS[place] // model.config.get_text_config().vocab_size)
        for batch in _batches([len(example.ids) for example in encoded], token_budget):
            ids, rows, columns = _pad([encoded[i] for i in batch], tokenizer.eos_token_id)
            values = score(ids, rows, columns).double().cpu().numpy()
            for part, owner in zip(np.split(values, _borders(rows)), batch, strict=True):
                totals[owner] = part.sum(axis=0)
                if not np.isfinite(totals[owner, 0]):
                    raise InputError(f"example {encoded[owner].name}: the model's loss on it is {totals[owner, 0]}")
    return _collect(encoded, totals, skipped)


def _encode(model, tokenizer, examples, max_length, too_long) -> tuple[list[_Example], tuple[str, ...]]:
    """Encode every example before the model runs, so that a slip costs nothing."""
    if too_long not in ("error", "skip"):
        raise InputError(f'too_long = {too_long!r}: an example too long is an "error", or "skip" leaves it out')
    rows = examples.to_dict("records") if isinstance(examples, pd.DataFrame) else list(examples)
    if not rows:
        raise InputError("no examples to take the loss of")
    context = getattr(model.config.get_text_config(), "max_position_embeddings", None) or math.inf
    limit = min(context, max_length or math.inf)
    vocabulary = len(model.get_input_embeddings().weight)
    encoded, skipped = [], []
    for at, row in enumerate(rows):
        for field in ("id", "prompt", "response"):
            if field not in row:
                raise InputError(f"example {row.get('id', at)}: no {field!r}")
        name, prompt, response = str(row["id"]), row["prompt"], row["response"]
        for field, value in (("prompt", prompt), ("response", response)):
            if not isinstance(value, str):
                raise InputError(f"example {name}: its {field} is not text but {value!r}")
            lone = LONE_SURROGATE.search(value)
            if lone:
                raise InputError(f"example {name}: character {lone.start()} of its {field} is half a surrogate pair")
        try:
            ids, prompt_length = encode_example(tokenizer, prompt, response)
        except InputError as error:
            raise InputError(f"example {name}: {error}") from None
        if not prompt_length:
            raise InputError(f"example {name}: no token stands before the response, so nothing predicts its first one")
        if max(ids) >= vocabulary:
            token = tokenizer.convert_ids_to_tokens(max(ids))
            raise InputError(f"example {name}: token {max(ids)}, {token!r}, is beyond the model's {vocabulary} tokens")
        if len(ids) > limit:
            if too_long == "error":
                what = "the model's context" if limit == context else "max_length"
                raise InputError(f'example {name}: {len(ids)} tokens, and {what} is {limit}; too_long="skip" drops it')
            skipped.append(name)
            continue
        encoded.append(_Example(name, ids, prompt_length, len(response.encode())))
    if not encoded:
        raise InputError(f"no examples left: all {len(rows)} are longer than {limit} tokens")
    return encoded, tuple(skipped)


def _batches(lengths: list[int], token_budget: int) -> Iterator[list[int]]:
    """Yield indices of examples, longest first: little padding, within the budget, and memory peaks early."""
    batch: list[int] = []
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if batch and lengths[batch[0]] * (len(batch) + 1) > token_budget:
            yield batch
            batch = []
        batch.append(i)
    yield batch


def _pad(batch: list[_Example], pad: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the padded ids, and row and column of each response token. Any pad token does: nothing looks at it."""
    ids = torch.full((len(batch), max(len(example.ids) for example in batch)), pad)
    rows, columns = [], []
    for row, example in enumerate(batch):
        ids[row, : len(example.ids)] = torch.tensor(example.ids)
        columns.append(torch.arange(example.prompt_length, len(example.ids)))
        rows.append(torch.full_like(columns[-1], row))
    return ids, torch.cat(rows), torch.cat(columns)


def _borders(rows: Tensor) -> np.ndarray:
    return (torch.nonzero(rows.diff()).flatten() + 1).numpy()


def _collect(encoded: list[_Example], totals: np.ndarray, skipped: tuple[str, ...]) -> ResponseLoss:
    n_tokens = np.array([len(example.ids) - example.prompt_length for example in encoded])
    table = pd.DataFrame(
        {
            "id": [example.name for example in encoded],
            "n_tokens": n_tokens,
            "n_bytes": [example.n_bytes for example in encoded],
            "nll_sum": totals[:, 0],
            "per_token": totals[:, 0] / n_tokens,
            "entropy": totals[:, 1] / n_tokens,
            "token_accuracy": totals[:, 2] / n_tokens,
        }
    )
    # Sums that round the same in any order of the examples.
    nll, entropy, right = (math.fsum(column) for column in totals.T)
    count = int(n_tokens.sum())
    n_bytes = int(table["n_bytes"].sum())
    return ResponseLoss(nll, count, n_bytes, entropy / count, right / count, table, skipped)


@contextmanager
def _evaluating(model) -> Iterator[None]:
    """Switch dropout off for a while."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


def _scorer(model, chunk: int) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """Return what gives (tokens, 3), as `_score` does, for the tokens at (rows, columns) of padded ids."""
    after_head = _after_head(model)
    if after_head is None:
        warnings.warn(
            f"{type(model).__name__}: its logits are not its head's output, scaled or capped; they are held whole",
            stacklevel=3,
        )

        def whole(ids: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
            logits = model(input_ids=ids.to(model.device), use_cache=False).logits[rows, columns - 1].float()
            return _score(logits, ids[rows, columns].to(logits.device))

        return whole

    body, head = model.get_decoder(), model.get_output_embeddings()

    def chunked(ids: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        hidden = body(input_ids=ids.to(model.device), use_cache=False).last_hidden_state[rows, columns - 1]
        targets = ids[rows, columns].to(hidden.device)
        parts = zip(hidden.split(max(1, chunk)), targets.split(max(1, chunk)), strict=True)
        return torch.cat([_score(after_head(head(states).float()), right) for states, right in parts])

    return chunked


def _score(logits: Tensor, targets: Tensor) -> Tensor:
    """Return nll, entropy and whether no token was likelier than the target: (tokens, 3). Overwrites the logits."""
    logits -= logits.amax(dim=-1, keepdim=True)
    log_odds = logits.gather(1, targets[:, None])[:, 0]
    odds = logits.exp()
    total = odds.sum(dim=-1)
    mean = torch.linalg.vecdot(odds, logits) / total
    if mean.isnan().any():  # 0 * -inf: a token ruled out has no part in the entropy
        mean = torch.linalg.vecdot(odds, logits.clamp_(min=torch.finfo(logits.dtype).min)) / total
    return torch.stack([total.log() - log_odds, total.log() - mean, (log_odds == 0).float()], dim=1)


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
