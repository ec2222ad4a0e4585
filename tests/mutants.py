"""Small changes of the code, each against the tests of its room: `python tests/mutants.py [ROOM ...] [--each N]`.

A mutant has one operator, comparison, constant, `min`/`max` or boolean changed, or one `not` taken out. Each runs in a
copy of the checkout, so that nothing here is touched, in a fork of a process that has the large libraries loaded.
Noticed means that a test fails, or that the tests take twice the CPU time that they take without it. Tests that hold
a digest of the code are left out, as they fail for every mutant; so are those of more than `--longest` seconds of
CPU, and the others run shortest first. What is not noticed is printed, for a test to be written or for the reason why
it changes nothing to be listed in `docs/tables/mutants.csv`.
"""

import argparse
import ast
import csv
import importlib
import json
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
LISTED = ROOT / "docs" / "tables" / "mutants.csv"  # module, code before and after, why it changes nothing
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
        self.wanted, self.seen, self.line = wanted, 0, 0

    def _here(self, node: ast.AST) -> bool:
        self.seen += 1
        if self.seen - 1 != self.wanted:
            return False
        self.line = node.lineno
        return True

    def visit_BinOp(self, node):
        self.generic_visit(node)
        swap = SWAPS.get(type(node.op))
        of_text = isinstance(node.right, ast.JoinedStr) or isinstance(getattr(node.left, "value", None), str)
        if swap and not of_text and self._here(node):
            node.op = swap()
        return node

    def visit_BoolOp(self, node):
        self.generic_visit(node)
        swap = SWAPS[type(node.op)]
        if self._here(node):
            node.op = swap()
        return node

    def visit_Compare(self, node):
        self.generic_visit(node)
        swap = SWAPS.get(type(node.ops[0]))
        if swap and self._here(node):
            node.ops[0] = swap()
        return node

    def visit_UnaryOp(self, node):
        self.generic_visit(node)
        if isinstance(node.op, ast.Not | ast.USub) and self._here(node):
            return node.operand
        return node

    def visit_Constant(self, node):
        if type(node.value) in (int, float) and self._here(node):
            return ast.copy_location(ast.Constant(node.value + 1), node)
        return node

    def visit_Call(self, node):
        self.generic_visit(node)
        name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
        if name in NAMES and self._here(node):
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


def mutate(path: Path, number: int) -> tuple[int, str, str]:
    """Write a mutant over a module; return its line's number, and what is about the change, before and after."""
    text, mutator = path.read_text(), Mutator(number)
    before, after = ast.unparse(ast.parse(text)), ast.unparse(mutator.visit(ast.parse(text)))
    path.write_text(after)
    pairs = zip(before.splitlines(), after.splitlines(), strict=True)
    return mutator.line, *about(*next(pair for pair in pairs if pair[0] != pair[1]))


def about(before: str, after: str, width: int = 40) -> tuple[str, str]:
    """Cut what two lines have in common to `width` characters on either side of the difference."""
    same = [a == b for a, b in zip(before, after, strict=False)]
    ends = [a == b for a, b in zip(reversed(before), reversed(after), strict=False)]
    begin, end = (max(0, [*equal, False].index(False) - width) for equal in (same, ends))
    return before[begin : len(before) - end].strip(), after[begin : len(after) - end].strip()


LIBRARIES = (
    "datasets", "hypothesis.extra.numpy", "numpy", "pandas", "pyarrow.parquet", "pydantic", "scipy.stats", "sympy",
    "torch", "transformers", "yaml",
)  # fmt: skip
PATIENCE = 1800  # seconds for a mutant that waits and computes nothing; the machine may be busy with other work


class Shortest:
    """A plugin of pytest: leave out tests of more than `longest` seconds, run the rest shortest first, time each."""

    def __init__(self, took: dict[str, float], longest: float):
        self.took, self.longest = took, longest

    def pytest_collection_modifyitems(self, items):
        def order(item) -> int:  # a few classes only, so that tests that share a module's fixture stay together
            return sum(self.took.get(item.nodeid, 0) > seconds for seconds in (0.02, 0.2))

        items[:] = sorted((item for item in items if self.took.get(item.nodeid, 0) <= self.longest), key=order)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item):
        began = sum(os.times()[:4])
        yield
        self.took[item.nodeid] = sum(os.times()[:4]) - began


