"""`07_choose`: segments of real trainings, told to a race, and what a study must have for one."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml
from test_study import smoke
from tiny import tiny_folder

from sftrl import stages
from sftrl.choose import Job as Segment
from sftrl.choose import Race
from sftrl.errors import InputError
from sftrl.stages import curation, grpo, race
from sftrl.study import Study
from sftrl.study.params import check

ROOT = Path(__file__).resolve().parent.parent
PROBES = {"at": [0, 1, 2, 4], "problems": 5, "samples": 2}
RL = {"steps": 4, "learning_rate": 1.0e-3, "scheduler": "constant", "prompts_per_step": 2, "group_size": 2}
RL |= {"max_tokens": 16, "seeds": [0], "probes": PROBES}


def study(**changes) -> Study:
    return Study(check(smoke(**changes), "test"))


@pytest.fixture
def plan(tmp_path, monkeypatch) -> Study:
    """A study of three checkpoints of one's own, curated."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params").mkdir()
    models = [str(tiny_folder(tmp_path / f"m{i}", seed=i, layers=1)) for i in range(3)]
    runs = [{"name": f"m{i}", "model": model} for i, model in enumerate(models)]
    choose = {"budget": 1.0, "margin": 0.0}
    made = study(families={"tiny": {"model": models[0]}}, runs=runs, grpo=RL, choose=choose, evaluation__max_tokens=16)
    work = curation.job(made).begin()
    benchmarks, tables = curation.benchmarks(made), curation.training(made)
    tables, _ = curation.clean(made, tables)
    tables, _, pairs = curation.decontaminate(made, tables, benchmarks)
    tables = {"benchmarks": benchmarks} | curation.hold_out(made, tables, work.seeds["split"])
    curation.save(work, tables, pairs)
    return made


def test_a_race_drives_real_trainings_and_the_chosen_one_goes_on(plan):
    work = race.job(plan, "tiny").begin()
    contest = race.start(plan, "tiny", work)
    asked = []
    while segment := contest.ask():
        asked.append(segment)
        race.run_segment(plan, "tiny", contest, segment)
        if len(asked) == 4:  # cut off here: what was told is in the log
            contest = race.start(plan, "tiny", race.job(plan, "tiny").begin())
    assert [(one.run, one.until_step) for one in asked[:3]] == [("m0", 0), ("m1", 0), ("m2", 0)]
    assert asked[3].until_step > 0
    assert "would take" in race.standing(contest)
    said = race.finish(contest, work)
    assert said.startswith(f"Take {contest.choice.run} to RL: the best of 3")
    assert set(race.seen(contest)["step"]) <= set(PROBES["at"])
    again = race.job(plan, "tiny").begin()
    assert again.done["choice"]["run"] == contest.choice.run
    assert race.finish(race.start(plan, "tiny", again), again) == said

    run = asked[3].run  # its RL goes on to the end, and has the probes that the race was told
    rl = grpo.job(plan, "tiny", run, 0)
    log = grpo.train(plan, "tiny", run, grpo.problems(plan), rl.begin())
    assert list(log["step"]) == [1, 2, 3, 4]
    probes = pd.read_csv(rl.folder / "probes.csv").groupby("step")["correct"].sum()
    told = {row["step"]: sum(row["counts"]) for row in contest.ledger.told if row["run"] == run}
    assert told == {step: probes[step] for step in told}
    assert str(rl.folder) in race.command(plan, "tiny", run)


