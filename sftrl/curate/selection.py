"""Which examples a run is trained on: by number, or by tokens."""

import numpy as np
import pandas as pd

from sftrl.curate.lengths import CountTokens
from sftrl.curate.text import keyed_hash
from sftrl.errors import InputError

SELECTIONS = ("random", "shortest", "longest", "mixed")


def select(
    examples: pd.DataFrame,
    n: int | None,
    how: str,
    seed: int,
    *,
    tokens: int | None = None,
    count_tokens: CountTokens | None = None,
) -> pd.DataFrame:
    """Choose training examples, as the paper's dataset- and instance-level studies do: n, or a budget of tokens.

    * `random`: in an order drawn by seed and id, so that a smaller set is the beginning of a larger one;
    * `shortest`, `longest`: by response tokens, ties in the random order; nested as well;
    * `mixed`: half of the shortest and half of the longest, as the paper's 10k + 10k (an odd one is short).

    At equal n, `shortest` sees a small part of the tokens that `longest` sees. With `tokens` in the place of n, each
    takes from its order as many examples as fit into so many response tokens (of `mixed`, each half into half): the
    budgets differ by less than one example.

    Args:
        examples: SFT examples with response lengths in the column `n_tokens` (`clean` leaves it), or else
            `count_tokens`. `random` needs neither for a number of examples.

    Raises:
        InputError: fewer than n examples or tokens are there, both or neither are requested, or `how` is none of these.
    """
    if how not in SELECTIONS:
        raise InputError(f"selection {how!r} is not one of {', '.join(SELECTIONS)}")
    if (n is None) == (tokens is None):
        raise InputError("a selection has a number of examples or a number of tokens, one of them")
    if n is not None and not 1 <= n <= len(examples):
        raise InputError(f"cannot select {n} examples ({how}): there are {len(examples)}")
    if examples["id"].duplicated().any():
        raise InputError(f"id {examples.loc[examples['id'].duplicated(), 'id'].iloc[0]!r} occurs twice")
    drawn = pd.DataFrame({"hash": keyed_hash(examples["id"], seed, "select"), "id": examples["id"].to_numpy()})
    if how != "random" or tokens is not None:
        drawn["length"] = _lengths(examples, how, count_tokens)
    if tokens is not None and not 1 <= tokens <= drawn["length"].sum():
        raise InputError(f"cannot select {tokens:,} tokens ({how}): there are {drawn['length'].sum():,}")

    def take(order: np.ndarray, half: int | None = None) -> np.ndarray:
        """Return a prefix of an order: n or the requested tokens, or one of two halves of it."""
        if n is not None:
            return order[: n if half is None else (n + 1 - half) // 2]
        budget = tokens if half is None else tokens // 2
        return order[: int(np.searchsorted(drawn["length"].to_numpy()[order].cumsum(), budget, side="right"))]

    orders = {
        "random": (["hash", "id"], [True, True]),
        "shortest": (["length", "hash", "id"], [True, True, True]),
        "longest": (["length", "hash", "id"], [False, True, True]),
    }
    order = {
        name: drawn.sort_values(keys, ascending=ascending).index.to_numpy()
        for name, (keys, ascending) in orders.items()
        if name == how or (how == "mixed" and name != "random")
    }
    if how == "mixed":
        short = take(order["shortest"], 0)
        # The longest of what the short half left, so that ties across the middle are chosen once.
        chosen = np.concatenate([short, take(order["longest"][~np.isin(order["longest"], short)], 1)])
    else:
        chosen = take(order[how])
    if len(chosen) == 0:
        raise InputError(f"cannot select {tokens:,} tokens ({how}): the first example alone has more")
    return examples.iloc[chosen].reset_index(drop=True)


def _lengths(examples: pd.DataFrame, how: str, count_tokens: CountTokens | None) -> np.ndarray:
    if "n_tokens" in examples:
        return examples["n_tokens"].to_numpy()
    if count_tokens is None:
        raise InputError(f"selection {how!r} needs response lengths: a column `n_tokens`, or `count_tokens`")
    return np.asarray(count_tokens(list(examples["response"])), dtype=np.int64)
