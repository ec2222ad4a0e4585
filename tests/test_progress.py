"""A line each half minute, with what is left, and none of short work."""

import pytest

from sftrl import progress
from sftrl.progress import Progress


@pytest.fixture
def clock(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress.time, "perf_counter", lambda: now[0])
    return now


def test_a_line_each_half_minute(clock):
    lines = []
    work = Progress(4000, "tokens", lines.append)
    for done in range(100, 4001, 100):
        clock[0] += 2.0
        work.at(done)
    assert len(lines) == 2  # in 80 seconds
    assert lines[0] == "1,500 of 4,000 tokens in 0.5 min, 0.8 min left"


def test_short_work_and_silence_say_nothing(clock):
    lines = []
    Progress(2, "parts", lines.append).at(1)
    clock[0] = 100.0
    Progress(2, "parts", None).at(1)
    assert lines == []
