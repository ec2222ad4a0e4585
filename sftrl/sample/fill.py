"""`fill`: draw what a store lacks, and write and grade each batch while the next one is drawn."""

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch

from sftrl.chat import template_hash
from sftrl.errors import InputError
from sftrl.generations import Grader, Store, sample_seed, summarise
from sftrl.models import context_length, load_tokenizer, resolved_dtype, stop_ids
from sftrl.progress import Progress
from sftrl.recipes import Adaptive, Checkpoint, Sampling
from sftrl.sample import local, vllm_engine
from sftrl.sample.adaptive import allocate
from sftrl.sample.checkpoint import encode_prompts, hash_model, hash_prompts
from sftrl.sample.requests import Request, Response
from sftrl.sample.writer import Writer

ENGINES = {"transformers": local, "vllm": vllm_engine}


@dataclass
class Drawn:
    """What one call of `fill` drew: samples, response tokens, and the wall time in seconds, loading left out."""

    samples: int = 0
    tokens: int = 0
    seconds: float = 0.0


def fill(
    folder: str | Path,
    checkpoint: Checkpoint,
    problems: pd.DataFrame,
    sampling: Sampling,
    *,
    n: int,
    seed: int,
    shard: int = 0,
    of: int = 1,
    workers: int = 1,
    timeout: float = 5.0,
    progress: Callable[[str], None] | None = print,
) -> Drawn:
    """Fill a store until every problem has n samples, all graded. What is there already is not drawn again.

    A call that was killed continues where it was. With the `transformers` engine the finished store equals that of an
    uninterrupted call, row for row. When it returns, the model and the engine's processes are gone.

    Args:
        folder: the store; made if absent.
        checkpoint: what is sampled.
        problems: the problem rows: `benchmark, id, problem, answer`, and `answer_type, choices, tolerance` where known.
            The same rows in every call and shard.
        sampling: the engine and how it draws. With `sampling.adaptive`, samples are spent where they narrow Pass@k; n
            is then the most a problem gets beside the pilot: count the result with
            `summarise(..., n=adaptive.fewest, start=adaptive.pilot)`.
        n: samples a problem. A greater n than before only adds.
        seed: the base seed; each (benchmark, problem, sample) derives its own.
        shard, of: draw only every `of`-th problem, starting with the `shard`-th, in a process of its own.
        workers, timeout: of the verifier: processes, and seconds an answer.
        progress: takes a line every half minute and at the end; None for silence.

    Raises:
        InputError: a bad argument, an unknown one of vLLM's among them; a model that is not there; a prompt that leaves
            no room for `max_tokens`; a gold answer that cannot be read; a store of something else, or one that another
            process is filling; a disk that is full.
    """
    adaptive = sampling.adaptive
    if n < 1:
        raise InputError(f"n: {n} is not at least 1")
    if sampling.temperature == 0 and n > 1:
        raise InputError(f"n: {n} greedy samples of a problem are all the same; a temperature of 0 goes with n = 1")
    if adaptive and n < adaptive.fewest:
        raise InputError(f"n: {n} is less than adaptive sampling needs, 2k = {adaptive.fewest}")
    engine = ENGINES[sampling.engine]
    version = engine.version(sampling)
    grader = Grader(problems, workers=workers, timeout=timeout)
    grader.check_golds()
    tokenizer = load_tokenizer(checkpoint)
    ends = stop_ids(checkpoint, tokenizer)
    key = {
        "model": hash_model(checkpoint),
        "dtype": resolved_dtype(checkpoint),
        "template": template_hash(tokenizer),
        "benchmarks": hash_prompts(problems),
        "sampling": sampling.distribution | {"stop_ids": list(ends), "seed": seed},
    }
    mine = problems.iloc[shard::of]
    prompts = encode_prompts(tokenizer, mine, sampling.max_tokens, context_length(checkpoint))
    drawn = Drawn()
    with (
        Store.open(folder, key, shard=shard, of=of, by=version) as store,
        Writer(store, grader, tokenizer) as writer,
        contextlib.ExitStack() as running,
    ):
        draw = None

        def top_up(counts: list[int]) -> None:
            nonlocal draw
            total = sum(len(store.missing([name], [count])) for name, count in zip(prompts, counts, strict=True))
            if total and not draw:  # the model is loaded only where something is missing
                draw = running.enter_context(
                    engine.started(
                        checkpoint,
                        sampling,
                        stop_ids=ends,
                        context=max(map(len, prompts.values())) + sampling.max_tokens,
                        # Never the same twice: what one call has drawn, the next one must not draw again.
                        seed=sample_seed(seed, "shard", f"{shard}-of-{of}", store.next_part),
                    )
                )
            if total:
                requests = _requests(store, prompts, counts, seed if sampling.seeds == "sample" else None)
                _write(draw(requests), total, writer, drawn, progress)
            writer.finish()  # also what a killed call had drawn and not graded

        counts = [adaptive.pilot if adaptive else n] * len(prompts)
        top_up(counts)
        if adaptive:
            counts = _plan(folder, problems, mine, adaptive, n)
            top_up(counts)
    draw = None  # and the model with it, so that what comes next has the memory
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if progress and not drawn.samples:
        progress(f"all {sum(counts):,} samples are there")
    return drawn


def _requests(store: Store, prompts: dict, counts: list[int], seed: int | None) -> Iterator[Request]:
    """Yield what is missing, longest prompts first, always in the same order; one problem's at a time in memory."""
    wanted = dict(zip(prompts, counts, strict=True))
    for name in sorted(prompts, key=lambda name: (-len(prompts[name]), name)):
        for sample in store.missing([name], [wanted[name]]):
            yield Request(*sample, None if seed is None else sample_seed(seed, *sample), prompts[name])


def _plan(folder: str | Path, problems: pd.DataFrame, mine: pd.DataFrame, adaptive: Adaptive, most: int) -> list[int]:
    """Say how many samples, the pilot's included, each of a shard's problems shall have."""
    pilot = summarise(folder, mine, n=adaptive.pilot, stop=adaptive.pilot).problems
    counts = pd.Series(adaptive.pilot, index=pilot.index)
    for benchmark, group in pilot.groupby("benchmark"):
        everywhere = int((problems["benchmark"].astype(str) == benchmark).sum())
        counts[group.index] += allocate(group["c"], everywhere, adaptive, most)
    return counts.tolist()


def _write(
    batches: Iterable[list[Response]], total: int, writer: Writer, drawn: Drawn, progress: Callable[[str], None] | None
) -> None:
    """Hand every batch to the writer, and tell how far it is."""
    began, said = time.perf_counter(), Progress(total, "samples", progress)
    samples = tokens = 0
    for batch in batches:
        writer.add(batch)
        samples += len(batch)
        tokens += sum(len(response.tokens) for response in batch)
        said.at(samples, f"{tokens / (time.perf_counter() - began):,.0f} tokens/s")
    writer.finish()
    drawn.samples += samples
    drawn.tokens += tokens
    drawn.seconds += time.perf_counter() - began
