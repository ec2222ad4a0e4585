"""Which training rows contain which benchmark problems: exact matches, and shared n-grams that are not boilerplate.

Two texts overlap **exactly** if they normalise to the same text. They overlap by **n-grams** if the training text holds
most of the problem's n-grams, each weighted by its inverse document frequency: what many texts say ("how many of the
... are there? express your answer as a common fraction") weighs little, what only these two say weighs much. A share is
taken of the whole problem, so that a problem copied into many rows keeps its share of 1 however frequent its n-grams
have become. An n-gram overlap whose numbers differ is a **template**: the same question about other numbers. Its answer
does not leak, but its method does.

Time is linear in the text. Only n-grams of the benchmarks are kept; training text streams past them in chunks.
"""

from collections import Counter
from collections.abc import Iterator
from itertools import chain, repeat

import numpy as np
import pandas as pd

from sftrl.curate.text import normalise
from sftrl.errors import InputError

CHUNK = 20_000  # training texts at a time: bounds memory, changes no result
RULES = ("exact", "ngram", "template")
INSTRUCTION = 40  # tokens that an instruction beside the problem may have, where that matters
PAIR_COLUMNS = ["training_id", "benchmark", "problem_id", "rule", "share"]


def overlaps(training: pd.DataFrame, problems: pd.DataFrame, *, n: int = 8, share: float = 0.5) -> pd.DataFrame:
    """List every overlapping pair of a training row and a benchmark problem.

    Args:
        training: SFT examples (their `prompt` is compared) or RL problems (their `problem`).
        problems: benchmark problems, of one or several benchmarks.
        n: tokens in an n-gram; a problem shorter than n can only match exactly, one shorter than 2n only whole.
        share: smallest weighted share of a problem's n-grams that counts, in (0, 1]. n and share are chosen here;
            `docs/data.md` says what they find on real sets.

    Returns:
        One row a pair, in the order of the training rows: `training_id, benchmark, problem_id, rule` ("exact", "ngram",
        or "template": an n-gram overlap where the training text lacks a number of the problem), `share` (1 if exact).
    """
    if n < 1 or not 0 < share <= 1:
        raise InputError(f"an overlap needs n >= 1 and a share in (0, 1], not n={n}, share={share}")
    rows, texts = pd.factorize(training[text_column(training)].map(normalise))
    targets, target_texts = pd.factorize(problems["problem"].map(normalise))
    texts, target_texts = pd.Index(texts), pd.Index(target_texts)

    same = target_texts.get_indexer(texts)
    exact = pd.DataFrame({"text": np.flatnonzero(same >= 0), "target": same[same >= 0], "rule": "exact", "share": 1.0})
    near = _not_in_passing(_ngram_overlaps(texts, target_texts, n, share), texts, target_texts, n)
    near["rule"] = [
        "ngram" if _numbers(target_texts[target]) <= _numbers(texts[text]) else "template"
        for text, target in zip(near["text"], near["target"], strict=True)
    ]
    pairs = pd.concat([exact, near]).drop_duplicates(["text", "target"])

    # From distinct texts back to rows and problems.
    pairs = pairs.merge(pd.DataFrame({"text": rows, "row": np.arange(len(rows))}), on="text")
    pairs = pairs.merge(pd.DataFrame({"target": targets, "problem": np.arange(len(targets))}), on="target")
    pairs = pairs.sort_values(["row", "problem"], ignore_index=True)
    pairs["training_id"] = training["id"].to_numpy()[pairs["row"]]
    pairs["benchmark"] = problems["benchmark"].to_numpy()[pairs["problem"]]
    pairs["problem_id"] = problems["id"].to_numpy()[pairs["problem"]]
    return pairs[PAIR_COLUMNS]


