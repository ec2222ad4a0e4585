"""`evaluate_samples`: draw what a store lacks, and write and grade each batch while the next one is drawn."""

import functools
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from sftrl import models
from sftrl.chat import template_hash
from sftrl.errors import InputError
from sftrl.generations import Grader, Store, sample_seed, summarise
from sftrl.recipes import Checkpoint
from sftrl.sample.adaptive import Adaptive, allocate
from sftrl.sample.checkpoint import describe, encode_prompts, engine_version, hash_prompts
from sftrl.sample.local import sample_batches
from sftrl.sample.requests import Decoding, Request, Response
from sftrl.sample.vllm_engine import load_vllm, sample_with_vllm
from sftrl.sample.writer import Writer

if TYPE_CHECKING:
    from vllm import LLM

PROGRESS_SECONDS = 10.0


@dataclass
class Drawn:
    """What one call of `evaluate_samples` drew: samples, response tokens, and the wall time in seconds."""

    samples: int = 0
    tokens: int = 0
    seconds: float = 0.0


def evaluate_samples(
    folder: str | Path,
    *,
    model: "str | Path | PreTrainedModel | LLM",
    problems: pd.DataFrame,
    n: int,
    max_tokens: int,
    tokenizer: PreTrainedTokenizerBase | None = None,
    revision: str | None = None,
    dtype: str = "auto",
    temperature: float = 1.0,
    top_p: float = 1.0,
    seed: int = 0,
    engine: str = "transformers",
    batch_tokens: int = 65536,
    tensor_parallel_size: int = 1,
    vllm_options: dict | None = None,
    adaptive: Adaptive | None = None,
    shard: int = 0,
    of: int = 1,
    workers: int = 1,
    timeout: float = 5.0,
    progress: Callable[[str], None] | None = print,
) -> Drawn:
    """Fill a store until every problem has n samples, all graded. What is there already is not drawn again.

    A call that was killed continues where it was. With the `transformers` engine the finished store equals that of an
    uninterrupted call, row for row.

    Args:
        folder: the store; made if absent.
        model: a folder or hub name; or a loaded model, for the `transformers` engine, or a started `vllm.LLM`.
        problems: the problem rows: `benchmark, id, problem, answer`, and `answer_type, choices, tolerance` where known.
            The same rows in every call and shard.
        n: samples a problem. A greater n than before only adds.
        max_tokens: the longest response in tokens, EOS included.
        tokenizer: the model's own by default.
        revision: of a model on the hub.
        dtype: the weights' type, for example `float32`; by default as they were saved.
        temperature: 0 is greedy, and then n is 1.
        top_p: the share of probability that is kept.
        seed: the base seed; each (benchmark, problem, sample) derives its own.
        engine: `transformers` or `vllm`.
        batch_tokens: tokens of prompts and responses that the `transformers` engine holds at once.
        tensor_parallel_size: the GPUs that share the weights, with vLLM.
        vllm_options: more arguments of `vllm.LLM`, for example `gpu_memory_utilization`.
        adaptive: spend samples where they narrow Pass@k, instead of n on every problem; n is then the most a problem
            gets beside the pilot. Count the result with `summarise(..., n=adaptive.k, start=adaptive.pilot)`.
        shard, of: draw only every `of`-th problem, starting with the `shard`-th, in a process of its own.
        workers, timeout: of the verifier: processes, and seconds an answer.
        progress: takes a line every ten seconds; None for silence.

    Raises:
        InputError: a bad argument; a prompt that leaves no room for `max_tokens`; a gold answer that cannot be read; a
            store of something else, or one that another process is filling; a disk that is full.
    """
    if n < 1 or max_tokens < 1 or batch_tokens < 1:
        raise InputError(f"n, max_tokens and batch_tokens are at least 1, not {n}, {max_tokens} and {batch_tokens}")
    if temperature < 0 or not 0 < top_p <= 1:
        raise InputError(f"temperature is at least 0 and top_p in (0, 1], not {temperature} and {top_p}")
    if temperature == 0 and n > 1:
        raise InputError(f"n: {n} greedy samples of a problem are all the same; a temperature of 0 goes with n = 1")
    if adaptive and n < adaptive.fewest:
        raise InputError(f"n: {n} is less than adaptive sampling needs, 2k = {adaptive.fewest}")
    if not isinstance(model, str | Path) and isinstance(model, PreTrainedModel) != (engine == "transformers"):
        raise InputError(f"engine: {engine} cannot use a {type(model).__name__}; give it the model's folder")
    grader = Grader(problems, workers=workers, timeout=timeout)
    grader.check_golds()
    checkpoint = describe(model, revision, dtype)
    source = Checkpoint(model=str(checkpoint.source), revision=revision, dtype=checkpoint.dtype)
    tokenizer = tokenizer or models.load_tokenizer(source)
    stop_ids = sorted(checkpoint.stop_ids | {tokenizer.eos_token_id})
    if checkpoint.source:
        stop_ids = sorted({*stop_ids, *models.stop_ids(source, tokenizer)})
    decoding = Decoding(temperature, top_p, max_tokens, tuple(stop_ids))
    key = {
        "model": checkpoint.hash,
        "dtype": checkpoint.dtype,
        "template": template_hash(tokenizer),
        "benchmarks": hash_prompts(problems),
        "sampling": {**asdict(decoding), "stop_ids": stop_ids, "seed": seed},
        "engine": engine_version(engine),
    }
    mine = problems.iloc[shard::of]
    prompts = encode_prompts(tokenizer, mine, max_tokens, checkpoint.context)

    @functools.cache
    def loaded():  # only once something is missing
        if not isinstance(model, str | Path):
            return model
        if engine == "transformers":
            return models.load_model(source)
        return load_vllm(
            model,
            revision=revision,
            dtype=checkpoint.dtype,
            context=max(map(len, prompts.values())) + max_tokens,
            tensor_parallel_size=tensor_parallel_size,
            options=vllm_options,
        )

    drawn = Drawn()
    with Store.open(folder, key, shard=shard, of=of) as store, Writer(store, grader, tokenizer) as writer:

        def draw(counts: int | list[int]) -> None:
            missing = store.missing(list(prompts), counts)
            requests = [Request(*name, sample_seed(seed, *name), prompts[name[:2]]) for name in missing]
            if requests and engine == "vllm":
                _draw(sample_with_vllm(loaded(), requests, decoding), len(requests), writer, drawn, progress)
            elif requests:
                batches = sample_batches(loaded().eval(), requests, decoding, batch_tokens)
                _draw(batches, len(requests), writer, drawn, progress)
            writer.finish()

        if adaptive:
            draw(adaptive.pilot)
            draw(_plan(folder, problems, mine, adaptive, n))
        else:
            draw(n)
    return drawn


