"""Training data as Arrow files, memory-mapped by every process of a training: four bytes per token on disk."""

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pyarrow as pa
from datasets import Dataset, concatenate_datasets

from sftrl.chat import encode_example, encode_prompt
from sftrl.errors import InputError
from sftrl.files import whole_file

IGNORED = -100  # label of tokens without a loss, as in torch and transformers
PROBLEM_COLUMNS = ["benchmark", "id", "prompt", "answer", "answer_type", "choices", "tolerance"]
ROWS = 1000  # per write
NAME = "data.arrow"
PROBES = "probes.arrow"
HELD_OUT = "held_out.parquet"


def write_examples(tokenizer, examples: pd.DataFrame, path: Path, *, max_length: int, context: int | None) -> int:
    """Write the token ids of `examples` (`id, prompt, response`) to `path`; return the longest example's tokens.

    Raises:
        InputError: no examples, or one longer than `max_length` or the model's `context` (tokens).
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
    """Map what `write_examples` wrote, as rows of `input_ids` and `labels`; only the response and EOS have a loss.

    With several processes, rows without a loss fill the last batch of an epoch. accelerate would repeat examples
    instead, and that step would differ from the step of a single process.
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
    """Write the columns that GRPO needs of `problems` to `path`; return the longest prompt's tokens.

    Raises:
        InputError: no problems, or a prompt that leaves no room for `max_tokens` in the model's `context` (tokens).
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
    """Write an Arrow stream, the format that `Dataset.from_file` maps, `ROWS` rows at a time."""
    with whole_file(path) as temporary, pa.OSFile(str(temporary), "wb") as sink, pa.ipc.new_stream(sink, schema) as out:
        block = []
        for row in rows:
            block.append(row)
            if len(block) == ROWS:
                out.write_batch(pa.RecordBatch.from_pylist(block, schema))
                block = []
        if block:
            out.write_batch(pa.RecordBatch.from_pylist(block, schema))
