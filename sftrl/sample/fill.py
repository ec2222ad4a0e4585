"""`fill`: draw the samples that a store lacks; each batch is written and graded while the next one is drawn."""

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
    """What one call of `fill` drew: samples, response tokens, and wall time in seconds without loading."""

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
    progress: Callable[[str], None] | None = print,
) -> Drawn:
    """Fill a store until every problem has n graded samples. Existing samples are not drawn again.

    After a kill, the same call resumes. With the `transformers` engine the finished store then equals that of an
    uninterrupted call, row for row. When the call returns, the model is freed and the engine's processes have ended.

    Args:
        folder: the store; made if absent.
        checkpoint: the model to sample.
        problems: the problem rows: `benchmark, id, problem, answer`, and `answer_type, choices, tolerance` where known.
            Every call and shard must pass the same rows.
        sampling: the engine and how it draws. With `sampling.adaptive`, n is the most samples of a problem beside the
            pilot; count the result with `summarise(..., n=adaptive.fewest, start=adaptive.pilot)`.
        n: samples per problem. A larger n than before only adds samples.
        seed: the base seed; each (benchmark, problem, sample) derives its own.
        shard, of: draw only every `of`-th problem, starting with the `shard`-th.
        progress: takes a line every half minute and at the end; None for silence. `print` updates one line in
            JupyterLab.

    Raises:
        InputError: an invalid argument, also of vLLM; a missing model; a prompt that leaves no room for `max_tokens`; a
            gold answer that cannot be read; a store with another key, or one that another process is filling; a full
            disk.
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
    grader = Grader(problems)
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
            if total and not draw:  # the model is loaded only if something is missing
                draw = running.enter_context(
                    engine.started(
                        checkpoint,
                        sampling,
                        stop_ids=ends,
                        context=max(map(len, prompts.values())) + sampling.max_tokens,
                        # Different in each call: the next one must not repeat this one's draws.
                        seed=sample_seed(seed, "shard", f"{shard}-of-{of}", store.next_part),
                    )
                )
            if total:
                requests = _requests(store, prompts, counts, seed if sampling.seeds == "sample" else None)
                _write(draw(requests), total, writer, drawn, progress)
            writer.finish()  # also grades what a killed call had drawn

        counts = [adaptive.pilot if adaptive else n] * len(prompts)
        top_up(counts)
        if adaptive:
            counts = _plan(folder, problems, mine, adaptive, n)
            top_up(counts)
    draw = None  # frees the model's memory
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if progress and not drawn.samples:
        progress(f"all {sum(counts):,} samples are there")
    return drawn


def _requests(store: Store, prompts: dict, counts: list[int], seed: int | None) -> Iterator[Request]:
    """Yield the missing samples in a fixed order, longest prompts first; one problem at a time is in memory."""
    wanted = dict(zip(prompts, counts, strict=True))
    for name in sorted(prompts, key=lambda name: (-len(prompts[name]), name)):
        for sample in store.missing([name], [wanted[name]]):
            yield Request(*sample, None if seed is None else sample_seed(seed, *sample), prompts[name])


def _plan(folder: str | Path, problems: pd.DataFrame, mine: pd.DataFrame, adaptive: Adaptive, most: int) -> list[int]:
    """Return the number of samples, pilot included, for each of a shard's problems."""
    pilot = summarise(folder, mine, n=adaptive.pilot, stop=adaptive.pilot).problems
    counts = pd.Series(adaptive.pilot, index=pilot.index)
    for benchmark, group in pilot.groupby("benchmark"):
        everywhere = int((problems["benchmark"].astype(str) == benchmark).sum())
        counts[group.index] += allocate(group["c"], everywhere, adaptive, most)
    return counts.tolist()


def _write(
    batches: Iterable[list[Response]], total: int, writer: Writer, drawn: Drawn, progress: Callable[[str], None] | None
) -> None:
    """Hand every batch to the writer and report progress."""
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
