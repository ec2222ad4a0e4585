"""Samples that another harness has drawn become a store, to be graded, counted and ranked like any other.

`import_lm_eval` reads what lm-evaluation-harness writes with `--log_samples`; `import_lighteval` reads what lighteval
writes with `--save-details`. Both return the problems, with the gold answers of the files, for `grade` and
`summarise`. What a file does not tell (seeds; with lm-evaluation-harness, token counts) is null in the store, and the
rates that need it are NaN.
"""

import ast
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from transformers import PreTrainedTokenizerBase

from sftrl.errors import InputError
from sftrl.files import hash_path, read_table
from sftrl.generations.store import Store
from sftrl.verify import extract_answer


class Sampled(NamedTuple):
    """A problem with what was sampled for it: token counts are None where unknown, `limit` is the longest allowed."""

    benchmark: str
    problem_id: str
    problem: str
    answer: str
    responses: list[str]
    n_tokens: list[int] | None
    limit: int | None


def import_lm_eval(
    folder: str | Path, files: Sequence[str | Path], tokenizer: PreTrainedTokenizerBase | None = None
) -> pd.DataFrame:
    """Make a store of `samples_<task>_<date>.jsonl` files of generated (not log-likelihood) tasks.

    Args:
        folder: the store; made if absent.
        files: one file a task. Where `repeats` is n, a problem has n samples.
        tokenizer: the model's. With it, token counts and truncation are known to within the few tokens by which
            encoding the text anew may differ.

    Returns:
        The problem rows: `benchmark` is the task, `id` the `doc_id`, `problem` the whole prompt.

    Raises:
        InputError: a file that is not of this kind (named, with its line), or two files of one task.
    """
    return _import(folder, files, "lm-evaluation-harness", lambda path: _lm_eval(Path(path), tokenizer))


def import_lighteval(folder: str | Path, files: Sequence[str | Path]) -> pd.DataFrame:
    """Make a store of `details_<task>_<date>.parquet` files of generative tasks.

    Args:
        folder: the store; made if absent.
        files: one file a task.

    Returns:
        The problem rows: `benchmark` is the task, `id` the row's number in the file.

    Raises:
        InputError: a file that is not of this kind (named, with its row), or two files of one task.
    """
    return _import(folder, files, "lighteval", lambda path: _lighteval(Path(path)))


def _import(folder, files, harness: str, read) -> pd.DataFrame:
    sampled = [row for path in files for row in read(path)]
    problems = pd.DataFrame(
        [(row.benchmark, row.problem_id, row.problem, row.answer) for row in sampled],
        columns=["benchmark", "id", "problem", "answer"],
    )
    twice = problems[problems.duplicated(["benchmark", "id"])]
    if len(twice):
        raise InputError(f"{twice.iloc[0]['benchmark']}: two of the files hold samples of this task; give one")
    key = {"engine": {"name": harness}, "files": {Path(path).name: hash_path(path) for path in files}}
    with Store.open(folder, key) as store:
        known = {(row.benchmark, row.problem_id): row for row in sampled}
        counts = [len(row.responses) for row in sampled]
        rows = [(known[b, p], i) for b, p, i in store.missing(list(known), counts)]
        if rows:
            store.append(_rows(rows))
    return problems


def _rows(rows: list[tuple[Sampled, int]]) -> pd.DataFrame:
    tokens = [None if row.n_tokens is None else row.n_tokens[i] for row, i in rows]
    cut = [None if n is None or row.limit is None else n >= row.limit for n, (row, _) in zip(tokens, rows, strict=True)]
    return pd.DataFrame(
        {
            "benchmark": [row.benchmark for row, _ in rows],
            "problem_id": [row.problem_id for row, _ in rows],
            "sample_index": [i for _, i in rows],
            "seed": pd.array([None] * len(rows), dtype="Int64"),
            "response": [row.responses[i] for row, i in rows],
            "n_tokens": pd.array(tokens, dtype="Int32"),
            "finish_reason": [{None: None, True: "length", False: "stop"}[c] for c in cut],
        }
    )


def _lm_eval(path: Path, tokenizer: PreTrainedTokenizerBase | None) -> Iterator[Sampled]:
    task = _task(path, r"samples_(.+)_\d{4}-\d\d-\d\dT[^_]*\.jsonl")
    seen = set()
    for number, line in enumerate(path.read_text().splitlines(), 1):
        try:
            row = json.loads(line)
            arguments = row["arguments"]
            # A request's arguments: (prompt, options), a dict of numbered ones in newer versions.
            first = arguments["gen_args_0"] if isinstance(arguments, dict) else arguments[0]
            prompt, options = (first["arg_0"], first["arg_1"]) if isinstance(first, dict) else first
            (responses,) = row["resps"]
            name, target = str(row["doc_id"]), str(row["target"])
        except (json.JSONDecodeError, KeyError, IndexError, TypeError, ValueError) as error:
            raise InputError(f"{path}, line {number}: not a logged sample of a generated task ({error!r})") from None
        if not isinstance(options, dict) or not all(isinstance(response, str) for response in responses):
            raise InputError(f"{path}, line {number}: holds log-likelihoods, not generated text")
        if name in seen:
            continue  # the same responses again, under another answer filter
        seen.add(name)
        n_tokens = tokenizer and [len(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in responses]
        yield Sampled(task, name, prompt, _gold(target), responses, n_tokens, options.get("max_gen_toks"))


def _lighteval(path: Path) -> Iterator[Sampled]:
    task = re.sub(r"(\|\d+)+$", "", _task(path, r"details_(.+)_\d{4}-\d\d-\d\dT.*\.parquet")).split("|")[-1]
    for number, row in enumerate(read_table(path).to_dict("records")):
        try:
            if "model_response" in row:
                doc, response = row["doc"], row["model_response"]
                problem, limit = doc["query"], doc.get("generation_size")
                golds = [doc["choices"][i] for i in _listed(doc["gold_index"])]
                responses, tokens = _listed(response["text"]), response["output_tokens"]
            else:  # before version 0.11
                problem, limit = row["full_prompt"], None
                golds = _listed(row["gold"])
                responses, tokens = _listed(row["predictions"]), None
            answer = _gold(str(golds[0]))
            n_tokens = None if tokens is None or not len(tokens) else [len(ids) for ids in tokens]
            if n_tokens is not None and len(n_tokens) != len(responses):
                raise ValueError(f"{len(responses)} texts, {len(n_tokens)} lists of tokens")
        except (KeyError, IndexError, TypeError, ValueError, SyntaxError) as error:
            raise InputError(f"{path}, row {number}: not the details of a generative task ({error!r})") from None
        limit = None if pd.isna(limit) else int(limit)
        yield Sampled(task, str(number), problem, answer, [str(text) for text in responses], n_tokens, limit)


def _task(path: Path, pattern: str) -> str:
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    if not (match := re.fullmatch(pattern, path.name)):
        raise InputError(f"{path}: not named as this harness names such files")
    return match[1]


def _gold(target: str) -> str:
    """Return the final answer of a gold that may be a worked solution."""
    return (extract_answer(target) if "####" in target or "\\boxed" in target else None) or target.strip()


def _listed(value: object) -> list:
    """Return a list for one value, an array, or a list that was saved as its text."""
    if isinstance(value, str):
        parsed = ast.literal_eval(value) if value.startswith("[") else value
        return parsed if isinstance(parsed, list) else [parsed]
    return list(value) if isinstance(value, Iterable) else [value]
