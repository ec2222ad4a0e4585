"""GRPO's reward, by `sftrl.verify`: 1 for a correct final answer, else 0, as in the paper."""

from collections.abc import Sequence

from sftrl.verify import verify_many


def reward(completions: Sequence, answer: Sequence[str], answer_type, choices, tolerance, **_) -> list[float]:
    """Return 1.0 for each completion with a correct final answer, else 0.0, in TRL's reward interface."""
    how = {"answer_types": list(answer_type), "choices": list(choices), "tolerance": list(tolerance)}
    verdicts = verify_many(texts(completions), list(answer), **how)
    return [float(verdict.correct) for verdict in verdicts]


def texts(completions: Sequence) -> list[str]:
    """Return each completion's text; TRL passes text or messages."""
    return [c if isinstance(c, str) else c[-1]["content"] for c in completions]
