"""`evaluate_samples`: draw what a store lacks, and write and grade each batch while the next one is drawn."""

import time
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path

import pandas as pd
import torch
from transformers import AutoConfig, GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils.hub import cached_file

from sftrl.chat import encode_prompt, template_hash
from sftrl.errors import InputError
from sftrl.files import hash_path, hash_value
from sftrl.generations import Grader, Store, sample_seed
from sftrl.models import load_model, load_tokenizer
from sftrl.sample.local import sample_batches
from sftrl.sample.requests import Decoding, Request, Response

PROGRESS_SECONDS = 10.0
WEIGHTS = ["*.safetensors", "*.bin", "config.json", "generation_config.json", "tokenizer.json"]


@dataclass
class Drawn:
    """What one call of `evaluate_samples` drew: samples, response tokens, and the wall time in seconds."""

    samples: int = 0
    tokens: int = 0
    seconds: float = 0.0


def evaluate_samples(
    folder: str | Path,
    *,
    model: str | Path | PreTrainedModel,
    problems: pd.DataFrame,
    n: int,
    max_tokens: int,
    tokenizer: PreTrainedTokenizerBase | None = None,
    revision: str | None = None,
    dtype: str = "auto",
    temperature: float = 1.0,
    top_p: float = 1.0,
    seed: int = 0,
    engine: str = "transformers",
    batch_tokens: int = 65536,
    shard: int = 0,
    of: int = 1,
    workers: int = 1,
    timeout: float = 5.0,
    progress: Callable[[str], None] | None = print,
) -> Drawn:
    """Fill a store until every problem has n samples, all graded. What is there already is not drawn again.

    A call that was killed continues where it was. With the `transformers` engine the finished store equals that of an
    uninterrupted call, row for row.

    Args:
        folder: the store; made if absent.
        model: a folder or hub name, or, for the `transformers` engine, a loaded model.
        problems: the problem rows: `benchmark, id, problem, answer`, and `answer_type, choices` where known. The same
            rows in every call and shard.
        n: samples a problem. A greater n than before only adds.
        max_tokens: the longest response in tokens, EOS included.
        tokenizer: the model's own by default.
        revision: of a model on the hub.
        dtype: the weights' type, for example `float32`; by default as they were saved.
        temperature: 0 is greedy, and then n is 1.
        top_p: the share of probability that is kept.
        seed: the base seed; each (benchmark, problem, sample) derives its own.
        engine: `transformers` or `vllm`.
        batch_tokens: tokens of prompts and responses that the `transformers` engine holds at once.
        shard, of: draw only every `of`-th problem, starting with the `shard`-th, in a process of its own.
        workers, timeout: of the verifier: processes, and seconds an answer.
        progress: takes a line every ten seconds; None for silence.

    Raises:
        InputError: a bad argument; a prompt that leaves no room for `max_tokens`; a gold answer that cannot be read; a
            store of something else, or one that another process is filling; a disk that is full.
    """
    if n < 1 or max_tokens < 1 or batch_tokens < 1:
        raise InputError(f"n, max_tokens and batch_tokens are at least 1, not {n}, {max_tokens} and {batch_tokens}")
    if temperature < 0 or not 0 < top_p <= 1:
        raise InputError(f"temperature is at least 0 and top_p in (0, 1], not {temperature} and {top_p}")
    if temperature == 0 and n > 1:
        raise InputError(f"n: {n} greedy samples of a problem are all the same; a temperature of 0 goes with n = 1")
    if engine not in ("transformers", "vllm"):
        raise InputError(f"engine: {engine!r} is neither transformers nor vllm")
    grader = Grader(problems, workers=workers, timeout=timeout)
    grader.check_golds()
    loaded = isinstance(model, PreTrainedModel)
    config = model.config if loaded else AutoConfig.from_pretrained(model, revision=revision)
    tokenizer = tokenizer or load_tokenizer(config.name_or_path, revision)
    decoding = Decoding(temperature, top_p, max_tokens, stop_ids(tokenizer, model, revision))
    key = {
        "model": hash_weights(model) if loaded else hash_model(model, revision),
        "dtype": str(model.dtype if loaded else config.dtype if dtype == "auto" else dtype).removeprefix("torch."),
        "template": template_hash(tokenizer),
        "benchmarks": hash_prompts(problems),
        "sampling": {**asdict(decoding), "stop_ids": list(decoding.stop_ids), "seed": seed},
        "engine": engine_version(engine),
    }
    prompts = encode_prompts(tokenizer, problems.iloc[shard::of], max_tokens, config.max_position_embeddings)
    with Store.open(folder, key, shard=shard, of=of) as store, Writer(store, grader, tokenizer) as writer:
        requests = [
            Request(*name, sample_seed(seed, *name), prompts[name[:2]]) for name in store.missing(list(prompts), n)
        ]
        if not requests:
            writer.finish()
            return Drawn()
        if not loaded:
            model = load_model(model, revision, dtype)
        return _draw(sample_batches(model.eval(), requests, decoding, batch_tokens), len(requests), writer, progress)