def _plan(folder: str | Path, problems: pd.DataFrame, mine: pd.DataFrame, adaptive: Adaptive, most: int) -> list[int]:
    """Say how many samples, the pilot's included, each of a shard's problems shall have."""
    pilot = summarise(folder, mine, n=adaptive.pilot, stop=adaptive.pilot).problems
    counts = pd.Series(adaptive.pilot, index=pilot.index)
    for benchmark, group in pilot.groupby("benchmark"):
        everywhere = int((problems["benchmark"].astype(str) == benchmark).sum())
        counts[group.index] += allocate(group["c"], everywhere, adaptive, most)
    return counts.tolist()


def _draw(
    batches: Iterable[list[Response]], total: int, writer: Writer, drawn: Drawn, progress: Callable[[str], None] | None
) -> None:
    """Hand every batch to the writer, and tell how far it is."""
    began = told = time.perf_counter()
    samples = tokens = 0
    for batch in batches:
        writer.add(batch)
        samples += len(batch)
        tokens += sum(len(response.tokens) for response in batch)
        now = time.perf_counter()
        if progress and (now - told > PROGRESS_SECONDS or samples == total):
            told, seconds = now, now - began
            progress(
                f"{samples:,} of {total:,} samples, {tokens / seconds:,.0f} tokens/s, "
                f"{seconds * (total - samples) / samples / 60:.1f} min left"
            )
    drawn.samples += samples
    drawn.tokens += tokens
    drawn.seconds += time.perf_counter() - began
