"""Run jobs under FSDP2 on CPUs, each stopped once and resumed: python -m torch.distributed.run ... sharded.py FOLDER...

accelerate shards where there are GPUs or the like, and leaves CPUs to plain data parallelism, although torch shards
there too. So it is told that there is another kind of device.
"""

import contextlib
import os
import sys
from pathlib import Path

from accelerate import PartialState
from accelerate.utils import DistributedType

from sftrl.files import read_json, write_json
from sftrl.train import Interrupted, inside

PLUGIN = {  # as accelerate's launcher says them, from TRL's fsdp2.yaml
    "ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2", "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
    "FSDP_STATE_DICT_TYPE": "FULL_STATE_DICT", "FSDP_RESHARD_AFTER_FORWARD": "true",
    "FSDP_CPU_RAM_EFFICIENT_LOADING": "true", "FSDP_OFFLOAD_PARAMS": "false", "ACCELERATE_USE_CPU": "true",
}  # fmt: skip


setup = PartialState.__init__


def another_device(self: PartialState, *args, **kwargs) -> None:
    setup(self, *args, **kwargs)
    if self.distributed_type == DistributedType.MULTI_CPU:
        self.distributed_type = DistributedType.MULTI_XPU


def run(folder: Path) -> None:
    """Train until step 6, then on to the end: two calls, as a killed job makes them."""
    stop_at(folder, 6)
    with contextlib.suppress(Interrupted):
        inside.run(folder)
    assert PartialState().distributed_type == DistributedType.FSDP
    stop_at(folder, None)
    inside.run(folder)


def stop_at(folder: Path, step: int | None) -> None:
    """Write into the job where to stop, once for all processes."""
    state, path = PartialState(), folder / "trainer" / "job.json"
    if state.is_main_process:
        write_json(path, read_json(path) | {"until": step})
    state.wait_for_everyone()


if __name__ == "__main__":
    os.environ |= PLUGIN
    PartialState.__init__ = another_device
    for name in sys.argv[1:]:
        run(Path(name))
