"""From text to token ids, in one place: training, loss and sampling must see identical tokens.

A prompt becomes one user turn of the tokenizer's chat template, followed by the template's generation prompt. A
response is the assistant's turn: its text, then the EOS token. A tokenizer without a chat template gets the prompt as
plain text, after the BOS token if the tokenizer itself puts one before a text. Special tokens are never added twice: a
template writes its own BOS, so its text is encoded with `add_special_tokens=False`.
"""

from sftrl.errors import InputError
from sftrl.files import hash_value


def render_prompt(tokenizer, prompt: str) -> str:
    """Return the text that the model reads before it answers, special tokens included."""
    if tokenizer.chat_template:
        return tokenizer.apply_chat_template(
            [{"role": "user", "content": prompt}], tokenize=False, add_generation_prompt=True
        )
    return _first_token(tokenizer) + prompt


def _first_token(tokenizer) -> str:
    """Return the BOS token if the tokenizer by itself puts it before a text; a BOS that it has need not be used."""
    first = tokenizer("a")["input_ids"][:1]
    return tokenizer.bos_token if tokenizer.bos_token and first == [tokenizer.bos_token_id] else ""


def turn_end(tokenizer) -> str | None:
    """Return the special token with which the chat template ends an assistant's turn, or None if it ends with none."""
    reply = "REPLY"
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": reply}]
    after = tokenizer.apply_chat_template(turns, tokenize=False).rpartition(reply)[2].lstrip()
    special = [token.content for token in tokenizer.added_tokens_decoder.values() if token.special]
    return max((token for token in special if after.startswith(token)), key=len, default=None)


def encode_prompt(tokenizer, prompt: str) -> list[int]:
    """Return the prompt's token ids, up to where the response begins."""
    return tokenizer(render_prompt(tokenizer, prompt), add_special_tokens=False)["input_ids"]


def encode_example(tokenizer, prompt: str, response: str) -> tuple[list[int], int]:
    """Return the ids of prompt, response and EOS, and how many of them are the prompt's.

    Prompt and response are encoded apart, as they are met when sampling, so that no token straddles the border.

    Raises:
        InputError: the tokenizer has no EOS token, or the response has no token of its own.
    """
    if tokenizer.eos_token_id is None:
        raise InputError(f"{tokenizer.name_or_path}: the tokenizer has no EOS token, so no response would ever end")
    prompt_ids = encode_prompt(tokenizer, prompt)
    response_ids = tokenizer(response, add_special_tokens=False)["input_ids"]
    if not response_ids:
        raise InputError(f"empty response to the prompt {prompt[:60]!r}")
    return prompt_ids + response_ids + [tokenizer.eos_token_id], len(prompt_ids)


def template_hash(tokenizer) -> str:
    """Name how prompts become text: the hash of a rendered probe, which changes when the template does."""
    return hash_value(render_prompt(tokenizer, "probe"))
