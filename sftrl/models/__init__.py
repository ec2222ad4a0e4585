"""Models and tokenizers: loaded as a `Checkpoint` recipe says, or, for the tiny families, built from scratch.

    checkpoint = Checkpoint(model="Qwen/Qwen3-4B-Base", revision="...", dtype="bfloat16")
    tokenizer = load_tokenizer(checkpoint)
    model = load_model(checkpoint)
    stop_ids(checkpoint, tokenizer)

Stop tokens, chat template and the precision of the weights are resolved here, once for all users of a checkpoint.
"""

from sftrl.models.distance import weight_distance
from sftrl.models.load import load_model, load_tokenizer, merge_adapter, stop_ids
from sftrl.models.locate import VLLM_FORMAT, context_length, is_adapter, load_config, resolved_dtype
from sftrl.models.scratch import ARCHITECTURES, build_model, build_tokenizer

__all__ = [
    "ARCHITECTURES",
    "VLLM_FORMAT",
    "build_model",
    "build_tokenizer",
    "context_length",
    "is_adapter",
    "load_config",
    "load_model",
    "load_tokenizer",
    "merge_adapter",
    "resolved_dtype",
    "stop_ids",
    "weight_distance",
]
