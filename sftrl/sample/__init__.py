"""Sampling: engines that fill a store with responses, graded as they come.

    fill("runs/x/samples", Checkpoint(model="runs/x/model"), problems, Sampling(max_tokens=64), n=64, seed=0)
    summary = summarise("runs/x/samples", problems, n=64)

The engine `transformers` is for tiny models and for machines without vLLM, `vllm` for everything else. Each is a module
with `started(checkpoint, ...)`, which yields `draw(requests)`: token ids in, token ids out.
"""

from sftrl.sample.fill import Drawn, fill
from sftrl.sample.requests import Request, Response

__all__ = ["Drawn", "Request", "Response", "fill"]
