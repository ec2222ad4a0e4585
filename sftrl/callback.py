"""When to stop: callbacks for any trainer of transformers or TRL that measure, on the way, what the study does.

    from sftrl.callback import CurveCallback, RolloutCallback

    trainer = SFTTrainer(..., callbacks=[CurveCallback(held_out, problems, every=100)])
    trainer = GRPOTrainer(..., callbacks=[CurveCallback(held_out, problems, every=100), RolloutCallback()])

Before the first step, every so many steps and after the last `CurveCallback` measures the loss on held-out examples,
the entropy of the next token and a small Pass@k, and writes a row of each to a CSV. It draws with the same random
numbers each time and takes none from the training, which continues as it would have without it. `RolloutCallback` keeps
what TRL logs of GRPO's own rollouts. 05_predict finds both tables beside the checkpoints that its params name.
"""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback

from sftrl.chat import turn_end
from sftrl.errors import InputError
from sftrl.files import read_table, write_table
from sftrl.generations import Grader, sample_seed
from sftrl.loss import response_loss
from sftrl.passk import pass_at_k
from sftrl.recipes import Sampling
from sftrl.sample import Request
from sftrl.sample.checkpoint import encode_prompts
from sftrl.sample.local import draw
from sftrl.tables import HELD_OUT_CURVE, ROLLOUT_CURVE

ROLLOUTS = ["step", "reward", "entropy", "completions/clipped_ratio", "frac_reward_zero_std", "completions/mean_length"]
Z = 1.645  # of a rise that is told from noise: one-sided, at 95 %


