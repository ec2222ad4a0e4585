"""The plan of whole studies: against what was measured, what it warns of, and invalid input in one line."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from sftrl.__main__ import main
from sftrl.errors import InputError
from sftrl.files import write_json
from sftrl.plan.machines import machine
from sftrl.plan.schedule import longest_chain, makespan
from sftrl.plan.table_of_costs import PLACES, duration, number, table, tasks, warnings
from sftrl.stages import costs, job_cost
from sftrl.study import Study
from sftrl.study.params import check

ROOT = Path(__file__).resolve().parent.parent
TERABYTE = 1e12

# Wall seconds in the manifests of the runs behind figures/quick and figures/cpu, side by side on two cores: a family,
# and by stage its finished jobs and their sum. Of `cpu` the first family and the first round, with fewer RL seeds.
MEASURED = {
    "quick": ("qwen3-tiny", {"sft": (8, 204), "grpo": (11, 503), "post_sft": (9, 157), "post_rl": (11, 68)}),
    "cpu": (
        "llama-tiny",
        {"base": (1, 293), "sft": (18, 1006), "grpo": (25, 2302), "post_sft": (19, 544), "post_rl": (25, 279)},
    ),
}

REAL = {
    "study": "real",
    "families": {"qwen": {"model": "Qwen/Qwen3-4B-Base", "dtype": "bfloat16"}},
    "data": {
        "benchmarks": ["math500", "aime_2025", "gsm8k"],
        "sft": ["acereason_math"],
        "rl": ["math_train"],
    },
    "runs": [
        {"selection": "random", "examples": 10_000, "epochs": 3},
        {"selection": "random", "examples": 50_000, "epochs": 1},
    ],
    "sft": {"max_length": 8192},
    "grpo": {"steps": 300, "prompts_per_step": 64, "group_size": 8, "max_tokens": 4096, "rollouts": "colocate"},
    "evaluation": {"engine": "vllm", "samples": 256, "samples_post_rl": 64, "max_tokens": 8192},
    "cluster": {"gpu": "H100-80"},
}


def real(**changes) -> Study:
    return Study(check(REAL | changes, "test"))


def planned(study: Study, gpu: str | None = None):
    on = costs.machine_of(study, gpu)
    return costs.rows(study, on)[0], on


@pytest.fixture
def fresh(tmp_path, monkeypatch):
    """A checkout in which nothing has run yet, and so nothing was measured."""
    for name in ("params", "models"):
        shutil.copytree(ROOT / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", MEASURED)
def test_what_was_measured_was_planned(name, fresh):
    rows, _ = planned(Study.load(f"params/{name}.yaml"))
    family, stages = MEASURED[name]
    for stage, (jobs, seconds) in stages.items():
        mine = [row.cost.seconds for row in rows if row.stage == stage and row.name.startswith(f"{family}/")]
        assert len(mine) >= jobs
        assert seconds / 1.5 < sum(mine) / len(mine) * jobs < seconds * 1.5


def test_the_papers_grid_is_1_4_terabytes_of_weights():
    """Thirty-seven bfloat16 checkpoints after SFT and RL each, of 8.03, 12.25 and 4.02 billion parameters."""
    weights = 0
    for name in ("llama3-8b", "mistral-nemo-12b", "qwen3-4b"):
        rows, _ = planned(Study.load(ROOT / "params" / f"{name}.yaml"))
        weights += sum(row.cost.disk for row in rows if row.stage in ("sft", "grpo"))
    by_hand = 2 * (8.03e9 * (9 + 10) + 12.25e9 * (19 + 20) + 4.02e9 * (6 + 8))
    assert weights == pytest.approx(by_hand, rel=0.01)


@pytest.mark.parametrize("name", ["llama3-8b", "mistral-nemo-12b", "qwen3-4b", "qwen3-0.6b"])
def test_the_real_studies_fit_the_gpus_that_they_name(name):
    """RL of 12 billion parameters too, whose vLLM finds no room in TRL's share of one GPU."""
    study = Study.load(ROOT / "params" / f"{name}.yaml")
    said = warnings(*planned(study), 10 * TERABYTE)
    assert not [line for line in said if "GB a GPU" in line or "CPU cores" in line]


def test_an_engine_beside_a_training_has_room():
    nemo = {"nemo": {"model": "mistralai/Mistral-Nemo-Instruct-2407"}}
    (said,) = [line for line in warnings(*planned(real(families=nemo)), 10 * TERABYTE) if line.startswith("grpo: ")]
    assert "needs 27.2 GB a GPU and gets 24.0: grpo.trl: {vllm_tensor_parallel_size: 2}" in said
    wide = real(families=nemo, grpo=REAL["grpo"] | {"trl": {"vllm_gpu_memory_utilization": 0.4}})
    assert not [line for line in warnings(*planned(wide), 10 * TERABYTE) if line.startswith("grpo: ")]


