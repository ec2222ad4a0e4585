# The graph of a study: one job a notebook and run. Only this file knows the graph; only notebooks do the work.
#
#     snakemake --cores 2 --configfile params/quick.yaml
#     snakemake --configfile params/qwen3-4b.yaml --executor slurm --jobs 20
#
# A job's folder is named by its settings and those of the jobs before it, so a changed setting is another folder, what
# was made before stays, and timestamps do not matter. `python -m sftrl study --fresh 02_sft` makes again.
import sys

import yaml

sys.path.insert(0, workflow.basedir)  # so that the checkout is enough, installed or not

from sftrl import warm
from sftrl.errors import InputError
from sftrl.files import hash_value, whole_file
from sftrl.plan import gpus, slurm
from sftrl.stages import base, costs, curation, evaluation, grpo, prediction, race, sft
from sftrl.stages.job import DONE
from sftrl.study import Study
from sftrl.study.params import check

if not config:
    sys.exit("Which study? Say so: snakemake --configfile params/<study>.yaml")
try:
    study = Study(check(config, ", ".join(map(str, workflow.configfiles))))
    MACHINE = costs.machine_of(study)
except InputError as error:
    sys.exit(str(error))

# What the notebooks get: the params as they are now, `--config` overrides and all.
VALUES = study.params.model_dump(mode="json", exclude_unset=True)
PARAMS = study.folder / "params" / f"{hash_value(VALUES)}.yaml"
SHARDS = study.params.evaluation.shards
LOGS = f"{study.folder}/notebooks"
THREADS = 1  # two jobs of one thread each beat one of two


def done(job):
    """Return the mark of a job whose notebook ran to its end. A result that stands before that is not made again."""
    return str(job.folder / DONE)


def before(job):
    return [ancient(done(earlier)) for earlier in job.inputs]  # that it is there counts, and not since when


def evaluated(wildcards, shard=0, of=1):
    """Return the evaluation that a folder's name stands for."""
    run, seed = wildcards.run, None
    if wildcards.phase == "post_rl":
        run, _, seed = run.rpartition("-seed")
    return evaluation.job(study, wildcards.family, wildcards.phase, run, seed and int(seed), shard, of)


def evaluation_words(wildcards):
    run, _, seed = wildcards.run.rpartition("-seed") if wildcards.phase == "post_rl" else (wildcards.run, "", "")
    return f"-r family {wildcards.family} -r phase {wildcards.phase} -r run {run}" + (seed and f" -p rl_seed {seed}")


def asks(job_of, saves=False):
    """Return a rule's resources, for Slurm and for Snakemake's own scheduler; another attempt asks for more.

    A job that saves where it is when it gets SIGTERM is sent one ten minutes before its time is up; of any other, and
    of Snakemake itself, which takes it as a failure, SIGTERM would only end work that could have come to its end.
    """

    def asked(wildcards):
        return costs.request(study, job_of(wildcards), MACHINE)

    return {
        "gpu": lambda w: asked(w).gpus,
        "mem_mb": lambda w, attempt: asked(w).memory_mb * attempt,
        "runtime": lambda w, attempt: asked(w).minutes * attempt,
        "tasks_per_gpu": 0,  # a training starts its own processes
        "slurm_partition": lambda w: asked(w).partition,
    } | ({"slurm_extra": "--signal=TERM@600"} if saves else {})


# papermill without jsonschema's checker of IRIs: it compiles a grammar when it is imported, nearly 2 s a job for nothing.
PAPERMILL = "python -P -c 'import sys; sys.modules[\"rfc3987_syntax\"] = None; from papermill.cli import papermill; papermill()'"

