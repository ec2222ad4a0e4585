"""Warm kernels: forks that are as good as new, signals and ends that go through, and none where none fits."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LOOK = """
import os, random, sys
parent = open(f"/proc/{os.getppid()}/cmdline").read()
print(json.dumps({
    "forked": "serve" in parent, "drawn": random.random(), "folder": os.getcwd(), "given": os.environ.get("GIVEN"),
    "loaded": sorted(m for m in sys.modules if m.split(".")[0] == "sftrl"), "trl": "trl" in sys.modules,
}))
"""
STARTER = """
import os, time
from sftrl import warm
warm.start(1)
print(os.environ["JUPYTER_PATH"].split(os.pathsep)[0], flush=True)
time.sleep(900)
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    if Path("/dev/nvidiactl").exists() or sys.platform != "linux":
        pytest.skip("forks of kernels are for Linux without GPUs")
    process = subprocess.Popen(
        [sys.executable, "-c", STARTER], cwd=ROOT, env=environment(), stdout=subprocess.PIPE, text=True
    )
    folder = Path(process.stdout.readline().strip())
    until = time.monotonic() + 300
    while not (folder / "socket").exists():
        assert time.monotonic() < until
        time.sleep(0.2)
    yield folder
    process.kill()
    while folder.exists():  # the server ends with the one that started it
        assert time.monotonic() < until + 60
        time.sleep(0.2)


def environment(**more) -> dict[str, str]:
    programs = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return os.environ | {"PATH": programs, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | more


def run(folder: Path, path: Path, code: str, **more) -> tuple[int, list]:
    """Run a notebook of one cell through papermill; return its exit status and the cell's outputs."""
    cell = {"cell_type": "code", "metadata": {}, "source": code, "outputs": [], "execution_count": None, "id": "a"}
    spec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    (path / "in.ipynb").write_text(
        json.dumps({"cells": [cell], "metadata": {"kernelspec": spec}, "nbformat": 4, "nbformat_minor": 5})
    )
    words = ["papermill", "-k", "sftrl-warm", "in.ipynb", "out.ipynb", "--no-progress-bar"]
    done = subprocess.run(
        words, cwd=path, env=environment(JUPYTER_PATH=str(folder), **more), capture_output=True, text=True, timeout=300
    )
    cells = json.loads((path / "out.ipynb").read_text())["cells"]
    return done.returncode, [output for cell in cells for output in cell.get("outputs", [])]


def look(folder: Path, path: Path, **more) -> dict:
    status, outputs = run(folder, path, "import json" + LOOK, **more)
    assert status == 0
    return json.loads("".join(outputs[0]["text"]))


def test_a_fork_is_as_good_as_new(server, tmp_path):
    first, second = (look(server, tmp_path, GIVEN="here") for _ in range(2))
    assert first["forked"]
    assert first["trl"]
    assert first["loaded"] == []  # so that a manifest names what the job itself has loaded
    assert (first["given"], first["folder"]) == ("here", str(tmp_path))
    assert first["drawn"] != second["drawn"]


def test_other_threads_get_a_kernel_of_their_own(server, tmp_path):
    assert not look(server, tmp_path, OMP_NUM_THREADS="2")["forked"]


def test_no_server_no_fork(server, tmp_path):
    kept = server / "socket"
    kept.rename(server / "away")
    try:
        assert not look(server, tmp_path)["forked"]
    finally:
        (server / "away").rename(kept)


def test_figures_are_shown_and_errors_are_told(server, tmp_path):
    status, outputs = run(server, tmp_path, "import matplotlib.pyplot as plt\nplt.plot([1, 2]);")
    assert status == 0
    assert any("image/png" in output.get("data", {}) for output in outputs)
    status, outputs = run(server, tmp_path, "1 / 0")
    assert status != 0
    assert any(output.get("ename") == "ZeroDivisionError" for output in outputs)


def test_a_kernel_ends_with_its_papermill(server, tmp_path):
    code = f"import os, time\nopen({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))\ntime.sleep(600)"
    (tmp_path / "code").write_text(code)
    starter = subprocess.Popen(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(ROOT / 'tests')!r}); from pathlib import Path; "
         f"from test_warm import run; run(Path({str(server)!r}), Path({str(tmp_path)!r}), open('code').read())"],
        cwd=tmp_path, env=environment(), start_new_session=True,
    )  # fmt: skip
    until = time.monotonic() + 120
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
        assert time.monotonic() < until
        time.sleep(0.1)
    kernel = int((tmp_path / "pid").read_text())
    os.killpg(starter.pid, signal.SIGKILL)  # papermill and its starter; the kernel is in a session of its own
    while Path(f"/proc/{kernel}").exists() and "Z" not in Path(f"/proc/{kernel}/stat").read_text().split()[2]:
        assert time.monotonic() < until
        time.sleep(0.1)