def test_a_large_model_on_cores_asks_for_a_gpu(fresh):
    assert any("GPU=H100-80" in line for line in warnings(*planned(real(), "cpu"), 10 * TERABYTE))
    assert not warnings(*planned(Study.load("params/cpu.yaml")), 10 * TERABYTE)


def test_every_job_of_the_graph_is_planned_once(fresh):
    rows, on = planned(Study.load("params/smoke.yaml"))
    assert sorted(row.stage for row in rows) == sorted(
        ["base", "curate", "predict"] + 2 * ["sft"] + 3 * ["grpo", "post_sft", "post_rl"]
    )
    assert len({row.name for row in rows}) == len(rows)
    chain = longest_chain(tasks(rows, on))
    assert [name.split("/")[-2] if "/" in name else name for name in chain][-3:] == ["grpo", "post_rl", "predict"]


def test_shards_share_the_work():
    whole, on = planned(real())
    shards, _ = planned(real(evaluation=REAL["evaluation"] | {"shards": 4}))
    sampled = [row for row in shards if "shards" in row.name and row.stage == "post_sft"]
    assert len(sampled) == 4 * 3
    alone = sum(row.cost.tokens for row in whole if row.stage == "post_sft")
    assert sum(row.cost.tokens for row in sampled) == pytest.approx(alone)
    assert makespan(tasks(shards, on), 64) < makespan(tasks(whole, on), 64)
    assert "total" in table(shards, on)


def test_a_budget_of_tokens_costs_what_as_many_examples_cost(fresh):
    params = Study.load("params/quick.yaml").params.model_dump(mode="json", exclude_defaults=True)
    both = [
        {"selection": "random", "examples": 400, "epochs": 16},
        {"selection": "random", "tokens": 17_000, "epochs": 16},
    ]
    rows, _ = planned(Study(check(params | {"runs": both}, "test")))
    one, other = (row.cost.tokens for row in rows if row.stage == "sft")
    assert one == pytest.approx(other, rel=0.1)


def test_a_model_that_does_not_fit_is_named_with_what_to_change():
    rows, on = planned(real())
    (said,) = [line for line in warnings(rows, on, 10 * TERABYTE) if "/grpo/" in line]
    assert "GB a GPU (weights " in said
    assert "H100-80 has 80" in said
    assert "accelerate: fsdp2" in said
    assert "RTX-4090 has 24" in " ".join(warnings(*planned(real(), "RTX-4090"), 10 * TERABYTE))
    lora = {"lora": {"rank": 16}, "precision": "bfloat16", "micro_batch": 1}
    small = real(sft=REAL["sft"] | lora, grpo=REAL["grpo"] | lora)
    assert not [line for line in warnings(*planned(small), 10 * TERABYTE) if "GB a GPU" in line]


def test_predictors_dearer_than_rl_and_a_short_disk():
    rows, on = planned(real())
    dear = warnings(*planned(real(evaluation=REAL["evaluation"] | {"samples": 8192})), 10 * TERABYTE)
    assert any("times as much as the RL that it predicts: fewer evaluation.samples" in line for line in dear)
    cheap = warnings(*planned(real(evaluation=REAL["evaluation"] | {"samples": 4})), 10 * TERABYTE)
    assert not any("that it predicts" in line for line in cheap)
    assert any(line.startswith("disk: ") and "10 are free" in line for line in warnings(rows, on, 10e9))
    assert not any(line.startswith("disk: ") for line in warnings(rows, on, 10 * TERABYTE))


def test_one_job_that_is_the_whole_chain():
    rows, on = planned(real(grpo=REAL["grpo"] | {"steps": 20_000}))
    (said,) = [line for line in warnings(rows, on, 10 * TERABYTE) if "longest chain" in line]
    assert "qwen/grpo/" in said
    assert "more compute.processes, or fewer steps" in said
    spans = [makespan(tasks(rows, on), places) for places in PLACES[type(on)]]
    assert spans[0] > spans[1] == pytest.approx(spans[-1])


def test_finished_jobs_correct_the_rates(fresh):
    study = Study.load("params/smoke.yaml")
    before, measured = costs.rows(study, machine("cpu"))
    assert measured == {}
    jobs = [job for job in costs.all_jobs(study) if job.notebook == "04_grpo"]
    cost = job_cost.cost(study, jobs[0], machine("cpu")).seconds
    for job, seconds in zip(jobs[:2], (3 * cost, 5 * cost), strict=True):
        made = {"settings": job.settings, "outputs": {}, "inputs": {}, "device": "x86_64", "id": "0"}
        # Of a core its time counts, not how long the job waited for it; older manifests hold the wall time alone.
        spent = {"cpu_seconds": seconds, "wall_seconds": 9 * seconds} if job == jobs[0] else {"wall_seconds": seconds}
        write_json(job.folder / "manifest.json", made | spent)
    after, measured = costs.rows(study, machine("cpu"))
    assert measured == {"grpo": (pytest.approx(4), 2)}
    assert sum(row.done for row in after) == 2
    for old, new in zip(before, after, strict=True):
        factor = 4 if old.stage == "grpo" else 1
        assert new.cost.seconds == pytest.approx(factor * old.cost.seconds)
    # Another device's times say nothing about this one.
    assert costs.rows(study, machine("H100-80"))[1] == {}


