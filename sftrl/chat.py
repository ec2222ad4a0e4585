"""From text to token ids, in one place: training, loss and sampling must see the very same tokens.

A prompt becomes one user turn of the tokenizer's chat template, followed by the template's generation prompt. A
response is the assistant's turn: its text, then the EOS token. A tokenizer without a chat template gets the prompt as
plain text after its BOS token, if it has one. Special tokens are never added twice: a template writes its own BOS, so
its text is encoded with `add_special_tokens=False`.
"""

from sftrl.errors import InputError
from sftrl.files import hash_value


def render_prompt(tokenizer, prompt: str) -> str:
    """Return the text that the model reads before it answers, special tokens included."""
    if tokenizer.chat_template:
        return tokenizer.apply_chat_template(
            [{"role": "user", "content": prompt}], tokenize=False, add_generation_prompt=True
        )
    return (tokenizer.bos_token or "") + prompt


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
