"""A job: one run of a notebook. Its folder is named by what it depends on, so no job overwrites another's result.

The folder's last part is the job's key: a hash of its settings, its seeds and the keys of the jobs before it. Another
setting, in a params file or in a notebook's cell, is another key and lands beside what was made before.
"""

import functools
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path

from sftrl.errors import InputError
from sftrl.files import flat, hash_value, read_json, write_json
from sftrl.recipes import Checkpoint
from sftrl.stages import manifest

LOG = "log.csv"  # of a training: how fast it went is no part of what it made
DONE = "done"  # beside a result whose notebook ran to its end: Snakemake's mark, which it may remove; never the result


@dataclass(frozen=True)
class Job:
    """One notebook run.

    Attributes:
        notebook: what makes it, such as `02_sft`.
        place: the folder of all versions of this job; each version has a folder of its own in it.
        settings: all that changes its numbers, as JSON values.
        inputs: the jobs whose results it reads.
        seeds: the seeds it uses, by use.
        keep: names in its folder from which an interrupted run resumes.
    """

    notebook: str
    place: Path
    settings: dict
    inputs: tuple["Job", ...] = ()
    seeds: dict[str, int] = field(default_factory=dict)
    keep: tuple[str, ...] = ()

    @functools.cached_property
    def key(self) -> str:
        """Name this version of the job: 10 hex digits."""
        return hash_value([self.notebook, _told(self.settings), self.seeds, [job.key for job in self.inputs]])[:10]

    @property
    def folder(self) -> Path:
        """Where it writes; `manifest.json` comes last."""
        return self.place / self.key

    def begin(self, fresh: bool = False) -> "Work":
        """Take up the job: its result if it is finished, else an empty folder, or one that an interrupted run left.

        Args:
            fresh: make it again, although it is finished. What is there is removed.

        Raises:
            InputError: an earlier job is missing or unfinished (it says what makes it); this one is finished, but was
                made from other inputs than those there now.
        """
        inputs = {str(job.folder): job.require()["id"] for job in self.inputs}
        made = manifest.read(self.folder)
        if made and not fresh:
            self._check(made)
            return Work(self, inputs, made)
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / manifest.NAME).unlink(missing_ok=True)
        for path in self.folder.iterdir():
            if fresh or path.name not in self.keep:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        return Work(self, inputs, None)

    def require(self) -> dict:
        """Return the manifest of the finished job.

        Raises:
            InputError: it is absent or unfinished, a file of it is missing or has changed, or it was made with other
                settings or from other inputs.
        """
        made = manifest.read(self.folder)
        if made is None:
            state = "is unfinished (it has no manifest)" if self.folder.is_dir() else "does not exist"
            raise InputError(f"{self.folder} {state}: run {self.notebook} first, by {self.command}")
        self._check(made)
        return made

    @property
    def command(self) -> str:
        """The command that makes this job, and those before it."""
        target = self.folder / DONE
        return f"snakemake {target} --cores 1 --configfile params/{self.place.parts[1]}.yaml"

    def _check(self, made: dict) -> None:
        theirs, ours = flat(_told(made["settings"])), flat(_told(self.settings))
        for name in sorted(theirs.keys() | ours.keys()):
            if theirs.get(name) != ours.get(name):
                raise InputError(
                    f"{self.folder}: made with other settings: {name} was {theirs.get(name)!r} and is "
                    f"{ours.get(name)!r}; fresh = True reruns it"
                )
        for job in self.inputs:
            path, then = job.folder / manifest.NAME, made["inputs"].get(str(job.folder))
            if path.is_file() and read_json(path)["id"] != then:  # its files are checked by who reads them
                raise InputError(f"{self.folder}: made from an earlier version of {job.folder}; fresh = True reruns it")


def _told(settings: dict) -> dict:
    """Leave out what is null, empty or false, so that a new setting which is off by default changes no key."""
    told = {name: _told(value) if isinstance(value, dict) else value for name, value in settings.items()}
    return {n: v for n, v in told.items() if v is not None and v is not False and v != [] and v != {}}


def given(checkpoint: Checkpoint, made_by: tuple[Job, ...]) -> dict | None:
    """Return what names a checkpoint in a job's settings: None for one that a job makes, which is an input.

    A folder is named by its content too, so that another model at the same place is another model.
    """
    if made_by:
        return None
    return checkpoint.model_dump(mode="json") | {"content": _content(Path(checkpoint.model))}


@functools.cache
def _content(folder: Path) -> str | None:
    return hash_value(manifest.outputs(folder)) if folder.is_dir() else None


class Work:
    """A job taken up.

    Attributes:
        job: the job.
        folder: where it writes.
        settings, seeds: the job's.
        done: its manifest, if it was finished before; then nothing is to be computed.
    """

    def __init__(self, job: Job, inputs: dict[str, str], done: dict | None):
        self.job, self.inputs, self.done = job, inputs, done
        self.folder, self.settings, self.seeds = job.folder, job.settings, job.seeds
        self.started, self.spent = time.time(), manifest.cpu_seconds()
        if done:
            print(f"{self.folder}: finished before, in {done['wall_seconds']:.0f} s; fresh = True reruns it")

    def finish(self, **measured: object) -> dict:
        """Write the manifest, with what was measured beside what is always kept, and return it."""
        if self.done:
            return self.done
        outputs = manifest.outputs(self.folder)
        made = {
            "settings": self.settings,
            "seeds": self.seeds,
            "inputs": self.inputs,
            "outputs": outputs,
            **manifest.circumstances(self.job.notebook),
            "wall_seconds": round(time.time() - self.started, 1),
            "cpu_seconds": round(manifest.cpu_seconds() - self.spent, 1),
            **measured,
            "id": hash_value({name: kept for name, kept in outputs.items() if name != LOG}),
        }
        write_json(self.folder / manifest.NAME, made)
        return made
