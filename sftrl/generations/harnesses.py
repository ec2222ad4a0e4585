"""Files of other harnesses, read row by row: lm-evaluation-harness, lighteval, Inspect, and plain JSON lines.

Several golds of one problem are alternatives, any of which is right: so lm-evaluation-harness scores a list of targets,
lighteval a list of golds and Inspect's `match` a list of targets. (A set of answers that must all be given is one gold,
such as `1, 2`.) Lines end in `\\n` alone: a response may hold any other character that Unicode counts as a line's end.
"""

import ast
import json
import re
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from sftrl.errors import InputError
from sftrl.verify import extract_answer

CountTokens = Callable[[str], int] | None


class Sampled(NamedTuple):
    """One response: `n_tokens` and `cut` (whether it was cut off) are None if the file does not record them."""

    benchmark: str
    problem_id: str
    problem: str
    golds: tuple[str, ...]
    sample_index: int | None  # None: the next of its problem
    response: str
    n_tokens: int | None
    cut: bool | None


def lm_eval(path: Path, count_tokens: CountTokens) -> Iterator[Sampled]:
    """Read a `samples_<task>_<date>.jsonl` that lm-evaluation-harness writes with `--log_samples`.

    A response is logged once for each answer filter and read once.
    """
    task = _task(path, r"samples_(.+)_\d{4}-\d\d-\d\dT[^_]*\.jsonl")
    seen: dict[str, tuple[int, set]] = {}
    for number, row in _lines(path):
        try:
            arguments = row["arguments"]
            # A request's arguments: (prompt, options), a dict of numbered ones in newer versions.
            first = arguments["gen_args_0"] if isinstance(arguments, dict) else arguments[0]
            prompt, options = (first["arg_0"], first["arg_1"]) if isinstance(first, dict) else first
            (responses,) = row["resps"]
            name, golds = str(row["doc_id"]), _golds(row["target"])
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise InputError(f"{path}, line {number}: not a logged sample of a generated task ({error!r})") from None
        if not isinstance(options, dict) or not all(isinstance(response, str) for response in responses):
            raise InputError(f"{path}, line {number}: holds log-likelihoods, not generated text")
        content = hash(tuple(responses))
        known, filters = seen.setdefault(name, (content, set()))
        if content != known or row.get("filter") in filters:
            raise InputError(f"{path}, line {number}: doc_id {name} is there twice; give one run's file")
        filters.add(row.get("filter"))
        if len(filters) > 1:
            continue
        limit = options.get("max_gen_toks")
        for i, response in enumerate(responses):
            n = count_tokens(response) if count_tokens else None
            yield Sampled(task, name, prompt, golds, i, response, n, _cut(n, limit))


def lighteval(path: Path, count_tokens: CountTokens) -> Iterator[Sampled]:
    """Read a `details_<task>_<date>.parquet` that lighteval writes with `--save-details`; `id` is the row's number."""
    task = re.sub(r"(\|\d+)+$", "", _task(path, r"details_(.+)_\d{4}-\d\d-\d\dT.*\.parquet")).split("|")[-1]
    for number, row in enumerate(_parquet_rows(path)):
        try:
            if "model_response" in row:
                doc, response = row["doc"], row["model_response"]
                problem, limit = doc["query"], doc.get("generation_size")
                golds = _golds([doc["choices"][i] for i in _listed(doc["gold_index"])])
                texts, tokens = _listed(response["text"]), response["output_tokens"]
            else:  # before version 0.11
                problem, limit = row["full_prompt"], None
                golds, texts, tokens = _golds(_listed(row["gold"])), _listed(row["predictions"]), None
            counts = [None] * len(texts) if tokens is None or not len(tokens) else [len(ids) for ids in tokens]
            if len(counts) != len(texts):
                raise ValueError(f"{len(texts)} texts, {len(counts)} lists of tokens")
        except (KeyError, IndexError, TypeError, ValueError, SyntaxError) as error:
            raise InputError(f"{path}, row {number}: not the details of a generative task ({error!r})") from None
        limit = None if pd.isna(limit) else int(limit)
        for i, (text, n) in enumerate(zip(texts, counts, strict=True)):
            yield Sampled(task, str(number), problem, golds, i, str(text), n, _cut(n, limit))


