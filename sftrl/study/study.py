"""The study itself: its checked params, its runs and its seeds."""

import ast
import os
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from sftrl.errors import InputError
from sftrl.problems import with_choices
from sftrl.study.schema import Params, Run, check

SECTIONS = tuple(Params.model_fields)


class Study:
    """A study whose params have been checked.

    Attributes:
        params: the checked params, defaults filled in.
        name: the study's name.
        families: names of the model families, in the params' order.
        runs: SFT runs by label, in the params' order, the base first as `base`, whose value is None.
    """

    def __init__(self, params: Params):
        self.params = params
        self.name = params.study
        self.families = list(params.families)
        self.runs: dict[str, Run | None] = {"base": None} | {run.label: run for run in params.runs}

    @classmethod
    def load(cls, path: str | Path) -> "Study":
        """Read and check a params file; `InputError` names every wrong key."""
        path = Path(path)
        root = _root()
        found = path if path.is_file() else root / path
        if not found.is_file():
            raise InputError(f"{path}: no such file")
        try:
            values = yaml.safe_load(found.read_text())
        except yaml.YAMLError as error:
            raise InputError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
        if not isinstance(values, dict):
            raise InputError(f"{path}: a params file is a mapping of sections")
        return cls(check(values, str(path)))

    @classmethod
    def from_notebook(cls, names: dict[str, Any]) -> "Study":
        """Build the study that a notebook's parameters describe.

        With `families`, the sections given are the whole study (papermill's `-f params/<study>.yaml` gives them all).
        Without, the study is `params/<study>.yaml`, in which each section given takes the place of the file's.

        Args:
            names: the notebook's `globals()`.

        Raises:
            InputError: a wrong key; or a name set by papermill that this notebook does not know, of which papermill
                itself only warns.
        """
        _refuse_unknown(names.get("In", []))
        warnings.filterwarnings("ignore", message="IProgress not found")  # tqdm's; every notebook prints its own lines
        given = {section: names[section] for section in SECTIONS if names.get(section) is not None}
        root = _root()
        os.chdir(root)  # a notebook opened in JupyterLab starts in notebooks/; paths in params are the project's
        if "families" not in given:
            path = Path("params") / f"{given.get('study')}.yaml"
            if not path.is_file():
                raise InputError(f"study: there is no {path}")
            given = cls.load(path).params.model_dump(exclude_unset=True) | given
        return cls(check(given, "parameters"))

    def family(self, name: str | None) -> str:
        """Return `name` if it is a family of the study, and the first family for None."""
        if name is None:
            return self.families[0]
        return _known(name, self.families, "family")

    def run(self, name: str | None) -> Run | None:
        """Return the run of that label; None, the value of `base`, has no SFT."""
        return self.runs[_known(name, self.runs, "run")]

    def rl_seeds(self, run: str) -> list[int]:
        """Return the RL seeds of a run: its own, or the study's; none where the study has no RL."""
        grpo, settings = self.params.grpo, self.run(run)
        if grpo is None:
            return []
        own = grpo.base_seeds if settings is None else settings.rl_seeds
        return own or grpo.seeds

    def rl_seed(self, stage: str, run: str, rl_seed: int | None) -> int | None:
        """Return the RL seed of a job: None before RL; after it the one given, or the run's first for None."""
        if stage == "post_sft":
            if rl_seed is not None:
                raise InputError(f"rl_seed: {rl_seed} was given, but stage 'post_sft' comes before RL")
            return None
        seeds = self.rl_seeds(run)
        if not seeds:
            raise InputError("grpo: this study has no RL")
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

    def checkpoint_name(self, family: str, run: str) -> str | None:
        """Return the folder or hub name that the params give for a run, or None where a job of the study makes it."""
        settings = self.run(run)
        return self.params.families[family].model if settings is None else settings.model

    def revision(self, family: str, run: str, rl_seed: int | None = None) -> str | None:
        """Return the hub revision of a checkpoint: only a family's own model can have one."""
        return self.params.families[family].revision if run == "base" and rl_seed is None else None

    def prompts(self, problems: pd.DataFrame, column: str = "problem") -> pd.DataFrame:
        """Return problems with their prompt in `column`: `data.prompt` filled in, any options under their letters."""
        choices = [None if c is None else list(c) for c in problems["choices"]]  # Parquet gives arrays
        texts = [with_choices(p, c) for p, c in zip(problems["problem"], choices, strict=True)]
        prompts = [self.params.data.prompt.replace("{problem}", text) for text in texts]
        return problems.assign(**{column: prompts, "choices": choices})


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
    """Refuse a name that papermill set and the parameters cell does not have.

    Papermill writes what it was given into a cell of its own, headed `# Parameters`, after the notebook's.
    """
    injected = [cell for cell in cells if cell.startswith("# Parameters")]
    if injected:
        before = cells[: cells.index(injected[0])]
        unknown = sorted(_assigned(injected) - _assigned(before))
        if unknown:
            raise InputError(f"{unknown[0]}: this notebook has no such parameter")


def _assigned(cells: list[str]) -> set[str]:
    trees = (ast.parse(cell) for cell in cells if cell and not cell.lstrip().startswith(("%", "!")))
    return {t.id for tree in trees for node in tree.body if isinstance(node, ast.Assign) for t in node.targets}
