"""A real Slurm: the `smoke` study to its end, a training cut off that goes on, many jobs, jobs over their limits."""

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from cluster import Cluster, why_not

from sftrl.errors import InputError
from sftrl.plan import slurm

ROOT = Path(__file__).resolve().parents[2]
PROFILE = ROOT / "profiles" / "slurm"
MANY = int(os.environ.get("SFTRL_TINY_JOBS", "8"))  # each starts Snakemake twice: 200 of them take a quarter of an hour

# The plugin waits five seconds before each job: a quarter of an hour in all, on a quiet machine.
WHY_NOT = why_not() if os.environ.get("SFTRL_SLURM") else "starts a Slurm of its own, for minutes: make test-slurm"
pytestmark = pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT or "there is one")

TINY = """
from sftrl.plan import slurm

rule all:
    input: {inputs}

{rules}

onerror:
    print(*slurm.explain(log), sep="\\n")
"""


@pytest.fixture(scope="module")
def slurm_up(tmp_path_factory):
    try:
        with Cluster(tmp_path_factory.mktemp("slurm")) as up:
            programs = os.pathsep.join([str(Path(sys.executable).parent), up.env["PATH"]])
            up.env |= {"PATH": programs, "PYTHONPATH": str(ROOT)}
            yield up
    except RuntimeError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A copy of what a checkout needs to run a study."""
    folder = tmp_path_factory.mktemp("project")
    for name in ("notebooks", "params", "profiles"):
        shutil.copytree(ROOT / name, folder / name)
    shutil.copy(ROOT / "Snakefile", folder)
    return folder


def words(*more: str) -> list[str]:
    """Return Snakemake's command with the project's profile, looking at its jobs as often as it can."""
    quick = ["--slurm-init-seconds-before-status-checks", "1", "--latency-wait", "30"]
    return ["snakemake", "--workflow-profile", str(PROFILE), *quick, *more]


def tiny(folder: Path, rules: str, inputs: str, up: Cluster, *more: str) -> subprocess.CompletedProcess:
    (folder / "Snakefile").write_text(TINY.format(rules=rules, inputs=inputs))
    return up.call(*words("--retries", "0", *more), cwd=folder, timeout=1500 + 20 * MANY)


def test_fake_gpus_are_given_out(slurm_up):
    for asked, seen in ((1, {"0", "1"}), (2, {"0,1"})):
        result = slurm_up.call(
            "sbatch", "--wait", "--parsable", "-p", "gpu", f"--gpus={asked}", "-o", f"{slurm_up.folder}/gpu.log",
            "--wrap", "echo $CUDA_VISIBLE_DEVICES", timeout=60,
        )  # fmt: skip
        assert result.returncode == 0, result.stderr
        assert (slurm_up.folder / "gpu.log").read_text().strip() in seen


def test_what_it_has_is_read(slurm_up, monkeypatch):
    monkeypatch.setenv("SLURM_CONF", slurm_up.env["SLURM_CONF"])
    known = {partition.name: partition for partition in slurm.partitions()}
    assert known["cpu"].default
    assert known["gpu"].gpus == 2
    assert known["gpu"].minutes == 60
    with pytest.raises(InputError, match="'nowhere'; it has cpu, gpu"):
        slurm.check([slurm.Request("grpo", 1, 30, 1000, "nowhere")], list(known.values()))
    with pytest.raises(InputError, match=r"cluster\.grpo\.partition: 3 GPUs.*no partition has enough"):
        slurm.check([slurm.Request("grpo", 3, 30, 1000, "gpu")], list(known.values()))


def test_smoke_to_its_end(slurm_up, project):
    result = slurm_up.call(*words("--configfile", "params/smoke.yaml"), cwd=project, timeout=1500)
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-3000:]
    assert len(re.findall("has been submitted with SLURM jobid", result.stderr + result.stdout)) == 14
    assert (project / "figures/smoke/results.csv").is_file()


def test_a_training_cut_off_goes_on(slurm_up, project):
    """Requeued in the middle of RL, as by preemption, a job saves and its second start goes on from there."""
    if not (project / "figures/smoke/results.csv").is_file():
        pytest.skip("smoke did not get to its end")
    values = yaml.safe_load((project / "params/smoke.yaml").read_text())
    values["grpo"]["steps"] = 60
    (project / "params/longer.yaml").write_text(yaml.safe_dump(values))
    listed = slurm_up.call("snakemake", "--configfile", "params/longer.yaml", "--cores", "1", "--dry-run", cwd=project)
    target = re.search(r"runs/smoke/[^/]+/grpo/base-seed0/\w+/done", listed.stdout)[0]
    command = words("--configfile", "params/longer.yaml", "--retries", "0", target)
    with subprocess.Popen(
        command, cwd=project, env=slurm_up.env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as running:
        notebook = project / "runs/smoke/notebooks/04_grpo"
        try:
            until = time.monotonic() + 900
            while not any("1 of 60 steps" in log.read_text() for log in notebook.rglob("base-seed0-*.log")):
                assert time.monotonic() < until
                assert running.poll() is None, running.stdout.read()[-3000:]
                time.sleep(0.2)
            (job,) = slurm_up.call("squeue", "-h", "-t", "RUNNING", "-o", "%i").stdout.split()
            assert slurm_up.call("scontrol", "requeue", job).returncode == 0
            # A requeued job waits for two minutes in case its node is broken; here none is.
            while "PENDING" not in slurm_up.call("squeue", "-h", "-j", job, "-o", "%T").stdout:
                assert time.monotonic() < until
                time.sleep(0.2)
            slurm_up.call("scontrol", "update", f"JobId={job}", "StartTime=now")
            said, _ = running.communicate(timeout=900)
        finally:
            running.kill()
    assert running.returncode == 0, said[-3000:]
    assert (project / target).is_file()
    (log,) = [log.read_text() for log in notebook.rglob("base-seed0-*.log") if "/60" in log.read_text()]
    assert re.search(r"goes on from step [1-9]\d*/60", log)
    assert slurm_up.call("scontrol", "show", "job", job).stdout.count("Restarts=1") == 1


def test_many_tiny_jobs(slurm_up, tmp_path):
    """As one array: sent one by one, each waits five seconds in the plugin."""
    rules = (
        'rule sft:\n    output: "made/{i}"\n    resources: mem_mb=1000\n    shell: "echo {wildcards.i} > {output}"\n'
    )
    result = tiny(tmp_path, rules, f'expand("made/{{i}}", i=range({MANY}))', slurm_up, "--slurm-array-jobs", "all")
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-3000:]
    assert sorted(int(path.read_text()) for path in (tmp_path / "made").iterdir()) == list(range(MANY))


def test_jobs_over_their_memory_and_their_time_say_what_to_raise(slurm_up, tmp_path):
    allocate = "import time; held = bytearray(2 * 10**9); time.sleep(60)"
    rules = (
        'rule sft:\n    output: "runs/x/sft/run/manifest.json"\n    resources: mem_mb=1000\n'
        f"    shell: \"{sys.executable} -c '{allocate}'\"\n"
        'rule grpo:\n    output: "runs/x/grpo/run/manifest.json"\n    resources: mem_mb=1000, runtime=1\n'
        '    shell: "sleep 300"\n'
    )
    result = tiny(tmp_path, rules, '"runs/x/sft/run/manifest.json", "runs/x/grpo/run/manifest.json"', slurm_up)
    assert result.returncode != 0
    said = result.stdout + result.stderr
    assert "runs/x/sft/run: over its memory: raise cluster.sft.memory_gb" in said, said[-3000:]
    assert "runs/x/grpo/run: over its time: raise cluster.grpo.minutes" in said, said[-3000:]


def test_a_partition_that_is_not_there_is_named_before_anything_is_sent(slurm_up, project):
    values = yaml.safe_load((project / "params/smoke.yaml").read_text())
    values |= {"study": "lost", "cluster": {"sft": {"partition": "nowhere"}}}
    (project / "params/lost.yaml").write_text(yaml.safe_dump(values))
    result = slurm_up.call(*words("--configfile", "params/lost.yaml"), cwd=project, timeout=300)
    assert result.returncode != 0
    said = result.stdout + result.stderr
    assert "cluster.sft.partition: Slurm has no partition 'nowhere'; it has cpu, gpu" in said, said[-3000:]
    assert "submitted" not in said
