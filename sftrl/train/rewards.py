"""The reward of GRPO, by `sftrl.verify`: 1 for a right final answer and 0 for anything else, as in the paper."""

from collections.abc import Sequence

from sftrl.verify import verify_many


def reward(completions: Sequence, answer: Sequence[str], answer_type, choices, tolerance, **_) -> list[float]:
    """Return 1.0 for each completion whose final answer is right, else 0.0, in TRL's reward interface."""
    how = {"answer_types": list(answer_type), "choices": list(choices), "tolerance": list(tolerance)}
    verdicts = verify_many(texts(completions), list(answer), **how)
    return [float(verdict.correct) for verdict in verdicts]


def texts(completions: Sequence) -> list[str]:
    """Return the text of each completion, which TRL gives as text or as messages."""
    return [c if isinstance(c, str) else c[-1]["content"] for c in completions]
