"""How long a graph of jobs takes: its longest chain, and a simulation of it on so many places."""

import heapq
from collections.abc import Mapping
from typing import NamedTuple

from sftrl.errors import InputError


class Task(NamedTuple):
    """A job as a scheduler sees it.

    Attributes:
        seconds: how long it runs.
        places: how many GPUs (or cores) it holds; 0: none that are counted.
        after: names of the tasks that must end before it starts.
    """

    seconds: float
    places: int
    after: tuple[str, ...]


def longest_chain(tasks: Mapping[str, Task]) -> list[str]:
    """Return the tasks, in order, that no number of places makes shorter."""
    lengths, followers = remaining(tasks), _followers(tasks)
    chain, candidates = [], list(tasks)
    while candidates:
        chain.append(max(candidates, key=lengths.__getitem__))
        candidates = followers[chain[-1]]
    return chain


def remaining(tasks: Mapping[str, Task]) -> dict[str, float]:
    """Return the seconds from each task's start to the end of the longest chain through it."""
    lengths: dict[str, float] = {}
    followers = _followers(tasks)
    for name in reversed(_ordered(tasks)):
        lengths[name] = tasks[name].seconds + max((lengths[after] for after in followers[name]), default=0.0)
    return lengths


def makespan(tasks: Mapping[str, Task], places: int) -> float:
    """Return the seconds that the whole graph takes on so many places, by list scheduling.

    Whenever places are free, the ready task that fits and has the longest chain behind it starts (Graham 1969: at most
    twice the best schedule where every task holds one place).

    Raises:
        InputError: a task needs more places than there are.
    """
    for name, task in tasks.items():
        if task.places > places:
            raise InputError(f"{name} needs {task.places} GPUs at once, and there are {places}")
    lengths, followers = remaining(tasks), _followers(tasks)
    waiting = {name: len(set(task.after)) for name, task in tasks.items()}
    ready = sorted((name for name, count in waiting.items() if not count), key=lambda name: -lengths[name])
    running: list[tuple[float, str]] = []
    now, free = 0.0, places
    while ready or running:
        for name in list(ready):
            if tasks[name].places <= free:
                ready.remove(name)
                free -= tasks[name].places
                heapq.heappush(running, (now + tasks[name].seconds, name))
        now, done = heapq.heappop(running)
        free += tasks[done].places
        for name in followers[done]:
            waiting[name] -= 1
            if not waiting[name]:
                ready.append(name)
        ready.sort(key=lambda name: -lengths[name])
    return now


def _followers(tasks: Mapping[str, Task]) -> dict[str, list[str]]:
    followers: dict[str, list[str]] = {name: [] for name in tasks}
    for name, task in tasks.items():
        for earlier in set(task.after):
            if earlier not in tasks:
                raise InputError(f"{name} waits for {earlier}, which is no task")
            followers[earlier].append(name)
    return followers


def _ordered(tasks: Mapping[str, Task]) -> list[str]:
    """Return the names with every task after those that it waits for."""
    followers = _followers(tasks)
    waiting = {name: len(set(task.after)) for name, task in tasks.items()}
    ordered = [name for name, count in waiting.items() if not count]
    for name in ordered:  # grows as it is walked
        for after in followers[name]:
            waiting[after] -= 1
            if not waiting[after]:
                ordered.append(after)
    if len(ordered) < len(tasks):
        raise InputError(f"{next(iter(set(tasks) - set(ordered)))} waits for itself")
    return ordered
