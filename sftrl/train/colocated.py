"""Rollouts by vLLM inside a training process (`grpo.rollouts: colocate`): TRL's engine, told what TRL leaves to it."""

import contextlib
import functools
from collections.abc import Iterator

from trl.generation import vllm_generation

from sftrl.models import VLLM_FORMAT


@contextlib.contextmanager
def started(dtype: str, seed: int) -> Iterator[None]:
    """Have a trainer that is made inside the block start its engine in `dtype`, with draws of its own for each `seed`.

    TRL leaves dtype and files to vLLM, which makes bfloat16 of float32 and prefers Mistral's own format; and it seeds
    every run's engine alike.
    """
    engine = vllm_generation.LLM
    more = {"dtype": dtype, **VLLM_FORMAT}
    if _on_cpu():
        more["enforce_eager"] = True  # compiling takes a minute or more, and small models gain nothing

    def start(*args, **kwargs):
        return engine(*args, **kwargs | more | {"seed": (seed + kwargs["seed"]) % 2**32})

    vllm_generation.LLM = start
    try:
        yield
    finally:
        vllm_generation.LLM = engine


def mend_sync(generation) -> None:
    """On a CPU, have the engine take new weights by vLLM's own reload.

    There vLLM packs the weights of linear layers when they are loaded and drops the originals (0.31,
    `dispatch_cpu_unquantized_gemm`), so TRL's loading into the originals fails; a reload packs anew. It leaves out an
    LM head that is tied to the embedding, which no weight is loaded for.
    """
    if generation.mode == "colocate" and _on_cpu():
        generation.sync_weights = functools.partial(_reload, generation)


def _reload(generation) -> None:
    from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead

    runner = generation.llm.llm_engine.model_executor.driver_worker.model_runner
    runner.reload_weights(weights_iterator=generation._iter_named_params())
    for layer in runner.get_model().modules():
        if isinstance(layer, ParallelLMHead):
            layer.quant_method.process_weights_after_loading(layer)
    generation.llm.reset_prefix_cache()


def _on_cpu() -> bool:
    from vllm.platforms import current_platform

    return current_platform.is_cpu()
