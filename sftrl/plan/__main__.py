"""`python -m sftrl.plan params/<study>.yaml [--gpu H100-80]`: what a study will cost, and what will not go well."""

import argparse
import shutil
import sys
from pathlib import Path

from sftrl.errors import InputError
from sftrl.plan.report import sources, table, warnings
from sftrl.stages import costs
from sftrl.study import Study


def main(words: list[str] | None = None) -> None:
    """Print the plan; invalid input ends in one message and exit status 1."""
    parser = argparse.ArgumentParser(prog="python -m sftrl.plan", description=__doc__)
    parser.add_argument("params", help="params/<study>.yaml")
    parser.add_argument("--gpu", help="a name of sftrl/plan/rates.yaml, or cpu; default: the params' cluster.gpu, else cpu")
    given = parser.parse_args(words)
    try:
        study = Study.load(given.params)
        on = costs.machine_of(study, given.gpu)
        rows, measured = costs.rows(study, on)
        print(f"plan of study {study.name}")
        print(table(rows, on))
        for line in warnings(rows, on, shutil.disk_usage(Path.cwd()).free):
            print(f"warning: {line}")
        for line in sources(on, measured):
            print(f"source: {line}")
    except InputError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
