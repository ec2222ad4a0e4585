"""The page for readers with checkpoints of their own: its TRL example runs as it stands."""

import os
import re
import warnings
from pathlib import Path

import pandas as pd
from scipy import stats
from tiny import tiny_folder

ROOT = Path(__file__).resolve().parent.parent


def reward(completions, answer, **_) -> list[float]:
    """Reward a digit in the response: an untrained model finds one now and then."""
    return [float(str(gold) in text) for text, gold in zip(completions, answer, strict=True)]


def test_the_trl_example_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs" / "choose.md").read_text().partition("## With TRL")[2]
    example = re.search(r"```python\n(.*?)```", page, re.DOTALL)[1]
    rows = [(f"q{i}", f"What is {i}?", str(i % 3)) for i in range(8)]
    table = pd.DataFrame(rows, columns=["id", "prompt", "answer"])
    names = {
        "checkpoints": {f"m{i}": str(tiny_folder(tmp_path / f"m{i}", seed=i, layers=1)) for i in range(2)},
        "problems": table.head(5),
        "probe": table.tail(3),
        "reward": reward,
    }
    monkeypatch.setenv("TRL_EXPERIMENTAL_SILENCE", os.environ.get("TRL_EXPERIMENTAL_SILENCE", "1"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exec(compile(example, "docs/choose.md", "exec"), names)
    race = names["race"]
    assert race.ask() is None
    assert race.choice.run in ("m0", "m1")
    assert 0 < race.choice.spent <= 0.9
    steps = {row["run"]: row["step"] for row in race.ledger.told}
    assert max(steps.values()) > 0  # RL was started, in segments
    told = len(race.ledger.told)
    exec(compile(example, "docs/choose.md", "exec"), names)  # again: it goes on from its log, with nothing to do
    assert len(names["race"].ledger.told) == told


def test_the_replays_of_the_committed_studies_are_their_tables():
    page = (ROOT / "docs" / "choose.md").read_text()
    head, *found = re.findall(r"^\| (family|\w+/\S+) \| (random .+|\d.+) \|$", page, re.M)
    policies = [re.fullmatch(r"([\w @]+?)(?:, (\d+) %)?", word).groups() for word in head[1].split(" | ")]
    studies = {family.partition("/")[0] for family, _ in found}
    assert studies == {path.parent.name for path in ROOT.glob("figures/*/choose.csv")}
    every = pd.concat([pd.read_csv(ROOT / f"figures/{name}/choose.csv").assign(study=name) for name in studies])
    assert len(found) == every["family"].nunique()
    for family, cells in found:
        table = every[every["study"] + "/" + every["family"] == family]
        for (policy, budget), cell in zip(policies, cells.split(" | "), strict=True):
            row = table[(table["policy"] == policy) & (table["budget"] == int(budget or 10) / 100)].squeeze()
            ends = [100 * row[f"regret{end}"] for end in ("", "_low", "_high")]
            assert cell == "{:.1f} [{:.1f}, {:.1f}]".format(*ends), (family, policy, budget)
    regret = every[every["budget"] == 0.1].pivot(index="family", columns="policy", values="regret") * 100
    for policy, said in (
        ("race", "the race costs"),
        ("Pass@1", "of its first probes"),
        ("top two", "to the end, cost"),
    ):
        assert f"{said} {short(regret[policy].mean())}" in page
    less = regret["race"] - regret["Pass@1"]
    reach = stats.t.ppf(0.975, len(less) - 1) * less.std() / len(less) ** 0.5
    assert f"{short(less.mean())} [{short(less.mean() - reach)}, {short(less.mean() + reach)}]" in page


def short(points: float) -> str:
    return f"{points:.1f}".replace("0.", ".") if abs(points) < 1 else f"{points:.1f}"
