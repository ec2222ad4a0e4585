"""The cost of each job of a study: its settings as the plain numbers that `sftrl.plan` takes."""

import math
import statistics
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from sftrl.errors import InputError
from sftrl.plan.machines import Cpu, Gpu, machine, rates, recognised
from sftrl.plan.shapes import BYTES, Shape, shape
from sftrl.plan.slurm import Request
from sftrl.plan.table_of_costs import Row
from sftrl.plan.work import FILLED, Cost, forward, sampled, sampling_memory, start_up, together, trained
from sftrl.problems.table import BENCHMARKS, RL_PROBLEMS
from sftrl.procedural import BENCHMARKS as GENERATED
from sftrl.recipes import HEAD_DIM, OWN_PROCESS, Ask
from sftrl.stages import evaluation, manifest, prediction
from sftrl.stages.job import DONE, Job
from sftrl.study import Study
from sftrl.study.params import Generated
from sftrl.tables import POST_RL, POST_SFT

DEVICE_TOKENS = 16_384  # of a micro batch that the recipe leaves open
ENGINE_SHARE = 0.3  # of a GPU that vLLM takes inside a training (TRL's default)
STAGES = {"00_base": "base", "01_curate": "curate", "02_sft": "sft", "04_grpo": "grpo", "05_predict": "predict"}


def machine_of(study: Study, gpu: str | None = None) -> Gpu | Cpu:
    """Return what a study is planned for: the GPU named here, or by its params, or a CPU's cores."""
    return machine(gpu, "--gpu") if gpu else machine(study.params.cluster.gpu or "cpu", "cluster.gpu")


def rows(study: Study, on: Gpu | Cpu) -> tuple[list[Row], dict[str, tuple[float, int]]]:
    """Return every job of a study with its cost, and how much longer than planned each stage took where measured.

    The second maps a stage to (measured over planned, finished jobs): the median over jobs of this study that finished
    on such a machine, of CPU time where it is planned for cores. By it the times of that stage are corrected.

    Raises:
        InputError: a model's config cannot be read, or the number of a benchmark's problems is not known.
    """
    jobs = list(all_jobs(study))
    costs = {job.folder: cost(study, job, on) for job in jobs}
    made = {job.folder: manifest.read(job.folder) for job in jobs}
    ratios: dict[str, list[float]] = {}
    for job in jobs:
        found, planned = made[job.folder], costs[job.folder].seconds
        if found and planned and recognised(found["device"]) == on.name:
            wall = found["wall_seconds"]
            spent = found.get("cpu_seconds", wall) if isinstance(on, Cpu) else wall
            ratios.setdefault(stage(job), []).append(spent / planned)
    measured = {name: (statistics.median(values), len(values)) for name, values in ratios.items()}
    names = {job.folder: "/".join((*job.place.parts[2:-1], job.place.name)) for job in jobs}
    result = [
        Row(
            names[job.folder],
            stage(job),
            use(study, job),
            tuple(dict.fromkeys(names[earlier.folder] for earlier in _before(study, job))),
            costs[job.folder].slower(measured.get(stage(job), (1.0, 0))[0]),
            start_up(on),
            REMEDIES.get(stage(job), ""),
            made[job.folder] is not None,
            _remark(study, job, on),
        )
        for job in jobs
    ]
    return result, measured


def stage(job: Job) -> str:
    """Return what a job is summed under: its stage, evaluations by their phase."""
    if job.notebook in STAGES:
        return STAGES[job.notebook]
    return POST_SFT if POST_SFT in job.place.parts else POST_RL


def use(study: Study, job: Job) -> str:
    """Return the utilisation that most of a job's time rests on."""
    sampling = "sampling" if study.params.evaluation.engine == "vllm" else "generate"
    kinds = {"base": "training", "sft": "training", POST_SFT: sampling, POST_RL: sampling}
    if stage(job) == "grpo":
        return "generate" if study.params.grpo.rollouts in OWN_PROCESS else "rollouts"
    return kinds.get(stage(job), "")


REMEDIES = {
    "sft": "more processes with accelerate: fsdp2, a smaller sft.micro_batch, lora, or another GPU",
    "grpo": "more processes with accelerate: fsdp2, a smaller grpo.micro_batch, lora, or another GPU",
    POST_SFT: "a larger evaluation.tensor_parallel_size, or another GPU",
    POST_RL: "a larger evaluation.tensor_parallel_size, or another GPU",
}