def decontaminate(
    table: pd.DataFrame, problems: pd.DataFrame, *, n: int = 8, share: float = 0.5
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Drop the training rows that overlap with any of the problems. Benchmarks are never changed.

    Returns:
        The rows kept, and the pairs that `overlaps` found, one row a pair.
    """
    pairs = overlaps(table, problems, n=n, share=share)
    return table[~table["id"].isin(pairs["training_id"])].reset_index(drop=True), pairs


def contamination_table(
    training: dict[str, pd.DataFrame], problems: pd.DataFrame, *, n: int = 8, share: float = 0.5
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Count the overlaps of every training set with every benchmark, and of the training sets with each other.

    Args:
        training: SFT and RL sets by name, the largest first: each is also compared with those after it.
        problems: benchmark problems, of one or several benchmarks.

    Returns:
        A table with a row for each training set and benchmark: `training, benchmark, problems` (in the benchmark),
        `exact, ngram, template` (problems that overlap so, each counted once, by the first of these), `contaminated`
        (their share of the problems), `rows` (training rows concerned); and the pairs of `overlaps`, with their set in
        front. A training set stands as a `benchmark` for those before it in `training`.
    """
    counts, found = [], []
    names = list(training)
    for i, name in enumerate(names):
        others = {other: _as_problems(training[other], other) for other in names[i + 1 :]}
        against = pd.concat([*others.values(), problems[["id", "benchmark", "problem"]]], ignore_index=True)
        pairs = overlaps(training[name], against, n=n, share=share)
        found.append(pairs.assign(training=name))
        for benchmark, total in against.groupby("benchmark", sort=False).size().items():
            of = pairs[pairs["benchmark"] == benchmark]
            rules = of.groupby("problem_id")["rule"].min().value_counts()  # their names sort by how much leaks
            counts.append(
                {
                    "training": name,
                    "benchmark": benchmark,
                    "problems": total,
                    **{rule: int(rules.get(rule, 0)) for rule in RULES},
                    "contaminated": rules.sum() / total,
                    "rows": of["training_id"].nunique(),
                }
            )
    pairs = pd.concat(found, ignore_index=True)
    return pd.DataFrame(counts), pairs[["training", *pairs.columns.drop("training")]]


def _as_problems(table: pd.DataFrame, name: str) -> pd.DataFrame:
    return pd.DataFrame({"id": table["id"], "benchmark": name, "problem": table[text_column(table)]})


def text_column(table: pd.DataFrame) -> str:
    """Return the column that holds the question: `prompt` of SFT examples, `problem` of problems."""
    for column in ("prompt", "problem"):
        if column in table.columns:
            return column
    raise InputError(f"a table of problems or examples has a column 'problem' or 'prompt', not {list(table.columns)}")


def _not_in_passing(pairs: pd.DataFrame, texts: pd.Index, targets: pd.Index, n: int) -> pd.DataFrame:
    """Drop the pairs whose problem is so short that others contain it by chance: "which of these is the smallest?".

    A problem of fewer than 2n tokens must occur whole, in a text that adds no more than an instruction to it.
    """
    length = np.array([targets[target].count(" ") + 1 for target in pairs["target"]])
    added = np.array([texts[text].count(" ") + 1 for text in pairs["text"]]) - length
    return pairs[(length >= 2 * n) | ((pairs["share"] == 1) & (added <= INSTRUCTION))].copy()


def _numbers(text: str) -> Counter:
    return Counter(token for token in text.split() if token[0].isdigit())


def _ngram_overlaps(texts: pd.Index, targets: pd.Index, n: int, share: float) -> pd.DataFrame:
    """Return the pairs (text, target) whose weighted share of the target's n-grams reaches `share`."""
    nothing = pd.DataFrame({"text": [], "target": [], "share": []}).astype({"text": int, "target": int})
    if not len(texts) or not len(targets):
        return nothing
    vocabulary = {token: i for i, token in enumerate(dict.fromkeys(t for text in targets for t in text.split()), 1)}
    values = np.random.default_rng(0).integers(0, 2**64, len(vocabulary) + 1, dtype=np.uint64)

    [(owner, hashes)] = _grams(targets, vocabulary, values, n, len(targets))
    grams, gram = np.unique(hashes, return_inverse=True)
    if not len(grams):  # no problem is n tokens long
        return nothing
    order = np.argsort(gram, kind="stable")
    owner, gram = owner[order], gram[order]  # targets sorted by their grams ...
    start = np.searchsorted(gram, np.arange(len(grams) + 1))  # ... the targets of gram g: owner[start[g]:start[g + 1]]

    chunks = []
    frequency = np.diff(start)
    for text, hashes in _grams(texts, vocabulary, values, n, CHUNK):
        position = np.searchsorted(grams, hashes)
        position[position == len(grams)] = 0
        known = grams[position] == hashes
        chunks.append((text[known], position[known]))
        frequency = frequency + np.bincount(position[known], minlength=len(grams))

    weight = np.log((2 + len(texts) + len(targets)) / (1 + frequency))
    total = np.bincount(owner, weight[gram], minlength=len(targets))
    pairs = []
    for text, position in chunks:
        counts = start[position + 1] - start[position]
        first = np.repeat(start[position], counts)
        target = owner[first + np.arange(len(first)) - np.repeat(np.cumsum(counts) - counts, counts)]
        key, inverse = np.unique(np.repeat(text, counts) * len(targets) + target, return_inverse=True)
        shared = np.bincount(inverse, np.repeat(weight[position], counts), minlength=len(key))
        text, target = np.divmod(key, len(targets))
        shares = shared / total[target]
        keep = shares >= share - 1e-9
        pairs.append(pd.DataFrame({"text": text[keep], "target": target[keep], "share": shares[keep]}))
    return pd.concat(pairs).round({"share": 4})


def _grams(
    texts: pd.Index, vocabulary: dict[str, int], values: np.ndarray, n: int, chunk: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield, chunk by chunk, the distinct (text, n-gram) pairs: text numbers and the n-grams' 64-bit hashes.

    Only n-grams of known tokens: others cannot be a benchmark's. A hash is a sum of random values of the tokens, each
    times an odd number for its place; that two of the n-grams met share one has a chance of about 1 in a million.
    """
    places = np.random.default_rng(1).integers(0, 2**63, n, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
    for begin in range(0, len(texts), chunk):
        split = [text.split() for text in texts[begin : begin + chunk]]
        lengths = [len(text) for text in split]
        known = map(vocabulary.get, chain.from_iterable(split), repeat(0))
        ids = np.fromiter(known, np.int64, sum(lengths))
        text = np.repeat(np.arange(begin, begin + len(split)), lengths)
        windows = max(len(ids) - n + 1, 0)
        unknown = np.concatenate([[0], np.cumsum(ids == 0)])
        whole = (text[:windows] == text[n - 1 :]) & (unknown[n:] == unknown[:-n])
        hashes = np.zeros(windows, np.uint64)
        for place in range(n):
            hashes += values[ids[place : place + windows]] * places[place]
        pairs = pd.DataFrame({"text": text[:windows][whole], "hash": hashes[whole]}).drop_duplicates()
        yield pairs["text"].to_numpy(), pairs["hash"].to_numpy()
