"""Small changes of the code, each against the tests of its room: `python tests/mutants.py [ROOM ...] [--each N]`.

A mutant has one operator, comparison, constant, `min`/`max` or boolean changed, or one `not` taken out. Each runs in a
copy of the checkout, so that nothing here is touched. Noticed means that a test fails, or that the tests take five
times as long as without it. What is not noticed is printed, for a test to be written or for the reason why it changes
nothing to be listed in `docs/contributing.md`.
"""

import argparse
import ast
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

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


def tests(folder: Path, pattern: str, limit: float | None) -> bool:
    """Run a room's tests in a copy; return whether they pass in time."""
    files = sorted(str(path.relative_to(folder)) for path in folder.glob(pattern))
    words = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-m", "not vllm", *files]
    environment = os.environ | {"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1", "HYPOTHESIS_PROFILE": "ci"}
    try:
        return not subprocess.run(
            words, cwd=folder, env=environment, capture_output=True, timeout=limit, check=False
        ).returncode
    except subprocess.TimeoutExpired:
        return False


def main() -> None:
    """Try mutants of the rooms named, print those that no test notices, and the share that is noticed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("rooms", nargs="*", default=list(ROOMS))
    parser.add_argument("--each", type=int, default=20, help="mutants of a room")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "checkout"
        skip = shutil.ignore_patterns(".git", ".venv", "runs", ".snakemake", "__pycache__", ".*_cache")
        shutil.copytree(ROOT, folder, ignore=skip)
        for room in given.rooms:
            modules, pattern = ROOMS[room]
            began = time.time()
            if not tests(folder, pattern, None):
                sys.exit(f"{room}: its tests fail as it is")
            limit = 5 * (time.time() - began) + 10
            all_of = [(path, i) for path in sorted(folder.glob(modules)) for i in range(places(path))]
            chosen = random.Random(f"{given.seed} {room}").sample(all_of, min(given.each, len(all_of)))
            noticed = 0
            for path, i in chosen:
                kept = path.read_text()
                mutator = Mutator(i)
                path.write_text(ast.unparse(mutator.visit(ast.parse(kept))))
                if tests(folder, pattern, limit):
                    print(f"  not noticed: {path.relative_to(folder)}:{mutator.line}: {mutator.what}", flush=True)
                else:
                    noticed += 1
                path.write_text(kept)
            print(f"{room}: {noticed} of {len(chosen)} mutants noticed ({len(all_of)} possible)", flush=True)


if __name__ == "__main__":
    main()
