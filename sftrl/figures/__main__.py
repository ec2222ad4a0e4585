"""`python -m sftrl.figures [FOLDER ...]`: redraw every figure in `figures/*/`, or in the folders named."""

import sys
from pathlib import Path

from sftrl.figures import redraw


def main(arguments: list[str]) -> None:
    """Redraw the named folders, or all under `figures/` that hold a table."""
    folders = [Path(a) for a in arguments] or sorted(p for p in Path("figures").iterdir() if any(p.glob("*.csv")))
    for folder in folders:
        print(f"{folder}: {', '.join(redraw(folder))}")


if __name__ == "__main__":
    main(sys.argv[1:])