def cost(study: Study, job: Job, on: Gpu | Cpu) -> Cost:
    """Return what one job costs on a machine, its start-up left out."""
    kind = stage(job)
    if not _loads_a_model(study, job):
        return Cost()
    model, lengths = _shape(study, job), _lengths(study)
    prompt, sft, longest = (lengths[name] for name in ("prompt", "sft", "longest"))
    if kind == "base":
        scratch = job.settings["scratch"]
        return trained(
            model, on, examples=scratch["examples"], length=prompt + sft * longest,
            at_once=scratch["batch_size"] * scratch["context"], logit_tokens=scratch["batch_size"] * scratch["context"],
            precision="float32", adapters=0, recomputed=False, gpus=1, split=False,
        )  # fmt: skip
    if kind == "sft":
        run, recipe = job.settings["run"], job.settings["sft"]
        padded = prompt + (sft if recipe["packing"] else min(sft * longest, recipe["max_length"] - prompt))
        examples = run.get("examples") or run["tokens"] / sft
        return _training(study, model, on, recipe, examples * run["epochs"], padded, recipe["max_length"], 1.0)
    if kind == "grpo":
        return _rl(study, model, on, job.settings["grpo"])
    return _evaluation(study, job, model, on, lengths)


def _loads_a_model(study: Study, job: Job) -> bool:
    if study.imported and study.params.data.sft is None:
        return False
    return stage(job) not in ("curate", "predict")


def _training(
    study: Study,
    model: Shape,
    on: Gpu | Cpu,
    recipe: dict,
    examples: float,
    length: float,
    most: float,
    answered: float,
) -> Cost:
    """Return the cost of training on `examples` of `length` tokens, `most` at most, a share `answered` with logits."""
    compute = study.params.compute
    batch = recipe.get("batch_size") or recipe["prompts_per_step"] * recipe["group_size"]
    each, fits = batch // compute.processes, max(1, DEVICE_TOKENS // most)
    at_once = most * (recipe["micro_batch"] or max(n for n in range(1, each + 1) if each % n == 0 and n <= fits))
    lora = recipe["lora"]
    adapters = lora["rank"] * model.layers * 2 * (4 * model.hidden + 3 * model.intermediate) if lora else 0
    return trained(
        model, on, examples=examples, length=length, at_once=at_once, logit_tokens=at_once * answered,
        precision=recipe["precision"], adapters=adapters, recomputed=isinstance(on, Gpu), gpus=compute.processes,
        split=(compute.accelerate or "multi_gpu") != "multi_gpu",
    )  # fmt: skip


def _rl(study: Study, model: Shape, on: Gpu | Cpu, recipe: dict) -> Cost:
    lengths = _lengths(study, recipe["max_tokens"])
    prompt, response = lengths["prompt"], lengths["response"]
    steps = recipe["steps"] or recipe["epochs"] * _rl_problems(study) / recipe["prompts_per_step"]
    prompts, most = steps * recipe["prompts_per_step"], prompt + recipe["max_tokens"]
    to_the_longest = min(response * lengths["longest"], recipe["max_tokens"])
    by_generate, on_gpu = recipe["rollouts"] == "generate", isinstance(on, Gpu)
    slow = by_generate or (on_gpu and recipe["rollouts"] == "transformers")
    colocated, (each, filled) = recipe["rollouts"] == "colocate", _engine(recipe)
    engines = study.params.compute.processes / each if on_gpu else 1  # side by side, each with a share of the prompts
    drawing = sampled(
        model, on, prompts=prompts / engines, n=recipe["group_size"], prompt=prompt,
        response=to_the_longest if by_generate else response, longest=most, gpus=each, filled=filled,
        use="generate" if slow else "rollouts" if on_gpu else "sampling",
    )  # fmt: skip
    if colocated and drawing.memory:
        rest = filled * on.memory - drawing.memory["weights"]
        drawing.memory["KV cache"] = max(rest, drawing.memory["KV cache"])
    drawing = replace(drawing, flops=drawing.flops * engines)
    learning = _training(
        study,
        model,
        on,
        recipe,
        prompts * recipe["group_size"],
        prompt + to_the_longest,
        most,
        recipe["max_tokens"] / most,
    )
    at_once = colocated and not recipe["trl"].get("vllm_enable_sleep_mode")
    both = together(drawing, learning, held_at_once=at_once)
    return replace(both, tokens=prompts * recipe["group_size"] * response, disk=learning.disk)  # rollouts are not kept


