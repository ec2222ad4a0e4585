"""Rollouts by vLLM inside a training process (`grpo.rollouts: colocate`): what TRL does not tell its engine."""

import contextlib
import functools
from collections.abc import Iterator

from trl.generation import vllm_generation

from sftrl.models import VLLM_FORMAT


@contextlib.contextmanager
def started(dtype: str, seed: int) -> Iterator[None]:
    """Inside the block, a new trainer starts its engine in `dtype` and with `seed`.

    TRL leaves the dtype and the file format to vLLM, which turns float32 into bfloat16 and prefers Mistral's own
    format, and it gives every run's engine the same seed.
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
    """On a CPU, update the engine's weights by vLLM's own reload.

    On a CPU vLLM packs the weights of linear layers at load time and drops the originals (0.31,
    `dispatch_cpu_unquantized_gemm`), so TRL's update of the originals fails. A reload packs them again, except for an
    LM head tied to the embedding, for which no weight is loaded.
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
