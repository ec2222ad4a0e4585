"""The page for readers with checkpoints of their own: its TRL example runs as it stands."""

import os
import re
import warnings
from pathlib import Path

import pandas as pd
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
    found = re.findall(r"^\| (quick|cpu)/(\S+) \| (.+) \| (\d+)% \| (.+) \| (.*) \| (.+) % \|$", page, re.M)
    assert len(found) >= 24
    for study, family, policy, budget, regret, better, spent in found:
        table = pd.read_csv(ROOT / "figures" / study / "choose.csv")
        table = table[(table["family"] == family) & (table["policy"] == policy)]
        (row,) = table[table["budget"] == int(budget) / 100].to_dict("records")
        assert regret == "{:.1f} [{:.1f}, {:.1f}]".format(*(100 * row[f"regret{end}"] for end in ("", "_low", "_high")))
        if better:
            ends = ("better_than_pass1", "better_low", "better_high")
            assert better == "{:+.1f} [{:+.1f}, {:+.1f}]".format(*(100 * row[end] for end in ends))
        assert spent == f"{100 * row['spent']:.1f}"
