"""`python -m sftrl.study params/<study>.yaml`: check a params file, and say what the study consists of."""

import sys

from sftrl.errors import InputError
from sftrl.study import Study


def main(path: str) -> None:
    """Print a study's size; a wrong key ends in one message and exit status 1."""
    try:
        study = Study.load(path)
    except InputError as error:
        sys.exit(str(error))
    rl = sum(len(study.rl_seeds(run)) for run in study.runs)
    families = len(study.families)
    print(
        f"study {study.name}: {families} {'family' if families == 1 else 'families'}, each with {len(study.sft_runs)} "
        f"SFT runs, {rl} RL runs and {len(study.runs) + rl} evaluations"
    )


if __name__ == "__main__":
    main(sys.argv[1])
