"""A checkpoint's files, and what they say before any weight is loaded: architecture, precision, context.

A PEFT adapter is a checkpoint too: its weights are its base's, and `adapter_config.json` beside it says which that is.
"""

import json
import sys
from pathlib import Path
from typing import NamedTuple

from huggingface_hub import errors
from transformers import AutoConfig, PreTrainedConfig
from transformers.utils.hub import cached_file

from sftrl.errors import InputError
from sftrl.files import is_path
from sftrl.recipes import Checkpoint

ADAPTER = "adapter_config.json"
# Arguments of vLLM's engine. By itself it reads params.json, consolidated.safetensors and tekken.json where they lie
# beside config.json, as in Mistral's repositories: other files than training and the loss read.
VLLM_FORMAT = {"config_format": "hf", "load_format": "hf", "tokenizer_mode": "hf"}
OUT_OF_REACH = (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled, ConnectionError)


class Place(NamedTuple):
    """The full weights' folder or hub name and revision, and the adapter's where there is one."""

    weights: str
    revision: str | None
    adapter: str | None = None
    adapter_revision: str | None = None


def locate(checkpoint: Checkpoint) -> Place:
    """Find a checkpoint's weights.

    Raises:
        InputError: no such model or revision, no access to it, or an adapter without its base.
    """
    model, revision = checkpoint.model, checkpoint.revision
    described = find_file(model, revision, ADAPTER)
    if described is None:
        if checkpoint.base is not None:
            raise InputError(f"{model}: is no adapter ({ADAPTER} is not there); leave `base` out")
        return _whole(Place(model, revision))
    adapter = json.loads(Path(described).read_text(encoding="utf-8"))
    base = checkpoint.base or adapter.get("base_model_name_or_path")
    if not base:
        raise InputError(f"{model}: an adapter whose {ADAPTER} names no base model; give its folder or name as `base`")
    # The revision that the adapter was trained on is written beside the base's name, and is that name's.
    place = Place(base, adapter.get("revision") if checkpoint.base is None else None, model, revision)
    try:
        return _whole(place)
    except InputError as error:
        raise InputError(f"{model}: the base of this adapter is not there: {error}; give its place as `base`") from None


def _whole(place: Place) -> Place:
    find_file(place.weights, place.revision, "config.json", needed=True)
    return place


def is_adapter(checkpoint: Checkpoint) -> bool:
    """Whether the checkpoint is an adapter, to be merged into its base, rather than a whole model."""
    return locate(checkpoint).adapter is not None


def find_file(model: str, revision: str | None, name: str, *, needed: bool = False) -> str | None:
    """Return the local path of one of a model's files, fetched from the hub if need be; None if it has no such file.

    Where the hub is out of reach, what the cache holds is all there is; a file that is `needed` must be there.

    Raises:
        InputError: there is no such model or revision, or no access to it.
    """
    found = _in_folder(model, revision, name) if Path(model).is_dir() else _on_hub(model, revision, name, needed)
    if needed and found is None:
        raise InputError(f"{model}: has no {name}, so it is no model that transformers can load")
    return found


def _in_folder(model: str, revision: str | None, name: str) -> str | None:
    if revision is not None:
        raise InputError(f"{model}: a folder has no revision; leave `revision` out, or give a name on the hub")
    path = Path(model) / name
    return str(path) if path.is_file() else None


def _on_hub(model: str, revision: str | None, name: str, needed: bool) -> str | None:
    if is_path(model):
        raise InputError(f"{model}: no such folder")
    try:
        return cached_file(model, name, revision=revision, _raise_exceptions_for_missing_entries=needed)
    except (OSError, ValueError) as error:
        if _any_is(error, errors.RemoteEntryNotFoundError) or (not needed and _any_is(error, *OUT_OF_REACH)):
            return None
        raise InputError(_why(model, revision, error)) from error


def _any_is(error: BaseException | None, *kinds: type) -> bool:
    """Whether an error, or one that it came from, is of a kind."""
    while error is not None and not isinstance(error, kinds):
        error = error.__cause__ or error.__context__
    return error is not None


def _why(model: str, revision: str | None, error: BaseException) -> str:
    """Say in one line why the hub did not give a model, and what can be done about it."""
    if _any_is(error, errors.GatedRepoError):
        return f"{model}: gated; ask for access on its page on the hub, then log in (`hf auth login` or HF_TOKEN)"
    if _any_is(error, errors.RevisionNotFoundError):
        return f"{model}: has no revision {revision!r}; give a branch, tag or commit that its page on the hub lists"
    if _any_is(error, errors.RepositoryNotFoundError, errors.HFValidationError):
        return f"{model}: no such folder, and no such model on the hub (or a private one: log in with `hf auth login`)"
    if _any_is(error, *OUT_OF_REACH):
        at = f" at revision {revision}" if revision else ""
        return f"{model}: no such folder, not in the cache{at}, and the hub is out of reach"
    return f"{model}: cannot be read: {str(error).strip().splitlines()[0]}"


def load_config(checkpoint: Checkpoint) -> PreTrainedConfig:
    """Return the model's configuration; of an adapter, its base's.

    Raises:
        InputError: as `locate`, or an architecture that transformers does not know.
    """
    place = locate(checkpoint)
    try:
        return AutoConfig.from_pretrained(place.weights, revision=place.revision)
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{place.weights}: config.json cannot be used: {str(error).splitlines()[0]}") from error


def resolved_dtype(checkpoint: Checkpoint) -> str:
    """Return the precision the weights are held in, such as `bfloat16`: the recipe's, or for `auto` the one saved.

    The same for transformers and vLLM, which on their own read `auto` differently (vLLM turns float32 into bfloat16).
    """
    if checkpoint.dtype != "auto":
        return checkpoint.dtype
    dtype = load_config(checkpoint).get_text_config().dtype
    if dtype is None:
        raise InputError(f"{checkpoint.model}: its config.json names no dtype; give `dtype` (float32, bfloat16)")
    return str(dtype).removeprefix("torch.")


def context_length(checkpoint: Checkpoint) -> int:
    """Return the longest sequence that the model takes, prompt and response together, in tokens."""
    limit = getattr(load_config(checkpoint).get_text_config(), "max_position_embeddings", None)
    return limit or sys.maxsize  # an architecture without positions has no limit