def test_what_a_job_asks_for():
    study = real(cluster={"gpu": "H100-80", "sft": {"minutes": 5000, "memory_gb": 99, "partition": "big"}})
    on = costs.machine_of(study)
    asked = {request.stage: request for request in costs.requests(study, on)}
    assert (asked["sft"].minutes, asked["sft"].memory_mb, asked["sft"].partition) == (5000, 99_000, "big")
    assert asked["sft"].gpus == asked["grpo"].gpus == asked["evaluate"].gpus == 1
    assert asked["curate"].gpus == asked["predict"].gpus == 0
    rows, _ = planned(study)
    longest = max(row.seconds for row in rows if row.stage == "grpo") / 60
    assert asked["grpo"].minutes > 2 * longest
    assert all(request.gpus == 0 for request in costs.requests(real(), machine("cpu")))


def test_less_time_than_the_estimate_is_named():
    study = real(cluster={"gpu": "H100-80", "grpo": {"minutes": 5}})
    with pytest.raises(InputError, match=r"cluster\.grpo\.minutes: 5, and .*grpo.* is estimated to take \d+"):
        costs.requests(study, costs.machine_of(study))


def test_an_unknown_gpu_is_named_with_its_setting():
    with pytest.raises(InputError, match=r"cluster\.gpu: 'H1000' is not one of cpu, A100-40"):
        costs.machine_of(real(cluster={"gpu": "H1000"}))


def test_a_benchmark_of_unknown_size_is_asked_for():
    mine = {"benchmark": "mine", "path": "mine.jsonl", "columns": {"problem": "question", "answer": "answer"}}
    data = REAL["data"] | {"benchmarks": [mine]}
    with pytest.raises(InputError, match="how many problems has 'mine'"):
        planned(real(data=data))
    data["benchmarks"][0]["expected"] = 10
    assert planned(real(data=data))


def test_the_command(fresh, capsys):
    (fresh / "params/real.yaml").write_text(yaml.safe_dump(REAL))
    lost = REAL | {"families": {"lost": {"model": "nobody/nothing"}}}
    (fresh / "params/lost.yaml").write_text(yaml.safe_dump(lost))
    short = REAL | {"cluster": {"gpu": "H100-80", "grpo": {"minutes": 5}}}
    (fresh / "params/short.yaml").write_text(yaml.safe_dump(short))

    def run(*words):
        status = main(["plan", *words])
        return status, *capsys.readouterr()

    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "HOME": str(fresh)}
    words = [sys.executable, "-m", "sftrl", "plan", "params/real.yaml"]
    good = subprocess.run(words, cwd=fresh, env=environment, capture_output=True, text=True, timeout=300)
    assert good.returncode == 0, good.stderr
    for word in ("sft", "grpo", "post_rl", "longest chain", "512:", "warning: qwen/grpo", "NVIDIA H100 data sheet"):
        assert word in good.stdout
    status, _, said = run("params/real.yaml", "--gpu", "H1000")
    assert (status, said.count("\n")) == (1, 1)
    assert "--gpu: 'H1000' is not one of cpu, A100-40" in said
    assert "nobody/nothing: its config cannot be read" in run("params/lost.yaml")[2]
    assert "warning: cluster.grpo.minutes: 5, and " in run("params/short.yaml")[1]


def test_durations_and_numbers_read_well():
    assert [duration(s) for s in (50, 550, 7200, 4e5, 4e6)] == ["50 s", "9 min", "2.0 h", "4.6 d", "46.3 d"]
    assert duration(1e11) == "3,169 years"
    assert [number(n) for n in (0, 9.1e-5, 0.08583, 7.187, 66512)] == ["0", "<0.001", "0.0858", "7.19", "66,512"]


def test_columns_are_aligned():
    for gpu in ("H100-80", "cpu"):
        lines = table(*planned(real(), gpu)).splitlines()
        rows = lines[: 1 + next(i for i, line in enumerate(lines) if line.startswith("total"))]
        assert len({len(line) for line in rows}) == 1
        assert [line.split()[0] for line in rows[1:]] == [
            "curate", "sft", "post_sft", "grpo", "post_rl", "predict", "total"
        ]  # fmt: skip