class CurveCallback(TrainerCallback):
    """Measures a model while it is trained, and says from which step on more training has only raised the loss.

    The CSV has a row a measurement: `step, epoch, generalization_loss, entropy`, `pass@k` for 1, 2, 4, ... up to
    `samples`, and `marked`, which is true for the step that `turning_point` names. What each example and problem
    contributed is beside it, as `.parquet`; a resumed training continues both.

    Args:
        held_out: examples `id, prompt, response` that are not trained on.
        problems: `benchmark, id, problem, answer`, and what else `Grader` takes; some dozens are enough.
        every: steps between two measurements.
        path: the CSV; None for `held_out_curve.csv` in the trainer's output folder.
        samples: responses a problem; Pass@k is taken up to k = samples.
        sampling: how they are drawn; by default at temperature 1, up to 128 tokens.
        seed: of the responses, the same in every measurement.
        progress: takes a line a measurement; None for silence.

    Raises:
        InputError: before the first step: an example or prompt that is too long, a gold that cannot be read, a model
            that is spread over several processes in pieces.
    """

    def __init__(
        self,
        held_out: pd.DataFrame,
        problems: pd.DataFrame,
        *,
        every: int,
        path: str | Path | None = None,
        samples: int = 8,
        sampling: Sampling | None = None,
        seed: int = 0,
        progress: Callable[[str], None] | None = print,
    ):
        if every < 1 or samples < 1:
            raise InputError(f"every and samples are at least 1, not {every} and {samples}")
        self.path = None if path is None else Path(path)
        self.held_out, self.problems, self.grader = held_out, problems, Grader(problems)
        self.every, self.samples, self.seed, self.progress = every, samples, seed, progress
        self.sampling = sampling or Sampling()
        self.rows, self.items = pd.DataFrame(), pd.DataFrame()

    def on_train_begin(self, args, state, control, model=None, processing_class=None, **_):
        if getattr(args, "fsdp", None) or getattr(args, "deepspeed", None):
            raise InputError(
                "CurveCallback: with FSDP or DeepSpeed no process holds the whole model; measure its checkpoints"
            )
        self.grader.check_golds()
        self.path = self.path or Path(args.output_dir) / HELD_OUT_CURVE
        self.parts = self.path.with_suffix(".parquet")
        if state.global_step and self.path.is_file():
            self.rows, self.items = (
                table[table["step"] <= state.global_step] for table in map(read_table, (self.path, self.parts))
            )
        if state.is_world_process_zero and state.global_step not in set(self.rows.get("step", [])):
            self._measure(state, model, processing_class)

    def on_step_end(self, args, state, control, model=None, processing_class=None, **_):
        if state.is_world_process_zero and (
            state.global_step % self.every == 0 or state.global_step == state.max_steps
        ):
            self._measure(state, model, processing_class)

    def _measure(self, state, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
        model = model.get_base_model() if hasattr(model, "get_base_model") else model  # of PEFT: its layers are within
        loss = response_loss(model, tokenizer, self.held_out)
        solved = self._solved(model, tokenizer)
        step, sizes = state.global_step, [2**i for i in range(self.samples.bit_length())]
        row = {
            "step": step,
            "epoch": state.epoch or 0.0,
            "generalization_loss": loss.per_token,
            "entropy": loss.entropy,
        }
        by_benchmark = solved.groupby("benchmark")["c"]
        for k in sizes:
            row[f"pass@{k}"] = by_benchmark.apply(lambda c, k=k: pass_at_k(self.samples, c, k).mean()).mean()
        examples = loss.per_example.rename(columns={"id": "item", "nll_sum": "value", "n_tokens": "weight"})
        passes = solved.assign(value=pass_at_k(self.samples, solved["c"], sizes[-1]), weight=1)
        items = pd.concat([examples.assign(kind="example"), passes.assign(kind="problem")])
        items = items.assign(step=step)[["step", "kind", "item", "value", "weight"]]
        self.rows = pd.concat([self.rows, pd.DataFrame([row])], ignore_index=True)
        self.items = pd.concat([self.items, items], ignore_index=True)
        marked = turning_point(self.items)
        self.rows["marked"] = self.rows["step"] == marked
        write_table(self.items, self.parts)
        write_table(self.rows, self.path)
        if self.progress:
            line = f"step {step}: held-out loss {loss.per_token:.4f}, entropy {loss.entropy:.4f}"
            line += "".join(f", Pass@{k} {row[f'pass@{k}']:.3f}" for k in {1: 0, sizes[-1]: 0})
            if marked is not None:
                line += f"; since step {marked} the loss has risen and Pass@{sizes[-1]} has not"
            self.progress(line)

    def _solved(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> pd.DataFrame:
        """Return `benchmark, item, c`: of each problem, how many of the responses are right."""
        decoding = self.sampling.decoding
        context = getattr(model.config.get_text_config(), "max_position_embeddings", None) or sys.maxsize
        prompts = encode_prompts(tokenizer, self.problems, decoding.max_tokens, context)
        requests = (
            Request(*name, i, sample_seed(self.seed, *name, i), prompts[name])
            for name in sorted(prompts, key=lambda name: (-len(prompts[name]), name))
            for i in range(self.samples)
        )
        training = model.training
        model.eval()
        try:
            batches = draw(model, requests, decoding, stops(model, tokenizer), self.sampling.batch_tokens)
            responses = [response for batch in batches for response in batch]
        finally:
            model.train(training)
        texts = tokenizer.batch_decode([response.tokens for response in responses], skip_special_tokens=True)
        names = [(response.request.benchmark, response.request.problem_id) for response in responses]
        right = pd.Series([bool(verdict) for verdict in self.grader.verdicts(names, texts)])
        counts = right.groupby(pd.MultiIndex.from_tuples(names)).sum()
        return pd.DataFrame(
            [(name[0], f"{name[0]} {name[1]}", int(counts[name])) for name in prompts],
            columns=["benchmark", "item", "c"],
        )


class RolloutCallback(TrainerCallback):
    """Keeps what TRL's GRPOTrainer logs of its rollouts, as the curves of the study's own RL.

    The CSV has a row a log: `step, reward, entropy` (of the next token, in nats, on the rollouts), `clipped_ratio`
    (rollouts cut off), `frac_reward_zero_std` (groups without signal: all of their rewards are equal) and
    `mean_length` in tokens. TRL averages over the steps since its last log, so `logging_steps=1` gives every step.

    Args:
        path: the CSV; None for `rollout_curve.csv` in the trainer's output folder.
    """

    def __init__(self, path: str | Path | None = None):
        self.path = path

    def on_log(self, args, state, control, **_):
        # All that was logged, a resumed training's first steps too.
        rows = [row for row in state.log_history if "frac_reward_zero_std" in row]
        if rows and state.is_world_process_zero:
            table = pd.DataFrame(rows, columns=ROLLOUTS).rename(columns=lambda name: name.rpartition("/")[2])
            write_table(table, self.path or Path(args.output_dir) / ROLLOUT_CURVE)


def stops(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    """Return the ids that end a response: the tokenizer's EOS, the template's end of a turn, the model's own."""
    listed = model.generation_config.eos_token_id
    ids = {tokenizer.eos_token_id, *(listed if isinstance(listed, list) else [listed])}
    if tokenizer.chat_template and (end := turn_end(tokenizer)):
        ids.add(tokenizer.convert_tokens_to_ids(end))
    return tuple(sorted(ids - {None}))


def turning_point(items: pd.DataFrame) -> int | None:
    """Return the step of the lowest held-out loss, if training past it has raised the loss and not raised Pass@k.

    That is judged at the last step measured, by what each example and problem contributed there and at the step of the
    lowest loss: a rise is a mean difference above 1.645 of its standard errors over examples or problems (chosen here).

    Args:
        items: rows `step, kind, item, value, weight`: of each `example` its nats and tokens, of each `problem` its
            Pass@k and 1.
    """
    loss, passes = (
        (part.pivot(index="item", columns="step", values="value"), part.groupby("item")["weight"].first())
        for part in (items[items["kind"] == kind] for kind in ("example", "problem"))
    )
    lowest, last = loss[0].sum().idxmin(), loss[0].columns.max()
    if lowest == last or rise(*loss, lowest, last) <= Z or rise(*passes, lowest, last) > Z:
        return None
    return int(lowest)


def rise(values: pd.DataFrame, weights: pd.Series, before: int, after: int) -> float:
    """Return the weighted mean difference in units of its standard error; 0 where nothing differs."""
    mean = (values[after] - values[before]).sum() / weights.sum()
    apart = values[after] - values[before] - mean * weights
    error = np.sqrt(len(apart) / max(len(apart) - 1, 1) * (apart**2).sum()) / weights.sum()
    return float(mean / error) if error > 0 else float(np.sign(mean)) * np.inf if mean else 0.0
