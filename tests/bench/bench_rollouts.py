"""A GRPO step with our sampler's rollouts against TRL's `model.generate`: CPU seconds a step, all processes.

`python tests/bench/bench_rollouts.py [steps] [model]` prints the median over pairs of trainings, one of each kind, from
the same checkpoint with the same seed; imports and loading are left out, since the first pair is not counted.
"""

import resource
import sys
import tempfile
from pathlib import Path
from statistics import median

import numpy as np

from sftrl import procedural, train
from sftrl.recipes import Checkpoint, Grpo

KINDS = ("transformers", "generate")
PAIRS = 3


def _spent() -> float:
    use = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in use)


def main(steps: int = 10, model: str = "models/qwen3-tiny") -> None:
    """Train `steps` steps of 16 x 8 rollouts, by turns."""
    problems = procedural.rl_problems(np.random.SeedSequence(0), 500, steps=(2, 4), ordered=True)
    problems = problems.assign(prompt=problems["problem"])
    seconds, rewards = {kind: [] for kind in KINDS}, {kind: [] for kind in KINDS}
    for pair in range(PAIRS + 1):
        for kind in KINDS:
            recipe = Grpo(
                steps=steps, learning_rate=3e-4, prompts_per_step=16, group_size=8, max_tokens=110, rollouts=kind
            )
            with tempfile.TemporaryDirectory() as folder:
                before = _spent()
                log = train.grpo(Checkpoint(model=model), problems, recipe, folder=Path(folder), seed=pair)
                if pair:
                    seconds[kind].append((_spent() - before) / steps)
                    rewards[kind].append(log["reward"].mean())
    ours, theirs = (median(seconds[kind]) for kind in KINDS)
    print(f"{model}, {PAIRS} pairs of {steps} steps of 16 x 8 rollouts: {ours:.2f} and {theirs:.2f} CPU s a step")
    print(
        f"ratio {ours / theirs:.2f}; mean reward {np.mean(rewards[KINDS[0]]):.3f} and {np.mean(rewards[KINDS[1]]):.3f}"
    )


if __name__ == "__main__":
    main(*(int(word) if word.isdigit() else word for word in sys.argv[1:]))
