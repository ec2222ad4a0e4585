"""Killable workers: pairs in, replies out in order, each within its time and memory, from any thread or process.

Workers are plain child processes on pipes (no fork of this process, no pickled state), started when the first pair
needs one and killed at exit. One that is late, or dies, is killed and replaced: its pair is `timed_out`, the others
are unharmed.
"""

import atexit
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import wait
from pathlib import Path

START_TIMEOUT = 120.0  # seconds for Python and sympy to start on a busy machine; no pair's own time
GRACE = 0.5  # seconds after which a worker that did not stop itself in time is killed


class _Worker:
    """One child, ready for a pair."""

    def __init__(self) -> None:
        self.errors = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the worker
        self.process = subprocess.Popen(
            [sys.executable, "-P", str(Path(__file__).with_name("worker.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            env={**os.environ, "PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1"},
            start_new_session=True,  # a Ctrl-C in the terminal is for the parent
        )

    def ask(self, gold: str, answer: str, timeout: float) -> str | None:
        request = json.dumps({"gold": gold, "answer": answer, "timeout": timeout}) + "\n"
        with contextlib.suppress(OSError):  # it is gone: reading from it will tell
            self.process.stdin.write(request.encode())
            self.process.stdin.flush()
        return self.reply(timeout + GRACE)

    def reply(self, patience: float) -> str | None:
        """The next line it writes; None if that is late, or the process gone."""
        line = self.process.stdout.readline() if wait([self.process.stdout], patience) else b""
        return json.loads(line) if line.endswith(b"\n") else None

    def kill(self) -> str:
        """End the process; return what it had to say."""
        self.process.kill()
        self.process.wait()
        with contextlib.suppress(OSError):  # what was still to be written to it
            self.process.stdin.close()
        self.process.stdout.close()
        self.errors.seek(0)
        said = self.errors.read().decode(errors="replace")
        self.errors.close()
        return said


_workers: dict[int, _Worker] = {}  # by the thread that asks it
_lock = threading.Lock()


def decide(pairs: Sequence[tuple[str, str]], workers: int, timeout: float) -> list[str]:
    """Give math-verify's word on each (gold, answer) pair.

    Args:
        pairs: gold and answer, as LaTeX.
        workers: processes to use at most.
        timeout: seconds a pair.

    Returns:
        `correct`, `incorrect`, `unparseable_gold`, `unparseable_response` or `timed_out`, in the order of the pairs.
    """
    if not pairs:
        return []
    replies = ["timed_out"] * len(pairs)
    waiting = deque(enumerate(pairs))
    workers = max(1, min(workers, len(pairs)))
    with _lock, ThreadPoolExecutor(workers) as threads:
        try:
            for done in [threads.submit(_work, k, waiting, timeout, replies) for k in range(workers)]:
                done.result()
        except BaseException:  # Ctrl-C too: a worker left with a pair would answer the next call
            waiting.clear()
            close()
            raise
    return replies


def _work(k: int, waiting: deque, timeout: float, replies: list[str]) -> None:
    """Ask the k-th worker, one pair after the other; one that is late or dies is replaced."""
    while waiting:
        with contextlib.suppress(IndexError):  # another thread took the last
            i, pair = waiting.popleft()
            reply = _started(k).ask(*pair, timeout)
            if reply is None:
                _workers.pop(k).kill()
            else:
                replies[i] = reply


def _started(k: int) -> _Worker:
    if k in _workers and _workers[k].process.poll() is None:
        return _workers[k]
    if k in _workers:
        _workers.pop(k).kill()
    worker = _workers[k] = _Worker()
    if worker.reply(START_TIMEOUT) is None:
        raise RuntimeError(f"math-verify's worker did not start:\n{_workers.pop(k).kill().strip()}")
    return worker


def close() -> None:
    """End the workers; the next pair that needs one starts it."""
    while _workers:
        _workers.popitem()[1].kill()


def _after_fork() -> None:
    """In a forked child the pipes belong to the parent: leave them, and start afresh when needed."""
    global _lock
    _lock = threading.Lock()
    _workers.clear()


atexit.register(close)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
