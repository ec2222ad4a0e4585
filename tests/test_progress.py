"""A line each half minute and at the end, with what is left; in a notebook of JupyterLab's one line that is updated."""

import nbformat
import pytest
from nbclient import NotebookClient

from sftrl import progress
from sftrl.progress import Progress

CODE = """
from sftrl import progress
progress.LIVE = progress.LOG = 0
work = progress.Progress(3, "steps")
for done in (1, 2, 3):
    work.at(done, f"loss {done}")
"""
LINES = [
    "1 of 3 steps in 0:00, 0:00 left; loss 1",
    "2 of 3 steps in 0:00, 0:00 left; loss 2",
    "3 of 3 steps in 0:00; loss 3",
]


@pytest.fixture
def clock(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress.time, "perf_counter", lambda: now[0])
    return now


def test_a_line_each_half_minute_and_the_last(clock):
    lines = []
    work = Progress(4000, "tokens", lines.append)
    for done in range(100, 4001, 100):
        clock[0] += 2.0
        work.at(done)
    assert lines == [
        "1,500 of 4,000 tokens in 0:30, 0:50 left",
        "3,000 of 4,000 tokens in 1:00, 0:20 left",
        "4,000 of 4,000 tokens in 1:20",
    ]


def test_what_was_done_before_tells_nothing_of_the_rate(clock):
    lines = []
    work = Progress(1000, "steps", lines.append, start=900)
    clock[0] = 3600.0
    work.at(950)
    work.at(960)
    work.at(970, "loss 0.5", now=True)
    assert lines == [
        "950 of 1,000 steps in 1:00:00, 1:00:00 left",
        "970 of 1,000 steps in 1:00:00, 25:43 left; loss 0.5",
    ]


def test_without_a_total_nothing_is_said_of_what_is_left(clock):
    lines = []
    work = Progress(None, "rows", lines.append)
    for done in (1000, 2000, 3000):
        clock[0] += 20.0
        work.at(done, f"{done // 10} wanted")
    assert lines == ["2,000 rows in 0:40; 200 wanted"]


def test_silence_says_nothing(clock, capsys):
    clock[0] = 100.0
    Progress(2, "parts", None).at(2)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("lab", [True, False])
def test_one_line_is_updated_in_jupyterlab_and_lines_follow_each_other_elsewhere(lab, monkeypatch):
    """A Jupyter server tells a kernel which notebook it is; papermill's kernels have no such name."""
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    if lab:
        monkeypatch.setenv("JPY_SESSION_NAME", "02_sft.ipynb")
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(CODE)])
    NotebookClient(book).execute()
    outputs = book.cells[0].outputs
    if lab:
        assert [output.data["text/plain"] for output in outputs] == LINES[-1:]
    else:
        assert "".join(output.text for output in outputs).splitlines() == LINES
