"""From collected data to training data: clean, deduplicate, decontaminate, split, select.

    examples, dropped = clean(examples, count_tokens=token_counter(tokenizer), max_tokens=8192)
    examples, repeats = deduplicate(examples)
    examples, pairs = decontaminate(examples, benchmarks)
    training, held_out = split(examples, held_out=500, seed=0)
    chosen = select(training, 10_000, "longest", seed=0)  # or tokens=20_000_000

Functions take and return tables, with a table of what was dropped and why. Rows keep their order. Held-out examples are
split off before selection, so that every run of a study is evaluated on the same ones. Nothing depends on the order of
a set or on Python's hash seed, and everything is linear in the number of rows (sorting aside).
"""

import numpy as np
import pandas as pd

from sftrl.curate.lengths import CountTokens, check_lengths, example_lengths, prompt_lengths, token_counter
from sftrl.curate.overlap import contamination_table, decontaminate, overlaps, text_column
from sftrl.curate.selection import select
from sftrl.curate.text import keyed_hash, normalise
from sftrl.errors import InputError

__all__ = [
    "check_lengths",
    "clean",
    "contamination_table",
    "decontaminate",
    "deduplicate",
    "drop_unreadable",
    "example_lengths",
    "normalise",
    "overlaps",
    "prompt_lengths",
    "select",
    "split",
    "token_counter",
]


