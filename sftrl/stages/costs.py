"""What the jobs of a study cost together, and what each asks a scheduler for."""

import math
import statistics
from collections.abc import Iterator
from pathlib import Path

from sftrl.errors import InputError
from sftrl.plan.machines import Cpu, Gpu, machine, recognised
from sftrl.plan.slurm import Request
from sftrl.plan.table_of_costs import Row
from sftrl.plan.work import start_up
from sftrl.recipes import Ask
from sftrl.stages import evaluation, manifest, prediction
from sftrl.stages.job import DONE, Job
from sftrl.stages.job_cost import STAGES, cost, loads_a_model, remark, shape_of, stage, use
from sftrl.study import Study
from sftrl.tables import POST_RL, POST_SFT

REMEDIES = {
    "sft": "more processes with accelerate: fsdp2, a smaller sft.micro_batch, lora, or another GPU",
    "grpo": "more processes with accelerate: fsdp2, a smaller grpo.micro_batch, lora, or another GPU",
    POST_SFT: "a larger evaluation.tensor_parallel_size, or another GPU",
    POST_RL: "a larger evaluation.tensor_parallel_size, or another GPU",
}


def machine_of(study: Study, gpu: str | None = None) -> Gpu | Cpu:
    """Return what a study is planned for: the GPU named here, or by its params, or a CPU's cores."""
    return machine(gpu, "--gpu") if gpu else machine(study.params.cluster.gpu or "cpu", "cluster.gpu")


def rows(study: Study, on: Gpu | Cpu) -> tuple[list[Row], dict[str, tuple[float, int]]]:
    """Return every job of a study with its cost, and how much longer than planned each stage took where measured.

    The second maps a stage to (measured over planned, finished jobs): the median over jobs of this study that finished
    on such a machine, of CPU time where it is planned for cores. By it the times of that stage are corrected.

    Raises:
        InputError: a model's config cannot be read, or the number of a benchmark's problems is not known.
    """
    jobs = list(all_jobs(study))
    costs = {job.folder: cost(study, job, on) for job in jobs}
    made = {job.folder: manifest.read(job.folder) for job in jobs}
    ratios: dict[str, list[float]] = {}
    for job in jobs:
        found, planned = made[job.folder], costs[job.folder].seconds
        if found and planned and recognised(found["device"]) == on.name:
            wall = found["wall_seconds"]
            spent = found.get("cpu_seconds", wall) if isinstance(on, Cpu) else wall
            ratios.setdefault(stage(job), []).append(spent / planned)
    measured = {name: (statistics.median(values), len(values)) for name, values in ratios.items()}
    names = {job.folder: "/".join((*job.place.parts[2:-1], job.place.name)) for job in jobs}
    result = [
        Row(
            names[job.folder],
            stage(job),
            use(study, job),
            tuple(dict.fromkeys(names[earlier.folder] for earlier in _before(study, job))),
            costs[job.folder].slower(measured.get(stage(job), (1.0, 0))[0]),
            start_up(on),
            REMEDIES.get(stage(job), ""),
            made[job.folder] is not None,
            remark(study, job, on),
        )
        for job in jobs
    ]
    return result, measured


def all_jobs(study: Study) -> Iterator[Job]:
    """Yield every job of a study, each after those that it waits for."""
    seen: set[Path] = set()
    waiting = [prediction.job(study)]
    while waiting:
        job = waiting[-1]
        earlier = [one for one in _before(study, job) if one.folder not in seen]
        if earlier:
            waiting += earlier
            continue
        waiting.pop()
        if job.folder not in seen:
            seen.add(job.folder)
            yield job


def _before(study: Study, job: Job) -> list[Job]:
    """Return the jobs that one waits for: its inputs, and an evaluation's shards."""
    of = study.params.evaluation.shards
    if job.notebook != "03_evaluate" or of == 1 or job.place.parent.name == "shards":
        return list(job.inputs)
    family, phase, run = job.place.parts[2:5]
    seed = None
    if phase == POST_RL:
        run, _, seed = run.rpartition("-seed")
    shards = [evaluation.job(study, family, phase, run, seed and int(seed), i, of) for i in range(of)]
    return [*job.inputs, *shards]


def request(study: Study, job: Job, on: Gpu | Cpu) -> Request:
    """Return what a job asks a scheduler for: what the params say, else the estimate threefold, and memory with room.

    Raises:
        InputError: the params allow less time than the estimate.
    """
    name = STAGES.get(job.notebook, "evaluate")
    ask: Ask = getattr(study.params.cluster, name)
    planned = cost(study, job, on)
    expected = math.ceil((planned.seconds + start_up(on)) / 60)
    if ask.minutes is not None and ask.minutes < expected:
        raise InputError(f"cluster.{name}.minutes: {ask.minutes}, and {job.place} is estimated to take {expected}")
    parameters = shape_of(study, job).parameters if loads_a_model(study, job) else 0
    memory = 4000 + 20e-6 * parameters if isinstance(on, Cpu) else 16_000 + 6e-6 * parameters * planned.gpus
    return Request(
        name,
        planned.gpus,
        ask.minutes or 3 * expected + 20,
        1000 * ask.memory_gb if ask.memory_gb else math.ceil(memory),
        ask.partition,
    )


def requests(study: Study, on: Gpu | Cpu) -> list[Request]:
    """Return what all jobs of a study ask for."""
    return [request(study, job, on) for job in all_jobs(study)]


def gpus_left(study: Study, on: Gpu | Cpu) -> int:
    """Return how many GPUs the largest job that is not finished needs at once."""
    left = (job for job in all_jobs(study) if not (job.folder / DONE).exists())
    return max((cost(study, job, on).gpus for job in left), default=0)