def test_the_notebook_runs_a_race(plan, tmp_path):
    values = plan.params.model_dump(mode="json", exclude_unset=True)
    (tmp_path / "params" / "smoke.yaml").write_text(yaml.safe_dump(values))
    shutil.copytree(ROOT / "notebooks", tmp_path / "notebooks")
    environment = os.environ | {"PYTHONPATH": str(ROOT), "IPYTHONDIR": str(tmp_path / ".ipython")}
    words = ["notebooks/07_choose.ipynb", "out.ipynb", "-f", "params/smoke.yaml", "--no-progress-bar"]
    ran = subprocess.run(
        [sys.executable, "-m", "papermill", *words], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    said = (tmp_path / "out.ipynb").read_text()
    assert "would take m" in said
    assert "to RL: the best of 3 with a chance of" in said
    assert "image/png" in said
    assert race.job(plan, "tiny").require()["choice"]["run"] in ("m0", "m1", "m2")


def test_every_probe_on_the_way_is_told_with_its_own_tokens():
    contest = Race(pd.DataFrame({"family": "f", "run": ["a", "b"]}), 4, ["x/1", "x/2"], samples=2, rollouts=8, budget=1)
    rows = [(step, "x", i, 2, correct, 30) for step, correct in ((0, 0), (1, 1), (2, 2)) for i in (1, 2)]
    probes = pd.DataFrame(rows, columns=["step", "benchmark", "id", "samples", "correct", "tokens"])
    log = pd.DataFrame(
        {"step": [1, 2], "mean_length": [10.0, 20.0], "frac_reward_zero_std": [1.0, 0.5], "entropy": 0.3}
    )
    race.tell(contest, contest.ask(), log.head(0), probes[probes["step"] == 0])
    race.tell(contest, Segment("a", 2, contest.problems, 2), log, probes)
    assert [(row["step"], row["counts"], row["tokens"], row["zero_advantage"]) for row in contest.ledger.told] == [
        (0, [0, 0], 0, None),
        (1, [1, 1], 80, 1.0),
        (2, [2, 2], 160, 0.5),
    ]
    assert {row["probe_tokens"] for row in contest.ledger.told} == {60}


def test_a_training_that_breaks_is_a_candidate_that_died(plan, monkeypatch):
    contest = race.start(plan, "tiny", race.job(plan, "tiny").begin())

    def broken(*_, **__):
        raise RuntimeError("training ended with status 1\nCUDA error")

    monkeypatch.setattr(grpo, "train", broken)
    race.run_segment(plan, "tiny", contest, contest.ask())
    assert contest.ledger.alive == ["m1", "m2"]
    assert contest.ledger.told == [{"run": "m0", "died": "CUDA error"}]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"grpo": None}, "grpo: this study has no RL"),
        ({"grpo": RL | {"probes": None}}, r"grpo\.probes: missing"),
        ({"grpo": RL | {"steps": None, "epochs": 1}}, r"grpo\.epochs: a race is told in steps"),
        ({"choose": {"horizon": 9}}, r"choose\.horizon: 9 is beyond the last of 4 steps"),
        ({"grpo": RL | {"scheduler": "linear"}, "choose": {"horizon": 2}}, "the curve depends on where RL ends"),
        ({"choose": {"horizon": 3}}, r"grpo\.probes\.at: step 3 is not probed"),
        ({"choose": {"probes": [3]}}, r"grpo\.probes\.at: step 3 is not probed"),
        ({"grpo": RL | {"probes": PROBES | {"at": [1, 4]}}}, r"grpo\.probes\.at: step 0 is not probed"),
    ],
)
def test_what_a_race_needs_is_named(changes, message):
    with pytest.raises(InputError, match=message):
        stages.race.job(study(**({"grpo": RL, "choose": {}} | changes)), "llama-smoke")


def test_a_horizon_before_the_end_goes_with_a_constant_rate_and_any_rate_with_the_end():
    stages.race.job(study(grpo=RL, choose={"horizon": 2}), "llama-smoke")
    stages.race.job(study(grpo=RL | {"scheduler": "linear"}), "llama-smoke")


def test_a_finished_study_is_replayed_from_its_tables(tmp_path, monkeypatch):
    shutil.copytree(ROOT / "figures" / "quick", tmp_path / "figures" / "quick")
    committed = pd.read_csv(tmp_path / "figures" / "quick" / "choose.csv")
    (tmp_path / "figures" / "quick" / "choose.csv").unlink()
    quick = Study.load(ROOT / "params" / "quick.yaml")
    monkeypatch.chdir(tmp_path)
    made = race.on_paper(quick, policies=["Pass@1", "top two"], budgets=[0.1])["choose"]
    pd.testing.assert_frame_equal(made, pd.read_csv("figures/quick/choose.csv"), check_dtype=False)
    same = committed[committed["policy"].isin(["Pass@1", "top two"]) & (committed["budget"] == 0.1)]
    assert made["regret"].tolist() == pytest.approx(same["regret"].tolist())
    assert {"measuring.csv", "by_predictor.csv", "frontier.png"} <= {
        path.name for path in Path("figures/quick").iterdir()
    }
