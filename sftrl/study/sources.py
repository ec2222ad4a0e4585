"""A study's data as its params name it: generated maths, or published sets."""

import pandas as pd

from sftrl import procedural
from sftrl.curate import token_counter
from sftrl.errors import InputError
from sftrl.models import load_tokenizer
from sftrl.problems import check_examples, check_problems, load_examples, load_problems
from sftrl.study import jobs
from sftrl.study.schema import Generated
from sftrl.study.study import Study


def benchmarks(study: Study) -> pd.DataFrame:
    """Return the benchmark problems, checked."""
    source = study.params.data.benchmarks
    if isinstance(source, Generated):
        return check_problems(procedural.benchmark_problems(study.seed_sequence("benchmarks"), source.procedural))
    return _several(load_problems, source, check_problems)


def sft_examples(study: Study) -> pd.DataFrame:
    """Return the SFT examples, checked, before any curation."""
    source = study.params.data.sft
    if isinstance(source, Generated):
        return check_examples(procedural.sft_examples(study.seed_sequence("sft"), source.procedural))
    return _several(load_examples, source, check_examples)


def rl_problems(study: Study) -> pd.DataFrame:
    """Return the RL problems, checked, before any curation."""
    source = study.params.data.rl
    if isinstance(source, Generated):
        return check_problems(procedural.rl_problems(study.seed_sequence("rl"), source.procedural))
    return _several(load_problems, source, check_problems)


def count_tokens(study: Study):
    """Return what counts a response's tokens: the first family's tokenizer."""
    return token_counter(load_tokenizer(jobs.checkpoint(study, study.families[0], "base")))


def check_sizes(study: Study, examples: pd.DataFrame) -> None:
    """Refuse a grid that asks for more examples than there are, before anything is trained."""
    for name in study.sft_runs:
        if study.run(name).examples > len(examples):
            raise InputError(
                f"runs: {name} asks for {study.run(name).examples} examples; {len(examples)} are left after curation "
                "and the held-out split"
            )


def _several(load, specs: list, check) -> pd.DataFrame:
    return check(pd.concat([load(spec) for spec in specs], ignore_index=True))