def _engine(recipe: dict) -> tuple[int, float]:
    """Return how many GPUs draw rollouts together, and the share of their memory that they draw in."""
    if recipe["rollouts"] != "colocate":
        return 1, FILLED
    given = recipe["trl"]
    return given.get("vllm_tensor_parallel_size", 1), given.get("vllm_gpu_memory_utilization", ENGINE_SHARE)


def _remark(study: Study, job: Job, on: Gpu | Cpu) -> str:
    """Return what will not go well with a job beside its memory, and what to change."""
    if stage(job) != "grpo" or isinstance(on, Cpu) or job.settings["grpo"]["rollouts"] != "colocate":
        return ""
    recipe, (each, filled) = job.settings["grpo"], _engine(job.settings["grpo"])
    longest = _lengths(study)["prompt"] + recipe["max_tokens"]
    needed, given = sum(sampling_memory(_shape(study, job), longest=longest, gpus=each).values()), filled * on.memory
    if needed <= given:
        return ""
    return (
        f"grpo: the vLLM of each training needs {needed / 1e9:.1f} GB a GPU and gets {given / 1e9:.1f}: "
        f"grpo.trl: {{vllm_tensor_parallel_size: {2 * each}}}, or a larger vllm_gpu_memory_utilization "
        f"(now {filled:g})"
    )


def _rl_problems(study: Study) -> float:
    source = study.params.data.rl
    return source.procedural if isinstance(source, Generated) else sum(_rows(spec, RL_PROBLEMS) for spec in source)


def _evaluation(study: Study, job: Job, model: Shape, on: Gpu | Cpu, lengths: dict) -> Cost:
    settings, section = job.settings, study.params.evaluation
    share = 1
    if job.place.parent.name == "shards":
        share = int(job.place.name.partition("-of-")[2])
    elif section.shards > 1:
        return Cost()  # its shards have sampled all
    drawing = Cost()
    if not study.imported:
        problems = (_benchmark_problems(study) + settings["rl_problems"]) / share
        drawing = sampled(
            model, on, prompts=problems, n=settings["n"], prompt=lengths["prompt"], response=lengths["response"],
            longest=lengths["prompt"] + section.max_tokens, gpus=section.tensor_parallel_size,
            use="sampling" if section.engine == "vllm" or isinstance(on, Cpu) else "generate",
        )  # fmt: skip
    if study.params.data.sft is None or stage(job) == POST_RL or share > 1:
        return drawing
    # Held-out examples and own rollouts are read by the checkpoint and by the base.
    rollouts = (settings["rollout_tokens"] or 0) / lengths["response"]
    texts = ((study.params.data.held_out, "sft"), (rollouts, "response"))
    tokens = sum(2 * count * (lengths["prompt"] + lengths[kind]) for count, kind in texts)
    flops = sum(2 * forward(model, count, lengths["prompt"] + lengths[kind]) for count, kind in texts)
    seconds = tokens * on.seconds("training", model.active) / 3 if isinstance(on, Cpu) else flops / on.flops / 0.4
    return together(drawing, Cost(flops=flops, seconds=seconds), held_at_once=False)


def all_jobs(study: Study) -> Iterator[Job]:
    """Yield every job of a study, each after those that it waits for."""
    seen: set[Path] = set()
    waiting = [prediction.job(study)]
    while waiting:
        job = waiting[-1]
        earlier = [one for one in _before(study, job) if one.folder not in seen]
        if earlier:
            waiting += earlier
            continue
        waiting.pop()
        if job.folder not in seen:
            seen.add(job.folder)
            yield job


def _before(study: Study, job: Job) -> list[Job]:
    """Return the jobs that one waits for: its inputs, and an evaluation's shards."""
    of = study.params.evaluation.shards
    if job.notebook != "03_evaluate" or of == 1 or job.place.parent.name == "shards":
        return list(job.inputs)
    family, phase, run = job.place.parts[2:5]
    seed = None
    if phase == POST_RL:
        run, _, seed = run.rpartition("-seed")
    shards = [evaluation.job(study, family, phase, run, seed and int(seed), i, of) for i in range(of)]
    return [*job.inputs, *shards]