def _draw(batches: Iterable[list[Response]], total: int, writer: "Writer", progress) -> Drawn:
    """Hand every batch to the writer, and tell how far it is."""
    drawn, began = Drawn(), time.perf_counter()
    told = began
    for batch in batches:
        writer.add(batch)
        now = time.perf_counter()
        drawn.samples += len(batch)
        drawn.tokens += sum(len(response.tokens) for response in batch)
        drawn.seconds = now - began
        if progress and (now - told > PROGRESS_SECONDS or drawn.samples == total):
            told = now
            left = drawn.seconds * (total - drawn.samples) / drawn.samples
            progress(
                f"{drawn.samples:,} of {total:,} samples, {drawn.tokens / drawn.seconds:,.0f} tokens/s, "
                f"{left / 60:.1f} min left"
            )
    writer.finish()
    drawn.seconds = time.perf_counter() - began
    return drawn


class Writer:
    """Writes and grades batches in a thread of its own, so that the engine need not wait.

    At most two batches are on their way: memory stays bounded where grading is slower than sampling.
    """

    def __init__(self, store: Store, grader: Grader, tokenizer: PreTrainedTokenizerBase):
        self.store, self.grader, self.tokenizer = store, grader, tokenizer
        self.pool = ThreadPoolExecutor(1)
        self.pending: deque[Future] = deque()

    def __enter__(self) -> "Writer":
        for part in self.store.own_parts():  # a killed process may have left some ungraded
            self._submit(self.grader.grade_part, part)
        return self

    def __exit__(self, *_) -> None:
        self.pool.shutdown(cancel_futures=True)

    def _submit(self, function, argument) -> None:
        while len(self.pending) >= 2:
            self.pending.popleft().result()
        self.pending.append(self.pool.submit(function, argument))

    def add(self, batch: list[Response]) -> None:
        """Take a batch; an error of an earlier one is raised here."""
        self._submit(self._write, batch)

    def finish(self) -> None:
        """Wait until all is written and graded."""
        while self.pending:
            self.pending.popleft().result()

    def _write(self, batch: list[Response]) -> None:
        texts = self.tokenizer.batch_decode([response.tokens for response in batch], skip_special_tokens=True)
        rows = pd.DataFrame(
            {
                "benchmark": [response.request.benchmark for response in batch],
                "problem_id": [response.request.problem_id for response in batch],
                "sample_index": [response.request.sample_index for response in batch],
                "seed": [response.request.seed for response in batch],
                "response": texts,
                "n_tokens": [len(response.tokens) for response in batch],
                "finish_reason": [response.finish_reason for response in batch],
            }
        )
        self.grader.grade_part(self.store.append(rows))


def hash_prompts(problems: pd.DataFrame) -> dict[str, str]:
    """Name each benchmark's prompts. Golds are not among them: a corrected answer needs no new samples."""
    return {
        str(name): hash_value(list(zip(group["id"].astype(str), group["problem"], strict=True)))
        for name, group in problems.groupby("benchmark", sort=True)
    }


def engine_version(engine: str) -> dict[str, str]:
    """Name what computes: the engine, its version and torch's."""
    return {"name": engine, "version": metadata.version(engine), "torch": torch.__version__}


def hash_model(model: str | Path, revision: str | None = None) -> str:
    """Name a model's content: the hash of its weights and configuration, or the commit of one on the hub."""
    if not Path(model).is_dir():
        return Path(cached_file(model, "config.json", revision=revision)).parent.name
    files = sorted({path for pattern in WEIGHTS for path in Path(model).glob(pattern)})
    return hash_value({path.name: hash_path(path) for path in files})


def hash_weights(model: PreTrainedModel) -> str:
    """Name a loaded model's content, for one that lies in no folder."""
    weights = {
        name: hash_value(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes().hex())
        for name, tensor in model.state_dict().items()
    }
    return hash_value({"weights": weights, "config": model.config.to_dict()})


def stop_ids(
    tokenizer: PreTrainedTokenizerBase, model: str | Path | PreTrainedModel, revision: str | None = None
) -> tuple[int, ...]:
    """List the tokens that end a response: the tokenizer's EOS and those of the model's generation config."""
    if isinstance(model, PreTrainedModel):
        listed = model.generation_config.eos_token_id
    else:
        try:
            listed = GenerationConfig.from_pretrained(model, revision=revision).eos_token_id
        except OSError:  # a model without a generation config
            listed = None
    ids = {tokenizer.eos_token_id, *(listed if isinstance(listed, list) else [listed])} - {None}
    if not ids:
        raise InputError(f"{tokenizer.name_or_path}: neither tokenizer nor model has an EOS token")
    return tuple(sorted(ids))


def encode_prompts(
    tokenizer: PreTrainedTokenizerBase, problems: pd.DataFrame, max_tokens: int, context: int
) -> dict[tuple[str, str], tuple[int, ...]]:
    """Encode every problem's prompt.

    Raises:
        InputError: a prompt and `max_tokens` do not fit into the model's context together.
    """
    prompts = {}
    for benchmark, problem_id, text in zip(problems["benchmark"], problems["id"], problems["problem"], strict=True):
        ids = tuple(encode_prompt(tokenizer, text))
        if len(ids) + max_tokens > context:
            raise InputError(
                f"problems: {benchmark} {problem_id}: a prompt of {len(ids)} tokens and max_tokens {max_tokens} do not "
                f"fit into the model's context of {context}"
            )
        prompts[str(benchmark), str(problem_id)] = ids
    return prompts
