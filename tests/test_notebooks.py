"""The notebooks as users run them: the whole `smoke` study by Snakemake and papermill, and a slip in each way in."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
RUN, OTHER = "random-64-1ep", "mixed-32-2ep"
FAMILY = "llama-smoke"


def call(folder: Path, *words: str, timeout: float = 600) -> subprocess.CompletedProcess:
    paths = os.pathsep.join([str(BIN), os.environ["PATH"]])
    environment = os.environ | {"PATH": paths, "PYTHONPATH": str(ROOT), "IPYTHONDIR": str(folder / ".ipython")}
    return subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, timeout=timeout)


def snakemake(folder: Path, *words: str) -> subprocess.CompletedProcess:
    return call(folder, "snakemake", *words, "--cores", "2", "--configfile", "params/smoke.yaml", timeout=800)


def project(folder: Path) -> Path:
    """Copy what a checkout needs to run a study."""
    for name in ("notebooks", "params"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns(".ipynb_checkpoints"))
    shutil.copy(ROOT / "Snakefile", folder)
    return folder


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = project(tmp_path_factory.mktemp("study"))
    result = snakemake(folder)
    assert result.returncode == 0, result.stderr[-3000:]
    return folder


def planned(folder: Path) -> dict[str, int]:
    """Return how many jobs of each rule a dry run plans, from the table it prints; none where all is up to date."""
    result = snakemake(folder, "--dry-run")
    assert result.returncode == 0, result.stderr[-3000:]
    said = result.stdout + result.stderr
    if "Job stats:" not in said:
        assert "Nothing to be done" in said
        return {}
    table = said.split("Job stats:")[1].split("total")[0]
    return {rule: int(count) for rule, count in re.findall(r"^(\w+) +(\d+)$", table, re.M) if rule != "all"}


def test_the_whole_graph_runs(finished):
    figures = finished / "figures" / "smoke"
    results = pd.read_csv(figures / "results.csv")
    assert set(results["run"]) == {"base", RUN, OTHER}
    assert set(results["stage"]) == {"post_sft", "post_rl"}
    assert set(results["benchmark"]) >= {"average", "chain", "choice", "long"}
    assert set(results.loc[results["benchmark"] == "rl", "stage"]) == {"post_sft"}  # what RL will train on, before it
    losses = pd.read_csv(figures / "predictors.csv").set_index("run")["generalization_loss"]
    assert (losses > 0).all()
    assert losses[RUN] < losses["base"]  # SFT fits the teacher's notation, a little
    for name in ("bars", "passk_curves", "rl_curves", "sft_curves"):
        assert (figures / f"{name}.png").stat().st_size > 5000
        assert (figures / f"{name}.pdf").stat().st_size > 1000
    assert planned(finished) == {}


def test_every_artifact_has_a_manifest_that_says_what_made_it(finished):
    manifests = sorted((finished / "runs" / "smoke").rglob("manifest.json"))
    assert len(manifests) == 1 + 1 + 2 + 3 + 3 + 3 + 1  # base, data, SFT, RL, two evaluations of each, predict
    for path in manifests:
        manifest = json.loads(path.read_text())
        assert {
            "params",
            "inputs",
            "outputs",
            "seeds",
            "packages",
            "device",
            "wall_seconds",
            "peak_memory_bytes",
        } <= set(manifest)
        for name, kept in manifest["outputs"].items():
            assert (path.parent / name).stat().st_size == kept["bytes"]
    grpo = json.loads((finished / f"runs/smoke/{FAMILY}/grpo/{RUN}-seed0/manifest.json").read_text())
    assert list(grpo["inputs"]) == ["runs/smoke/data", f"runs/smoke/{FAMILY}/sft/{RUN}"]
    assert grpo["params"]["grpo"]["learning_rate"] == 0.001


def test_the_same_seed_gives_the_same_numbers(finished, tmp_path):
    """The whole study, made again elsewhere."""
    result = snakemake(project(tmp_path))
    assert result.returncode == 0, result.stderr[-3000:]
    tables = [path.relative_to(finished) for path in (finished / "figures" / "smoke").glob("*.csv")]
    assert len(tables) > 4
    parts = ["base/log", f"sft/{RUN}/log", f"grpo/{RUN}-seed0/log"]
    parts += [f"post_rl/{RUN}-seed0/{table}" for table in ("scores", "counts")]
    for name in (*tables, *(f"runs/smoke/{FAMILY}/{part}.csv" for part in parts)):
        assert (tmp_path / name).read_bytes() == (finished / name).read_bytes(), name


def test_a_changed_rl_rate_reruns_no_sft(finished):
    params = finished / "params" / "smoke.yaml"
    kept = params.read_text()
    values = yaml.safe_load(kept)
    values["grpo"]["learning_rate"] = 0.002
    params.write_text(yaml.safe_dump(values))
    try:
        assert planned(finished) == {"grpo": 3, "evaluate": 3, "predict": 1}
    finally:
        params.write_text(kept)
        snakemake(finished, "--dry-run")  # puts the params that the notebooks get back as they were


def test_a_removed_run_is_made_again_alone(finished):
    folder, aside = finished / f"runs/smoke/{FAMILY}/sft/{RUN}", finished / "aside"
    folder.rename(aside)
    try:
        assert planned(finished) == {"sft": 1, "grpo": 1, "evaluate": 2, "predict": 1}
    finally:
        aside.rename(folder)


def test_a_half_written_artifact_does_not_count(finished):
    manifest = finished / f"runs/smoke/{FAMILY}/grpo/{RUN}-seed0/manifest.json"
    kept = manifest.read_bytes()
    manifest.unlink()
    try:
        assert planned(finished)["grpo"] == 1
        result = papermill(finished, "03_evaluate", "-p", "stage", "post_rl", "-p", "run", RUN)
        assert result.returncode != 0
        assert "is unfinished (it has no manifest): run 04_grpo for run" in result.stderr
    finally:
        manifest.write_bytes(kept)


def papermill(folder: Path, notebook: str, *words: str) -> subprocess.CompletedProcess:
    output = folder / f"{notebook}-out.ipynb"
    return call(folder, "papermill", f"notebooks/{notebook}.ipynb", str(output), "--no-progress-bar", *words)


def test_a_notebook_runs_by_plain_papermill(finished):
    """From the project's root, a params file and a run: nothing else is set. Here, on top of a finished study."""
    result = papermill(finished, "02_sft", "-f", "params/smoke.yaml", "-p", "run", OTHER)
    assert result.returncode == 0, result.stderr[-3000:]


