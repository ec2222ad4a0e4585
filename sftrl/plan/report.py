"""The table of a plan, and what to change where it will not go well."""

from dataclasses import dataclass

from sftrl.plan.machines import Cpu, Gpu, rates, utilisation
from sftrl.plan.schedule import Task, longest_chain, makespan
from sftrl.plan.work import FILLED, Cost, start_up

PLACES = (1, 8, 64, 512)


@dataclass(frozen=True)
class Row:
    """One job of a plan.

    Attributes:
        name: as `sft random-10k-3ep`.
        stage: what it is summed under, as `sft`.
        use: whose utilisation its time rests on, as `training`; empty where it computes next to nothing.
        after: names of the rows that it waits for.
        cost: what it costs.
        start_up: seconds that it takes beside its work.
        remedy: what to change if its model does not fit a GPU.
        done: finished already.
    """

    name: str
    stage: str
    use: str
    after: tuple[str, ...]
    cost: Cost
    start_up: float
    remedy: str = ""
    done: bool = False

    @property
    def seconds(self) -> float:
        """Wall time with the start-up."""
        return self.cost.seconds + self.start_up


def tasks(rows: list[Row], places_each: int | None = None) -> dict[str, Task]:
    """Return the rows as a scheduler sees them, a core each (`places_each` of 1) or the GPUs that each holds (None)."""
    return {row.name: Task(row.seconds, places_each or row.cost.gpus, row.after) for row in rows}


def table(rows: list[Row], on: Gpu | Cpu) -> str:
    """Return the plan by stage, its chain and its makespan, as text."""
    lines = [
        f"{'stage':<14}{'jobs':>5}{'done':>5}{'tokens':>9}{'FLOPs':>10}{'GB a GPU':>10}{'hours':>9}  {'range':<15}{'disk GB':>8}"
    ]
    stages = list(dict.fromkeys(row.stage for row in rows))
    for stage in stages:
        lines.append(_line(stage, [row for row in rows if row.stage == stage], on))
    if len(stages) > 1:
        lines.append(_line("total", rows, on))
    kind = "core" if isinstance(on, Cpu) else on.name
    lines.append(f"hours: of one {kind}; range: utilisation from high to low, as rates.yaml has them")
    graph = tasks(rows, 1 if isinstance(on, Cpu) else None)
    chain = longest_chain(graph)
    lines.append(f"longest chain: {duration(sum(graph[name].seconds for name in chain))}: {' > '.join(chain)}")
    spans = [
        f"{n}: {duration(makespan(graph, n))}"
        for n in PLACES
        if n >= max((t.places for t in graph.values()), default=0)
    ]
    lines.append(f"time on so many {kind}s: " + ", ".join(spans))
    return "\n".join(lines)


def _line(name: str, rows: list[Row], on: Gpu | Cpu) -> str:
    held = [max(row.cost.gpus, 1) if isinstance(on, Cpu) else row.cost.gpus for row in rows]
    hours = sum(row.seconds * n for row, n in zip(rows, held, strict=True)) / 3600
    low = high = hours
    if isinstance(on, Gpu):
        low = (
            sum(
                (row.seconds - row.cost.seconds * (1 - _faster(row.use))) * n for row, n in zip(rows, held, strict=True)
            )
            / 3600
        )
        high = (
            sum(
                (row.seconds + row.cost.seconds * (1 / _faster(row.use) - 1)) * n
                for row, n in zip(rows, held, strict=True)
            )
            / 3600
        )
    peak = max((row.cost.peak for row in rows), default=0) / 1e9
    span = f"{low:.3g} to {high:.3g}" if high > low else ""
    return (
        f"{name:<14}{len(rows):>5}{sum(row.done for row in rows):>5}{sum(row.cost.tokens for row in rows):>9.2g}"
        f"{sum(row.cost.flops for row in rows):>10.2g}{peak or 0:>10.1f}{hours:>9.3g}  {span:<15}"
        f"{sum(row.cost.disk for row in rows) / 1e9:>8.3g}"
    )


def _faster(use: str) -> float:
    """Return the share of the planned time that the best utilisation takes; the worst takes its inverse."""
    if not use:
        return 1.0
    low, high = utilisation(use)
    return (low / high) ** 0.5


def warnings(rows: list[Row], on: Gpu | Cpu, free_disk: float) -> list[str]:
    """Return what will not go well, each with what to change.

    Args:
        free_disk: bytes.
    """
    found = []
    if isinstance(on, Gpu):
        for stage in dict.fromkeys(row.stage for row in rows):
            row = max((row for row in rows if row.stage == stage), key=lambda row: row.cost.peak)
            if row.cost.peak > FILLED * on.memory:
                parts = ", ".join(f"{part} {size / 1e9:.1f}" for part, size in row.cost.memory.items())
                found.append(
                    f"{row.name}: {row.cost.peak / 1e9:.1f} GB a GPU ({parts}), and {on.name} has {on.memory / 1e9:.0f}: {row.remedy}"
                )
    left = [row for row in rows if not row.done]
    disk = sum(row.cost.disk for row in left) + max((row.cost.scratch for row in left), default=0)
    if disk > free_disk:
        found.append(
            f"disk: {disk / 1e9:.0f} GB more are needed, and {free_disk / 1e9:.0f} are free: link runs/ to a larger disk, "
            "or take fewer runs at a time"
        )
    spent = {stage: sum(row.seconds for row in rows if row.stage == stage) for stage in ("evaluate", "grpo")}
    if spent["grpo"] and spent["evaluate"] > spent["grpo"]:
        found.append(
            f"evaluation takes {spent['evaluate'] / spent['grpo']:.1f} times as long as the RL that it predicts: "
            "fewer evaluation.samples, or evaluation.adaptive, or fewer benchmark problems"
        )
    graph = tasks(rows, 1)
    chain = longest_chain(graph)
    whole = sum(graph[name].seconds for name in chain)
    longest = max(chain, key=lambda name: graph[name].seconds, default="")
    if len(rows) > len(chain) and graph[longest].seconds > 0.8 * whole and whole > 3600:
        found.append(
            f"{longest} is {graph[longest].seconds / whole:.0%} of the longest chain, and more GPUs do not shorten it: "
            "more GPUs for this one job, or fewer of its steps"
        )
    return found


def sources(on: Gpu | Cpu, calibrated: dict[str, tuple[float, int]]) -> list[str]:
    """Return where the rates come from; `calibrated`: by stage, measured over planned, and from how many jobs."""
    table = rates()
    if isinstance(on, Cpu):
        lines = [f"{use}: {entry['source']}" for use, entry in table["cpu"].items()]
    else:
        lines = [f"{on.name}: {table['gpus'][on.name]['source']}"]
        lines += [
            f"{use}: {entry['low']} to {entry['high']}; {entry['source']}"
            for use, entry in table["utilisation"].items()
        ]
    lines.append(
        f"start-up: {start_up(on):.0f} s a job; {table['overhead']['cpu' if isinstance(on, Cpu) else 'gpu']['source']}"
    )
    lines += [f"{stage}: times {ratio:.2f}, measured on {n} finished jobs" for stage, (ratio, n) in calibrated.items()]
    return lines


def duration(seconds: float) -> str:
    """Return a time as a person would say it: `9 min`, `5.2 h`, `12 d`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 100 * 3600 else f"{seconds / 86400:.1f} d"
