"""Negative log-likelihood of responses, and of nothing else: the generalization loss of held-out SFT examples.

The loss is the sum over response tokens, EOS included, over their number; the prompt only conditions. It does not
depend on how examples are batched: they are sorted by length, padded on the right (a causal model never sees what
follows, so no mask is needed), and each token's value is summed by example in double precision.

The same pass gives the entropy of each next-token distribution and, with a reference, how far it is from another
model's. `logits.py` says how the logits are had without holding them whole.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from sftrl.chat import encode_example
from sftrl.errors import InputError
from sftrl.loss.logits import CHUNK_LOGITS, TOKEN_BUDGET, Example, batches, borders, evaluating, pad, place, reader
from sftrl.progress import Progress

__all__ = ["CHUNK_LOGITS", "TOKEN_BUDGET", "ResponseLoss", "response_loss"]

LONE_SURROGATE = re.compile("[\ud800-\udfff]")  # of no character; tokenizers raise a bare TypeError


@dataclass(frozen=True)
class ResponseLoss:
    """What the responses of some examples cost a model, in nats.

    `per_example` has a row for each example used, in the order given: `id, n_tokens, n_bytes, nll_sum, per_token,
    entropy, token_accuracy`, and `kl` where there was a reference.
    """

    nll_sum: float
    n_tokens: int  # response tokens, EOS included
    n_bytes: int  # UTF-8 bytes of the response texts
    entropy: float  # of the next-token distribution, mean over response tokens, nats
    token_accuracy: float  # share of response tokens than which none was likelier
    per_example: pd.DataFrame
    skipped: tuple[str, ...]  # ids of the examples left out as too long
    kl: float | None = None  # KL(model || reference) of the next-token distributions, mean over response tokens, nats

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
        """Bits per byte of response text, including the loss of EOS: comparable between tokenizers."""
        return self.nll_sum / math.log(2) / self.n_bytes


def response_loss(
    model,
    tokenizer,
    examples: Sequence[Mapping] | pd.DataFrame,
    *,
    token_budget: int | None = None,
    max_length: int | None = None,
    too_long: Literal["error", "skip"] = "error",
    reference=None,
    progress: Callable[[str], None] | None = None,
) -> ResponseLoss:
    """Measure a causal language model's loss on the responses of examples.

    Args:
        model: a causal language model of transformers, on any device, in any dtype.
        tokenizer: its tokenizer; `sftrl.chat.encode_example` says what tokens an example becomes.
        examples: rows with `id, prompt, response`; of a rollout also `finish_reason`, since one that was cut off
            (`length`) has no EOS.
        token_budget: the most tokens, padding included, of one forward pass; a longer example goes alone. Default:
            1,024 on CPU, 16,384 elsewhere.
        max_length: the most tokens of an example, if fewer than the model's context.
        too_long: what to do with an example beyond that: raise, or leave it out and list it in `skipped`.
        reference: another model that reads the same tokens, to take the KL divergence from.
        progress: takes a line every half minute; None for silence.

    Raises:
        InputError: no example left; one without a field, without response, too long, with half a surrogate pair or with
            a token beyond the model's vocabulary; a loss that is not finite. It names the example. Or a token_budget or
            max_length below 1, or a reference with another number of tokens in its vocabulary.
    """
    for setting, value in (("token_budget", token_budget), ("max_length", max_length)):
        if value is not None and not (isinstance(value, int) and value >= 1):
            raise InputError(f"{setting} = {value!r}: a number of tokens, at least 1, is needed, or None")
    models = [model] if reference is None else [model, reference]
    sizes = [one.config.get_text_config().vocab_size for one in models]
    if len(set(sizes)) > 1:
        raise InputError(f"reference: its vocabulary has {sizes[1]} tokens, and the model's {sizes[0]}")
    token_budget, chunk = token_budget or TOKEN_BUDGET[place(model)], CHUNK_LOGITS[place(model)] // sizes[0]
    encoded, skipped = _encode(model, tokenizer, examples, max_length, too_long)
    lengths = [len(example.ids) for example in encoded]
    said, done = Progress(sum(lengths), "tokens", progress), 0
    totals = np.zeros((len(encoded), 2 + len(models)))  # nll, entropy, right tokens and, from a reference, kl, summed
    with evaluating(*models), torch.inference_mode():
        read = [reader(one, chunk) for one in models]
        for batch in batches(lengths, token_budget):
            ids, rows, columns = pad([encoded[i] for i in batch], tokenizer.eos_token_id)
            targets = ids[rows, columns].to(model.device).split(max(1, chunk))
            logits = zip(*(one(ids, rows, columns) for one in read), strict=True)
            parts = [_score(right, *both) for right, both in zip(targets, logits, strict=True)]
            values = torch.cat(parts).double().cpu().numpy()
            for part, owner in zip(np.split(values, borders(rows)), batch, strict=True):
                totals[owner] = part.sum(axis=0)
                if not np.isfinite(totals[owner, 0]):
                    raise InputError(f"example {encoded[owner].name}: the model's loss on it is {totals[owner, 0]}")
            done += sum(lengths[i] for i in batch)
            said.at(done)
    return _collect(encoded, totals, skipped)


def _encode(model, tokenizer, examples, max_length, too_long) -> tuple[list[Example], tuple[str, ...]]:
    """Encode every example before the model runs, so that invalid input costs nothing."""
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
        if row.get("finish_reason") == "length":
            ids = ids[:-1]
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
        encoded.append(Example(name, ids, prompt_length, len(response.encode())))
    if not encoded:
        raise InputError(f"no examples left: all {len(rows)} are longer than {limit} tokens")
    return encoded, tuple(skipped)


def _collect(encoded: list[Example], totals: np.ndarray, skipped: tuple[str, ...]) -> ResponseLoss:
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
    if totals.shape[1] > 3:
        table["kl"] = totals[:, 3] / n_tokens
    # Sums that round the same in any order of the examples.
    nll, entropy, right, *kl = (math.fsum(column) for column in totals.T)
    count = int(n_tokens.sum())
    n_bytes = int(table["n_bytes"].sum())
    means = entropy / count, right / count
    return ResponseLoss(nll, count, n_bytes, *means, table, skipped, *(total / count for total in kl))


def _score(targets: Tensor, logits: Tensor, reference: Tensor | None = None) -> Tensor:
    """Return nll, entropy and whether no token was likelier than the target, (tokens, 3); with the reference's logits
    also the KL divergence from it, (tokens, 4). Overwrites the logits."""
    logits -= logits.amax(dim=-1, keepdim=True)
    log_odds = logits.gather(1, targets[:, None])[:, 0]
    odds = logits.exp()
    total = odds.sum(dim=-1)
    mean = torch.linalg.vecdot(odds, logits) / total
    if mean.isnan().any():  # 0 * -inf: a token ruled out has no part in the entropy
        mean = torch.linalg.vecdot(odds, logits.clamp_(min=torch.finfo(logits.dtype).min)) / total
    values = [total.log() - log_odds, total.log() - mean, (log_odds == 0).float()]
    if reference is not None:
        theirs = reference.to(logits.device).log_softmax(dim=-1).masked_fill_(odds == 0, 0)
        values.append((mean - total.log() - torch.linalg.vecdot(odds, theirs) / total).clamp(min=0))  # below: rounding
    return torch.stack(values, dim=1)
