"""A GPU a job on one machine: never two jobs on one, free again however a job ends."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sftrl.errors import InputError
from sftrl.plan import gpus as on_this_machine
from sftrl.stages import costs
from sftrl.study import Study
from sftrl.study.params import check

ROOT = Path(__file__).resolve().parent.parent


def start(folder: Path, count: int, command: str, gpus: str = "0,1", **more: str) -> subprocess.Popen:
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": gpus, "TMPDIR": str(folder), "PYTHONPATH": str(ROOT)} | more
    words = [sys.executable, "-m", "sftrl.plan.gpus", str(count), "sh", "-c", command]
    return subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_jobs_side_by_side_have_different_ones(tmp_path):
    held = f"echo $CUDA_VISIBLE_DEVICES; touch {tmp_path}/$$.up; while [ ! -e {tmp_path}/go ]; do sleep 0.1; done"
    jobs = [start(tmp_path, 1, held) for _ in range(2)]
    while len(list(tmp_path.glob("*.up"))) < 2:
        assert all(job.poll() is None for job in jobs)
        time.sleep(0.1)
    both = start(tmp_path, 2, f"echo $CUDA_VISIBLE_DEVICES; test -e {tmp_path}/go && echo after")
    time.sleep(1)
    assert both.poll() is None  # waits
    (tmp_path / "go").touch()
    assert sorted(job.communicate(timeout=60)[0].strip() for job in jobs) == ["0", "1"]
    assert both.communicate(timeout=60)[0].split() == ["0,1", "after"]


def test_a_killed_job_leaves_its_gpu(tmp_path):
    first = start(tmp_path, 1, f"touch {tmp_path}/up; exec sleep 100", gpus="5")
    while not (tmp_path / "up").exists():
        time.sleep(0.1)
    first.kill()
    first.communicate()
    assert start(tmp_path, 1, "echo $CUDA_VISIBLE_DEVICES", gpus="5").communicate(timeout=60)[0].strip() == "5"


def test_more_than_there_are_is_named(tmp_path):
    job = start(tmp_path, 3, "true")
    assert "gpus: 3 are needed at once, and this machine has 2" in job.communicate(timeout=60)[1]
    assert job.returncode == 1


@pytest.mark.parametrize(("count", "more"), [(0, {}), (1, {"SLURM_JOB_ID": "7"})])
def test_none_asked_for_or_given_by_slurm_nothing_is_taken(tmp_path, count, more):
    job = start(tmp_path, count, "echo $CUDA_VISIBLE_DEVICES; exit 3", gpus="4", **more)
    assert job.communicate(timeout=60)[0].strip() == "4"
    assert job.returncode == 3
    assert not list(tmp_path.iterdir())


def test_more_gpus_than_the_machine_has_are_named_before_the_first_job(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    values = Study.load(ROOT / "params/smoke.yaml").params.model_dump(mode="json", exclude_unset=True)
    wide = Study(check(values | {"cluster": {"gpu": "H100-80"}, "compute": {"processes": 4}}, "test"))
    needed = costs.gpus_left(wide, costs.machine_of(wide))
    assert needed == 4
    with pytest.raises(InputError, match=r"cluster\.gpu: a job needs 4 GPUs at once, and this machine has 2"):
        on_this_machine.check(needed)
    on_this_machine.check(2)