def _shape(study: Study, job: Job) -> Shape:
    """Return the shape of the model that a job works on: its family's, or that of a checkpoint of one's own."""
    told = job.settings.get("model") or {}
    given = told.get("base") or told.get("model")  # an adapter has the shape of the model under it
    family = study.params.families[job.place.parts[2]]
    if given is None and family.scratch:
        scratch = family.scratch
        heads = scratch.hidden_size // HEAD_DIM
        return shape(
            {
                "model_type": scratch.architecture,
                "vocab_size": scratch.vocab_size,
                "hidden_size": scratch.hidden_size,
                "intermediate_size": 8 * scratch.hidden_size // 3,
                "num_hidden_layers": scratch.layers,
                "num_attention_heads": heads,
                "head_dim": HEAD_DIM,
                "tie_word_embeddings": True,
                "dtype": "float32",
            }
        )
    # A checkpoint that an earlier study will make has its family's shape until it is there.
    found = shape(given if given and Path(given).is_dir() else family.model or given)
    return found if family.dtype == "auto" else replace(found, stored=BYTES[family.dtype])


def _lengths(study: Study, most: int | None = None) -> dict[str, float]:
    """Return the tokens of a prompt, a response and an SFT response, as far as they can be known beforehand.

    Args:
        most: the tokens that a response may have; None: as in the evaluation.
    """
    table = rates()["lengths"]
    if isinstance(study.params.data.benchmarks, Generated):
        return table["procedural"]
    share = table["share"]
    return {
        "prompt": share["prompt"],
        "response": share["response"] * (most or study.params.evaluation.max_tokens),
        "sft": share["sft"] * study.params.sft.max_length,
        "longest": share["longest"],
    }


def _benchmark_problems(study: Study) -> int:
    source = study.params.data.benchmarks
    if isinstance(source, Generated):
        return len(GENERATED) * source.procedural
    return sum(_rows(spec, BENCHMARKS) for spec in source)


def _rows(spec: str | dict, known_sets: dict) -> int:
    spec = {"benchmark": spec} if isinstance(spec, str) else spec
    known = known_sets.get(spec.get("benchmark"), {}).get("expected")
    count = spec.get("expected") or known
    limits = [spec[key] for key in ("limit", "sample") if spec.get(key)]
    if count is None and not limits:
        raise InputError(f"data: how many problems has {spec.get('benchmark')!r}? Say so, as: expected: 500")
    return min([*limits, *([count] if count else [])])


def request(study: Study, job: Job, on: Gpu | Cpu) -> Request:
    """Return what a job asks a scheduler for: what the params say, else the estimate threefold, and memory with room.

    Raises:
        InputError: the params allow less time than the estimate.
    """
    name = STAGES.get(job.notebook, "evaluate")
    ask: Ask = getattr(study.params.cluster, name)
    planned = cost(study, job, on)
    expected = math.ceil((planned.seconds + start_up(on)) / 60)
    if ask.minutes is not None and ask.minutes < expected:
        raise InputError(f"cluster.{name}.minutes: {ask.minutes}, and {job.place} is estimated to take {expected}")
    parameters = _shape(study, job).parameters if _loads_a_model(study, job) else 0
    memory = 4000 + 20e-6 * parameters if isinstance(on, Cpu) else 16_000 + 6e-6 * parameters * planned.gpus
    return Request(
        name,
        planned.gpus,
        ask.minutes or 3 * expected + 20,
        1000 * ask.memory_gb if ask.memory_gb else math.ceil(memory),
        ask.partition,
    )


def requests(study: Study, on: Gpu | Cpu) -> list[Request]:
    """Return what all jobs of a study ask for."""
    return [request(study, job, on) for job in all_jobs(study)]


def gpus_left(study: Study, on: Gpu | Cpu) -> int:
    """Return how many GPUs the largest job that is not finished needs at once."""
    left = (job for job in all_jobs(study) if not (job.folder / DONE).exists())
    return max((cost(study, job, on).gpus for job in left), default=0)
