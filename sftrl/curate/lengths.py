"""Lengths of examples and prompts in tokens, as in training and sampling."""

from collections.abc import Callable

import numpy as np
import pandas as pd

from sftrl.chat import render_prompt
from sftrl.errors import InputError

CountTokens = Callable[[list[str]], list[int]]
CHUNK = 1000  # so that no more texts than these are held as ids


def _count(tokenizer, texts: list[str]) -> np.ndarray:
    counts = []
    for begin in range(0, len(texts), CHUNK):
        counts += map(len, tokenizer(texts[begin : begin + CHUNK], add_special_tokens=False)["input_ids"])
    return np.asarray(counts, dtype=np.int64)


def token_counter(tokenizer) -> CountTokens:
    """Return a function that counts the tokens of responses as SFT sees them: the text's own and the EOS token."""
    return lambda texts: (_count(tokenizer, texts) + 1).tolist()


def prompt_lengths(tokenizer, prompts: pd.Series) -> pd.Series:
    """Return the number of tokens that each prompt becomes, its template's included."""
    return pd.Series(_count(tokenizer, [render_prompt(tokenizer, prompt) for prompt in prompts]), prompts.index)


def example_lengths(tokenizer, examples: pd.DataFrame) -> pd.Series:
    """Return the number of tokens of each SFT example: prompt, response and EOS, as training packs them.

    A column `n_tokens`, as `clean` leaves it, is taken for the responses' lengths.
    """
    responses = examples["n_tokens"] if "n_tokens" in examples else token_counter(tokenizer)(list(examples["response"]))
    return prompt_lengths(tokenizer, examples["prompt"]) + responses


def check_lengths(lengths: pd.Series, limit: int, ids: pd.Series, what: str, key: str) -> None:
    """Raise an error that counts the rows that are too long.

    Args:
        lengths: tokens of each row.
        limit: the most that a row may have.
        ids: what to call the rows.
        what: what they are, for the message: `SFT examples`, say.
        key: the settings that the limit comes from: `sft.max_length`, say.

    Raises:
        InputError: says how many are too long, which is the longest, and at what limit none would be.
    """
    above = (lengths > limit).to_numpy()
    if above.any():
        longest = int(lengths.to_numpy().argmax())
        raise InputError(
            f"{what}: {above.sum():,} of {len(lengths):,} are longer than {limit:,} tokens ({key}); the longest, "
            f"{ids.iloc[longest]}, has {lengths.iloc[longest]:,}"
        )
