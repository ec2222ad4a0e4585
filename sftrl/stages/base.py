"""`00_base`: a tiny family, pretrained from scratch on generated maths; or the model that the params name."""

import numpy as np
import pandas as pd

from sftrl import procedural
from sftrl.errors import InputError
from sftrl.files import read_table, write_table
from sftrl.recipes import Checkpoint
from sftrl.stages.job import Job, Work
from sftrl.study import Study


def job(study: Study, family: str) -> Job:
    """Return the job that makes a family's base."""
    scratch = study.params.families[family].scratch
    if scratch is None:
        raise InputError(f"families.{family}: is a model already; only a family with 'scratch' is made by 00_base")
    return Job(
        "00_base",
        study.folder / family / "base",
        study.settings(scratch=scratch.model_dump(mode="json")),
        seeds={use: study.seed("base", family, use) for use in ("texts", "weights", "order")},
    )


def checkpoint(study: Study, family: str) -> tuple[Checkpoint, tuple[Job, ...]]:
    """Return a family's base model, and the job that makes it, if one does."""
    given = study.params.families[family]
    if given.scratch is None:
        return study.loading(family, given.model, given), ()
    made = job(study, family)
    return study.loading(family, str(made.folder / "model")), (made,)


def texts(study: Study, family: str, work: Work) -> pd.DataFrame:
    """Return the texts that the base learns from: `source, prompt, response`."""
    scratch = study.params.families[family].scratch
    return procedural.pretraining_examples(
        np.random.SeedSequence(work.seeds["texts"]),
        scratch.examples,
        error_rate=scratch.error_rate,
        broken_rate=scratch.broken_rate,
        ordered=scratch.ordered,
        **({"styles": scratch.styles} if scratch.styles else {}),
    )


def scratch_tokenizer(study: Study, family: str):
    """Return the tokenizer of a family made from scratch: the same for all families and seeds but for its size."""
    from sftrl.models import build_tokenizer

    words = procedural.tokenizer_texts(np.random.SeedSequence(0), 300)
    return build_tokenizer(words, study.params.families[family].scratch.vocab_size)


def pretrain(study: Study, family: str, examples: pd.DataFrame, work: Work) -> pd.DataFrame:
    """Build the tokenizer and the model, pretrain, save both; return the log."""
    if not work.done:
        from sftrl import models, train  # torch and its trainers take seconds to import

        scratch, tokenizer = study.params.families[family].scratch, scratch_tokenizer(study, family)
        model = models.build_model(scratch, tokenizer, seed=work.seeds["weights"])
        print(f"{model.num_parameters():,} parameters, {len(tokenizer)} tokens")
        log = train.pretrain(model, tokenizer, examples, scratch, folder=work.folder, seed=work.seeds["order"])
        model.save_pretrained(work.folder / "model")
        tokenizer.save_pretrained(work.folder / "model")
        write_table(log, work.folder / "log.csv")
    return read_table(work.folder / "log.csv")
