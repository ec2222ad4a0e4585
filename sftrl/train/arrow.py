"""Training data as Arrow files, which every process of a training maps into memory: a token is four bytes on disk."""

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pyarrow as pa
from datasets import Dataset, concatenate_datasets

from sftrl.chat import encode_example, encode_prompt
from sftrl.errors import InputError
from sftrl.files import whole_file

IGNORED = -100  # the label of a token without a loss, as in torch and transformers
PROBLEM_COLUMNS = ["benchmark", "id", "prompt", "answer", "answer_type", "choices", "tolerance"]
ROWS = 1000  # written at once
NAME = "data.arrow"
PROBES = "probes.arrow"
HELD_OUT = "held_out.parquet"


def write_examples(tokenizer, examples: pd.DataFrame, path: Path, *, max_length: int, context: int | None) -> int:
    """Write the token ids of `examples` (`id, prompt, response`) to `path`; return the longest example, in tokens.

    Raises:
        InputError: no examples, or one that is longer than `max_length` or the model's `context`.
    """
    if examples.empty:
        raise InputError("sft: no examples to train on")
    longest = 0

    def encoded() -> Iterator[dict]:
        nonlocal longest
        for identifier, prompt, response in zip(examples["id"], examples["prompt"], examples["response"], strict=True):
            ids, n_prompt = encode_example(tokenizer, prompt, response)
            if len(ids) > max_length:
                raise InputError(f"example {identifier}: {len(ids)} tokens, and sft.max_length is {max_length}")
            if context is not None and len(ids) > context:
                raise InputError(f"example {identifier}: {len(ids)} tokens, and the model's context is {context}")
            longest = max(longest, len(ids))
            yield {"input_ids": ids, "n_prompt": n_prompt}

    _write(encoded(), pa.schema({"input_ids": pa.list_(pa.int32()), "n_prompt": pa.int32()}), path)
    return longest


def read_examples(path: Path, batch_size: int, processes: int) -> Dataset:
    """Map what `write_examples` wrote, as rows of `input_ids` and `labels`: the response's tokens and EOS have a loss.

    With several processes, rows without any loss fill the last batch of an epoch: filled with examples a second time,
    as accelerate does it, that step would differ from that of one process.
    """
    data = Dataset.from_file(str(path))
    missing = -len(data) % batch_size if processes > 1 else 0
    if missing:
        silent = data.select([0]).map(lambda row: {"n_prompt": len(row["input_ids"])}, keep_in_memory=True)
        data = concatenate_datasets([data, *[silent.cast(data.features)] * missing])
    return data.with_transform(_with_labels)


def _with_labels(rows: dict) -> dict:
    labels = [[IGNORED] * n + ids[n:] for ids, n in zip(rows["input_ids"], rows["n_prompt"], strict=True)]
    return {"input_ids": rows["input_ids"], "labels": labels}


def write_problems(tokenizer, problems: pd.DataFrame, path: Path, *, max_tokens: int, context: int | None) -> int:
    """Write what GRPO's rollouts and reward need of `problems` to `path`; return the longest prompt, in tokens.

    Raises:
        InputError: no problems, or a prompt that leaves no room for `max_tokens` in the model's `context`.
    """
    if problems.empty:
        raise InputError("grpo: no problems to train on")
    longest = 0
    for row, prompt in enumerate(problems["prompt"]):
        length = len(encode_prompt(tokenizer, prompt))
        if context is not None and length + max_tokens > context:
            name = problems["id"].iloc[row] if "id" in problems else row
            raise InputError(
                f"problem {name}: a prompt of {length} tokens and grpo.max_tokens ({max_tokens}) exceed the model's "
                f"context of {context}"
            )
        longest = max(longest, length)
    known = problems.reindex(columns=PROBLEM_COLUMNS).astype(object)
    data = Dataset.from_list(known.where(known.notna(), None).to_dict("records"))
    _write(iter(data), data.features.arrow_schema, path)
    return longest


def read_problems(path: Path) -> Dataset:
    """Map what `write_problems` wrote."""
    return Dataset.from_file(str(path))


def _write(rows: Iterator[dict], schema: pa.Schema, path: Path) -> None:
    """Write an Arrow stream, the format that `Dataset.from_file` maps, a block of rows at a time."""
    with whole_file(path) as temporary, pa.OSFile(str(temporary), "wb") as sink, pa.ipc.new_stream(sink, schema) as out:
        block = []
        for row in rows:
            block.append(row)
            if len(block) == ROWS:
                out.write_batch(pa.RecordBatch.from_pylist(block, schema))
                block = []
        if block:
            out.write_batch(pa.RecordBatch.from_pylist(block, schema))
