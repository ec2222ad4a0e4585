"""What held-out SFT examples tell of a checkpoint, the generalization loss above all: a job of its own, done by
03_evaluate before any sampling, so that an example too long is found first and no engine stands beside it on the GPU.
"""

import gc
import math

import pandas as pd

from sftrl.files import read_json, write_json
from sftrl.stages import base, curation, sft
from sftrl.stages.job import Job, Work, given
from sftrl.stages.on_policy import from_base, reference
from sftrl.study import Study
from sftrl.tables import BASE

TAILS = (64, 1024, 16_384)  # samples: of the references, how many are rarer than one in so many


def job(study: Study, family: str, run: str) -> Job:
    """Return the job that measures one checkpoint before RL."""
    model, made_by = sft.checkpoint(study, family, run)
    return Job(
        "03_evaluate",
        study.folder / family / "held_out" / run,
        study.settings(
            model=given(model, made_by),
            token_budget=study.params.evaluation.loss_token_budget,
            base=None if run == BASE else given(*base.checkpoint(study, family)),
        ),
        (curation.job(study), *made_by),
    )


def measure(study: Study, family: str, run: str, work: Work) -> dict:
    """Measure, and finish the job; return the numbers by name, or none where the study has no SFT examples."""
    if not work.done:
        examples = curation.read(study, "held_out")
        write_json(work.folder / "losses.json", {} if examples is None else _losses(study, family, run, examples))
        work.finish()
    return read_json(work.folder / "losses.json")


def _losses(study: Study, family: str, run: str, examples: pd.DataFrame) -> dict:
    import torch

    from sftrl.loss import response_loss
    from sftrl.models import load_model, load_tokenizer, weight_distance

    checkpoint, _ = sft.checkpoint(study, family, run)
    tokenizer, model = load_tokenizer(checkpoint), load_model(checkpoint)
    other = reference(study, family, run, model, tokenizer)
    budget = study.params.evaluation.loss_token_budget
    loss = response_loss(model, tokenizer, examples, token_budget=budget, reference=other, progress=print)
    moved = None if other is None else weight_distance(model, other)
    del model, other
    gc.collect()
    torch.cuda.empty_cache()  # what samples next may be another process's engine
    return {
        "generalization_loss": loss.per_token,
        "generalization_loss_example_mean": loss.example_mean,
        "entropy": loss.entropy,
        "token_accuracy": loss.token_accuracy,
        "held_out_tokens": loss.n_tokens,
        **{f"coverage_tail@{n}": float((loss.per_example["nll_sum"] >= math.log(n)).mean()) for n in TAILS},
        "kl_from_base": from_base(run, loss.kl),
        "weight_distance": from_base(run, moved),
    }