# papermill, with the executed notebook whole or named as failed, and one clear line for invalid input.
# A scheduler's SIGTERM is for the training in the kernel, which saves and stops; papermill would take the kernel with it.
# Jupyter chooses a kernel's ports before the kernel takes them: another process can be faster, and the kernel then dies
# before it has run anything. That is tried once more.
RUN = (
    "trap '' TERM; gpus=$(test {resources.gpu} = 0 || echo python -m sftrl.plan.gpus {resources.gpu}); "
    "export OMP_NUM_THREADS={threads} TOKENIZERS_PARALLELISM=false; out={log.notebook}; part=${{out%.ipynb}}.part.ipynb; "
    "notebook() {{ $gpus {PAPERMILL} ${{SFTRL_KERNEL:+-k $SFTRL_KERNEL}} notebooks/{params.notebook}.ipynb $part "
    "-f {PARAMS} {params.words} --log-output --no-progress-bar > {log.text} 2>&1; }}; "
    "{{ notebook || {{ grep -q 'Kernel died before replying to kernel_info' {log.text} && notebook; }}; }} "
    "&& mv $part $out && rm -f ${{out%.ipynb}}.failed.ipynb && touch {output} || "
    "{{ grep -h '^InputError' {log.text} || tail -n 30 {log.text}; test ! -f $part || mv $part ${{out%.ipynb}}.failed.ipynb; exit 1; }} >&2"
)


onstart:
    try:
        if workflow.executor_plugin.name == "local":
            gpus.check(costs.gpus_left(study, MACHINE))
            if len(workflow.dag) > 2:  # jobs to run, `all` among them: of a single one, all would be imported twice
                warm.start(THREADS)
        if workflow.executor_plugin.name == "slurm":
            slurm.check(costs.requests(study, MACHINE), slurm.partitions())
    except InputError as error:
        sys.exit(f"InputError: {error}")
    with whole_file(PARAMS) as temporary:
        temporary.write_text(yaml.safe_dump(VALUES, sort_keys=False))


onerror:
    print(*slurm.explain(log), sep="\n", file=sys.stderr)


wildcard_constraints:
    phase="post_sft|post_rl",
    seed=r"\d+",
    family="[^/]+",
    run="[^/]+",
    key="[0-9a-f]{10}",


rule all:
    input:
        done(prediction.job(study)),
    default_target: True


rule bases:
    input:
        [done(base.job(study, name)) for name in study.families if study.params.families[name].scratch],


rule predict:
    input:
        before(prediction.job(study)),
    output:
        done(prediction.job(study)),
    params:
        notebook="05_predict",
        words="",
    log:
        notebook=f"{LOGS}/05_predict.ipynb",
        text=f"{LOGS}/05_predict.log",
    message:
        "05_predict"
    resources:
        **asks(lambda w: prediction.job(study)),
    threads: THREADS
    shell:
        RUN


rule base:
    output:
        f"{study.folder}/{{family}}/base/{{key}}/done",
    params:
        notebook="00_base",
        words="-r family {family}",
    log:
        notebook=f"{LOGS}/00_base/{{family}}-{{key}}.ipynb",
        text=f"{LOGS}/00_base/{{family}}-{{key}}.log",
    message:
        "00_base {wildcards.family}"
    resources:
        **asks(lambda w: base.job(study, w.family)),
    threads: THREADS
    shell:
        RUN


rule curate:
    input:
        before(curation.job(study)),
    output:
        done(curation.job(study)),
    params:
        notebook="01_curate",
        words="",
    log:
        notebook=f"{LOGS}/01_curate.ipynb",
        text=f"{LOGS}/01_curate.log",
    message:
        "01_curate"
    resources:
        **asks(lambda w: curation.job(study)),
    threads: THREADS
    shell:
        RUN


rule sft:
    input:
        lambda w: before(sft.job(study, w.family, w.run)),
    output:
        f"{study.folder}/{{family}}/sft/{{run}}/{{key}}/done",
    params:
        notebook="02_sft",
        words="-r family {family} -r run {run}",
    log:
        notebook=f"{LOGS}/02_sft/{{family}}/{{run}}-{{key}}.ipynb",
        text=f"{LOGS}/02_sft/{{family}}/{{run}}-{{key}}.log",
    message:
        "02_sft {wildcards.family} {wildcards.run}"
    resources:
        **asks(lambda w: sft.job(study, w.family, w.run), saves=True),
    threads: THREADS
    priority: 10
    shell:
        RUN


