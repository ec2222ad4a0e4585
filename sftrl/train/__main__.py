"""One process of a training: `python -m sftrl.train FOLDER`, run by `sftrl.train.launch` on a job that it wrote."""

import sys
from pathlib import Path

from sftrl.errors import InputError
from sftrl.files import write_json
from sftrl.train import inside
from sftrl.train.resumable import Interrupted

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    try:
        inside.run(folder, launched=True)
    except (InputError, Interrupted) as error:
        write_json(folder / "trainer" / "error.json", {"kind": type(error).__name__, "message": str(error)})
        sys.exit(str(error))