def inspect(path: Path, count_tokens: CountTokens) -> Iterator[Sampled]:
    """Read an Inspect log, `.json` or `.eval` (a zip of it); epochs are samples of one problem.

    The response is the text of the last message; what the log calls reasoning is left out.
    """
    try:
        header, samples = _inspect_zip(path) if path.suffix == ".eval" else _inspect_json(path)
        status, task = header["status"], header["eval"]["task"].split("/")[-1]
    except NotImplementedError as error:  # zstd, which this Python's zipfile does not know
        raise InputError(f"{path}: {error}; convert it: inspect log convert --to json") from None
    except (OSError, zipfile.BadZipFile, KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{path}: not an Inspect log ({error!r})") from None
    if status != "success":
        raise InputError(f"{path}: the evaluation did not finish (status {status!r}); retry it, or give a whole log")
    for row in samples:
        where = f"{path}, sample {row.get('id')!r}, epoch {row.get('epoch')}"
        if row.get("error"):
            raise InputError(f"{where}: ended in an error, so its problem has fewer samples than the others")
        try:
            golds, choices = _golds(row["target"]), row["output"]["choices"]
            if row.get("choices") and len(golds) > 1:
                raise ValueError("several options are right together, which is not read")
            usage = row["output"].get("usage") or {}
            for i, choice in enumerate(choices):
                n = usage.get("output_tokens") if len(choices) == 1 else None
                cut = {"stop": False, "max_tokens": True, "model_length": True}.get(choice.get("stop_reason"))
                index = (row["epoch"] - 1) * len(choices) + i
                text = _text(choice["message"]["content"], row)
                yield Sampled(task, str(row["id"]), _prompt(row), golds, index, text, n, cut)
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{where}: not a sampled response ({error!r})") from None


def jsonl(path: Path, count_tokens: CountTokens) -> Iterator[Sampled]:
    """Read plain JSON lines: `problem_id, response`, and where known `benchmark` (default: the file's stem), `problem`,
    `gold` (text, number or list of alternatives), `sample_index`, `n_tokens`, `finish_reason` (`stop` or `length`)."""
    for number, row in _lines(path):
        try:
            name, response = str(row["problem_id"]), row["response"]
            if not isinstance(response, str):
                raise TypeError("response is no text")
            index, n = (None if row.get(key) is None else int(row[key]) for key in ("sample_index", "n_tokens"))
            if index is not None and not 0 <= index < 2**20:
                raise ValueError(f"sample_index {index} is not from 0 to a million")
            golds = _golds(row["gold"]) if row.get("gold") is not None else ()
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(f"{path}, line {number}: not problem_id and response ({error!r})") from None
        n = count_tokens(response) if n is None and count_tokens else n
        cut = {"stop": False, "length": True}.get(row.get("finish_reason"))
        benchmark = str(row.get("benchmark") or path.stem)
        yield Sampled(benchmark, name, str(row.get("problem") or ""), golds, index, response, n, cut)


READERS = {"lm_eval": lm_eval, "lighteval": lighteval, "inspect": inspect, "jsonl": jsonl}


def format_of(path: Path) -> str:
    """Recognize a file's format by its name."""
    if re.fullmatch(r"samples_.+\.jsonl", path.name):
        return "lm_eval"
    if re.fullmatch(r"details_.+\.parquet", path.name):
        return "lighteval"
    by_suffix = {".eval": "inspect", ".json": "inspect", ".jsonl": "jsonl"}
    if path.suffix not in by_suffix:
        raise InputError(f"{path}: no harness is known to name its files so; give the format: {', '.join(READERS)}")
    return by_suffix[path.suffix]


def _lines(path: Path) -> Iterator[tuple[int, dict]]:
    with path.open(encoding="utf-8", newline="\n") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                try:
                    yield number, json.loads(line)
                except json.JSONDecodeError as error:
                    raise InputError(f"{path}, line {number}: not JSON ({error})") from None


def _parquet_rows(path: Path) -> Iterator[dict]:
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(64):
                yield from batch.to_pylist()
    except pa.ArrowException as error:
        raise InputError(f"{path}: cannot be read: {error}") from None


def _inspect_json(path: Path) -> tuple[dict, Iterable[dict]]:
    log = json.loads(path.read_text(encoding="utf-8"))
    return log, log.get("samples") or []


def _inspect_zip(path: Path) -> tuple[dict, Iterable[dict]]:
    archive = zipfile.ZipFile(path)
    names = [name for name in archive.namelist() if re.fullmatch(r"samples/.+\.json", name)]
    return json.loads(archive.read("header.json")), (json.loads(archive.read(name)) for name in names)


def _text(content: str | list, row: dict) -> str:
    """Return the text of a message: its parts of type text, with what is kept among the sample's attachments."""
    if not isinstance(content, str):
        return "".join(_text(part["text"], row) for part in content if part.get("type") == "text")
    key = content.removeprefix("attachment://")
    return content if key == content else row["attachments"][key]


def _prompt(row: dict) -> str:
    given = row["input"]
    return given if isinstance(given, str) else "\n\n".join(_text(message["content"], row) for message in given)


def _task(path: Path, pattern: str) -> str:
    if not (match := re.fullmatch(pattern, path.name)):
        raise InputError(f"{path}: not named as this harness names such files")
    return match[1]


def _golds(target: object) -> tuple[str, ...]:
    """Return the final answers of a gold, or of several: each may be a worked solution."""
    golds = tuple(dict.fromkeys(_gold(str(one)) for one in (target if isinstance(target, list) else [target])))
    if not any(golds):
        raise ValueError("no gold answer")
    return golds


def _gold(target: str) -> str:
    return (extract_answer(target) if "####" in target or "\\boxed" in target else None) or target.strip()


def _cut(n_tokens: int | None, limit: int | None) -> bool | None:
    return None if n_tokens is None or limit is None else n_tokens >= limit


def _listed(value: object) -> list:
    """Return a list for one value, or a list that was saved as its text."""
    if isinstance(value, str):
        parsed = ast.literal_eval(value) if value.startswith("[") else value
        return parsed if isinstance(parsed, list) else [parsed]
    return list(value) if isinstance(value, Iterable) else [value]
