"""The study itself: its checked params, its runs and its seeds."""

import ast
import glob
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from sftrl.errors import InputError
from sftrl.problems import with_choices
from sftrl.recipes import Checkpoint
from sftrl.steps import expand, the_one
from sftrl.study.params import Params, Run, check
from sftrl.tables import BASE, POST_SFT

SECTIONS = tuple(Params.model_fields)
# The other names that a notebook's parameters cell may hold.
JOB_NAMES = ("change", "family", "run", "phase", "rl_seed", "shard", "of", "fresh")


class Study:
    """A study whose params have been checked.

    Attributes:
        params: the checked params, defaults filled in.
        name: the study's name.
        families: names of the model families, in the params' order.
        runs: SFT runs by label, in the params' order, the base first as `base`, whose value is None.
        imported: of each run, the files that hold its samples; None where the study samples by itself. A base without
            files is then no run.
    """

    def __init__(self, params: Params):
        self.params = params
        self.name = params.study
        self.families = list(params.families)
        self.runs: dict[str, Run | None] = {BASE: None}
        for run in params.runs:
            self.runs |= _expanded(run)
        self.imported = None
        if params.evaluation.imported is not None:
            self.imported = {run: _files(run, given) for run, given in params.evaluation.imported.items()}
            if BASE not in self.imported:
                del self.runs[BASE]
            for run in self.runs.keys() ^ self.imported.keys():
                fault = "has no files" if run in self.runs else f"is not one of {', '.join([BASE, *self.runs])}"
                raise InputError(f"evaluation.import: {run!r} {fault}")

    @classmethod
    def load(cls, path: str | Path) -> "Study":
        """Read and check a params file; `InputError` names every wrong key."""
        path = Path(path)
        return cls(check(_read(path if path.is_file() else _root() / path), str(path)))

    @classmethod
    def from_notebook(cls, names: dict[str, Any]) -> "Study":
        """Build the study that a notebook's parameters describe.

        It is `params/<study>.yaml` with the sections given and `change` merged into it, key by key; or, where papermill
        gives all of a params file (`-f params/<study>.yaml`), what that file says.

        Args:
            names: the notebook's `globals()`.

        Raises:
            InputError: a wrong key; a name set by papermill, or typed into the parameters cell, that means nothing.
        """
        _refuse_unknown(names.get("In", []))
        given = {section: names[section] for section in SECTIONS if names.get(section) is not None}
        root = _root()
        os.chdir(root)  # a notebook opened in JupyterLab starts in notebooks/; paths in params are the project's
        if not {"families", "data"} <= set(given):
            path = Path("params") / f"{given.get('study')}.yaml"
            if not path.is_file():
                raise InputError(f"study: there is no {path}")
            given = merged(_read(path), given)
        return cls(check(merged(given, names.get("change") or {}), "parameters"))

    @property
    def is_committed(self) -> bool:
        """Whether the params are what `params/<study>.yaml` says: only then do its figures belong in `figures/`."""
        path = _root() / "params" / f"{self.name}.yaml"
        return not path.is_file() or check(_read(path), str(path)) == self.params

    def family(self, name: str | None) -> str:
        """Return `name` if it is a family of the study, and the first family for None."""
        return self.families[0] if name is None else _known(name, self.families, "family")

    def run(self, name: str | None) -> Run | None:
        """Return the run of that label; None, the value of `base`, has no SFT."""
        return self.runs[_known(name, self.runs, "run")]

    def rl_seeds(self, run: str) -> list[int]:
        """Return the RL seeds of a run: its own, or the study's; none where it is not taken through RL.

        A checkpoint of one's own whose result of RL is given has that result in the place of the first seed.
        """
        settings, grpo = self.run(run), self.params.grpo
        if settings is not None and settings.post_rl:
            return [0]
        if grpo is None:
            return []
        own = grpo.base_seeds if settings is None else settings.rl_seeds
        return grpo.seeds if own is None else own

    def rl_seed(self, phase: str, run: str, rl_seed: int | None) -> int | None:
        """Return the RL seed of a job: None before RL; after it the one given, or the run's first for None."""
        if phase == POST_SFT:
            if rl_seed is not None:
                raise InputError(f"rl_seed: {rl_seed} was given, but phase 'post_sft' comes before RL")
            return None
        seeds = self.rl_seeds(run)
        if not seeds:
            raise InputError(f"rl_seed: run {run!r} is not taken through RL in this study")
        return seeds[0] if rl_seed is None else _known(rl_seed, seeds, f"rl_seed of run {run!r}")

    def seed(self, *words: object) -> int:
        """Derive a seed of 32 bits from the study's seed and words that name its use, independent of all others."""
        return int(self.seed_sequence(*words).generate_state(1)[0])

    def seed_sequence(self, *words: object) -> np.random.SeedSequence:
        """As `seed`, as a `SeedSequence` that generators can be spawned from."""
        text = "/".join(map(str, words)).encode()
        return np.random.SeedSequence([self.params.seed, *text])

    def settings(self, *sections: str, **more: object) -> dict:
        """Return the seed, the named sections of the params and what more a job depends on, as JSON values."""
        return self.params.model_dump(mode="json", include={"seed", *sections}) | more

    @property
    def folder(self) -> Path:
        """Where everything big goes, from the root."""
        return Path("runs") / self.name

    @property
    def figures(self) -> Path:
        """Where small tables and figures go, from the root."""
        return Path("figures") / self.name

    @property
    def sft_runs(self) -> list[str]:
        """The runs that are trained by SFT: neither the base nor a checkpoint of one's own."""
        return [name for name, run in self.runs.items() if run is not None and run.model is None]

    @property
    def group_size(self) -> int:
        """Rollouts of a GRPO group, 8 where the study has no RL."""
        return self.params.grpo.group_size if self.params.grpo else 8

    def loading(self, family: str, model: str, given: Checkpoint | None = None) -> Checkpoint:
        """Return how a model is loaded: as its family says, but for what `given` says itself."""
        own = {} if given is None else given.model_dump(include=given.model_fields_set & set(Checkpoint.model_fields))
        rules = self.params.families[family].model_dump(include=set(Checkpoint.model_fields) - {"revision", "base"})
        return Checkpoint(**rules | own | {"model": model})

    def prompts(self, problems: pd.DataFrame, column: str = "problem") -> pd.DataFrame:
        """Return problems with their prompt in `column`: `data.prompt` filled in, any options under their letters."""
        choices = [None if c is None else list(c) for c in problems["choices"]]  # Parquet gives arrays
        texts = [with_choices(p, c) for p, c in zip(problems["problem"], choices, strict=True)]
        prompts = [self.params.data.prompt.replace("{problem}", text) for text in texts]
        return problems.assign(**{column: prompts, "choices": choices})


