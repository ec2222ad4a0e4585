"""Progress of long work: a line each half minute in a log, one line that is updated in a notebook of JupyterLab's."""

import os
import sys
import time
from collections.abc import Callable

SECONDS = "SFTRL_PROGRESS_SECONDS"  # in the environment: between two lines, where it is not half a minute
LOG, LIVE = 30.0, 1.0  # seconds between two lines below each other, and in one place


def in_lab() -> bool:
    """Whether this is the kernel of a notebook that a Jupyter server has open, and not one that papermill runs."""
    kernel = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return "JPY_SESSION_NAME" in os.environ and hasattr(kernel, "kernel")


class Line:
    """Shows lines of text: in JupyterLab each in the place of the one before, else by `say`, one below the other."""

    def __init__(self, say: Callable[[str], None] = print):
        self.say, self.live, self.place = say, say is print and in_lab(), None

    def show(self, text: str) -> None:
        """Show a line."""
        if self.live:
            from IPython.display import display

            shown = {"text/plain": text}
            if self.place is None:
                self.place = display(shown, raw=True, display_id=True)
            else:
                self.place.update(shown, raw=True)
        elif self.say is print:
            print(text, flush=True)  # at once, also into a pipe
        else:
            self.say(text)


class Progress:
    """Reports how far a loop is, every half minute and at its end; in JupyterLab every second.

    Args:
        total: how much there is to do, in `unit`, the plural of what is counted; None where nobody knows.
        say: takes a line; None for silence.
        start: how much of it was done before.
    """

    def __init__(self, total: int | None, unit: str, say: Callable[[str], None] | None = print, *, start: int = 0):
        self.total, self.unit, self.start = total, unit, start
        self.line = None if say is None else Line(say)
        self.every = float(os.environ.get(SECONDS, LIVE if self.line and self.line.live else LOG))
        self.began = self.said = time.perf_counter()

    def at(self, done: int, more: str = "", *, now: bool = False) -> None:
        """Report how much is done, and `more`, if it is time to, or all is done, or `now`."""
        clock = time.perf_counter()
        now = now or done == self.total or clock - self.said >= self.every
        if self.line is None or done <= self.start or not now:
            return
        self.said, seconds = clock, clock - self.began
        of = "" if self.total is None else f" of {self.total:,}"
        text = f"{done:,}{of} {self.unit} in {_clock(seconds)}"
        if self.total is not None and done < self.total:
            text += f", {_clock(seconds * (self.total - done) / (done - self.start))} left"
        self.line.show(text + (f"; {more}" if more else ""))


def _clock(seconds: float) -> str:
    hours, rest = divmod(round(seconds), 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}" if hours else f"{rest // 60}:{rest % 60:02d}"
