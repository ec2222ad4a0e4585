"""The notebooks as users run them: the whole `smoke` study by Snakemake and papermill, and invalid input to each."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import psutil
import pytest
import yaml

from sftrl import stages
from sftrl.__main__ import main, make_again
from sftrl.errors import InputError
from sftrl.generations import Store
from sftrl.study import Study

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
RUN, OTHER = "random-64-1ep", "mixed-32-2ep"
FAMILY = "llama-smoke"
SPEED = ["tokens_per_second", "gpu_gigabytes"]  # what no seed decides


def environment(folder: Path) -> dict[str, str]:
    paths = os.pathsep.join([str(BIN), os.environ["PATH"]])
    return os.environ | {"PATH": paths, "PYTHONPATH": str(ROOT), "IPYTHONDIR": str(folder / ".ipython")}


def call(folder: Path, *words: str, timeout: float = 600, **given: str) -> subprocess.CompletedProcess:
    env = environment(folder) | given
    return subprocess.run(words, cwd=folder, env=env, capture_output=True, text=True, timeout=timeout)


def words_of(*words: str, params: str = "smoke") -> list[str]:
    return ["snakemake", *words, "--cores", "2", "--configfile", f"params/{params}.yaml"]


def snakemake(folder: Path, *words: str, params: str = "smoke", **given: str) -> subprocess.CompletedProcess:
    return call(folder, *words_of(*words, params=params), timeout=1200, **given)


def project(folder: Path) -> Path:
    """Copy what a checkout needs to run a study."""
    for name in ("notebooks", "params"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns(".ipynb_checkpoints"))
    shutil.copytree(ROOT / "profiles", folder / "profiles")
    shutil.copy(ROOT / "Snakefile", folder)
    return folder


def made(folder: Path, place: str) -> Path:
    """Return the one version of a job that is there."""
    (manifest,) = (folder / "runs" / "smoke" / place).glob("*/manifest.json")
    return manifest.parent


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
    assert set(results["phase"]) == {"post_sft", "post_rl"}
    assert set(results["benchmark"]) >= {"average", "chain", "choice", "long"}
    assert set(results.loc[results["benchmark"] == "rl", "phase"]) == {"post_sft"}  # what RL will train on, before it
    predictors = pd.read_csv(figures / "predictors.csv").set_index("run")
    assert (predictors.loc[[RUN, OTHER], ["kl_from_base", "rollout_kl", "weight_distance"]] > 0).all(axis=None)
    assert predictors.loc["base", ["kl_from_base", "rollout_kl", "weight_distance"]].tolist() == [0, 0, 0]
    assert predictors["rollout_entropy"].between(0, 7).all()
    assert predictors["early_no_signal"].between(0, 1).all()
    assert (results["sampled_tokens"] > 0).all()
    losses = predictors["generalization_loss"]
    assert (losses > 0).all()
    assert losses[RUN] < losses["base"]  # SFT fits the teacher's notation, a little
    probes = pd.read_csv(figures / "rl_probes.csv")
    assert list(probes.columns[:6]) == ["family", "run", "rl_seed", "step", "samples", "tokens"]
    assert list(probes["step"]) == 3 * [0, 1]
    counts = probes[probes.columns[6:]]
    assert list(counts.columns) == [
        f"rl/{i}" for i in pd.read_parquet(made(finished, "data") / "rl.parquet")["id"][-4:]
    ]
    assert counts.to_numpy().min() >= 0
    assert counts.to_numpy().max() <= 4
    for name in ("bars", "passk_curves", "rl_curves", "sft_curves"):
        assert (figures / f"{name}.png").stat().st_size > 5000
        assert (figures / f"{name}.pdf").stat().st_size > 1000
    assert planned(finished) == {}


def test_every_artifact_has_a_manifest_that_says_what_made_it(finished):
    manifests = sorted((finished / "runs" / "smoke").rglob("manifest.json"))
    # base, data, SFT, RL, two evaluations of each, losses, predict
    assert len(manifests) == 1 + 1 + 2 + 3 + 3 + 3 + 3 + 1
    for path in manifests:
        manifest = json.loads(path.read_text())
        for name, kept in manifest["outputs"].items():
            assert (path.parent / name).stat().st_size == kept["bytes"]
    grpo = json.loads((made(finished, f"{FAMILY}/grpo/{RUN}-seed0") / "manifest.json").read_text())
    folders = [made(finished, place).relative_to(finished) for place in ("data", f"{FAMILY}/sft/{RUN}")]
    assert list(grpo["inputs"]) == [str(folder) for folder in folders]
    assert grpo["settings"]["grpo"]["learning_rate"] == 0.001
    assert {"notebooks/04_grpo.ipynb", "sftrl/chat.py"} <= set(grpo["code"])


def test_a_changed_rl_rate_reruns_no_sft_and_removes_nothing(finished):
    params = finished / "params" / "smoke.yaml"
    kept = params.read_text()
    values = yaml.safe_load(kept)
    values["grpo"]["learning_rate"] = 0.002
    params.write_text(yaml.safe_dump(values))
    before = sorted(finished.rglob("*"))
    try:
        assert planned(finished) == {"grpo": 3, "evaluate": 3, "predict": 1}
    finally:
        params.write_text(kept)
    assert planned(finished) == {}  # what was made with the settings of before is still there
    assert sorted(path for path in finished.rglob("*") if ".snakemake" not in path.parts) == [
        path for path in before if ".snakemake" not in path.parts
    ]  # and a dry run has written nothing


def test_prose_and_timestamps_rerun_nothing(finished):
    notebook = finished / "notebooks" / "04_grpo.ipynb"
    notebook.write_text(notebook.read_text().replace("Watch two rates", "Watch these two rates"))
    for path in (finished / "runs").rglob("*"):
        os.utime(path)
    shutil.move(finished / ".snakemake", finished / "snakemake-aside")  # as in a copy of runs/ alone
    try:
        assert planned(finished) == {}
    finally:
        shutil.rmtree(finished / ".snakemake", ignore_errors=True)
        shutil.move(finished / "snakemake-aside", finished / ".snakemake")


def test_jobs_made_by_other_code_are_listed(finished, monkeypatch, capsys):
    monkeypatch.chdir(finished)
    notebook = finished / "notebooks" / "04_grpo.ipynb"
    kept = notebook.read_text()
    notebook.write_text(kept.replace("log['step'].max()", "log['step'].min()"))
    try:
        assert main(["check", "params/smoke.yaml"]) == 0
        assert "3 finished jobs were made by another version of notebooks/04_grpo.ipynb" in capsys.readouterr().out
    finally:
        notebook.write_text(kept)


def test_a_removed_checkpoint_is_made_again_once_it_is_needed(finished):
    sft, predict = finished / f"runs/smoke/{FAMILY}/sft/{RUN}", finished / "runs/smoke/predict"
    sft.rename(finished / "sft-aside")  # to save disk
    try:
        assert planned(finished) == {}
        predict.rename(finished / "predict-aside")
        plan = planned(finished)
        assert (plan["sft"], plan["predict"]) == (1, 1)
        assert "curate" not in plan
        assert "base" not in plan
    finally:
        (finished / "sft-aside").rename(sft)
        (finished / "predict-aside").rename(predict)


def test_a_half_written_artifact_does_not_count(finished):
    folder = made(finished, f"{FAMILY}/grpo/{RUN}-seed0")
    after = made(finished, f"{FAMILY}/post_rl/{RUN}-seed0"), made(finished, "predict")
    kept = {folder / name: (folder / name).read_bytes() for name in ("manifest.json", "done")}
    kept |= {job / "done": b"" for job in after}
    for path in kept:
        path.unlink()
    try:
        assert planned(finished)["grpo"] == 1
        result = papermill(finished, "03_evaluate", "-p", "phase", "post_rl", "-p", "run", RUN)
        assert result.returncode != 0
        assert "is unfinished (it has no manifest): run 04_grpo first, by snakemake" in result.stderr
    finally:
        for path, content in kept.items():
            path.write_bytes(content)


def test_a_notebook_that_fails_after_its_result_stands_and_a_kernel_that_dies_cost_nothing(finished, tmp_path):
    """The job runs again and takes up what it has made, and its kernel is started once more.

    A notebook fails so where a figure cannot be drawn, say; a kernel dies so where another process takes a port that
    Jupyter chose for it.
    """
    folder = made(finished, f"{FAMILY}/sft/{OTHER}")
    weights = folder / "model" / "model.safetensors"
    kept = weights.stat().st_mtime_ns
    (folder / "done").unlink()
    (tmp_path / "sitecustomize.py").write_text(
        "import os, pathlib, sys\n"
        "marks = pathlib.Path(__file__).with_name('kernels')\n"
        "if 'serve' in sys.orig_argv:\n"  # no warm kernels: every kernel is a process of its own
        "    os._exit(1)\n"
        "if 'ipykernel_launcher' in sys.orig_argv:\n"
        "    with marks.open('a') as file:\n"
        "        file.write('started\\n')\n"
        "    if marks.read_text().count('started') == 1:\n"
        "        os._exit(1)\n"
    )
    paths = os.pathsep.join([str(tmp_path), str(ROOT)])
    result = snakemake(finished, str(folder.relative_to(finished) / "done"), PYTHONPATH=paths)
    assert result.returncode == 0, result.stderr[-3000:]
    assert (tmp_path / "kernels").read_text().count("started") == 2
    assert weights.stat().st_mtime_ns == kept


def changed(folder: Path, name: str, **sections) -> Study:
    """Write the params of `smoke` with other values in some sections, as a file of its own; return that study."""
    values = yaml.safe_load((folder / "params" / "smoke.yaml").read_text())
    for section, given in sections.items():
        values[section] = values.get(section, {}) | given
    (folder / "params" / f"{name}.yaml").write_text(yaml.safe_dump(values))
    return Study.load(folder / "params" / f"{name}.yaml")


def test_a_job_of_two_processes_killed_in_training_goes_on_from_its_checkpoint(finished, monkeypatch):
    """Everything is killed by SIGKILL, Snakemake among it; the same command then ends as if nothing had been."""
    monkeypatch.chdir(finished)
    study = changed(finished, "two", grpo={"steps": 30}, compute={"processes": 2, "save_minutes": 0.01})
    folder = stages.grpo.job(study, FAMILY, RUN, 0).folder
    words = words_of(str(folder / "done"), params="two")
    try:
        running = psutil.Popen(words, env=environment(finished), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while not any((folder / "trainer").glob("checkpoint-*/trainer_state.json")):
            assert running.poll() is None
            time.sleep(0.1)
        for process in [*running.children(recursive=True), running]:
            process.kill()
        running.wait()
        assert not (folder / "manifest.json").exists()
        snakemake(finished, "--unlock", params="two")
        result = call(finished, *words)
        assert result.returncode == 0, result.stderr[-3000:]
        log = pd.read_csv(folder / "log.csv")
        assert log["step"].tolist() == list(range(1, 31))
        assert not (folder / "trainer").exists()
        (text,) = [t for p in Path("runs/smoke/notebooks").rglob("*.log") if "/30" in (t := p.read_text())]
        assert re.search(r"goes on from step [1-9]\d*/30", text)
    finally:
        shutil.rmtree(folder, ignore_errors=True)  # other tests count the jobs of this study


@pytest.mark.skipif("SFTRL_KILLS" not in os.environ, reason="minutes of starts; SFTRL_KILLS=1 runs it")
def test_the_whole_graph_runs_with_two_processes_a_training(tmp_path):
    folder = project(tmp_path)
    changed(folder, "smoke", compute={"processes": 2})
    result = snakemake(folder)
    assert result.returncode == 0, result.stderr[-3000:]
    results = pd.read_csv(folder / "figures" / "smoke" / "results.csv")
    assert set(results["run"]) == {"base", RUN, OTHER}
    assert set(results["phase"]) == {"post_sft", "post_rl"}
    for log in [*folder.glob("runs/smoke/*/sft/*/*/log.csv"), *folder.glob("runs/smoke/*/grpo/*/*/log.csv")]:
        assert pd.read_csv(log)["step"].is_monotonic_increasing
    assert not list(folder.glob("runs/smoke/**/trainer"))


@pytest.mark.vllm
def test_vllm_draws_in_a_job_of_the_graph(finished, monkeypatch):
    pytest.importorskip("vllm")
    monkeypatch.chdir(finished)
    study = changed(finished, "engine", evaluation={"engine": "vllm"})
    folder = stages.evaluation.job(study, FAMILY, "post_sft", RUN, None).folder
    try:
        result = snakemake(finished, str(folder / "done"), params="engine", VLLM_CPU_KVCACHE_SPACE="1")
        assert result.returncode == 0, result.stderr[-3000:]
        counts = pd.read_csv(folder / "counts.csv")
        assert (counts["n"] == 4).all()
        store = stages.evaluation.store(study, FAMILY, "post_sft", RUN, None)
        draws = Store(store).read()
        assert len(draws) == 4 * len(counts)
        assert draws.groupby("problem_id")["response"].nunique().max() > 1
        assert [p for p in psutil.process_iter() if "EngineCore" in p.name()] == []
        spread = changed(finished, "spread", evaluation={"engine": "vllm", "tensor_parallel_size": 2})
        assert stages.evaluation.store(spread, FAMILY, "post_sft", RUN, None) == store  # no sample is drawn again
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def test_made_again_by_name_the_same_seed_gives_the_same_numbers(finished, tmp_path, monkeypatch):
    """A copy of the study without its samples: all follows from the base, and so all is made again."""
    copy = tmp_path / "copy"
    shutil.copytree(finished, copy)
    for samples in copy.rglob("stores"):
        shutil.rmtree(samples)
    result = call(copy, sys.executable, "-m", "sftrl", "study", "params/smoke.yaml", "--fresh", "00_base")
    assert result.returncode == 0, result.stderr[-3000:]
    assert "14 jobs are made again" in result.stdout
    assert "figures/smoke: figures and tables" in result.stdout
    tables = [path.relative_to(finished) for path in (finished / "figures" / "smoke").glob("*.csv")]
    assert len(tables) > 4
    for part in ("base", f"sft/{RUN}", f"grpo/{RUN}-seed0", f"post_rl/{RUN}-seed0"):
        tables += [path.relative_to(finished) for path in made(finished, f"{FAMILY}/{part}").glob("*.csv")]
    for name in tables:
        first, second = (pd.read_csv(folder / name).drop(columns=SPEED, errors="ignore") for folder in (finished, copy))
        pd.testing.assert_frame_equal(first, second, check_exact=True, obj=str(name))

    monkeypatch.chdir(copy)
    with pytest.raises(InputError, match=r"--fresh: '04_rl' is not one of 00_base, 01_curate, 02_sft"):
        make_again(Study.load("params/smoke.yaml"), "04_rl", {})


def papermill(folder: Path, notebook: str, *words: str) -> subprocess.CompletedProcess:
    output = folder / f"{notebook}-out.ipynb"
    return call(folder, "papermill", f"notebooks/{notebook}.ipynb", str(output), "--no-progress-bar", *words)


def test_a_notebook_runs_by_plain_papermill(finished):
    """From the project's root, a params file and a run: nothing else is set. Here, on top of a finished study."""
    weights = made(finished, f"{FAMILY}/sft/{OTHER}") / "model" / "model.safetensors"
    kept = weights.stat().st_mtime_ns
    result = papermill(finished, "02_sft", "-f", "params/smoke.yaml", "-p", "run", OTHER)
    assert result.returncode == 0, result.stderr[-3000:]
    assert weights.stat().st_mtime_ns == kept  # finished before: shown, not trained again


