"""Samples of other harnesses as the runs of a study: a params file is enough; mistakes in it are named first."""

import json

import pandas as pd
import pytest
import yaml
from datasets import Dataset
from test_generations_importers import DATA, GSM8K
from test_notebooks import call, papermill, project
from tiny import tiny_folder

from sftrl import stages
from sftrl.errors import InputError
from sftrl.generations import Store
from sftrl.stages import costs, job_cost
from sftrl.stages.preflight import preflight
from sftrl.study import Study
from sftrl.study.params import check

DETAILS = "details_lighteval|aime24|0_2025-06-01T10-20-30.123456.parquet"


def harness_files(folder):
    """Write what two runs left: both harnesses' own files, and for `better` one wrong response made a right one."""
    for run, right in (("worse", "It is 12.\n#### 12"), ("better", "It is 7.\n#### 7")):
        (folder / run).mkdir(parents=True)
        text = GSM8K.read_text().replace(json.dumps("It is 12.\n#### 12"), json.dumps(right))
        (folder / run / GSM8K.name).write_text(text)
        Dataset.from_list(json.loads((DATA / "lighteval_details.json").read_text())).to_parquet(folder / run / DETAILS)


def values(folder, **evaluation) -> dict:
    files = {run: [f"{folder}/{run}/samples_*.jsonl", f"{folder}/{run}/details_*"] for run in ("worse", "better")}
    return {
        "study": "theirs",
        "families": {"mine": {"model": "somebody/base"}},
        "runs": [{"name": run, "model": f"somebody/{run}"} for run in files],
        "data": {},
        "evaluation": {"samples": 2, "import": files} | evaluation,
    }


def study(given: dict) -> Study:
    return Study(check(given, "test"))


def test_a_ranking_of_imported_runs_by_snakemake(tmp_path):
    folder = project(tmp_path)
    harness_files(folder / "theirs")
    (folder / "params" / "theirs.yaml").write_text(yaml.safe_dump(values("theirs")))
    result = call(folder, "snakemake", "--cores", "1", "--configfile", "params/theirs.yaml")
    assert result.returncode == 0, result.stderr[-3000:]
    tables = {name: pd.read_csv(folder / f"figures/theirs/{name}.csv") for name in ("results", "decision")}
    scores = tables["results"].set_index(["run", "benchmark"])["pass@1"]
    assert scores["worse", "gsm8k_cot"] == pytest.approx(4 / 6)
    assert scores["better", "gsm8k_cot"] == pytest.approx(5 / 6)
    assert scores["worse", "aime24"] == scores["better", "aime24"] == 1 / 2
    assert scores["worse", "average"] == pytest.approx((4 / 6 + 1 / 2) / 2)
    assert tables["results"][["temperature", "top_p", "max_tokens"]].isna().all(axis=None)  # another harness knows
    ranked = tables["decision"].query("predictor == 'pass@1'").sort_values("rank")
    assert ranked["run"].tolist() == ["better", "worse"]

    (folder / "theirs/worse" / GSM8K.name).unlink()
    result = papermill(folder, "03_evaluate", "-f", "params/theirs.yaml", "-p", "run", "better")
    assert result.returncode != 0
    assert "InputError: evaluation.import.worse: no file matches theirs/worse/samples_*.jsonl" in result.stderr
    result = call(folder, "snakemake", "--cores", "1", "--configfile", "params/theirs.yaml")
    assert result.returncode != 0
    assert "evaluation.import.worse: no file matches" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.filterwarnings("ignore:.*cut off")
