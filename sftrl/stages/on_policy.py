"""What a checkpoint's own rollouts tell of it: read again by the model that drew them, and by the base.

Of the samples that `03_evaluate` has drawn anyway, so many as make `evaluation.rollout_tokens`: on the RL problems
where the study samples some of them, since RL begins there, else on the benchmarks.
"""

import math
from pathlib import Path

import pandas as pd

from sftrl.generations import Store
from sftrl.generations.parts import read_part
from sftrl.recipes import Sampling
from sftrl.stages import base, sft
from sftrl.study import Study
from sftrl.tables import BASE, RL_PROBLEMS


def measure(study: Study, family: str, run: str, folder: Path, problems: pd.DataFrame, how: Sampling) -> dict:
    """Return `rollout_entropy`, `rollout_kl` and `rollout_tokens`, by name; nothing where there is nothing to measure.

    The entropy is that of the next-token distribution at temperature 1, the mean over the tokens of the rollouts
    (nats); the KL divergence is KL(checkpoint || base) on the same tokens. Both ask for rollouts of that distribution:
    with another temperature or with top-p there is no number. The tokens are those of the stored texts, which a
    tokenizer may split in another way than they were drawn; empty responses are left out.

    Args:
        study, family, run: whose checkpoint.
        folder: the store of its samples.
        problems: what was sampled, with its prompts.
        how: how it was sampled.
    """
    wanted = study.params.evaluation.rollout_tokens
    if not wanted or how.temperature != 1 or how.top_p != 1:
        return {}
    of_rl = problems[problems["benchmark"] == RL_PROBLEMS]
    rows = first_rollouts(folder, of_rl if len(of_rl) else problems, wanted)
    if rows.empty:
        return {}

    from sftrl.loss import response_loss
    from sftrl.models import load_model, load_tokenizer

    checkpoint, _ = sft.checkpoint(study, family, run)
    tokenizer, model = load_tokenizer(checkpoint), load_model(checkpoint)
    found = response_loss(
        model,
        tokenizer,
        rows,
        token_budget=study.params.evaluation.loss_token_budget,
        too_long="skip",
        reference=reference(study, family, run, model, tokenizer),
    )
    return {"rollout_entropy": found.entropy, "rollout_kl": from_base(run, found.kl), "rollout_tokens": found.n_tokens}


def first_rollouts(folder: Path, problems: pd.DataFrame, tokens: int) -> pd.DataFrame:
    """Return the first sample of every problem, then the second of every one, and so on, up to `tokens` tokens.

    Rows are `id, prompt, response, finish_reason`, as the loss takes them; of the parts of the store, one at a time is
    in memory. At least one sample is returned, if there is any that is not empty.
    """
    prompts = {
        (str(b), str(i)): text
        for b, i, text in zip(problems["benchmark"], problems["id"], problems["problem"], strict=True)
    }
    place = {name: at for at, name in enumerate(prompts)}
    kept: list[tuple] = []
    for part in Store(folder).parts():
        rows = read_part(part, ["benchmark", "problem_id", "sample_index", "response", "n_tokens", "finish_reason"])
        for row in rows.itertuples(index=False):
            name = row.benchmark, row.problem_id
            if name in place and row.response.strip():
                kept.append((row.sample_index, place[name], row.n_tokens, name, row.response, row.finish_reason))
        kept = _within(sorted(kept), tokens)
    return pd.DataFrame(
        [
            {"id": f"{' '.join(name)} {i}", "prompt": prompts[name], "response": text, "finish_reason": reason}
            for i, _, _, name, text, reason in kept
        ]
    )


def _within(rows: list[tuple], tokens: int) -> list[tuple]:
    """Keep the first rows that have `tokens` tokens or fewer together, and one at least."""
    total = 0
    for at, row in enumerate(rows):
        total += row[2]
        if total > tokens and at:
            return rows[:at]
    return rows


def reference(study: Study, family: str, run: str, model, tokenizer):
    """Return the family's base, to compare a run's checkpoint with; None where the two cannot be compared.

    That is the base itself, a checkpoint of one's own in a family that is made from scratch (nothing says that it came
    from there), and one that reads other tokens, or other prompts, than the base.
    """
    from sftrl.chat import template_hash
    from sftrl.models import load_model, load_tokenizer

    start, made_by = base.checkpoint(study, family)
    if run == BASE or (made_by and run not in study.sft_runs):
        return None
    theirs = load_tokenizer(start)
    if theirs.get_vocab() != tokenizer.get_vocab() or template_hash(theirs) != template_hash(tokenizer):
        return None
    other = load_model(start)
    sizes = {len(one.get_output_embeddings().weight) for one in (model, other)}
    return other if len(sizes) == 1 else None


def from_base(run: str, value: float | None) -> float | None:
    """Return a distance from the base as a table holds it: 0 of the base itself, and nothing that is not finite."""
    if run == BASE:
        return 0.0
    return value if value is not None and math.isfinite(value) else None
