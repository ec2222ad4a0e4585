"""Small trainings for the tests: their data, their recipes, and a process of one's own to be killed."""

import multiprocessing
import os
import random
import signal
import sys
import time
from pathlib import Path

import pandas as pd
import torch
from safetensors.torch import load_file

from sftrl import train
from sftrl.recipes import Checkpoint, Compute, Grpo, Sft
from sftrl.train import resumable

SFT = {"learning_rate": 5e-3, "batch_size": 8, "micro_batch": 4, "warmup_ratio": 0.1, "max_length": 128}
GRPO = {"steps": 9, "learning_rate": 5e-3, "prompts_per_step": 2, "group_size": 4, "micro_batch": 4, "max_tokens": 8}
EVERY_STEP = Compute(save_minutes=1e-9)


def examples(count: int) -> pd.DataFrame:
    """Give examples of unlike lengths."""
    rows = [(f"e{i}", f"What is {i}?", f"\\boxed{{{i % 10}}}" * (1 + i % 4)) for i in range(count)]
    return pd.DataFrame(rows, columns=["id", "prompt", "response"])


def problems(count: int, **columns) -> pd.DataFrame:
    """Give problems that all have one answer, 3."""
    prompts = [f"What is {i}?" for i in range(count)]
    return pd.DataFrame({"prompt": prompts, "answer": "3", "answer_type": "integer"} | columns)


def start(kind: str, model: str, folder: Path, compute: Compute | None = None, **changes) -> pd.DataFrame:
    """Train with the settings above, 45 examples for 3 epochs (18 steps) or 5 problems (2 steps an epoch)."""
    base = Checkpoint(model=model)
    if kind == "sft":
        recipe, aside = Sft(**SFT | changes), examples(5) if "held_out_steps" in changes else None
        return train.sft(base, examples(45), recipe, epochs=3, folder=folder, seed=3, compute=compute, held_out=aside)
    options = {"compute": compute, "until": changes.pop("until", None)}
    if "probes" in changes:
        options["probes"] = problems(changes["probes"]["problems"], benchmark="sums", id=["a", "b", "c"])
    return train.grpo(base, problems(5), Grpo(**GRPO | changes), folder=folder, seed=3, **options)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """Read the weights of a saved model."""
    return load_file(folder / "model" / "model.safetensors")


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    """Whether two models' weights are the same, to the bit."""
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def _child(steps, *arguments, **changes) -> None:
    after = resumable.Watch.on_step_end

    def tell(self, args, state, control, **kwargs):
        after(self, args, state, control, **kwargs)
        steps.send(state.global_step)

    resumable.Watch.on_step_end = tell
    try:
        start(*arguments, **changes)
    except train.Interrupted:
        os._exit(3)
    os._exit(0)


_processes = multiprocessing.get_context("forkserver")  # imports once, forks for each training
_processes.set_forkserver_preload(["trained", "sftrl.train.supervised", "sftrl.train.policy"])


def killed(how: signal.Signals, at: int, kind: str, model: str, folder: Path, **changes) -> int | None:
    """Send `how` to a training that saves at every step, some milliseconds after step `at`; return its exit code."""
    steps, mine = _processes.Pipe(duplex=False)
    child = _processes.Process(target=_child, args=(mine, kind, model, folder, EVERY_STEP), kwargs=changes)
    child.start()
    mine.close()
    while steps.recv() < at:
        pass
    time.sleep(random.uniform(0, 0.1))
    os.kill(child.pid, how)
    child.join(120)
    return child.exitcode


def fixed_rollouts() -> None:
    """Have GRPO's rollouts depend on their prompt and seed alone, and some earn a reward; note how many are drawn."""
    from sftrl.sample.requests import Request, Response
    from sftrl.train.rollouts import Policy

    def draw(self, trainer, prompts, seeds):
        tokenizer = trainer.processing_class
        digits = [tokenizer(f"\\boxed{{{i}}}", add_special_tokens=False)["input_ids"] for i in range(10)]
        with Path(trainer.args.output_dir, f"drawn-{trainer.accelerator.process_index}").open("a") as file:
            print(len(prompts), file=file)
        drawn = [(sum(ids) + int(seed)) % 10 for ids, seed in zip(prompts, seeds, strict=True)]
        tokens = [digits[i] * (1 + i % 3) + [tokenizer.eos_token_id] for i in drawn]
        return [Response(Request("", "", i, 0, ()), ids, "stop") for i, ids in enumerate(tokens)]

    Policy.draw = draw


if __name__ == "__main__":  # one of several processes, on jobs that were written before
    from sftrl.train import inside

    fixed_rollouts()
    for name in sys.argv[1:]:
        inside.run(Path(name))