rule grpo:
    input:
        lambda w: before(grpo.job(study, w.family, w.run, int(w.seed))),
    output:
        f"{study.folder}/{{family}}/grpo/{{run}}-seed{{seed}}/{{key}}/done",
    params:
        notebook="04_grpo",
        words="-r family {family} -r run {run} -p rl_seed {seed}",
    log:
        notebook=f"{LOGS}/04_grpo/{{family}}/{{run}}-seed{{seed}}-{{key}}.ipynb",
        text=f"{LOGS}/04_grpo/{{family}}/{{run}}-seed{{seed}}-{{key}}.log",
    message:
        "04_grpo {wildcards.family} {wildcards.run} seed {wildcards.seed}"
    resources:
        **asks(lambda w: grpo.job(study, w.family, w.run, int(w.seed)), saves=True),
    threads: THREADS
    priority: 5
    shell:
        RUN


# No part of a study whose runs all go through RL: `snakemake choose` instead of that.
rule choose:
    input:
        lambda _: [done(race.job(study, family)) for family in study.families],  # looked at only where it is wanted


rule race:
    input:
        lambda w: before(race.job(study, w.family)),
    output:
        f"{study.folder}/{{family}}/choose/{{key}}/done",
    params:
        notebook="07_choose",
        words="-r family {family}",
    log:
        notebook=f"{LOGS}/07_choose/{{family}}-{{key}}.ipynb",
        text=f"{LOGS}/07_choose/{{family}}-{{key}}.log",
    message:
        "07_choose {wildcards.family}"
    resources:
        **asks(lambda w: grpo.job(study, w.family, race.candidates(study)[0], study.rl_seed("post_rl", race.candidates(study)[0], None)), saves=True),
    threads: THREADS
    shell:
        RUN


rule evaluate:
    input:
        lambda w: before(evaluated(w)),
        lambda w: [ancient(done(evaluated(w, i, SHARDS))) for i in range(SHARDS)] if SHARDS > 1 else [],
    output:
        f"{study.folder}/{{family}}/{{phase}}/{{run}}/{{key}}/done",
    params:
        notebook="03_evaluate",
        words=evaluation_words,
    log:
        notebook=f"{LOGS}/03_evaluate/{{family}}/{{phase}}/{{run}}-{{key}}.ipynb",
        text=f"{LOGS}/03_evaluate/{{family}}/{{phase}}/{{run}}-{{key}}.log",
    message:
        "03_evaluate {wildcards.family} {wildcards.phase} {wildcards.run}"
    resources:
        **asks(evaluated),
    threads: THREADS
    shell:
        RUN


rule evaluate_shard:
    input:
        lambda w: before(evaluated(w)),
    output:
        f"{study.folder}/{{family}}/{{phase}}/{{run}}/shards/{{shard}}-of-{{of}}/{{key}}/done",
    params:
        notebook="03_evaluate",
        words=lambda w: f"{evaluation_words(w)} -p shard {w.shard} -p of {w.of}",
    log:
        notebook=f"{LOGS}/03_evaluate/{{family}}/{{phase}}/{{run}}-{{shard}}-of-{{of}}-{{key}}.ipynb",
        text=f"{LOGS}/03_evaluate/{{family}}/{{phase}}/{{run}}-{{shard}}-of-{{of}}-{{key}}.log",
    message:
        "03_evaluate {wildcards.family} {wildcards.phase} {wildcards.run} shard {wildcards.shard} of {wildcards.of}"
    resources:
        **asks(lambda w: evaluated(w, int(w.shard), int(w.of))),
    threads: THREADS
    shell:
        RUN
