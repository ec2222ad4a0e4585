"""`Writer`: stores and grades responses in a separate thread, so that the engine does not wait."""

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor

import pandas as pd
from transformers import PreTrainedTokenizerBase

from sftrl.generations import Grader, Store
from sftrl.sample.requests import Response

UNDERWAY = 2  # most batches being written: bounds memory if grading is slower than sampling


class Writer:
    """Takes finished batches. On entry it first grades what a killed process left ungraded.

    An error in its thread is raised by the next `add` or by `finish`.
    """

    def __init__(self, store: Store, grader: Grader, tokenizer: PreTrainedTokenizerBase):
        self.store, self.grader, self.tokenizer = store, grader, tokenizer
        self._thread = ThreadPoolExecutor(1)
        self._underway: deque[Future] = deque()

    def __enter__(self) -> "Writer":
        self._underway.append(self._thread.submit(self._grade_all))
        return self

    def __exit__(self, *_) -> None:
        self._thread.shutdown()  # writes what was drawn before an interruption

    def add(self, batch: list[Response]) -> None:
        """Take a batch; wait only if `UNDERWAY` others are still being written."""
        while len(self._underway) >= UNDERWAY:
            self._underway.popleft().result()
        self._underway.append(self._thread.submit(self._write, batch))

    def finish(self) -> None:
        """Wait until everything is stored and graded."""
        while self._underway:
            self._underway.popleft().result()

    def _grade_all(self) -> None:
        for part in self.store.own_parts():
            self.grader.grade_part(part)

    def _write(self, batch: list[Response]) -> None:
        requests = [response.request for response in batch]
        rows = pd.DataFrame(
            {
                "benchmark": [request.benchmark for request in requests],
                "problem_id": [request.problem_id for request in requests],
                "sample_index": [request.sample_index for request in requests],
                "seed": pd.array([request.seed for request in requests], dtype="Int64"),
                "response": self.tokenizer.batch_decode([r.tokens for r in batch], skip_special_tokens=True),
                "n_tokens": [len(response.tokens) for response in batch],
                "finish_reason": [response.finish_reason for response in batch],
            }
        )
        self.grader.grade_part(self.store.append(rows))
