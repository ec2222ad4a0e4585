"""Small changes of the code, each against the tests of its room: `python tests/mutants.py [ROOM ...] [--each N]`.

A mutant has one operator, comparison, constant, `min`/`max` or boolean changed, or one `not` taken out. Each runs in a
copy of the checkout, so that nothing here is touched, in a fork of a process that has the large libraries loaded.
Noticed means that a test fails, or that the tests take five times the CPU time that they take without it. What is not
noticed is printed, for a test to be written or for the reason why it changes nothing to be listed in
`docs/contributing.md`.
"""

import argparse
import ast
import importlib
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROOMS = {  # the room's modules, and the tests that are its own
    "passk": ("sftrl/passk/*.py", "tests/test_passk*.py"),
    "loss": ("sftrl/loss/*.py", "tests/test_loss.py"),
    "predict": ("sftrl/predict/*.py", "tests/test_predict*.py"),
    "verify": ("sftrl/verify/*.py", "tests/test_verify*.py"),
    "generations": ("sftrl/generations/*.py", "tests/test_generations*.py"),
    "curate": ("sftrl/curate/*.py", "tests/test_curate*.py"),
    "scores": ("sftrl/stages/scores.py", "tests/test_stages_scores.py"),
    "job": ("sftrl/stages/job.py", "tests/test_stages_job.py"),
}
SWAPS = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.Pow: ast.Mult,
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.And: ast.Or, ast.Or: ast.And,
}  # fmt: skip
NAMES = {"min": "max", "max": "min", "any": "all", "all": "any", "argmin": "argmax", "argmax": "argmin"}


class Mutator(ast.NodeTransformer):
    """Count the places of a tree that can be changed, and change the one numbered `wanted`."""

    def __init__(self, wanted: int = -1):
        self.wanted, self.seen, self.line, self.what = wanted, 0, 0, ""

    def _here(self, node: ast.AST, what: str) -> bool:
        self.seen += 1
        if self.seen - 1 != self.wanted:
            return False
        self.line, self.what = getattr(node, "lineno", 0), what
        return True

    def visit_BinOp(self, node):
        self.generic_visit(node)
        swap = SWAPS.get(type(node.op))
        of_text = isinstance(node.right, ast.JoinedStr) or isinstance(getattr(node.left, "value", None), str)
        if swap and not of_text and self._here(node, f"{type(node.op).__name__} to {swap.__name__}"):
            node.op = swap()
        return node

    def visit_BoolOp(self, node):
        self.generic_visit(node)
        swap = SWAPS[type(node.op)]
        if self._here(node, f"{type(node.op).__name__} to {swap.__name__}"):
            node.op = swap()
        return node

    def visit_Compare(self, node):
        self.generic_visit(node)
        swap = SWAPS.get(type(node.ops[0]))
        if swap and self._here(node, f"{type(node.ops[0]).__name__} to {swap.__name__}"):
            node.ops[0] = swap()
        return node

    def visit_UnaryOp(self, node):
        self.generic_visit(node)
        if isinstance(node.op, ast.Not | ast.USub) and self._here(node, f"{type(node.op).__name__} taken out"):
            return node.operand
        return node

    def visit_Constant(self, node):
        if type(node.value) in (int, float) and self._here(node, f"{node.value} to {node.value + 1}"):
            return ast.copy_location(ast.Constant(node.value + 1), node)
        return node

    def visit_Call(self, node):
        self.generic_visit(node)
        name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
        if name in NAMES and self._here(node, f"{name} to {NAMES[name]}"):
            if isinstance(node.func, ast.Name):
                node.func.id = NAMES[name]
            else:
                node.func.attr = NAMES[name]
        return node


def places(path: Path) -> int:
    """Return how many mutants a module has."""
    counter = Mutator()
    counter.visit(ast.parse(path.read_text()))
    return counter.seen


LIBRARIES = ("hypothesis", "numpy", "pandas", "pyarrow.parquet", "pydantic", "scipy.stats", "yaml")
OF_LOSS = ("torch", "transformers")
PATIENCE = 3600  # seconds for a mutant that waits and computes nothing; the machine may be busy with other work


def tests(folder: Path, pattern: str, limit: float | None) -> str:
    """Run a room's tests in a copy; return "pass", "fail", or "long" where they take more CPU seconds than `limit`."""
    files = sorted(str(path.relative_to(folder)) for path in folder.glob(pattern))
    child = os.fork()
    if not child:
        _run(folder, files, limit)
    began = time.time()
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            break
        if time.time() - began > PATIENCE:
            os.killpg(child, signal.SIGKILL)
        time.sleep(0.1)
    if os.WIFSIGNALED(status):
        return "long"
    return "fail" if os.waitstatus_to_exitcode(status) else "pass"


def _run(folder: Path, files: list[str], limit: float | None) -> None:
    """Be the process that runs the tests, and end with their exit code."""
    os.setpgid(0, 0)
    if limit is not None:
        resource.setrlimit(resource.RLIMIT_CPU, (int(limit) + 1, int(limit) + 1))
    os.chdir(folder)
    os.environ |= {"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1", "HYPOTHESIS_PROFILE": "ci"}
    sys.path.insert(0, str(folder))
    sys.dont_write_bytecode = True
    with open(os.devnull, "w") as nowhere:
        for stream in (1, 2):
            os.dup2(nowhere.fileno(), stream)
    code = 1
    try:
        code = pytest.main(["-x", "-q", "-p", "no:cacheprovider", "-m", "not vllm", *files])
    finally:
        os._exit(code)


def main() -> None:
    """Try mutants of the rooms named, print those that no test notices, and the share that is noticed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("rooms", nargs="*", default=list(ROOMS))
    parser.add_argument("--each", type=int, default=20, help="mutants of a room")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    for name in (*LIBRARIES, *(OF_LOSS if "loss" in given.rooms else ())):
        importlib.import_module(name)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "checkout"
        skip = shutil.ignore_patterns(".git", ".venv", "runs", ".snakemake", "__pycache__", ".*_cache")
        shutil.copytree(ROOT, folder, ignore=skip)
        for room in given.rooms:
            modules, pattern = ROOMS[room]
            used = sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])
            if tests(folder, pattern, None) != "pass":
                sys.exit(f"{room}: its tests fail as it is")
            limit = 5 * (sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2]) - used) + 10
            all_of = [(path, i) for path in sorted(folder.glob(modules)) for i in range(places(path))]
            chosen = random.Random(f"{given.seed} {room}").sample(all_of, min(given.each, len(all_of)))
            found = {"pass": 0, "fail": 0, "long": 0}
            for path, i in chosen:
                kept = path.read_text()
                mutator = Mutator(i)
                path.write_text(ast.unparse(mutator.visit(ast.parse(kept))))
                how = tests(folder, pattern, limit)
                found[how] += 1
                if how == "pass":
                    print(f"  not noticed: {path.relative_to(folder)}:{mutator.line}: {mutator.what}", flush=True)
                path.write_text(kept)
            noticed = f"{found['fail'] + found['long']} of {len(chosen)} mutants noticed"
            print(f"{room}: {noticed}, {found['long']} by running long ({len(all_of)} possible)", flush=True)


if __name__ == "__main__":
    main()
