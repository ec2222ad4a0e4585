"""The generalization loss of a checkpoint on held-out SFT examples: a job of its own, done by 03_evaluate before any
sampling, so that an example too long is found first and no engine stands beside it on the GPU.
"""

import gc

import pandas as pd

from sftrl.files import read_json, write_json
from sftrl.stages import curation, sft
from sftrl.stages.job import Job, Work, given
from sftrl.study import Study


def job(study: Study, family: str, run: str) -> Job:
    """Return the job that measures one checkpoint before RL."""
    model, made_by = sft.checkpoint(study, family, run)
    return Job(
        "03_evaluate",
        study.folder / family / "held_out" / run,
        study.settings(
            model=given(model, made_by),
            token_budget=study.params.evaluation.loss_token_budget,
        ),
        (curation.job(study), *made_by),
    )


def measure(study: Study, family: str, run: str, work: Work) -> dict:
    """Measure the loss and finish the job; return it by name, or nothing where the study has no SFT examples."""
    if not work.done:
        examples = curation.read(study, "held_out")
        write_json(work.folder / "losses.json", {} if examples is None else _losses(study, family, run, examples))
        work.finish()
    return read_json(work.folder / "losses.json")


def _losses(study: Study, family: str, run: str, examples: pd.DataFrame) -> dict:
    import torch

    from sftrl.loss import response_loss
    from sftrl.models import load_model, load_tokenizer

    checkpoint, _ = sft.checkpoint(study, family, run)
    model = load_model(checkpoint)
    loss = response_loss(
        model, load_tokenizer(checkpoint), examples, token_budget=study.params.evaluation.loss_token_budget
    )
    del model
    gc.collect()
    torch.cuda.empty_cache()  # what samples next may be another process's engine
    return {
        "generalization_loss": loss.per_token,
        "generalization_loss_example_mean": loss.example_mean,
        "entropy": loss.entropy,
        "token_accuracy": loss.token_accuracy,
        "held_out_tokens": loss.n_tokens,
    }


def predictors(study: Study) -> pd.DataFrame:
    """Return a row for every (family, run): its losses on held-out examples, and how much SFT it saw."""
    rows = []
    for family in study.families:
        for run in study.runs:
            losses = read_json(job(study, family, run).folder / "losses.json")
            tokens = sft.job(study, family, run).require()["tokens"] if run in study.sft_runs else 0
            rows.append({"family": family, "run": run} | losses | {"sft_tokens": tokens})
    return pd.DataFrame(rows)
