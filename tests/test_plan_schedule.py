"""Longest chain and makespan: known answers, and bounds that hold for every graph."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sftrl.errors import InputError
from sftrl.plan.schedule import Task, longest_chain, makespan

DIAMOND = {
    "a": Task(1, 1, ()),
    "b": Task(5, 1, ("a",)),
    "c": Task(2, 1, ("a",)),
    "d": Task(1, 1, ("b", "c")),
}


@st.composite
def graphs(draw):
    count = draw(st.integers(1, 12))
    tasks = {}
    for i in range(count):
        after = draw(st.lists(st.integers(0, i - 1), max_size=3)) if i else []
        seconds = draw(st.floats(0, 100, allow_nan=False))
        tasks[f"t{i}"] = Task(seconds, draw(st.integers(0, 2)), tuple(f"t{j}" for j in after))
    return tasks


def test_a_diamond():
    assert longest_chain(DIAMOND) == ["a", "b", "d"]
    assert makespan(DIAMOND, 1) == 9
    assert makespan(DIAMOND, 2) == 7
    assert makespan(DIAMOND, 512) == 7


def test_the_longest_chain_goes_first():
    tasks = {"short": Task(1, 1, ()), "long": Task(1, 1, ()), "last": Task(9, 1, ("long",))}
    assert makespan(tasks, 1) == 11
    assert makespan({**tasks, "other": Task(9, 1, ())}, 2) == 10  # not 19: `long` before `short`


def test_a_task_of_many_gpus_waits_for_all_of_them():
    tasks = {"small": Task(3, 1, ()), "large": Task(3, 2, ()), "last": Task(1, 1, ("large",))}
    assert makespan(tasks, 2) == 6  # not 4: `large` and `small` do not fit together
    with pytest.raises(InputError, match="large needs 2 GPUs at once, and there are 1"):
        makespan(tasks, 1)


@given(graphs(), st.integers(2, 6))
def test_bounds(tasks, places):
    """No schedule beats the chain or the work; none that idles only where nothing fits takes more than both."""
    span = makespan(tasks, places)
    chain = sum(tasks[name].seconds for name in longest_chain(tasks))
    work = sum(task.seconds * task.places for task in tasks.values())
    assert span >= max(chain, work / places) * (1 - 1e-9) - 1e-9
    assert span <= sum(task.seconds for task in tasks.values()) + 1e-6
    if all(task.places == 1 for task in tasks.values()):
        assert span <= work / places + chain * (1 - 1 / places) + 1e-6  # Graham 1969


@given(graphs())
def test_with_places_for_all_only_the_chain_counts(tasks):
    chain = longest_chain(tasks)
    assert makespan(tasks, 2 * len(tasks)) == pytest.approx(sum(tasks[name].seconds for name in chain))
    for before, after in itertools.pairwise(chain):
        assert before in tasks[after].after


def test_a_graph_that_is_none():
    with pytest.raises(InputError, match="a waits for b, which is no task"):
        makespan({"a": Task(1, 1, ("b",))}, 1)
    with pytest.raises(InputError, match="waits for itself"):
        longest_chain({"a": Task(1, 1, ("b",)), "b": Task(1, 1, ("a",))})
    assert longest_chain({}) == []
    assert makespan({}, 1) == 0
