"""A made-up set with repeats, copies and faults through all of `curate`: what is kept, dropped and found, by id."""

import golden
import numpy as np
import pandas as pd

from sftrl.curate import (
    clean,
    contamination_table,
    deduplicate,
    drop_unreadable,
    normalise,
    overlaps,
    select,
    split,
)

TEXT = "a train leaves the town at noon with red blue green boxes and how many are left after each hour of work"


def questions(rng: np.random.Generator, count: int, length: int) -> list[str]:
    def words() -> str:
        return " ".join(rng.choice(TEXT.split(), rng.integers(length, 2 * length)))

    return [f"{words()} {rng.integers(9)} + {rng.integers(9)}?" for _ in range(count)]


def tables() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Examples, some about benchmark problems: copied, with another word, with other numbers, or inside a prompt."""
    rng = np.random.default_rng(7)
    short, long = questions(rng, 12, 5), questions(rng, 12, 12)
    problems = pd.DataFrame({"problem": [*short, *long], "benchmark": ["short"] * 12 + ["long"] * 12})
    problems["id"] = [f"p{i}" for i in range(len(problems))]
    prompts = questions(rng, 60, 8)
    for i, text in enumerate(problems["problem"]):
        words = text.split()
        words[int(rng.integers(len(words)))] = "other"
        inside = f"Answer briefly. {text} " * (1 + i % 3)
        asked = [text.upper() + " \n", " ".join(words), text.replace("+", "- 7 +"), inside]
        prompts.append(asked[i % 4])
    prompts += prompts[:20]
    responses = [f"<think>{'so ' * int(rng.integers(9))}</think> \\boxed{{{int(rng.integers(5))}}}" for _ in prompts]
    responses[5:8] = ["", "<think> and so", "I do not know"]
    examples = pd.DataFrame({"prompt": prompts, "response": responses})
    examples["answer"] = [None if i % 11 == 3 else str(int(rng.integers(5))) for i in range(len(prompts))]
    examples.loc[2, "prompt"] = " "
    return examples.assign(id=[f"e{i}" for i in range(len(examples))]), problems


def count_words(texts: list[str]) -> list[int]:
    return [len(text.split()) for text in texts]


def made() -> dict:
    examples, problems = tables()
    found: dict = {"normalised": [normalise(text) for text in examples["prompt"][55:90]]}
    for name, limits in {"loose": {}, "tight": {"min_tokens": 3, "max_tokens": 7, "verified": True}}.items():
        kept, dropped = clean(examples, count_tokens=count_words, **limits)
        found[f"clean, {name}"] = {"kept": kept["id"], "tokens": kept["n_tokens"], "dropped": dropped}
    kept, _ = clean(examples, count_tokens=count_words)
    for keep in (1, 2):
        unique, dropped = deduplicate(kept, keep=keep)
        found[f"unique, {keep}"] = {"kept": unique["id"], "dropped": dropped}
    for share in (7, 0.2):
        found[f"held out, {share}"] = [part["id"] for part in split(kept, share, seed=3)]
    for how in ("random", "shortest", "longest", "mixed"):
        found[how] = [select(kept, *of, how, 5, tokens=tokens)["id"] for of, tokens in (((9,), None), ((None,), 60))]
    for n, share in ((3, 0.5), (5, 0.3), (8, 0.7)):
        found[f"overlaps, {n}, {share}"] = overlaps(examples, problems, n=n, share=share)
    sets = {"sft": examples, "rl": problems.iloc[::3].assign(id=lambda t: "r" + t["id"])}
    found["table"] = list(contamination_table(sets, problems, n=4, share=0.4))
    golds = problems.assign(answer=["3", "x^2 +", "", r"\frac{1}{2}", "yes", "(1, 2"] * 4)
    found["readable"] = [drop_unreadable(golds)[0]["id"], drop_unreadable(golds)[1]]
    return found


def test_what_is_kept_dropped_and_found_is_as_before():
    assert not golden.changed("curate", golden.plain(made()))
