"""Samples drawn by another harness become a store, to be graded, counted and ranked like any other.

    problems = import_samples("runs/mine/a", ["samples_gsm8k_2025-06-01T10-20-30.123456.jsonl"])
    grade("runs/mine/a", problems)

What a file does not record (seeds; often token counts and why a response ended) is null in the store, and the rates
that need it are NaN. Files are read twice, once to check them and once to store them, a row at a time.
"""

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd
from transformers import PreTrainedTokenizerBase

from sftrl.errors import InputError
from sftrl.files import hash_path
from sftrl.generations.harnesses import READERS, Sampled, format_of
from sftrl.generations.store import Problem, Store

PART_ROWS = 4096


def import_samples(
    folder: str | Path,
    files: Sequence[str | Path],
    format: str | None = None,
    *,
    tokenizer: PreTrainedTokenizerBase | None = None,
    problems: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Make a store of one checkpoint's samples.

    Args:
        folder: the store; made if absent.
        files: what the harness wrote, one file a task.
        format: `lm_eval`, `lighteval`, `inspect` or `jsonl`; by default inferred from the files' names.
        tokenizer: the model's. With it, token counts that a file lacks are known to within the few tokens by which
            encoding the text anew may differ.
        problems: problem rows with golds of one's own, in the place of the files'; the same ids, all of them sampled.

    Returns:
        The problem rows for `grade` and `summarise`: `benchmark, id, problem, answer`, and `alternatives`, further
        answers that are right too, where a problem has some.

    Raises:
        InputError: a file that is not of its kind (named, with its line or row), a sample that is there twice, a
            problem without gold, or other problems than those given.
    """
    problems = read_problems(files, format, problems=problems)
    formats = _formats(files, format)
    count_tokens = tokenizer and (lambda text: len(tokenizer(text, add_special_tokens=False)["input_ids"]))
    key = {"engine": {"name": "/".join(sorted(set(formats.values())))}}
    key["files"] = {path.name: hash_path(path) for path in formats}
    with Store.open(folder, key) as store:
        new = (row for row in _rows(formats, count_tokens) if (*row[:2], row[4]) not in store)
        while part := list(itertools.islice(new, PART_ROWS)):
            store.append(_table(part))
    return problems


def read_problems(
    files: Sequence[str | Path],
    format: str | None = None,
    *,
    problems: pd.DataFrame | None = None,
    samples: int = 1,
) -> pd.DataFrame:
    """Check what `import_samples` would import, and return its problem rows; nothing is written.

    Args:
        files, format, problems: as `import_samples` takes them.
        samples: how many each problem must have at least.

    Raises:
        InputError: as `import_samples`; too few samples, with the smallest number that there is.
    """
    formats = _formats(files, format)
    found, have = _check(formats)
    if problems is None:
        problems = _problems(found)
    else:
        problems = problems[problems["benchmark"].astype(str).isin({benchmark for benchmark, _ in found})]
        _same(found, _names(problems), f"{next(iter(formats)).parent}", "the problems given")
    fewest = min(have, key=lambda name: have[name].bit_count())
    if (there := have[fewest].bit_count()) < samples:
        raise InputError(f"{fewest[0]} {fewest[1]}: has {there} samples, and `samples` asks for {samples}")
    return problems


def _formats(files: Sequence[str | Path], format: str | None) -> dict[Path, str]:
    paths = [Path(path) for path in files]
    for path in paths:
        if not path.is_file():
            raise InputError(f"{path}: no such file")
    if format is not None and format not in READERS:
        raise InputError(f"format: {format!r} is not one of {', '.join(READERS)}")
    return {path: format or format_of(path) for path in paths}


def require_same_problems(problems: dict[str, pd.DataFrame]) -> None:
    """Raise an error for runs that were sampled on different problems: their scores are not comparable.

    Args:
        problems: by run, what `read_problems` or `import_samples` returned.

    Raises:
        InputError: a problem that one run has and another lacks, or that has another gold there; all are named.
    """
    first, *others = problems
    for other in others:
        a, b = _names(problems[first]), _names(problems[other])
        _same(a, b, first, other)
        changed = [name for name in a if a[name] != b[name]]
        if changed:
            (benchmark, problem), name = changed[0], changed[0]
            raise InputError(
                f"{benchmark} {problem}: the gold is {a[name]!r} in {first} and {b[name]!r} in {other} "
                f"({len(changed)} problems differ)"
            )


def _rows(formats: dict[Path, str], count_tokens=None) -> Iterator[Sampled]:
    """Yield all samples, each with its index."""
    following: dict[Problem, int] = {}
    for path, name in formats.items():
        for row in READERS[name](path, count_tokens):
            problem = row[:2]
            index = following.get(problem, 0) if row.sample_index is None else row.sample_index
            following[problem] = index + 1
            yield row._replace(sample_index=index)


def _check(formats: dict[Path, str]) -> tuple[dict[Problem, tuple[str, tuple[str, ...]]], dict[Problem, int]]:
    """Read all files; return each problem's text and golds, and the indices of its samples as the bits of a number."""
    found: dict[Problem, tuple[str, tuple[str, ...]]] = {}
    have: dict[Problem, int] = {}
    for row in _rows(formats):
        name, given = row[:2], (row.problem, row.golds)
        if found.setdefault(name, given)[1] != row.golds:
            raise InputError(f"{name[0]} {name[1]}: has the golds {found[name][1]} and {row.golds}")
        if have.get(name, 0) >> row.sample_index & 1:
            raise InputError(
                f"{name[0]} {name[1]}: sample {row.sample_index} is there twice; do two of the files hold one task?"
            )
        have[name] = have.get(name, 0) | 1 << row.sample_index
    if not found:
        raise InputError(f"{', '.join(map(str, formats))}: no samples")
    return found, have


def _problems(found: dict[Problem, tuple[str, tuple[str, ...]]]) -> pd.DataFrame:
    for (benchmark, problem), (_, golds) in found.items():
        if not golds:
            raise InputError(f"{benchmark} {problem}: no gold; give the problems with theirs")
    table = pd.DataFrame(
        [(*name, text, golds[0]) for name, (text, golds) in found.items()],
        columns=["benchmark", "id", "problem", "answer"],
    )
    others = [list(golds[1:]) or None for _, golds in found.values()]
    return table.assign(alternatives=others) if any(others) else table


def _names(problems: pd.DataFrame) -> dict[Problem, str]:
    names = zip(problems["benchmark"].astype(str), problems["id"].astype(str), strict=True)
    return dict(zip(names, problems["answer"].astype(str), strict=True))


def _same(ours: dict, theirs: dict, our_name: str, their_name: str) -> None:
    for a, b, there, absent in ((ours, theirs, our_name, their_name), (theirs, ours, their_name, our_name)):
        alone = [name for name in a if name not in b]
        if alone:
            raise InputError(
                f"{alone[0][0]} {alone[0][1]}: in {there}, not in {absent} ({len(alone)} such problems of {len(a)})"
            )


def _table(rows: list[Sampled]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "benchmark": [row.benchmark for row in rows],
            "problem_id": [row.problem_id for row in rows],
            "sample_index": [row.sample_index for row in rows],
            "seed": pd.array([None] * len(rows), dtype="Int64"),
            "response": [row.response for row in rows],
            "n_tokens": pd.array([row.n_tokens for row in rows], dtype="Int32"),
            "finish_reason": [{None: None, True: "length", False: "stop"}[row.cut] for row in rows],
        }
    )