def test_a_notebook_opened_in_its_own_folder_runs_on_its_defaults(finished):
    """As JupyterLab does: the kernel starts in notebooks/, and nothing is injected."""
    words = ["jupyter", "execute", "02_sft.ipynb", "--output", str(finished / "opened.ipynb")]
    result = call(finished / "notebooks", *words)
    assert result.returncode == 0, result.stderr[-3000:]


SLIPS = [
    # papermill only warns of a name that the notebook does not have
    (["-p", "rnu", "x"], "rnu: this notebook has no such parameter"),
    (["-p", "run", "random-9k-1ep"], "run: 'random-9k-1ep' is not one of base, random-64-1ep"),
    (["-p", "family", "gpt"], "family: 'gpt' is not one of llama-smoke"),
    (["-y", "sft: {learning_rate: 1e-5}"], "'1e-5' is not a number; YAML reads it as text, write 1.0e-05"),
    (["-p", "study", "nope"], "study: there is no params/nope.yaml"),
    # an earlier stage is missing
    (["-p", "study", "quick"], "runs/quick/data does not exist: run 01_curate first"),
]


@pytest.mark.parametrize(("words", "message"), SLIPS, ids=[m[:30] for _, m in SLIPS])
def test_a_slip_ends_in_one_clear_line(finished, words, message):
    result = papermill(finished, "02_sft", *words)
    assert result.returncode != 0
    lines = [line for line in result.stderr.splitlines() if line.startswith("InputError: ")]
    assert any(message in line for line in lines), result.stderr[-2000:]
    assert not (finished / "runs/quick").exists()