def test_a_changed_setting_lands_beside_the_studys_own(finished):
    change = "change: {sft: {learning_rate: 0.002}}"
    result = papermill(finished, "02_sft", "-p", "study", "smoke", "-p", "run", OTHER, "-y", change)
    assert result.returncode == 0, result.stderr[-3000:]
    versions = sorted((finished / f"runs/smoke/{FAMILY}/sft/{OTHER}").iterdir())
    rates = [json.loads((v / "manifest.json").read_text())["settings"]["sft"]["learning_rate"] for v in versions]
    assert sorted(rates) == [0.001, 0.002]
    assert planned(finished) == {}
    shutil.rmtree(versions[rates.index(0.002)])


def test_the_control_is_trained_on_the_bases_own_responses(finished):
    """To the prompts of a random selection."""
    change = "change: {runs: [{selection: self, temperature: 0.3, examples: 32, epochs: 2}]}"
    result = papermill(finished, "02_sft", "-p", "study", "smoke", "-y", change, "-p", "run", "self0.3-32-2ep")
    assert result.returncode == 0, result.stderr[-3000:]
    (folder,) = (finished / f"runs/smoke/{FAMILY}/sft/self0.3-32-2ep").iterdir()
    assert json.loads((folder / "manifest.json").read_text())["settings"]["run"]["temperature"] == 0.3
    own = pd.read_parquet(folder / "own_responses.parquet")
    teacher = pd.read_parquet(made(finished, "data") / "sft.parquet").set_index("id")["response"]
    assert len(own) == 32
    assert (own["response"] != teacher[own["id"]].to_numpy()).mean() > 0.8
    shutil.rmtree(folder.parent)


