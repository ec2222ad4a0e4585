"""Sampling: engines that fill a store with responses, graded as they come.

    evaluate_samples("runs/x/samples", model="runs/x/model", problems=problems, n=64, max_tokens=64)
    summary = summarise("runs/x/samples", problems, n=64)

`transformers` is the engine for tiny models and for machines without vLLM; `vllm` is the engine for everything else.
Both take the same token ids and a seed for each sample, and differ in nothing else that is stored.
"""

from sftrl.sample.adaptive import Adaptive
from sftrl.sample.evaluate import Drawn, evaluate_samples
from sftrl.sample.requests import Decoding, Request, Response

__all__ = ["Adaptive", "Decoding", "Drawn", "Request", "Response", "evaluate_samples"]


def fill(folder, checkpoint, problems, sampling, *, n, seed, shard=0, of=1):
    """Interim."""
    how = sampling.model_dump(exclude={"adaptive"})
    adaptive = Adaptive(**sampling.adaptive.model_dump()) if sampling.adaptive else None
    return evaluate_samples(
        folder,
        model=checkpoint.model,
        revision=checkpoint.revision,
        dtype=checkpoint.dtype,
        problems=problems,
        n=n,
        seed=seed,
        shard=shard,
        of=of,
        adaptive=adaptive,
        **how,
    )
