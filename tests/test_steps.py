"""Checkpoints of one run by a pattern."""

import pytest

from sftrl.errors import InputError
from sftrl.steps import expand


def test_steps_are_in_the_order_of_their_numbers(tmp_path):
    for name in ("checkpoint-1000", "checkpoint-200", "checkpoint-30", "final"):
        (tmp_path / "run-7" / name).mkdir(parents=True)
    (tmp_path / "run-7" / "checkpoint-5").write_text("a file")
    found = expand(f"{tmp_path}/run-*/checkpoint-*")
    assert list(found.items()) == [(step, f"{tmp_path}/run-7/checkpoint-{step}") for step in (30, 200, 1000)]


@pytest.mark.parametrize(
    ("folders", "pattern", "message"),
    [
        ([], "checkpoint-*", r"no folder matches .*checkpoint-\*"),
        (["final"], "*", "final matches .*, and has no step in its name"),
        (["a/step-3", "b/step-03"], "*/step-*", "both are step 3"),
    ],
)
def test_slips_are_named(tmp_path, folders, pattern, message):
    for name in folders:
        (tmp_path / name).mkdir(parents=True)
    with pytest.raises(InputError, match=message):
        expand(f"{tmp_path}/{pattern}")
