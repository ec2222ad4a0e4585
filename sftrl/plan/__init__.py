"""What a study will cost before it runs: FLOPs, memory, GPU-hours, disk, and how long its graph of jobs takes.

    python -m sftrl plan params/qwen3-4b.yaml --gpu H100-80       # the table
    shape("Qwen/Qwen3-4B").parameters                             # 4,022,468,096

`shapes` reads models' configs, `machines` the table of rates, `work` turns both into the cost of a job, `schedule`
simulates the graph, `table_of_costs` draws the table and warns. `slurm` asks a cluster what it has, and explains how
its jobs ended. `gpus` gives each job of one machine a GPU of its own.
"""

from sftrl.plan.machines import machine
from sftrl.plan.schedule import Task, longest_chain, makespan
from sftrl.plan.shapes import shape

__all__ = ["Task", "longest_chain", "machine", "makespan", "shape"]
