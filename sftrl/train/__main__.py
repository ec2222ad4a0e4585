"""One process of a training: `python -m sftrl.train FOLDER ERROR`, run by `sftrl.train.launch` on a job that it wrote.

If it ends early by an InputError or an Interrupted, it writes which, and the message, to the file ERROR.
"""

import sys
from pathlib import Path

from sftrl.errors import InputError
from sftrl.files import write_json
from sftrl.train import inside
from sftrl.train.resumable import Interrupted

if __name__ == "__main__":
    folder, told = map(Path, sys.argv[1:])
    try:
        inside.run(folder, launched=True)
    except (InputError, Interrupted) as error:
        if not told.exists():  # of several processes the first knows why; others find it gone
            write_json(told, {"kind": type(error).__name__, "message": str(error)})
        sys.exit(str(error))
