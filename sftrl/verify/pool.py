"""Killable workers: pairs in, replies out in order, each within its time and memory, from any thread or process.

Workers are plain child processes on pipes (no fork of this process, no pickled state), started when the first pair
needs one and killed at exit. One that is late, or dies, is killed and replaced: its pair is `timed_out`, the others
are unharmed.
"""

import atexit
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
    def __init__(self) -> None:
        self.errors = tempfile.TemporaryFile()
        self.process = subprocess.Popen(
            [sys.executable, "-P", str(Path(__file__).with_name("worker.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            env={**os.environ, "PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1"},
            start_new_session=True,
        )
        self.buffer = b""
        self.job: int | None = None
        self.ready = False
        self.deadline = time.monotonic() + START_TIMEOUT

    def send(self, job: int, gold: str, answer: str, timeout: float) -> None:
        self.job = job
        self.deadline = time.monotonic() + timeout + GRACE
        request = json.dumps({"gold": gold, "answer": answer, "timeout": timeout}) + "\n"
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
        `equal`, `different`, `bad_gold`, `bad_answer` or `timed_out`, in the order of the pairs.
    """
    if not pairs:
        return []
    with _lock:
        return _decide(pairs, max(1, min(workers, len(pairs))), timeout)


def _decide(pairs: Sequence[tuple[str, str]], workers: int, timeout: float) -> list[str]:
    replies = ["timed_out"] * len(pairs)
    waiting = list(range(len(pairs)))[::-1]
    while len(_workers) < workers:
        _workers.append(_Worker())
    active = _workers[:workers]
    try:
        with selectors.DefaultSelector() as selector:
            for worker in active:
                selector.register(worker.process.stdout, selectors.EVENT_READ, worker)
                _next(worker, waiting, pairs, timeout)
            while any(worker.job is not None for worker in active) or waiting:
                patience = min(worker.deadline for worker in active if worker.job is not None or not worker.ready)
                for key, _ in selector.select(max(0.0, patience - time.monotonic())):
                    worker = key.data
                    try:
                        reply = worker.receive()
                    except EOFError:
                        worker.deadline = 0.0  # replaced below
                        continue
                    if reply is None:
                        continue
                    if not worker.ready:
                        worker.ready = True
                    else:
                        replies[worker.job] = reply
                        worker.job = None
                    _next(worker, waiting, pairs, timeout)
                for i, worker in enumerate(active):
                    if (worker.job is not None or not worker.ready) and worker.deadline <= time.monotonic():
                        selector.unregister(worker.process.stdout)
                        said = worker.kill()
                        _workers.remove(worker)
                        if not worker.ready:
                            raise RuntimeError(f"math-verify's worker did not start:\n{said.strip()}")
                        fresh = active[i] = _Worker()
                        _workers.append(fresh)
                        selector.register(fresh.process.stdout, selectors.EVENT_READ, fresh)
    except BaseException:  # Ctrl-C too: a worker left with a job would answer the next call
        _kill_all()
        raise
    return replies


def _next(worker: _Worker, waiting: list[int], pairs: Sequence[tuple[str, str]], timeout: float) -> None:
    if worker.ready and worker.job is None and waiting:
        job = waiting.pop()
        try:
            worker.send(job, *pairs[job], timeout)
        except OSError:  # it died while idle: the loop replaces it
            worker.deadline = 0.0


def _kill_all() -> None:
    while _workers:
        _workers.pop().kill()


def _after_fork() -> None:
    """In a forked child the pipes belong to the parent: leave them, and start afresh when needed."""
    global _lock
    _lock = threading.Lock()
    _workers.clear()


atexit.register(_kill_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
