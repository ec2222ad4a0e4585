"""`python -m sftrl check|plan|study|report|replay params/quick.yaml`: check a study, plan it, run it, and what follows.

`study` runs the graph by Snakemake, whose output goes to a log, and shows progress: one updating line on a terminal,
one line per job in a log file. Invalid input in a job is shown as its one-line error.
"""

import argparse
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

from sftrl.errors import InputError
from sftrl.study import Study

SAID_EVERY = 30.0  # seconds between lines where the output is a file


def main(arguments: list[str] | None = None) -> int:
    """Run a command; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m sftrl", description="Check a study's params, or run it.")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, what in (
        ("check", "say what a study consists of, and what is wrong with it"),
        ("plan", "say what a study will cost: tokens, memory, hours, disk, time on so many GPUs"),
        ("study", "run a study"),
        ("report", "write a finished study as one page"),
        ("replay", "replay ways to choose a checkpoint on a study's committed tables (docs/choose.md)"),
    ):
        command = commands.add_parser(name, help=what, description=what)
        command.add_argument("params", help="params/<study>.yaml")
        if name == "study":
            command.add_argument("--cores", type=int, default=2, help="jobs at once (default: 2)")
            command.add_argument(
                "--fresh",
                default="",
                help="make these again: a notebook such as 04_grpo, or `stale` for all that other code made",
            )
        if name == "plan":
            command.add_argument(
                "--gpu", help="a name of sftrl/plan/rates.yaml, or cpu; default: cluster.gpu, else cpu"
            )
    given = parser.parse_args(arguments)
    try:
        study = Study.load(given.params)
        if given.command == "report":
            from sftrl.report import write_report

            print(write_report(study))
            return 0
        if given.command == "replay":
            from sftrl.stages import race

            race.on_paper(study)
            print(f"{study.figures}: choose.csv, measuring.csv and the figure `frontier`")
            return 0
        if given.command == "plan":
            return plan(study, given.gpu)
        stale = check(study)
        if given.command == "check":
            return 0
        plan(study, None, sources=False)
        return run(study, given.params, given.cores, given.fresh, stale)
    except InputError as error:
        print(error, file=sys.stderr)
        return 1


def check(study: Study) -> dict[str, list[str]]:
    """Check what can be checked before any compute, print the study's size; return the jobs that other code made."""
    from sftrl.stages import costs, prediction, preflight

    for line in preflight.preflight(study):
        print(line)
    costs.machine_of(study)
    stale = prediction.out_of_date(study)
    if stale:
        print(prediction.code_changes(stale))
    return stale


def plan(study: Study, gpu: str | None, sources: bool = True) -> int:
    """Print the cost of the study, warnings, and the sources of the rates."""
    from sftrl.plan import table_of_costs
    from sftrl.stages import costs

    on = costs.machine_of(study, gpu)
    rows, measured = costs.rows(study, on)
    print(f"study {study.name}\n{table_of_costs.table(rows, on)}")
    for line in table_of_costs.warnings(rows, on, shutil.disk_usage(Path.cwd()).free):
        print(f"warning: {line}")
    try:
        costs.requests(study, on)
    except InputError as error:  # an error once it is submitted
        print(f"warning: {error}")
    for line in table_of_costs.sources(on, measured) if sources else ():
        print(f"source: {line}")
    return 0


def run(study: Study, params: str, cores: int, fresh: str, stale: dict[str, list[str]]) -> int:
    """Run the study's graph; return Snakemake's exit status."""
    from sftrl.stages import prediction
    from sftrl.stages.job import DONE

    log = study.folder / "snakemake.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    if fresh:
        make_again(study, fresh, stale)
    status = _snakemake(params, cores, log)
    last = prediction.job(study).folder / DONE
    if status == 0 and not last.exists():
        # Snakemake 9.27, seen once after a kill: it makes the job that was cut off, and nothing else.
        status = _snakemake(params, cores, log)
    if status == 0 and last.exists():
        answer = study.figures / "README.md"
        if answer.is_file():
            print(answer.read_text().split("\n\n", 1)[1].strip())
        print(f"{study.figures}: figures and tables; make report STUDY={study.name} for one page to send")
        return 0
    print(f"not finished; all that Snakemake said is in {log}", file=sys.stderr)
    return status or 1


def _snakemake(params: str, cores: int, log: Path) -> int:
    """Run Snakemake on a params file, its words into `log`, its progress and our errors onto the screen."""
    words = ["snakemake", "--cores", str(cores), "--configfile", params, "--quiet", "host", "reason"]
    progress, said = Progress(), []
    with (
        log.open("w") as file,
        subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process,
    ):
        for line in process.stdout:
            file.write(line)
            file.flush()
            progress.read(line)
            if line.startswith("InputError") and line not in said:
                said.append(line)
    progress.close()
    for line in said:
        print(line.strip(), file=sys.stderr)
    if process.returncode:
        text = log.read_text()
        if "LockException" in text:
            print(
                "another snakemake works on this folder, or one was killed while it did. If none is running: "
                f"snakemake --unlock --configfile {params}",
                file=sys.stderr,
            )
    return process.returncode


def make_again(study: Study, fresh: str, stale: dict[str, list[str]]) -> None:
    """Mark jobs as unfinished, with all that depends on them: those of a notebook, or those of other code.

    Raises:
        InputError: no job of the study is made by a notebook of that name.
    """
    from sftrl.stages import manifest, prediction
    from sftrl.stages.job import DONE

    jobs = prediction.every_job(study)
    chosen = {job.key for job in jobs if (str(job.folder) in stale if fresh == "stale" else job.notebook == fresh)}
    if not chosen and fresh != "stale":
        raise InputError(f"--fresh: {fresh!r} is not one of {', '.join(sorted({job.notebook for job in jobs}))}, stale")
    for job in jobs:  # in the order in which they are made, so that what follows from a chosen one is found
        if job.key in chosen or any(earlier.key in chosen for earlier in job.inputs):
            chosen.add(job.key)
            for name in (manifest.NAME, DONE):
                (job.folder / name).unlink(missing_ok=True)
    print(f"{len(chosen)} jobs are made again")


class Progress:
    """Progress of Snakemake, parsed from its output."""

    def __init__(self):
        self.started = self.told = time.time()
        self.running: dict[str, str] = {}
        self.done, self.all = 0, 0

    def read(self, line: str) -> None:
        """Take a line of Snakemake's output."""
        if found := re.match(r"Job (\d+): (.+)", line):
            self.running[found[1]] = found[2].strip()
        elif found := re.match(r"Finished jobid: (\d+)", line):
            self.running.pop(found[1], None)
        elif found := re.match(r"(\d+) of (\d+) steps", line):
            self.done, self.all = int(found[1]), int(found[2])
            self.told = 0.0
        else:
            return
        if sys.stdout.isatty():
            print(f"\r\033[K{self}"[:200], end="", flush=True)
        elif time.time() - self.told > SAID_EVERY:
            self.told = time.time()
            print(self, flush=True)

    def __str__(self) -> str:
        minutes = (time.time() - self.started) / 60
        left = f", about {minutes * (self.all - self.done) / self.done:.0f} min left" if self.done else ""
        return f"{self.done} of {self.all or '?'} jobs, {minutes:.0f} min{left}: {', '.join(self.running.values())}"

    def close(self) -> None:
        """End the line."""
        if sys.stdout.isatty():
            print()


if __name__ == "__main__":
    sys.exit(main())
