"""Progress of long work, one line each half minute, for logs and notebooks alike."""

import time
from collections.abc import Callable

SECONDS = 30.0


class Progress:
    """Reports how far a loop is.

    Args:
        total: how much there is to do, in `unit`, the plural of what is counted.
        say: takes a line; None for silence.
    """

    def __init__(self, total: int, unit: str, say: Callable[[str], None] | None):
        self.total, self.unit, self.say = total, unit, say
        self.began = self.said = time.perf_counter()

    def at(self, done: int) -> None:
        """Report how much is done, if half a minute has passed since the last line."""
        now = time.perf_counter()
        if self.say is None or now - self.said < SECONDS or not done:
            return
        self.said = now
        minutes = (now - self.began) / 60
        left = minutes * (self.total - done) / done
        self.say(f"{done:,} of {self.total:,} {self.unit} in {minutes:.1f} min, {left:.1f} min left")
