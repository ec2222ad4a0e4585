"""Load a checkpoint: its tokenizer with template and stop tokens, its weights in one precision, adapters merged.

Special tokens follow these rules, the same for every user of the checkpoint:

* EOS, which training appends to a response: `eos` of the recipe; or the token with which the chat template ends an
  assistant's turn; or the tokenizer's own.
* Stop tokens, which end a sampled response: EOS, the token that ends the template's turn, those that `config.json` and
  `generation_config.json` list, and `stop` of the recipe. A base model under a ChatML template so stops at `<|im_end|>`
  and at `<|endoftext|>`.
* BOS: whatever the template writes; without a template, what the tokenizer puts before a text by itself.
* Padding: the tokenizer's own token, or EOS. Padding is never recognized by its id.
"""

import re
from pathlib import Path

import torch
from jinja2 import TemplateError
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as transformers_logging

from sftrl.chat import render_prompt, turn_end
from sftrl.errors import InputError
from sftrl.models.locate import Place, find_file, load_config, locate, resolved_dtype
from sftrl.recipes import Checkpoint

PLAIN = "plain"
DATE = {"%d %b %Y": "26 Jul 2024", "%Y-%m-%d": "2024-07-26", "%d %B %Y": "26 July 2024", "%B %d, %Y": "July 26, 2024"}


def load_tokenizer(checkpoint: Checkpoint) -> PreTrainedTokenizerBase:
    """Load the tokenizer of a checkpoint: left padding, the template with a fixed date, EOS and padding tokens set.

    Raises:
        InputError: no tokenizer there; no template, and none given; a template that cannot be read, or that prints the
            date in a form unknown here; `eos` or `stop` that are no single tokens.
    """
    place = locate(checkpoint)
    tokenizer = _read_tokenizer(place)
    tokenizer.chat_template = _template(checkpoint, tokenizer)
    try:
        render_prompt(tokenizer, "a")
    except (TemplateError, TypeError) as error:
        raise InputError(f"{checkpoint.model}: its chat template cannot render one user turn: {error}") from error
    eos = checkpoint.eos or (tokenizer.chat_template and turn_end(tokenizer)) or tokenizer.eos_token
    for token in (*checkpoint.stop, *([eos] if eos else [])):
        if token not in tokenizer.get_vocab():
            raise InputError(f"{checkpoint.model}: {token!r}, given to end a response, is no token of its vocabulary")
    if eos is None:
        raise InputError(
            f"{checkpoint.model}: the tokenizer has no EOS token; name the one that ends a response: `eos`"
        )
    tokenizer.eos_token = eos
    if tokenizer.pad_token is None:
        tokenizer.pad_token = eos
    return tokenizer


def _read_tokenizer(place: Place) -> PreTrainedTokenizerBase:
    folder, revision = place.weights, place.revision
    if place.adapter and find_file(place.adapter, place.adapter_revision, "tokenizer_config.json"):
        folder, revision = place.adapter, place.adapter_revision
    options = {"revision": revision, "padding_side": "left"}
    if find_file(folder, revision, "tekken.json") and find_file(folder, revision, "tokenizer.json"):
        # With mistral-common installed, transformers would read tekken.json: no chat template, and other ids.
        options |= {"mistral_format": False, "fix_mistral_regex": True}
    try:
        return AutoTokenizer.from_pretrained(folder, **options)
    except (OSError, ValueError, ImportError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(f"{folder}: its tokenizer cannot be loaded: {reason}") from error


def _template(checkpoint: Checkpoint, tokenizer: PreTrainedTokenizerBase) -> str | None:
    """Return the chat template that prompts go through, with a fixed date; None for plain text."""
    if checkpoint.template == PLAIN:
        return None
    if checkpoint.template is None:
        template = tokenizer.chat_template
        if isinstance(template, dict):
            template = template.get("default")
        if not template:
            raise InputError(
                f"{checkpoint.model}: the tokenizer has no chat template; give a file as `template`, or "
                "`template: plain` for prompts as they are"
            )
    elif not Path(checkpoint.template).is_file():
        raise InputError(f"{checkpoint.template}: no such template file (or write `plain` for prompts as they are)")
    else:
        template = Path(checkpoint.template).read_text(encoding="utf-8")
    return fix_date(template, checkpoint.model)


def fix_date(template: str, name: str) -> str:
    """Return the template with one fixed date in the place of today's, so that prompts are the same every day.

    The date is the one that Llama 3.1's template has for a default. The template itself defines the function that
    prints it, so that whoever renders the saved tokenizer's template prints it too.
    """
    calls = re.findall(r"strftime_now\s*\(([^)]*)\)", template)
    if not calls or "macro strftime_now(" in template:
        return template
    formats = {call.strip().strip("'\"") for call in calls}
    unknown = sorted(formats - set(DATE))
    if unknown:
        raise InputError(
            f"{name}: its chat template prints today's date as {unknown[0]}, so prompts would change from day to day; "
            "give a `template` without it"
        )
    cases = "".join(f"{{%- if format == '{form}' -%}}{DATE[form]}{{%- endif -%}}" for form in sorted(formats))
    return f"{{%- macro strftime_now(format) -%}}{cases}{{%- endmacro -%}}" + template


def stop_ids(checkpoint: Checkpoint, tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    """Return the ids that end a sampled response, in increasing order."""
    place = locate(checkpoint)
    listed = [load_config(checkpoint).get_text_config().eos_token_id]
    if find_file(place.weights, place.revision, "generation_config.json"):
        listed.append(GenerationConfig.from_pretrained(place.weights, revision=place.revision).eos_token_id)
    ids = {tokenizer.eos_token_id}
    for ends in listed:
        ids |= set(ends) if isinstance(ends, list) else {ends}
    named = [*checkpoint.stop, turn_end(tokenizer)] if tokenizer.chat_template else checkpoint.stop
    ids |= {tokenizer.convert_tokens_to_ids(token) for token in named if token}
    return tuple(sorted(ids - {None}))


def load_model(checkpoint: Checkpoint, *, dtype: str | None = None, device: str | None = None) -> PreTrainedModel:
    """Load the weights of a checkpoint, an adapter merged; in its precision and on the GPU where there is one.

    Its generation settings are the ids that end, begin and pad a response, and nothing else: how a response is drawn is
    the study's to say, and TRL, vLLM and `generate` read the ends from there.
    """
    tokenizer = load_tokenizer(checkpoint)
    ends = list(stop_ids(checkpoint, tokenizer))
    place = locate(checkpoint)
    transformers_logging.disable_progress_bar()  # a bar of loaded weights is noise in a log and in a notebook
    try:
        model = AutoModelForCausalLM.from_pretrained(
            place.weights,
            revision=place.revision,
            dtype=dtype or resolved_dtype(checkpoint),
            attn_implementation=checkpoint.attention,
        )
    except (OSError, ValueError, ImportError) as error:
        raise InputError(f"{place.weights}: cannot be loaded: {str(error).strip().splitlines()[0]}") from error
    if place.adapter:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, place.adapter, revision=place.adapter_revision).merge_and_unload()
    model.generation_config = GenerationConfig(
        eos_token_id=ends, bos_token_id=tokenizer.bos_token_id, pad_token_id=tokenizer.pad_token_id
    )
    return model.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))


def merge_adapter(checkpoint: Checkpoint, folder: str | Path) -> Checkpoint:
    """Write an adapter and its base as one ordinary model, for engines that read a folder; return its checkpoint."""
    load_model(checkpoint).save_pretrained(folder)
    load_tokenizer(checkpoint).save_pretrained(folder)
    return checkpoint.at(folder)
