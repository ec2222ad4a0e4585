# The graph of a study: one job a notebook and run. Only this file knows the graph; only notebooks do the work.
#
#     snakemake --cores 2 --configfile params/quick.yaml
#     snakemake --configfile params/qwen3-4b.yaml --executor slurm --jobs 20
#
# A job runs again when its settings, its notebook or one of its inputs change, and for no other reason.
import sys

import yaml

sys.path.insert(0, workflow.basedir)  # so that the checkout is enough, installed or not

from sftrl.errors import InputError
from sftrl.files import hash_value, whole_file
from sftrl.study import Study, jobs
from sftrl.study.schema import check

if not config:
    sys.exit("Which study? Say so: snakemake --configfile params/<study>.yaml")
try:
    study = Study(check(config, ", ".join(map(str, workflow.configfiles))))
except InputError as error:
    sys.exit(str(error))

# What the notebooks get: the params as they are now, `--config` overrides and all.
PARAMS = study.folder / "params.yaml"
text = yaml.safe_dump(study.params.model_dump(mode="json", exclude_unset=True), sort_keys=False)
if not PARAMS.is_file() or PARAMS.read_text() != text:
    with whole_file(PARAMS) as temporary:
        temporary.write_text(text)

SHARDS = study.params.evaluation.shards
LOGS = f"{study.folder}/notebooks"
THREADS = 1  # two jobs of one thread each beat one of two


def manifest(job):
    return str(job.folder / "manifest.json")


def manifests(job):
    return [str(folder / "manifest.json") for folder in job.inputs]


def settings(job):
    return hash_value(job.settings)


def checkpoint(wildcards):
    """Return the run and the RL seed, or None, that an evaluation's folder name stands for."""
    if wildcards.stage == "post_sft":
        return wildcards.run, None
    run, _, seed = wildcards.run.rpartition("-seed")
    return run, int(seed)


def evaluation(wildcards, shard=0, of=1):
    return jobs.evaluate(study, wildcards.family, wildcards.stage, *checkpoint(wildcards), shard, of)


def evaluation_words(wildcards):
    run, seed = checkpoint(wildcards)
    return f"-r stage {wildcards.stage} -r run {run}" + ("" if seed is None else f" -p rl_seed {seed}")


# papermill, with the executed notebook whole or named as failed, and one clear line where a user slipped.
RUN = (
    "export OMP_NUM_THREADS={threads} TOKENIZERS_PARALLELISM=false; out={log.notebook}; part=${{out%.ipynb}}.part.ipynb; "
    "papermill notebooks/{params.notebook}.ipynb $part -f {PARAMS} {params.words} --log-output --no-progress-bar "
    "> {log.text} 2>&1 && mv $part $out || "
    "{{ grep -h '^InputError' {log.text} || tail -n 30 {log.text}; mv $part ${{out%.ipynb}}.failed.ipynb; exit 1; }} >&2"
)

wildcard_constraints:
    stage="post_sft|post_rl",
    seed=r"\d+",
    family="[^/]+",
    run="[^/]+",


rule all:
    input:
        manifest(jobs.predict(study)),
        manifests(jobs.predict(study)),
    default_target: True


rule bases:
    input:
        [manifest(jobs.base(study, name)) for name in study.families if study.params.families[name].scratch],


rule predict:
    input:
        manifests(jobs.predict(study)),
        notebook="notebooks/05_predict.ipynb",
    output:
        manifest(jobs.predict(study)),
    params:
        notebook="05_predict",
        words="",
        settings=settings(jobs.predict(study)),
    log:
        notebook=f"{LOGS}/05_predict.ipynb",
        text=f"{LOGS}/05_predict.log",
    message:
        "05_predict"
    threads: THREADS
    shell:
        RUN


rule base:
    input:
        "notebooks/00_base.ipynb",
    output:
        f"{study.folder}/{{family}}/base/manifest.json",
    params:
        notebook="00_base",
        words="-r family {family}",
        settings=lambda w: settings(jobs.base(study, w.family)),
    log:
        notebook=f"{LOGS}/00_base/{{family}}.ipynb",
        text=f"{LOGS}/00_base/{{family}}.log",
    message:
        "00_base {wildcards.family}"
    threads: THREADS
    shell:
        RUN


