"""The table of a plan, and what to change where it will not go well."""

from dataclasses import dataclass

from sftrl.plan.machines import Cpu, Gpu, rates, utilisation
from sftrl.plan.schedule import Task, longest_chain, makespan
from sftrl.plan.work import FILLED, Cost, start_up
from sftrl.tables import POST_RL, POST_SFT

PLACES = {Gpu: (1, 8, 64, 512), Cpu: (1, 2, 8, 64)}
ORDER = ("base", "curate", "sft", POST_SFT, "grpo", POST_RL, "predict")
PATIENCE = 90 * 86400  # seconds on the most cores after which a plan for cores asks for a GPU


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
        remark: what else will not go well.
    """

    name: str
    stage: str
    use: str
    after: tuple[str, ...]
    cost: Cost
    start_up: float
    remedy: str = ""
    done: bool = False
    remark: str = ""

    @property
    def seconds(self) -> float:
        """Wall time with the start-up."""
        return self.cost.seconds + self.start_up


def tasks(rows: list[Row], on: Gpu | Cpu) -> dict[str, Task]:
    """Return the rows as a scheduler sees them; what is finished takes no more time."""
    return {row.name: Task(0.0 if row.done else row.seconds, _places(row, on), row.after) for row in rows}


def _places(row: Row, on: Gpu | Cpu) -> int:
    return 1 if isinstance(on, Cpu) else row.cost.gpus


def table(rows: list[Row], on: Gpu | Cpu) -> str:
    """Return the plan by stage, its chain and its makespan, as text."""
    on_gpu = isinstance(on, Gpu)
    kind = on.name if on_gpu else "core"
    names = ["stage", "jobs", "done", "tokens", "FLOPs"]
    names += ["GB a GPU", "GPU-hours", "at best", "at worst"] if on_gpu else ["core-hours"]
    stages = sorted({row.stage for row in rows}, key=ORDER.index)
    cells = [[*names, "disk GB"]]
    cells += [_cells(stage, [row for row in rows if row.stage == stage], on) for stage in stages]
    cells += [_cells("total", rows, on)] if len(stages) > 1 else []
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [
        f"{name:<{widths[0]}}" + "".join(f"{cell:>{width + 2}}" for cell, width in zip(rest, widths[1:], strict=True))
        for name, *rest in cells
    ]
    hours = f"hours of one {kind}, finished jobs too" + ("; at the best and the worst utilisation" if on_gpu else "")
    size = "GB on each GPU of the largest job; " if on_gpu else ""
    lines.append(f"tokens trained on or sampled; {size}{hours}; disk that stays")
    graph = tasks(rows, on)
    chain = longest_chain(graph)
    lines.append(f"longest chain left: {duration(sum(graph[name].seconds for name in chain))}: {' > '.join(chain)}")
    most = max(task.places for task in graph.values())
    spans = [f"{n}: {duration(makespan(graph, n))}" for n in PLACES[type(on)] if n >= most]
    lines.append(f"time left on so many {kind}s: " + ", ".join(spans))
    return "\n".join(lines)


def _cells(name: str, rows: list[Row], on: Gpu | Cpu) -> list[str]:
    def hours(way: int) -> str:
        """At the utilisation that is planned with (0), the best (1) or the worst (-1)."""
        seconds = (row.start_up + row.cost.seconds * _faster(row.use) ** way for row in rows)
        return number(sum(s * _places(row, on) for s, row in zip(seconds, rows, strict=True)) / 3600)

    costs, on_gpu = [row.cost for row in rows], isinstance(on, Gpu)
    counts = [len(rows), sum(row.done for row in rows)]
    sums = [sum(cost.tokens for cost in costs), sum(cost.flops for cost in costs)]
    peak = [f"{max(cost.peak for cost in costs) / 1e9:.1f}"] if on_gpu else []
    spent = [hours(way) for way in ((0, 1, -1) if on_gpu else (0,))]
    disk = number(sum(cost.disk for cost in costs) / 1e9)
    return [name, *map(str, counts), *(f"{count:.1e}" if count else "0" for count in sums), *peak, *spent, disk]


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
    graph = tasks(rows, on)
    if isinstance(on, Gpu):
        for stage in dict.fromkeys(row.stage for row in rows):
            row = max((row for row in rows if row.stage == stage), key=lambda row: row.cost.peak)
            if row.cost.peak > FILLED * on.memory:
                parts = ", ".join(f"{part} {size / 1e9:.1f}" for part, size in row.cost.memory.items())
                size = f"{row.cost.peak / 1e9:.1f} GB a GPU ({parts})"
                found.append(f"{row.name}: {size}, and {on.name} has {on.memory / 1e9:.0f}: {row.remedy}")
        found += dict.fromkeys(row.remark for row in rows if row.remark)
    elif makespan(graph, PLACES[Cpu][-1]) > PATIENCE:
        found.append("planned for CPU cores: name a GPU, as GPU=H100-80 or as cluster.gpu in the params")
    left = [row for row in rows if not row.done]
    disk = sum(row.cost.disk for row in left) + max((row.cost.scratch for row in left), default=0)
    if disk > free_disk:
        found.append(
            f"disk: {disk / 1e9:.0f} GB more are needed, and {free_disk / 1e9:.0f} are free: link runs/ to a larger "
            "disk, or take fewer runs at a time"
        )
    spent = {
        stage: sum(row.seconds * _places(row, on) for row in rows if row.stage == stage) for stage in (POST_SFT, "grpo")
    }
    if spent["grpo"] and spent[POST_SFT] > spent["grpo"]:
        found.append(
            f"{POST_SFT} costs {spent[POST_SFT] / spent['grpo']:.1f} times as much as the RL that it predicts: "
            "fewer evaluation.samples, or evaluation.adaptive, or fewer benchmark problems"
        )
    chain = longest_chain(graph)
    whole = sum(graph[name].seconds for name in chain)
    longest = max((row for row in rows if row.name in chain), key=lambda row: graph[row.name].seconds, default=None)
    if longest and len(rows) > len(chain) and graph[longest.name].seconds > 0.8 * whole and whole > 3600:
        share, sampling = graph[longest.name].seconds / whole, longest.stage in (POST_SFT, POST_RL)
        found.append(
            f"{longest.name} is {share:.0%} of the longest chain, and other GPUs beside it do not shorten it: "
            + ("more evaluation.shards" if sampling else "more compute.processes, or fewer steps")
        )
    return found


def sources(on: Gpu | Cpu, calibrated: dict[str, tuple[float, int]]) -> list[str]:
    """Return where the rates come from; `calibrated`: by stage, measured over planned, and from how many jobs."""
    table, kind = rates(), "cpu" if isinstance(on, Cpu) else "gpu"
    if isinstance(on, Cpu):
        lines = [f"{use}: {entry['source']}" for use, entry in table["cpu"].items()]
    else:
        lines = [f"{on.name}: {table['gpus'][on.name]['source']}"]
        for use, entry in table["utilisation"].items():
            lines.append(f"{use}: {entry['low']} to {entry['high']}; {entry['source']}")
    lines.append(f"start-up: {start_up(on):.0f} s a job; {table['overhead'][kind]['source']}")
    lines += [f"{stage}: {ratio:.2f} times that, as in {n} finished jobs" for stage, (ratio, n) in calibrated.items()]
    return lines


def number(value: float) -> str:
    """Return a number of three digits or more, without an exponent: `<0.001`, `0.0858`, `7.19`, `66,500`."""
    if 0 < value < 0.001:
        return "<0.001"
    return f"{value:.3g}" if value < 1000 else f"{value:,.0f}"


def duration(seconds: float) -> str:
    """Return a time as a person would say it: `9 min`, `5.2 h`, `12.0 d`, `2,648 years`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    if seconds < 100 * 3600:
        return f"{seconds / 3600:.1f} h"
    days = seconds / 86400
    return f"{days:.1f} d" if days < 1000 else f"{days / 365.25:,.0f} years"
