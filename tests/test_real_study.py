"""A study of stand-ins of the paper's models, from a params file through papermill: each form by another way to train.

Curate, SFT, held-out loss and evaluation, GRPO. Llama-3's form is trained in full, Mistral's, with NeMo's own
vocabulary, by LoRA and sampled by vLLM, ChatML's packed.
"""

import json
import os
import time
from pathlib import Path

import pandas as pd
import papermill
import pytest
import torch
import yaml
from standins import shrunk, standin_folder, tekken_folder
from transformers import AutoModelForCausalLM

from sftrl import warm
from sftrl.chat import encode_prompt
from sftrl.generations import Store
from sftrl.models import load_tokenizer
from sftrl.recipes import Checkpoint, Sampling
from sftrl.sample import fill
from sftrl.stages import curation, evaluation, grpo, held_out, sft
from sftrl.study import Study
from sftrl.tables import POST_SFT

ROOT = Path(__file__).resolve().parent.parent
RUN = "random-16-1ep"
PARAMS = {
    "study": "standins",
    "data": {"benchmarks": {"procedural": 1}, "sft": {"procedural": 60}, "rl": {"procedural": 12}, "held_out": 8,
             "prompt": "{problem}\n\nPut your final answer within \\boxed{}."},
    "runs": [{"selection": "random", "examples": 16, "epochs": 1}],
    "sft": {"learning_rate": 1.0e-3, "batch_size": 8, "max_length": 500},
    "grpo": {"steps": 1, "prompts_per_step": 2, "group_size": 2, "max_tokens": 8},
    "evaluation": {"samples": 1, "samples_post_rl": 1, "temperature": 0.0, "max_tokens": 8},
}  # fmt: skip
LORA = {"lora": {"rank": 2, "alpha": 4.0}}
VLLM = {"engine": "vllm", "vllm": {"distributed_executor_backend": "uni"}}  # one process fewer to start
WAYS = {
    "llama3": {},
    "mistral": {"sft": LORA, "grpo": LORA, "evaluation": VLLM},
    "chatml": {"sft": {"packing": True}},
}


def mistral(folder: Path) -> Path:
    """Write a narrow NeMo with all of its vocabulary, `tekken.json` beside its files."""
    tokenizer = load_tokenizer(Checkpoint(model=str(tekken_folder(folder))))
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(shrunk("mistral-nemo-12b", tokenizer)).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A checkout's notebooks, the three families, their params file, and the curated data."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "notebooks").symlink_to(ROOT / "notebooks")
    models = {
        "llama3": standin_folder(folder / "llama3", "llama3-8b", dtype="bfloat16"),
        "chatml": standin_folder(folder / "chatml", "qwen3-4b", dtype="bfloat16"),
    }
    pytest.importorskip("mistral_common", reason="NeMo's vocabulary comes with mistral-common")
    models["mistral"] = mistral(folder / "mistral")
    (folder / "params").mkdir()
    families = {"families": {name: {"model": str(path)} for name, path in models.items()}}
    (folder / "params" / "standins.yaml").write_text(yaml.safe_dump(PARAMS | families))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("PYTHONPATH", str(ROOT))
        patch.setenv("IPYTHONDIR", str(folder / ".ipython"))
        patch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
        for name in ("JUPYTER_PATH", "SFTRL_KERNEL"):
            patch.setenv(name, "")  # so that what `warm` writes there is taken back
        warm.start(1)
        server, until = Path(os.environ["JUPYTER_PATH"].split(os.pathsep)[0]) / "socket", time.monotonic() + 300
        while os.environ["SFTRL_KERNEL"] and not server.exists() and time.monotonic() < until:
            time.sleep(0.2)  # without it kernels are ordinary ones, and slow to start
        run("01_curate")
        yield folder


def run(notebook: str, **parameters) -> None:
    values = yaml.safe_load(Path("params/standins.yaml").read_text())
    out = f"{notebook}-{parameters.get('family', '')}.ipynb"
    kernel = {"kernel_name": os.environ["SFTRL_KERNEL"] or None, "progress_bar": False}
    papermill.execute_notebook(f"notebooks/{notebook}.ipynb", out, values | parameters, **kernel)


@pytest.mark.parametrize("family", ["llama3", pytest.param("mistral", marks=pytest.mark.vllm), "chatml"])
def test_from_a_params_file_through_every_stage(family, project):
    if family == "mistral":
        pytest.importorskip("vllm")
    change, words = WAYS[family], {"family": family, "run": RUN}
    for notebook in ("02_sft", "03_evaluate", "04_grpo"):
        run(notebook, change=change, **words)
    study = Study.from_notebook({"study": "standins", "change": change})
    start = study.loading(family, "").at(str(project / family))
    tuned = start.at(sft.job(study, family, RUN).folder / "model")
    after = start.at(grpo.job(study, family, RUN, 0).folder / "model")
    prompts = curation.read(study, "benchmarks")["problem"]
    tokenizers = [load_tokenizer(model) for model in (start, tuned, after)]
    ids = [[encode_prompt(tokenizer, text) for text in prompts] for tokenizer in tokenizers]
    assert ids[0] == ids[1] == ids[2]

    losses = json.loads((held_out.job(study, family, RUN).folder / "losses.json").read_text())
    assert 0 < losses["generalization_loss"] < 15
    log = pd.read_csv(tuned.model.replace("model", "log.csv"))
    assert list(log["step"]) == [1, 2]

    store = evaluation.store(study, family, POST_SFT, RUN, None)
    assert Store(store).key["dtype"] == ("float32" if family == "mistral" else "bfloat16")
    drawn = Store(store).read(["response"])
    assert len(drawn) == len(prompts)
    if family == "mistral":  # what the other engine draws, greedily
        job = evaluation.job(study, family, POST_SFT, RUN, None)
        table = evaluation.problems(study, job)
        fill("other", tuned, table, Sampling(temperature=0.0, max_tokens=8), n=1, seed=0, progress=None)
        assert drawn["response"].tolist() == Store("other").read()["response"].tolist()