def clean(
    examples: pd.DataFrame,
    *,
    count_tokens: CountTokens | None = None,
    min_tokens: int = 1,
    max_tokens: int | None = None,
    final_answer: bool = True,
    verified: bool = False,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Drop useless or harmful SFT examples.

    In this order, each row under the first reason that holds: an empty prompt or response; a response that was cut off
    (it opens `<think>` and never closes it); a response without a final answer; a final answer that is not the gold
    one; a response of too few or too many tokens.

    Args:
        count_tokens: counts tokens of many texts, e.g. `token_counter(tokenizer)`; the result keeps the counts in the
            column `n_tokens`. Needed if there is a limit.
        min_tokens, max_tokens: limits for a response, both included; `max_tokens=None` is no limit.
        final_answer: whether a response must have one that `sftrl.verify.extract_answer` finds.
        verified: whether a response's final answer must equal the row's `answer`, by `sftrl.verify`. Of no worth where
            that answer was read from the response itself. Rows without an `answer` cannot be verified and are dropped.

    Returns:
        The rows kept, and a table `step, reason, dropped` of counts, one row a reason.
    """
    if count_tokens is None and (max_tokens is not None or min_tokens > 1):
        raise InputError("a limit in tokens needs `count_tokens`")
    examples = examples.reset_index(drop=True)
    if max_tokens is not None and max_tokens < min_tokens:
        raise InputError(f"max_tokens={max_tokens} is below min_tokens={min_tokens}")
    prompt, response = (examples[column].fillna("").astype(str) for column in ("prompt", "response"))
    reason = pd.Series("", examples.index)

    def drop(bad: pd.Series | np.ndarray, why: str) -> None:
        reason[(reason == "") & bad] = why

    drop((prompt.str.strip() == "") | (response.str.strip() == ""), "empty prompt or response")
    drop(response.str.rfind("<think>") > response.str.rfind("</think>"), "cut off while thinking")
    if final_answer or verified:
        from sftrl.verify import extract_answer

        left = reason == ""
        without = response[left].map(lambda text: extract_answer(text) is None)
        drop(without.reindex(examples.index, fill_value=False), "no final answer")
    if verified:
        from sftrl.verify import verify_many

        if examples["answer"].isna().all():
            raise InputError("verified: no example has a gold answer; leave `verified` out, or map `answer`")
        drop(examples["answer"].isna(), "no gold answer to verify against")
        left = reason == ""
        verdicts = verify_many(list(response[left]), list(examples.loc[left, "answer"]))
        wrong = pd.Series([not verdict.correct for verdict in verdicts], examples.index[left], dtype=bool)
        drop(wrong.reindex(examples.index, fill_value=False), "final answer is not the gold answer")
    if count_tokens is not None:
        examples["n_tokens"] = np.asarray(count_tokens(list(response)), dtype=np.int64)
        drop(examples["n_tokens"] < min_tokens, f"fewer than {min_tokens} tokens")
        if max_tokens is not None:
            drop(examples["n_tokens"] > max_tokens, f"more than {max_tokens} tokens")
    return examples[reason == ""].reset_index(drop=True), _report("clean", reason)


def _report(step: str, reason: pd.Series) -> pd.DataFrame:
    counts = reason[reason != ""].value_counts(sort=False)
    return pd.DataFrame({"step": step, "reason": counts.index, "dropped": counts.to_numpy()})


def drop_unreadable(problems: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Drop the problems whose gold answer `sftrl.verify` cannot parse: no response to them could be rewarded.

    For RL sets of tens of thousands, where one such row should not end a job. A benchmark is scored as published.

    Args:
        problems: rows of `check_problems`.

    Returns:
        The rows kept, and a table `step, reason, dropped`.
    """
    from sftrl.verify import verify_many

    problems = problems.reset_index(drop=True)
    golds = {
        name: list(problems[name]) if name in problems else [None] * len(problems)
        for name in ("answer_type", "choices", "tolerance")
    }
    verdicts = verify_many(
        [f"\\boxed{{{answer}}}" for answer in problems["answer"]], list(problems["answer"]),
        answer_types=golds["answer_type"], choices=golds["choices"], tolerance=golds["tolerance"],
    )  # fmt: skip
    unreadable = np.array([verdict.status == "unparseable_gold" for verdict in verdicts], dtype=bool)
    reason = pd.Series(np.where(unreadable, "gold answer cannot be read", ""), problems.index, dtype=object)
    return problems[~unreadable].reset_index(drop=True), _report("drop_unreadable", reason)


def deduplicate(table: pd.DataFrame, *, keep: int = 1) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Keep the first `keep` rows of every prompt (or problem), compared by `normalise`.

    Args:
        table: SFT examples or problems.
        keep: more than 1 keeps several responses to one prompt; a response that occurs twice is dropped all the same.

    Returns:
        The rows kept, and a table `step, reason, dropped`; repeats whose `answer` differs from the kept row's are
        counted apart, because one of the two is wrong.
    """
    if keep < 1:
        raise InputError(f"keep={keep}: at least one row of each prompt is kept")
    table = table.reset_index(drop=True)
    prompt = pd.Series(pd.factorize(table[text_column(table)].map(normalise))[0], table.index)
    reason = pd.Series("", table.index)
    if "response" in table:
        again = pd.DataFrame({"prompt": prompt, "response": table["response"]}).duplicated()
        reason[again] = "same prompt and response"
    order = (reason == "").groupby(prompt).cumsum()
    reason[(reason == "") & (order > keep)] = "same prompt"
    if "answer" in table:
        kept = table["answer"].groupby(prompt).transform("first")
        reason[(reason != "") & table["answer"].notna() & (table["answer"] != kept)] = "same prompt, other answer"
    return table[reason == ""].reset_index(drop=True), _report("deduplicate", reason)


def split(examples: pd.DataFrame, held_out: int | float, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Split off held-out examples, for the generalization loss: the same distribution, and no prompt on both sides.

    A prompt's side is drawn by a hash of its normalised text, so that rows of one prompt stay together, and neither the
    order of the rows nor later selections matter.

    Args:
        held_out: a share in (0, 1): each prompt is held out with that probability, and keeps its side for good,
            whatever data is added; or a number of prompts: those with the smallest hashes, so that added data can
            replace held-out prompts but never move a training prompt to the held-out side.
        seed: another seed draws another split.

    Returns:
        Training examples and held-out examples, each in the order given.

    Raises:
        InputError: one side would be empty.
    """
    prompts = examples[text_column(examples)].map(normalise)
    hashes = pd.Series(keyed_hash(prompts, seed, "split"), examples.index)
    distinct = np.sort(hashes.unique())
    if isinstance(held_out, bool) or held_out <= 0 or (isinstance(held_out, float) and held_out >= 1):
        raise InputError(f"held_out={held_out}: give a number of prompts, or a share between 0 and 1")
    if isinstance(held_out, float):
        aside = hashes < np.uint64(min(int(held_out * 2.0**64), 2**64 - 1))
    elif held_out >= len(distinct):
        raise InputError(
            f"held_out={held_out}: there are {len(distinct)} distinct prompts, and some must be trained on"
        )
    else:
        aside = hashes <= distinct[held_out - 1]
    if aside.all() or not aside.any():
        raise InputError(f"held_out={held_out} of {len(distinct)} distinct prompts leaves one side empty")
    return examples[~aside].reset_index(drop=True), examples[aside].reset_index(drop=True)
