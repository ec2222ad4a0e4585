"""The cost of one job of a study: its settings as the plain numbers that `sftrl.plan` takes."""

from dataclasses import replace
from pathlib import Path

from sftrl.errors import InputError
from sftrl.plan.machines import Cpu, Gpu, rates
from sftrl.plan.shapes import BYTES, Shape, shape
from sftrl.plan.work import FILLED, Cost, forward, sampled, sampling_memory, together, trained
from sftrl.problems.table import BENCHMARKS, RL_PROBLEMS
from sftrl.procedural import BENCHMARKS as GENERATED
from sftrl.recipes import HEAD_DIM, OWN_PROCESS
from sftrl.stages.job import Job
from sftrl.study import Study
from sftrl.study.params import Generated
from sftrl.tables import POST_RL, POST_SFT

DEVICE_TOKENS = 16_384  # of a micro batch that the recipe leaves open
ENGINE_SHARE = 0.3  # of a GPU that vLLM takes inside a training (TRL's default)
STAGES = {"00_base": "base", "01_curate": "curate", "02_sft": "sft", "04_grpo": "grpo", "05_predict": "predict"}


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


def cost(study: Study, job: Job, on: Gpu | Cpu) -> Cost:
    """Return what one job costs on a machine, its start-up left out."""
    kind = stage(job)
    if not loads_a_model(study, job):
        return Cost()
    model, lengths = shape_of(study, job), _lengths(study)
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


def loads_a_model(study: Study, job: Job) -> bool:
    """Whether a job has a model in memory at all."""
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
        split=(compute.accelerate or "multi_gpu") != "multi_gpu", averaged=bool(recipe["averaged_steps"]),
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


def remark(study: Study, job: Job, on: Gpu | Cpu) -> str:
    """Return what will not go well with a job beside its memory, and what to change."""
    if stage(job) != "grpo" or isinstance(on, Cpu) or job.settings["grpo"]["rollouts"] != "colocate":
        return ""
    recipe, (each, filled) = job.settings["grpo"], _engine(job.settings["grpo"])
    longest = _lengths(study)["prompt"] + recipe["max_tokens"]
    needed, given = sum(sampling_memory(shape_of(study, job), longest=longest, gpus=each).values()), filled * on.memory
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


def shape_of(study: Study, job: Job) -> Shape:
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
