"""Killable workers: pairs in, replies out in order, each within its time and memory, from any thread or process.

Workers are plain child processes on pipes (no fork of this process, no pickled state), started when the first pair
needs one and killed at exit. One that is late, or dies, is killed and replaced: its pair is `timed_out`, the others
are unharmed.
"""

import atexit
import contextlib
import json
import os
import selectors
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

START_TIMEOUT = 120.0  # seconds for Python and sympy to start on a busy machine; no pair's own time
GRACE = 0.5  # seconds after which a worker that did not stop itself in time is killed


class _Worker:
    """One child: `job` is the index of its pair, None when idle; past `deadline` it is killed."""

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
        self.buffer = b""
        self.job: int | None = None
        self.ready = False
        self.deadline = time.monotonic() + START_TIMEOUT

    @property
    def busy(self) -> bool:
        return self.job is not None or not self.ready

    def send(self, job: int, gold: str, answer: str, timeout: float) -> None:
        self.job = job
        self.deadline = time.monotonic() + timeout + GRACE
        request = json.dumps({"gold": gold, "answer": answer, "timeout": timeout}) + "\n"
        with contextlib.suppress(OSError):  # it is gone: reading from it will tell
            self.process.stdin.write(request.encode())
            self.process.stdin.flush()

    def receive(self) -> str | None:
        """The reply if it is whole; raises EOFError if the worker is gone."""
        chunk = os.read(self.process.stdout.fileno(), 65536)
        if not chunk:
            raise EOFError
        self.buffer += chunk
        if not self.buffer.endswith(b"\n"):
            return None
        reply, self.buffer = json.loads(self.buffer), b""
        return reply

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


_workers: list[_Worker] = []
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
    with _lock:
        return _decide(pairs, max(1, min(workers, len(pairs))), timeout)


def _decide(pairs: Sequence[tuple[str, str]], workers: int, timeout: float) -> list[str]:
    replies = ["timed_out"] * len(pairs)
    waiting = list(range(len(pairs)))[::-1]
    for worker in [worker for worker in _workers if worker.process.poll() is not None]:
        _workers.remove(worker)
        worker.kill()
    while len(_workers) < workers:
        _workers.append(_Worker())
    active = _workers[:workers]
    try:
        with selectors.DefaultSelector() as selector:
            for worker in active:
                selector.register(worker.process.stdout, selectors.EVENT_READ, worker)
            while True:
                for worker in active:
                    if waiting and not worker.busy:
                        job = waiting.pop()
                        worker.send(job, *pairs[job], timeout)
                if not waiting and all(worker.job is None for worker in active):
                    return replies
                patience = min(worker.deadline for worker in active if worker.busy) - time.monotonic()
                for key, _ in selector.select(max(0.0, patience)):
                    _receive(key.data, replies)
                for worker in [worker for worker in active if worker.busy and worker.deadline <= time.monotonic()]:
                    selector.unregister(worker.process.stdout)
                    _workers.remove(worker)
                    said = worker.kill()
                    if not worker.ready:
                        raise RuntimeError(f"math-verify's worker did not start:\n{said.strip()}")
                    fresh = _Worker()
                    _workers.append(fresh)
                    active[active.index(worker)] = fresh
                    selector.register(fresh.process.stdout, selectors.EVENT_READ, fresh)
    except BaseException:  # Ctrl-C too: a worker left with a job would answer the next call
        close()
        raise


def _receive(worker: _Worker, replies: list[str]) -> None:
    try:
        reply = worker.receive()
    except EOFError:
        worker.deadline = 0.0  # to be replaced; a pair it held has run out of time or memory
        return
    if reply is None:
        return
    if worker.ready:
        replies[worker.job] = reply
        worker.job = None
    worker.ready = True


def close() -> None:
    """End the workers; the next pair that needs one starts it."""
    while _workers:
        _workers.pop().kill()


def _after_fork() -> None:
    """In a forked child the pipes belong to the parent: leave them, and start afresh when needed."""
    global _lock
    _lock = threading.Lock()
    _workers.clear()


atexit.register(close)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