rule curate:
    input:
        manifests(jobs.curate(study)),
        "notebooks/01_curate.ipynb",
    output:
        manifest(jobs.curate(study)),
    params:
        notebook="01_curate",
        words="",
        settings=settings(jobs.curate(study)),
    log:
        notebook=f"{LOGS}/01_curate.ipynb",
        text=f"{LOGS}/01_curate.log",
    message:
        "01_curate"
    threads: THREADS
    shell:
        RUN


rule sft:
    input:
        lambda w: manifests(jobs.sft(study, w.family, w.run)),
        "notebooks/02_sft.ipynb",
    output:
        f"{study.folder}/{{family}}/sft/{{run}}/manifest.json",
    params:
        notebook="02_sft",
        words="-r family {family} -r run {run}",
        settings=lambda w: settings(jobs.sft(study, w.family, w.run)),
    log:
        notebook=f"{LOGS}/02_sft/{{family}}/{{run}}.ipynb",
        text=f"{LOGS}/02_sft/{{family}}/{{run}}.log",
    message:
        "02_sft {wildcards.family} {wildcards.run}"
    threads: THREADS
    priority: 10
    shell:
        RUN


rule grpo:
    input:
        lambda w: manifests(jobs.grpo(study, w.family, w.run, int(w.seed))),
        "notebooks/04_grpo.ipynb",
    output:
        f"{study.folder}/{{family}}/grpo/{{run}}-seed{{seed}}/manifest.json",
    params:
        notebook="04_grpo",
        words="-r family {family} -r run {run} -p rl_seed {seed}",
        settings=lambda w: settings(jobs.grpo(study, w.family, w.run, int(w.seed))),
    log:
        notebook=f"{LOGS}/04_grpo/{{family}}/{{run}}-seed{{seed}}.ipynb",
        text=f"{LOGS}/04_grpo/{{family}}/{{run}}-seed{{seed}}.log",
    message:
        "04_grpo {wildcards.family} {wildcards.run} seed {wildcards.seed}"
    threads: THREADS
    priority: 5
    shell:
        RUN


rule evaluate:
    input:
        lambda w: manifests(evaluation(w)),
        lambda w: [manifest(evaluation(w, i, SHARDS)) for i in range(SHARDS)] if SHARDS > 1 else [],
        "notebooks/03_evaluate.ipynb",
    output:
        f"{study.folder}/{{family}}/{{stage}}/{{run}}/manifest.json",
    params:
        notebook="03_evaluate",
        words=lambda w: f"-r family {w.family} {evaluation_words(w)}",
        settings=lambda w: settings(evaluation(w)),
    log:
        notebook=f"{LOGS}/03_evaluate/{{family}}/{{stage}}/{{run}}.ipynb",
        text=f"{LOGS}/03_evaluate/{{family}}/{{stage}}/{{run}}.log",
    message:
        "03_evaluate {wildcards.family} {wildcards.stage} {wildcards.run}"
    threads: THREADS
    shell:
        RUN


rule evaluate_shard:
    input:
        lambda w: manifests(evaluation(w)),
        "notebooks/03_evaluate.ipynb",
    output:
        f"{study.folder}/{{family}}/{{stage}}/{{run}}/shards/{{shard}}-of-{{of}}/manifest.json",
    params:
        notebook="03_evaluate",
        words=lambda w: f"-r family {w.family} {evaluation_words(w)} -p shard {w.shard} -p of {w.of}",
        settings=lambda w: settings(evaluation(w, int(w.shard), int(w.of))),
    log:
        notebook=f"{LOGS}/03_evaluate/{{family}}/{{stage}}/{{run}}-{{shard}}-of-{{of}}.ipynb",
        text=f"{LOGS}/03_evaluate/{{family}}/{{stage}}/{{run}}-{{shard}}-of-{{of}}.log",
    message:
        "03_evaluate {wildcards.family} {wildcards.stage} {wildcards.run} shard {wildcards.shard} of {wildcards.of}"
    threads: THREADS
    shell:
        RUN