def test_a_slip_in_the_params_stops_snakemake_at_once(finished):
    values = yaml.safe_load((finished / "params" / "smoke.yaml").read_text())
    values["grpo"]["steps"] = 0
    (finished / "params" / "slip.yaml").write_text(yaml.safe_dump(values))
    result = call(finished, "snakemake", "--cores", "2", "--configfile", "params/slip.yaml")
    assert result.returncode != 0
    assert "grpo.steps: 0 should be greater than or equal to 1" in result.stderr
    assert "Traceback" not in result.stderr


def test_own_checkpoints_are_ranked_without_any_training(finished):
    runs = f"runs/smoke/{FAMILY}"
    values = {
        "study": "own",
        "families": {"mine": {"model": f"{runs}/base/model"}},
        "runs": [{"name": f"number-{i}", "model": f"{runs}/sft/{run}/model"} for i, run in enumerate((RUN, OTHER))],
        "data": {"benchmarks": {"procedural": 3}, "sft": {"procedural": 40}, "held_out": 20},
        "evaluation": {"samples": 4, "max_tokens": 24, "shards": 2},
    }
    (finished / "params" / "own.yaml").write_text(yaml.safe_dump(values))
    result = call(finished, "snakemake", "--cores", "2", "--configfile", "params/own.yaml", timeout=600)
    assert result.returncode == 0, result.stderr[-3000:]
    decision = pd.read_csv(finished / "figures" / "own" / "decision.csv")
    assert set(decision["run"]) == {"number-0", "number-1"}
    assert set(decision["predictor"]) == {"pass@1", "generalization_loss", "combined"}
    results = pd.read_csv(finished / "figures" / "own" / "results.csv")
    assert (results["samples"] == 4).all()  # two shards, together every sample
    assert set(results["stage"]) == {"post_sft"}


def test_adaptive_sampling_adds_to_a_pilot_that_does_not_count(finished):
    values = {
        "study": "adaptive",
        "families": {"mine": {"model": f"runs/smoke/{FAMILY}/base/model"}},
        "data": {"benchmarks": {"procedural": 2}},
        "evaluation": {"samples": 8, "max_tokens": 8, "adaptive": {"k": 2, "half_width": 0.2, "pilot": 3}},
    }
    (finished / "params" / "adaptive.yaml").write_text(yaml.safe_dump(values))
    for notebook in ("01_curate", "03_evaluate"):
        result = papermill(finished, notebook, "-f", "params/adaptive.yaml")
        assert result.returncode == 0, result.stderr[-3000:]
    folder = finished / "runs" / "adaptive" / "mine" / "post_sft" / "base"
    counts = pd.read_csv(folder / "counts.csv")
    assert counts["n"].between(4, 8).all()
    drawn = json.loads((folder / "manifest.json").read_text())["samples"]
    assert drawn == counts["n"].sum() + 3 * len(counts)
    assert "pass@4" in pd.read_csv(folder / "scores.csv")


def test_the_report_is_one_page_of_all_notebooks(finished):
    result = call(finished, sys.executable, "-m", "sftrl.report", "runs/smoke")
    assert result.returncode == 0, result.stderr
    page = (finished / "runs" / "smoke" / "report.html").read_text()
    for name in ("05_predict", "01_curate", f"02_sft/{FAMILY}/{RUN}", f"04_grpo/{FAMILY}/base-seed0"):
        assert f"<summary>{name}</summary>" in page
    assert page.index("05_predict") < page.index("00_base")
    result = call(finished, sys.executable, "-m", "sftrl.report", "runs/nothing")
    assert result.returncode == 1
    assert result.stderr.strip() == "runs/nothing/notebooks: no executed notebook; run the study first"
