"""What every test may lean on."""

import os
from pathlib import Path

import pytest

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no test asks the hub; without a network, asking takes half a minute
os.environ.setdefault("OMP_NUM_THREADS", "1")  # tiny models: a second thread only waits, worse on a busy machine
ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared():
    """Give the path of a real data file kept beside a developer's checkout, or skip: users do not have it."""

    def find(name: str) -> Path:
        path = ROOT.parent / "shared" / name
        if not path.exists():
            pytest.skip(f"{name} is kept beside a developer's checkout only")
        return path

    return find
