"""Which SFT checkpoint should go to RL? A reproducible study, and the tested core it stands on."""

import warnings

from sftrl.passk import pass_at_k, pass_at_k_interval
from sftrl.verify import extract_answer, verify, verify_many

# tqdm's, when something imports it in a notebook; notebooks print their own lines.
warnings.filterwarnings("ignore", message="IProgress not found")

__version__ = "0.1.0"
__all__ = ["extract_answer", "pass_at_k", "pass_at_k_interval", "response_loss", "verify", "verify_many"]


def __getattr__(name: str):
    if name == "response_loss":  # imports torch, which takes seconds and is not needed to grade or to count
        from sftrl.loss import response_loss

        return response_loss
    raise AttributeError(f"module 'sftrl' has no attribute {name!r}")
