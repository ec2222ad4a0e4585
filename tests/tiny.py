"""A model of a few thousand weights and its tokenizer, untrained, as an ordinary Hugging Face folder, for tests."""

from pathlib import Path

from sftrl.models import build_model, build_tokenizer
from sftrl.recipes import Scratch


def tiny_pair(seed: int = 0, hidden_size: int = 32, layers: int = 2, context: int = 256, architecture: str = "llama"):
    """Build (model, tokenizer): about one response in four of 64 tokens reaches EOS by itself."""
    tokenizer = build_tokenizer(["What is 1 + 2? The answer is \\boxed{3}."], vocab_size=300)
    recipe = Scratch(architecture=architecture, hidden_size=hidden_size, layers=layers, context=context)
    return build_model(recipe, tokenizer, seed=seed).eval(), tokenizer


def tiny_folder(path: str | Path, **options) -> Path:
    """Write a tiny model and its tokenizer to `path`; options as of `tiny_pair`."""
    for part in tiny_pair(**options):
        part.save_pretrained(path)
    return Path(path)