def test_a_notebook_opened_in_its_own_folder_runs_on_its_defaults(finished):
    """As JupyterLab does: the kernel starts in notebooks/, and nothing is injected."""
    words = ["jupyter", "execute", "02_sft.ipynb", "--output", str(finished / "opened.ipynb")]
    result = call(finished / "notebooks", *words)
    assert result.returncode == 0, result.stderr[-3000:]


SLIPS = [  # those of the params and of names: tests/test_study.py
    # papermill only warns of a name that the notebook does not have
    (["-p", "rnu", "x"], "rnu: this notebook has no such parameter"),
    # an earlier stage is missing
    (["-p", "study", "quick"], " does not exist: run 01_curate first, by snakemake"),
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
    (finished / "params" / "invalid.yaml").write_text(yaml.safe_dump(values))
    result = snakemake(finished, params="invalid")
    assert result.returncode != 0
    assert "grpo.steps: 0 should be greater than or equal to 1" in result.stderr
    assert "Traceback" not in result.stderr


def test_adaptive_sampling_adds_to_a_pilot_that_does_not_count(finished):
    values = {
        "study": "adaptive",
        "families": {"mine": {"model": str(made(finished, f"{FAMILY}/base") / "model")}},
        "data": {"benchmarks": {"procedural": 2}},
        "evaluation": {"samples": 8, "max_tokens": 8, "adaptive": {"k": 2, "half_width": 0.2, "pilot": 3}},
    }
    (finished / "params" / "adaptive.yaml").write_text(yaml.safe_dump(values))
    for notebook in ("01_curate", "03_evaluate"):
        result = papermill(finished, notebook, "-f", "params/adaptive.yaml")
        assert result.returncode == 0, result.stderr[-3000:]
    (manifest,) = (finished / "runs" / "adaptive" / "mine" / "post_sft" / "base").glob("*/manifest.json")
    folder = manifest.parent
    counts = pd.read_csv(folder / "counts.csv")
    assert counts["n"].between(4, 8).all()
    assert json.loads(manifest.read_text())["samples"] == counts["n"].sum()
    drawn = pd.concat(map(pd.read_parquet, folder.parent.glob("stores/*/samples/*/*.parquet")))
    assert len(drawn) == counts["n"].sum() + 3 * len(counts)
    assert "pass@4" in pd.read_csv(folder / "scores.csv")


def pictures(path: Path) -> int:
    """Count the pictures in an executed notebook."""
    cells = json.loads(path.read_text())["cells"]
    return sum("image/png" in output.get("data", {}) for cell in cells for output in cell.get("outputs", []))


def test_executed_notebooks_show_their_curves_and_figures(finished):
    folder = finished / "runs" / "smoke" / "notebooks"
    for stage in ("00_base", "02_sft", "04_grpo"):
        assert all(pictures(path) == 1 for path in (folder / stage).rglob("*.ipynb"))
    assert pictures(folder / "05_predict.ipynb") >= 5


def test_a_finished_judgement_leaves_newer_figures_as_they_are(finished, monkeypatch):
    monkeypatch.chdir(finished)
    study = Study.load("params/smoke.yaml")
    work = stages.prediction.job(study).begin()
    said = stages.prediction.analysis(study, stages.prediction.tables(study, work), work)
    figure, table = study.figures / "bars.png", study.figures / "results.csv"
    drawn, written = figure.read_bytes(), table.read_bytes()
    figure.write_bytes(b"drawn by later code")
    assert stages.prediction.publish(study, said, work) == study.figures
    assert figure.read_bytes() == b"drawn by later code"
    table.write_bytes(b"of another judgement")
    stages.prediction.publish(study, said, work)
    assert (figure.read_bytes(), table.read_bytes()) == (drawn, written)


def test_the_papers_points_are_judged_again(tmp_path):
    folder = project(tmp_path)
    shutil.copytree(ROOT / "figures" / "paper", folder / "figures" / "paper")
    (folder / "figures" / "paper" / "claims.csv").unlink()
    result = papermill(folder, "06_paper", "-p", "splits", "10", "-p", "resamples", "50")
    assert result.returncode == 0, result.stderr[-3000:]
    assert pictures(folder / "06_paper-out.ipynb") == 9
    assert (folder / "figures" / "paper" / "claims.csv").is_file()


def test_the_report_is_one_page_of_all_notebooks(finished, monkeypatch, capsys):
    monkeypatch.chdir(finished)
    assert main(["report", "params/smoke.yaml"]) == 0
    page = (finished / "runs/smoke/report/index.html").read_text()
    assert len(page) < 2_000_000
    links = re.findall(r"href='(notebooks/[^']+)'", page)
    assert all((finished / "runs/smoke/report" / link).stat().st_size > 10_000 for link in links)
    for name in ("05_predict", "01_curate", f"02_sft/{FAMILY}/{RUN}", f"04_grpo/{FAMILY}/base-seed0"):
        assert any(link.startswith(f"notebooks/{name}") for link in links)
    assert page.index("class='answer'") < page.index("<h2 id='Runs'>") < page.index("<h2 id='Notebooks'>")
    assert f"{FAMILY} {RUN}: " in page  # a point says its run on hover
    assert "chain: wrong" in page  # responses to look at
    assert main(["report", "params/quick.yaml"]) == 1
    assert "the study has not been judged yet" in capsys.readouterr().err