def tests(folder: Path, pattern: str, plugin: Shortest, limit: float | None) -> str:
    """Run a room's tests in a copy; return "pass", "fail", or "long" where they take more CPU seconds than `limit`."""
    files = sorted(str(path.relative_to(folder)) for path in folder.glob(pattern))
    child = os.fork()
    if not child:
        _run(folder, files, plugin, limit)
    began = time.time()
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            break
        if time.time() - began > PATIENCE:
            os.killpg(child, signal.SIGKILL)
        time.sleep(0.05)
    if os.WIFSIGNALED(status):
        return "long"
    return "fail" if os.waitstatus_to_exitcode(status) else "pass"


def _run(folder: Path, files: list[str], plugin: Shortest, limit: float | None) -> None:
    """Be the process that runs the tests, and end with their exit code."""
    os.setpgid(0, 0)
    sys.dont_write_bytecode = limit is not None  # else a mutant's may be taken for the next one's
    if limit is not None:
        resource.setrlimit(resource.RLIMIT_CPU, (int(limit) + 1, int(limit) + 1))
    os.chdir(folder)
    os.environ |= {"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    sys.path.insert(0, str(folder))
    with open(os.devnull, "w") as nowhere:
        for stream in (1, 2):
            os.dup2(nowhere.fileno(), stream)
    code = 1
    options = ["-x", "-q", "-p", "no:cacheprovider", "-m", "not vllm and not digest", "--hypothesis-profile=ci"]
    try:
        code = pytest.main([*options, *files], plugins=[plugin])
        (folder / "took.json").write_text(json.dumps(plugin.took))
    finally:
        os._exit(code)


def main() -> None:
    """Try mutants of the rooms named; print those that no test notices and nothing explains, and a table of counts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("rooms", nargs="*", default=list(ROOMS))
    parser.add_argument("--each", type=int, default=60, help="mutants of a room")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--longest", type=float, default=10, help="CPU seconds of a test above which it is left out")
    given = parser.parse_args()
    for name in LIBRARIES:
        importlib.import_module(name)
    with open(LISTED, newline="") as file:
        listed = {(row["module"], row["before"], row["after"]) for row in csv.DictReader(file)}
    counts = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "checkout"
        skip = shutil.ignore_patterns(".git", ".venv", "runs", ".snakemake", "__pycache__", ".*_cache")
        shutil.copytree(ROOT, folder, ignore=skip)
        for room in given.rooms:
            modules, pattern = ROOMS[room]
            plugin = Shortest({}, given.longest)
            if tests(folder, pattern, plugin, None) != "pass":  # all of them, to time each
                sys.exit(f"{room}: its tests fail as it is")
            plugin.took = json.loads((folder / "took.json").read_text())
            limit = 2 * sum(seconds for seconds in plugin.took.values() if seconds <= given.longest) + 10
            all_of = [(path, i) for path in sorted(folder.glob(modules)) for i in range(places(path))]
            chosen = random.Random(f"{given.seed} {room}").sample(all_of, min(given.each, len(all_of)))
            noticed, equivalent = 0, 0
            for path, i in chosen:
                kept = path.read_text()
                line, before, after = mutate(path, i)
                module = str(path.relative_to(folder))
                if tests(folder, pattern, plugin, limit) != "pass":
                    noticed += 1
                elif (module, before, after) in listed:
                    equivalent += 1
                else:
                    print(f"  not noticed: {module}:{line}: {before} -> {after}", flush=True)
                path.write_text(kept)
            open_ = len(chosen) - noticed - equivalent
            counts.append([len(all_of), len(chosen), noticed, equivalent, open_])
            print("|", " | ".join(map(str, [room, *counts[-1]])), "|", flush=True)
    total = [sum(column) for column in zip(*counts, strict=True)]
    print("|", " | ".join(map(str, ["all", *total])), "|", f"\n{total[2] / (total[2] + total[4]):.1%} noticed")


if __name__ == "__main__":
    main()
