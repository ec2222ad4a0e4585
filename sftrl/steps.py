"""Checkpoints found by a pattern: `runs/sft/checkpoint-*` is every step that a trainer saved."""

import glob
import re
from pathlib import Path

from sftrl.errors import InputError


def the_one(pattern: str) -> str:
    """Return the one folder that a pattern matches, for a path of which only a part is known.

    Raises:
        InputError: nothing matches, or several do.
    """
    folders = [path for path in sorted(glob.glob(pattern)) if Path(path).is_dir()]
    if len(folders) != 1:
        raise InputError(
            f"model: {len(folders)} folders match {pattern}" + (f": {', '.join(folders)}" if folders else "")
        )
    return folders[0]


def expand(pattern: str) -> dict[int, str]:
    """Return the folders that a pattern matches, by step, in the order of the steps.

    Args:
        pattern: a path whose last part holds one `*` or more, as of the shell; elsewhere in the path too, if wanted.
            The step is the last number in the name of a folder: 200 of `checkpoint-200` and of `epoch1-step200`.

    Raises:
        InputError: nothing matches, a name has no number, or two have the same; the pattern or the folders are named.
    """
    folders = [path for path in sorted(glob.glob(pattern)) if Path(path).is_dir()]
    if not folders:
        raise InputError(f"model: no folder matches {pattern}")
    steps: dict[int, str] = {}
    for folder in folders:
        numbers = re.findall(r"\d+", Path(folder).name)
        if not numbers:
            raise InputError(f"model: {folder} matches {pattern}, and has no step in its name")
        step = int(numbers[-1])
        if step in steps:
            raise InputError(f"model: {steps[step]} and {folder} match {pattern}, and both are step {step}")
        steps[step] = folder
    return dict(sorted(steps.items()))