def _expanded(run: Run) -> dict[str, Run]:
    """Return a run by its label; a pattern of checkpoints, `model: folder/checkpoint-*`, is a run a step."""
    if "*" not in (run.model or ""):
        return {run.label: run}
    if "*" not in Path(run.model).name:
        return {run.label: run.model_copy(update={"model": the_one(run.model)})}
    found = expand(run.model)
    return {f"{run.label}-{step}": run.model_copy(update={"model": model}) for step, model in found.items()}


def _files(run: str, patterns: list[str]) -> list[Path]:
    """Return the files that hold a run's samples; `InputError` names what matches nothing."""
    found: dict[Path, None] = {}
    for pattern in patterns:
        files = [path for path in map(Path, sorted(glob.glob(pattern))) if path.is_file()]
        if not files:
            raise InputError(f"evaluation.import.{run}: no file matches {pattern}")
        found |= dict.fromkeys(files)
    return list(found)


def merged(values: dict, changes: dict) -> dict:
    """Return `values` with `changes` in it: mappings key by key, everything else in the place of what was there."""
    result = dict(values)
    for key, change in changes.items():
        inner = result.get(key)
        result[key] = merged(inner, change) if isinstance(inner, dict) and isinstance(change, dict) else change
    return result


def _read(path: Path) -> dict:
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    try:
        values = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise InputError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise InputError(f"{path}: a params file is a mapping of sections")
    return values


def _root() -> Path:
    """Return the nearest folder, from here upwards, that holds `params/`."""
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "params").is_dir():
            return folder
    raise InputError(f"no params/ folder in {here} or above it: start from the project's root")


def _known(name: object, known: Iterable[str], what: str) -> str:
    if name in known:
        return name
    raise InputError(f"{what}: {name!r} is not one of {', '.join(map(str, known))}")


def _refuse_unknown(cells: list[str]) -> None:
    """Refuse a name in the parameters cell that no notebook knows, and one set by papermill that this one does not.

    Papermill writes what it was given into a cell of its own, headed `# Parameters`, after the notebook's.
    """
    typed, injected = set(), set()
    for cell in cells:
        if cell.startswith("# Parameters"):
            injected |= _assigned(cell)
        elif "study" in (names := _assigned(cell)):
            typed |= names
    for name in sorted(typed - set(SECTIONS) - set(JOB_NAMES)):
        raise InputError(f"{name}: no notebook has such a parameter")
    for name in sorted(injected - typed - set(SECTIONS)):
        raise InputError(f"{name}: this notebook has no such parameter")


def _assigned(cell: str) -> set[str]:
    if cell.lstrip().startswith(("%", "!")):
        return set()
    try:
        body = ast.parse(cell).body
    except SyntaxError:
        return set()
    return {t.id for node in body if isinstance(node, ast.Assign) for t in node.targets if isinstance(t, ast.Name)}
