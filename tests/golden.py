"""Numbers that the code gave when they were last read, kept so that any change of one shows.

What is right is settled by the exact references and properties of the other tests. A change of a number on purpose is
written by `python tests/golden.py`; its difference is then read, and explained in the commit.
"""

import importlib
import json
import math
from pathlib import Path

FOLDER = Path(__file__).resolve().parent / "data"
MAKERS = "test_*_golden.py"  # beside this file; each has `made`, and tests/data/golden_*.json what that gave


def plain(value):
    """Turn what the code gives into what JSON holds: ten digits of a float, text for what is not finite."""
    if hasattr(value, "columns"):
        return {str(name): plain(value[name].tolist()) for name in value.columns}
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, dict):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if isinstance(value, float):
        return float(f"{value:.10g}") if math.isfinite(value) else str(value)
    return value


def differences(kept, made, where: str = "") -> list[str]:
    """Say where two differ: numbers by more than rounding (1e-6 of their size), anything else at all."""
    if isinstance(kept, dict) and isinstance(made, dict):
        names = [*kept, *(name for name in made if name not in kept)]
        return [line for name in names for line in differences(kept.get(name), made.get(name), f"{where}/{name}")]
    if isinstance(kept, list) and isinstance(made, list) and len(kept) == len(made):
        pairs = enumerate(zip(kept, made, strict=True))
        return [line for i, (a, b) in pairs for line in differences(a, b, f"{where}/{i}")]
    numbers = all(isinstance(one, int | float) and not isinstance(one, bool) for one in (kept, made))
    same = math.isclose(kept, made, rel_tol=1e-6, abs_tol=1e-9) if numbers else kept == made
    return [] if same else [f"{where}: {kept!r} became {made!r}"]


def changed(name: str, made) -> list[str]:
    """Say where what was made, as `plain` gives it, differs from what is kept; the first twenty places."""
    return differences(json.loads((FOLDER / f"golden_{name}.json").read_text()), made)[:20]


if __name__ == "__main__":
    for path in sorted(Path(__file__).resolve().parent.glob(MAKERS)):
        made = plain(importlib.import_module(path.stem).made())
        name = path.stem.removeprefix("test_").removesuffix("_golden")
        (FOLDER / f"golden_{name}.json").write_text(json.dumps(made, indent=0, ensure_ascii=False) + "\n")