def test_with_sft_examples_the_models_give_loss_and_lengths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    harness_files(tmp_path / "theirs")
    model = str(tiny_folder(tmp_path / "model"))
    given = values("theirs") | {
        "families": {"mine": {"model": model}},
        "runs": [{"name": run, "model": model} for run in ("worse", "better")],
        "data": {"sft": {"procedural": 40}, "held_out": 8},
    }
    plan = study(given)
    preflight(plan)
    data = stages.curation.job(plan).begin()
    benchmarks = stages.curation.benchmarks(plan)
    tables, _ = stages.curation.clean(plan, stages.curation.training(plan))
    tables = stages.curation.hold_out(plan, {"sft": tables["sft"]}, data.seeds["split"]) | {"benchmarks": benchmarks}
    stages.curation.check_lengths(plan, tables)
    stages.curation.save(data, tables, pd.DataFrame())
    losses = stages.held_out.job(plan, "mine", "worse").begin()
    assert stages.held_out.measure(plan, "mine", "worse", losses)["generalization_loss"] > 0
    which = ("mine", "post_sft", "worse", None)
    work = stages.evaluation.job(plan, *which).begin()
    summary = stages.evaluation.sample(plan, *which, 0, 1, work)
    assert summary.benchmarks["mean_tokens"].notna().all()  # though the files of one harness count no tokens
    kept = Store(stages.evaluation.store(plan, *which)).read()
    assert len(kept) == 6 + 4
    assert job_cost.cost(plan, work.job, costs.machine_of(plan)).seconds < 1  # the loss alone


def test_faults_of_the_files_are_named_before_any_work(tmp_path):
    harness_files(tmp_path)
    assert preflight(study(values(tmp_path)))
    with pytest.raises(InputError, match=r"import\.worse: aime24 0: has 2 samples, and `samples` asks for 3"):
        preflight(study(values(tmp_path, samples=3)))
    file = tmp_path / "better" / GSM8K.name
    whole = file.read_text()
    file.write_text("".join(line for line in whole.splitlines(True) if '"doc_id": 1' not in line))
    with pytest.raises(InputError, match="gsm8k_cot 1: in worse, not in better"):
        preflight(study(values(tmp_path)))
    file.write_text(whole.replace("#### 5", "#### 6"))
    with pytest.raises(InputError, match="gsm8k_cot 1: the gold is '5' in worse and '6' in better"):
        preflight(study(values(tmp_path)))
    own = tmp_path / "golds.jsonl"
    own.write_text('{"id": "0", "problem": "?", "answer": "7"}\n')
    source = {"path": str(own), "benchmark": "gsm8k_cot"}
    source |= {"columns": {name: name for name in ("id", "problem", "answer")}}
    with pytest.raises(InputError, match=r"gsm8k_cot 1: in .*, not in the problems given"):
        preflight(study(values(tmp_path) | {"data": {"benchmarks": [source]}}))


SLIPS = [
    ({"import": {"worse": ["nothing-*.jsonl"], "better": []}}, "import.worse: no file matches nothing-*.jsonl"),
    ({"import": {"worse": [str(GSM8K)]}}, "evaluation.import: 'better' has no files"),
    ({"import": {run: [str(GSM8K)] for run in ("worse", "better", "other")}}, "'other' is not one of base, worse"),
    ({"import": {}}, "evaluation.import: {} should be"),
    ({"temperature": 0.7}, "evaluation: 'temperature' is for sampling, and the samples are imported"),
    ({"imports": {}}, "evaluation.imports: unknown key (did you mean 'import'?)"),
]


@pytest.mark.parametrize(("change", "message"), SLIPS, ids=[message[:40] for _, message in SLIPS])
def test_slips_of_the_section_are_named(tmp_path, change, message):
    harness_files(tmp_path)
    with pytest.raises(InputError) as error:
        study(values(tmp_path, **change))
    assert message in str(error.value)


def test_imported_runs_are_not_mixed_with_trained_ones(tmp_path):
    harness_files(tmp_path)
    given = values(tmp_path)
    trained = {"selection": "random", "examples": 8, "epochs": 1}
    data = {"sft": {"procedural": 40}}
    with pytest.raises(InputError, match=r"evaluation\.import: ranks checkpoints that are there"):
        study(given | {"runs": [*given["runs"], trained], "data": data})
    given["evaluation"].pop("import")
    with pytest.raises(InputError, match=r"data\.benchmarks: missing"):
        study(given)
