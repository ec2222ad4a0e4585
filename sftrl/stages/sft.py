"""`02_sft`: one run of the grid: which examples, how many, how many epochs."""

import pandas as pd

from sftrl import curate
from sftrl.errors import InputError
from sftrl.files import read_table, write_table
from sftrl.recipes import Checkpoint, Decoding, Sft
from sftrl.stages import base, curation
from sftrl.stages.job import Job, Work, given
from sftrl.study import Study

# What of a run's settings says which examples, and how often each is seen.
CHOICE = {"selection", "examples", "tokens", "temperature", "epochs"}


def job(study: Study, family: str, run: str) -> Job:
    """Return the job of one SFT run."""
    settings = study.run(run)
    if settings is None or settings.model is not None:
        raise InputError(f"run: {run!r} has no SFT; the runs with SFT are {', '.join(study.sft_runs) or 'none'}")
    start, made_by = base.checkpoint(study, family)
    return Job(
        "02_sft",
        study.folder / family / "sft" / run,
        study.settings(
            start=given(start, made_by),
            loading=study.loading(family, "").model_dump(mode="json"),
            run=settings.model_dump(mode="json", include=CHOICE, exclude_none=True),
            sft=recipe(study, run).model_dump(mode="json"),
        ),
        (curation.job(study), *made_by),
        {"select": study.seed("select", settings.data_seed), "order": study.seed("sft", family, run)},
        keep=("trainer",),
    )


def recipe(study: Study, run: str) -> Sft:
    """Return the SFT recipe with the run's own learning rate in it."""
    own = study.run(run).learning_rate
    return study.params.sft if own is None else study.params.sft.model_copy(update={"learning_rate": own})


def checkpoint(study: Study, family: str, run: str) -> tuple[Checkpoint, tuple[Job, ...]]:
    """Return a run's checkpoint before RL, and the job that makes it, if one does."""
    settings = study.run(run)
    if settings is None:
        return base.checkpoint(study, family)
    if settings.model is not None:
        return study.loading(family, settings.model, settings), ()
    made = job(study, family, run)
    return study.loading(family, str(made.folder / "model")), (made,)


def examples(study: Study, family: str, run: str, work: Work) -> pd.DataFrame:
    """Return the examples that a run is trained on, with their responses' length in tokens, `n_tokens`."""
    from sftrl.models import load_tokenizer  # imports torch, which most readers of a study never need

    count = curate.token_counter(load_tokenizer(base.checkpoint(study, family)[0]))
    settings, pool = study.run(run), curation.read(study, "sft")
    chosen = curate.select(
        pool,
        settings.examples,
        "random" if settings.selection == "self" else settings.selection,
        work.seeds["select"],
        tokens=settings.tokens,
        count_tokens=count,
    )
    if settings.selection == "self":
        chosen = chosen.assign(response=_own_responses(study, family, chosen, settings.temperature, work))
    return chosen.assign(n_tokens=count(list(chosen["response"])))


def _own_responses(study: Study, family: str, chosen: pd.DataFrame, temperature: float, work: Work) -> list[str]:
    """Return the base's responses to the chosen prompts, drawn once."""
    path = work.folder / "own_responses.parquet"
    if not path.exists():
        from sftrl.sample.local import respond

        decoding = Decoding(temperature=temperature, max_tokens=study.params.evaluation.max_tokens)
        texts = respond(base.checkpoint(study, family)[0], list(chosen["prompt"]), decoding, work.seeds["select"])
        write_table(pd.DataFrame({"id": chosen["id"], "response": texts}), path)
    return list(read_table(path)["response"])


def train(study: Study, family: str, run: str, chosen: pd.DataFrame, work: Work) -> pd.DataFrame:
    """Train, save the checkpoint, finish the job; return the log: `step, epoch, loss, ...`."""
    if not work.done:
        from sftrl import train as trainers

        epochs = study.run(run).epochs
        log = trainers.sft(
            base.checkpoint(study, family)[0],
            chosen,
            recipe(study, run),
            epochs=epochs,
            folder=work.folder,
            seed=work.seeds["order"],
            compute=study.params.compute,
            held_out=curation.read(study, "held_out"),
        )
        write_table(log, work.folder / "log.csv")
        work.finish(tokens=int(chosen["n_tokens"].sum()) * epochs, final_loss=float(log["loss"].iloc[-1]))
    return read_table(work.folder / "log.csv")


def curves(study: Study) -> pd.DataFrame | None:
    """Return every SFT run's log, `family, run, step, epoch, loss`, at some hundred steps of each at most; None where
    nothing was trained."""
    logs = [
        read_table(job(study, family, run).folder / "log.csv").assign(family=family, run=run)
        for family in study.families
        for run in study.sft_runs
    ]
    if not logs:
        return None
    thin = [log[(log["step"] % max(1, len(log) // 100) == 0) | (log.index == 0)] for log in logs]
    table = pd.concat(thin, ignore_index=True)[["family", "run", "step", "epoch", "loss"]]
    return table.round({"epoch": 4, "loss": 5})  # as exact as any figure needs, in a small file
