"""Where a small job's time goes: a job of Snakemake, papermill, its kernel, the imports, and the rest.

    python tests/bench/bench_startup.py          # STUDY=smoke for a quick look, STUDY= for no study

At the end a whole study, `quick` by default, is run from nothing on one core: the CPU time of all its processes over
what its jobs spent on their own work (loading, training, sampling, grading: `cpu_seconds` of their manifests).

Warm kernels (`sftrl.warm`) are forked from a process that has imported all that is slow; its own start is not counted,
and the CPU time of its forks is no part of `CPU` here: compare `wall`, on a quiet machine. Of the study the CPU time
of all processes is counted, the server's too. Rounds are interleaved, medians shown.
"""

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from sftrl import warm

ROOT = Path(__file__).resolve().parents[2]
ROUNDS = int(os.environ.get("ROUNDS", "3"))

SNAKEFILE = 'rule all:\n    output: "{out}"\n    shell: "true > {{output}}"\n'
IMPORTS = {
    "python": "pass",
    "numpy, pandas, scipy": "import numpy, pandas, scipy.stats",
    "sftrl.study": "import sftrl.study",
    "sftrl.stages": "import sftrl.stages",
    "torch": "import torch",
    "sftrl.sample": "import sftrl.sample",
    "sftrl.models": "import sftrl.models",
    "sftrl.train": "import sftrl.train",
    "TRL's SFT": "from trl import SFTConfig, SFTTrainer",
    "TRL's GRPO": "from trl import GRPOConfig, GRPOTrainer",
    "sftrl.figures": "import sftrl.figures",
}


def main() -> None:
    os.environ |= {  # before the server starts: a client with another environment gets a cold kernel
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        contestants = {f"import: {what}": [sys.executable, "-c", code] for what, code in IMPORTS.items()}
        training = "from trl import GRPOTrainer; import sftrl.stages, sftrl.train"
        for what, code in (("empty", "pass"), ("of RL", training)):
            words = ["papermill", notebook(folder, what, code), "-", "--no-progress-bar"]
            contestants[f"papermill, a notebook: {what}"] = words
            contestants[f"papermill, a notebook: {what}, warm"] = [*words, "-k", warm.NAME]
        contestants["snakemake, a rule that does nothing"] = [
            "snakemake", "--cores", "1", "--snakefile", str(snakefile(folder)), "--forceall", "--quiet", "all",
        ]  # fmt: skip
        contestants["snakemake, the Snakefile of smoke read"] = [
            "snakemake", "--cores", "1", "--configfile", "params/smoke.yaml", "--dry-run", "--quiet", "all",
        ]  # fmt: skip
        warm.start(1)
        while not (Path(os.environ["JUPYTER_PATH"].split(os.pathsep)[0]) / "socket").exists():
            time.sleep(0.5)
        seen: dict[str, list[tuple[float, float]]] = {what: [] for what in contestants}
        for _ in range(ROUNDS):
            for what, words in contestants.items():
                seen[what].append(spent(words, folder))
    os.environ.pop("JUPYTER_PATH")
    walls = {what: statistics.median(wall for _, wall in times) for what, times in seen.items()}
    ratio = walls["papermill, a notebook: of RL"] / walls["papermill, a notebook: of RL, warm"]
    print(f"a notebook of RL, cold over warm: {ratio:.1f} x the wall time")
    print(f"{'':<42}{'CPU s':>8}{'wall s':>8}")
    for what, times in seen.items():
        cpu, wall = (statistics.median(column) for column in zip(*times, strict=True))
        print(f"{what:<42}{cpu:>8.2f}{wall:>8.2f}")
    if study := os.environ.get("STUDY", "quick"):
        with tempfile.TemporaryDirectory() as name:
            whole, own, jobs = share(study, Path(name))
        print(f"{study}, {jobs} jobs: {whole:.0f} s of CPU, {own:.0f} s of it their own work: {whole / own:.2f} x")


def share(study: str, folder: Path) -> tuple[float, float, int]:
    """Run a study; return the CPU seconds of all its processes, those of its jobs' own work, and how many jobs."""
    for name in ("notebooks", "params", "models"):
        shutil.copytree(ROOT / name, folder / name)
    shutil.copy(ROOT / "Snakefile", folder)
    words = [
        sys.executable,
        "-m",
        "snakemake",
        "--cores",
        "1",
        "--configfile",
        f"params/{study}.yaml",
        "--quiet",
        "all",
    ]
    environment = os.environ | {"IPYTHONDIR": str(folder / ".ipython")}
    seen: dict[tuple[int, float], float] = {}
    # A kernel's time is in no parent's sum, as nobody waits for it: all processes are looked at while they run.
    with (
        (folder / "log").open("w") as log,
        psutil.Popen(words, cwd=folder, env=environment, stdout=log, stderr=log) as run,
    ):
        while run.poll() is None:
            for process in [run, *run.children(recursive=True)]:
                try:
                    times = process.cpu_times()
                    seen[process.pid, process.create_time()] = times.user + times.system
                except psutil.Error:
                    continue
            time.sleep(0.1)
    if run.returncode:
        sys.exit((folder / "log").read_text()[-3000:])
    made = [
        json.loads(path.read_text())["cpu_seconds"]
        for path in folder.glob("runs/**/manifest.json")
        if "held_out" not in path.parts  # a part of the evaluation
    ]
    return sum(seen.values()), sum(made), len(made)


def notebook(folder: Path, name: str, code: str) -> str:
    cell = {"cell_type": "code", "metadata": {}, "source": code, "outputs": [], "execution_count": None, "id": "a"}
    spec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    path = folder / f"{name}.ipynb"
    path.write_text(json.dumps({"cells": [cell], "metadata": {"kernelspec": spec}, "nbformat": 4, "nbformat_minor": 5}))
    return str(path)


def snakefile(folder: Path) -> Path:
    path = folder / "Snakefile"
    path.write_text(SNAKEFILE.format(out=folder / "done"))
    return path


def spent(words: list[str], folder: Path) -> tuple[float, float]:
    """Return the CPU and wall seconds of a command and all its children."""
    environment = os.environ | {"IPYTHONDIR": str(folder / ".ipython")}
    before, started = os.times(), time.perf_counter()
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(words)}: {done.stderr[-2000:]}")
    after = os.times()
    return sum(after[2:4]) - sum(before[2:4]), time.perf_counter() - started


if __name__ == "__main__":
    main()
