"""The paper's models by their shape: what a prompt becomes, where a response ends, which precision, what is refused."""

import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from standins import (
    CONFIGS,
    DATED,
    FORMS,
    PARAMETERS,
    SPECIAL,
    TEMPLATES,
    shrunk,
    standin_folder,
    tekken_folder,
    tokenizer_of,
)
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from sftrl.chat import encode_example, encode_prompt, render_prompt, template_hash, turn_end
from sftrl.errors import InputError
from sftrl.loss import response_loss
from sftrl.models import (
    VLLM_FORMAT,
    context_length,
    is_adapter,
    load_model,
    load_tokenizer,
    merge_adapter,
    resolved_dtype,
    stop_ids,
)
from sftrl.recipes import Checkpoint

PROMPT = "What is 1 + 2?\n\nPut it in \\boxed{}."
ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A stand-in of each model, in bfloat16 as the real ones are."""
    root = tmp_path_factory.mktemp("standins")
    return {name: standin_folder(root / name, name, dtype="bfloat16") for name in CONFIGS}


def at(folder, **options) -> Checkpoint:
    return Checkpoint(model=str(folder), **options)


# --- shape -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CONFIGS)
def test_the_shapes_are_the_published_models(name):
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(CONFIGS[name])
    assert model.num_parameters() == PARAMETERS[name]


@pytest.mark.parametrize("name", CONFIGS)
def test_a_stand_in_is_loaded_and_scored_as_the_real_model_would_be(folders, name):
    checkpoint = at(folders[name], dtype="float32")
    model, tokenizer = load_model(checkpoint), load_tokenizer(checkpoint)
    assert model.config.num_attention_heads > model.config.num_key_value_heads
    assert (model.get_output_embeddings().weight is model.get_input_embeddings().weight) == name.startswith("qwen")
    row = {"id": "a", "prompt": PROMPT, "response": "It is \\boxed{3}."}
    ids, start = encode_example(tokenizer, row["prompt"], row["response"])
    chances = model(torch.tensor([ids])).logits[0].log_softmax(-1)
    expected = -sum(chances[i - 1, ids[i]].item() for i in range(start, len(ids)))
    assert response_loss(model, tokenizer, [row]).nll_sum == pytest.approx(expected, rel=1e-5)
    assert context_length(checkpoint) == 512


def test_scaled_positions_reach_the_model(tmp_path):
    scaling = {"rope_type": "llama3", "rope_theta": 500_000.0, "factor": 8.0, "low_freq_factor": 1.0,
               "high_freq_factor": 4.0, "original_max_position_embeddings": 64}  # fmt: skip
    plain = load_model(at(standin_folder(tmp_path / "plain", "llama3-8b")))
    scaled = load_model(at(standin_folder(tmp_path / "scaled", "llama3-8b", rope_parameters=scaling)))
    ids = torch.arange(4, 200)[None] % 280
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), scaled.parameters(), strict=True))
    assert not torch.allclose(plain(ids).logits, scaled(ids).logits)


# --- tokens ----------------------------------------------------------------------------------------------------------


EXPECTED = {
    "llama3": "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\n" + PROMPT
    + "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
    "mistral": "<s>[INST]" + PROMPT + "[/INST]",
    "chatml": "<|im_start|>user\n" + PROMPT + "<|im_end|>\n<|im_start|>assistant\n",
    "plain": "<|begin_of_text|>" + PROMPT,
}  # fmt: skip


@pytest.fixture(params=TEMPLATES)
def form(request, tmp_path):
    """A form's name, and its tokenizer as `load_tokenizer` settles it."""
    tokenizer = tokenizer_of(request.param)
    tokenizer.save_pretrained(tmp_path)
    shrunk("llama3-8b", tokenizer).save_pretrained(tmp_path)
    template = "plain" if request.param == "plain" else None
    return request.param, load_tokenizer(at(tmp_path, template=template))


def test_a_prompt_is_what_the_form_says_with_bos_once(form):
    name, tokenizer = form
    assert render_prompt(tokenizer, PROMPT) == EXPECTED[name]
    ids = encode_prompt(tokenizer, PROMPT)
    assert tokenizer.decode(ids) == EXPECTED[name]
    assert tokenizer.bos_token_id is None or ids.count(tokenizer.bos_token_id) == 1


def test_sft_evaluation_and_rl_read_the_same_prompt_ids(form, tmp_path):
    """TRL renders the prompts of GRPO itself: a conversation by the chat template, plain text by the tokenizer."""
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    _, tokenizer = form
    model = AutoModelForCausalLM.from_config(shrunk("llama3-8b", tokenizer))
    seen = []
    generate = model.generate

    def watched(*args, input_ids=None, attention_mask=None, **kwargs):
        seen.extend(row[mask.bool()].tolist() for row, mask in zip(input_ids, attention_mask, strict=True))
        return generate(*args, input_ids=input_ids, attention_mask=attention_mask, **kwargs)

    model.generate = watched
    asked = [PROMPT, "1+1?"]
    prompts = [[{"role": "user", "content": p}] for p in asked] if tokenizer.chat_template else asked
    GRPOTrainer(
        model=model,
        reward_funcs=lambda completions, **_: [0.0] * len(completions),
        args=GRPOConfig(
            output_dir=str(tmp_path / "trl"), max_steps=1, per_device_train_batch_size=4, num_generations=2,
            max_completion_length=2, report_to="none", save_strategy="no", bf16=False,
        ),
        train_dataset=Dataset.from_list([{"prompt": prompt} for prompt in prompts]),
        processing_class=tokenizer,
    ).train()  # fmt: skip
    wanted = [encode_prompt(tokenizer, p) for p in asked]
    assert {tuple(ids) for ids in seen} == {tuple(ids) for ids in wanted}
    for prompt, ids in zip(asked, wanted, strict=True):
        example, length = encode_example(tokenizer, prompt, "3")
        assert example[:length] == ids


def test_an_example_is_the_conversation_up_to_its_end(form):
    name, tokenizer = form
    ids, _ = encode_example(tokenizer, PROMPT, "It is 3.")
    if tokenizer.chat_template is None:
        assert tokenizer.decode(ids) == EXPECTED[name] + "It is 3." + "<|end_of_text|>"
        return
    turns = [{"role": "user", "content": PROMPT}, {"role": "assistant", "content": "It is 3."}]
    whole = tokenizer.apply_chat_template(turns, tokenize=False)
    assert whole.rstrip("\n") == tokenizer.decode(ids)
    assert turn_end(tokenizer) == tokenizer.eos_token


def test_a_bos_that_the_tokenizer_does_not_put_is_not_put():
    tokenizer = tokenizer_of("chatml")
    tokenizer.chat_template, tokenizer.bos_token = None, "<|endoftext|>"  # as GPT-2's, which is named and not used
    assert render_prompt(tokenizer, "a") == "a"


# --- ends ------------------------------------------------------------------------------------------------------------


ENDS = {"llama3-8b": {"<|eot_id|>"}, "mistral-nemo-12b": {"</s>"}, "qwen3-4b": {"<|im_end|>", "<|endoftext|>"},
        "qwen3-0.6b": {"<|im_end|>", "<|endoftext|>"}}  # fmt: skip


@pytest.mark.parametrize("name", CONFIGS)
def test_ends_are_settled_by_rule(folders, name):
    checkpoint = at(folders[name])
    tokenizer = load_tokenizer(checkpoint)
    ids = stop_ids(checkpoint, tokenizer)
    assert set(tokenizer.convert_ids_to_tokens(list(ids))) == ENDS[name]
    assert tokenizer.eos_token_id in ids
    # A response under ChatML ends with its turn, although the tokenizer's own EOS is another token.
    assert tokenizer.eos_token == ("<|im_end|>" if FORMS[name] == "chatml" else SPECIAL[FORMS[name]]["eos_token"])
    assert load_model(checkpoint).generation_config.eos_token_id == list(ids)


def test_eos_and_stop_can_be_named(folders):
    checkpoint = at(folders["qwen3-4b"], eos="<|endoftext|>", stop=["<|im_start|>"])
    tokenizer = load_tokenizer(checkpoint)
    assert tokenizer.eos_token == "<|endoftext|>"
    ends = tokenizer.convert_ids_to_tokens(list(stop_ids(checkpoint, tokenizer)))
    assert set(ends) == {"<|endoftext|>", "<|im_start|>", "<|im_end|>"}


def test_every_end_that_the_files_list_counts_and_no_decoding_does(tmp_path):
    """Llama 3's generation_config.json lists two ends and a temperature; how to draw is the study's to say."""
    folder = standin_folder(tmp_path, "llama3-8b")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    listed = tokenizer.convert_tokens_to_ids(["<|end_of_text|>", "<|eot_id|>"])
    GenerationConfig(eos_token_id=listed, do_sample=True, temperature=0.6, top_p=0.9).save_pretrained(folder)
    model = load_model(at(folder))
    assert model.generation_config.eos_token_id == sorted(listed)
    assert (model.generation_config.temperature, model.generation_config.top_p) == (None, None)


def test_what_is_saved_is_loaded_alike(folders, tmp_path):
    """What SFT leaves behind, read by anyone: the same ends, the same prompt."""
    checkpoint = at(folders["qwen3-4b"])
    tokenizer = load_tokenizer(checkpoint)
    load_model(checkpoint).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    again = checkpoint.at(tmp_path)
    assert stop_ids(again, load_tokenizer(again)) == stop_ids(checkpoint, tokenizer)
    other = AutoTokenizer.from_pretrained(tmp_path)
    assert (other.eos_token, render_prompt(other, PROMPT)) == (tokenizer.eos_token, render_prompt(tokenizer, PROMPT))
    assert list(stop_ids(checkpoint, tokenizer)) == GenerationConfig.from_pretrained(tmp_path).eos_token_id


# --- the date --------------------------------------------------------------------------------------------------------


def test_a_template_with_a_date_says_the_same_every_day(tmp_path, monkeypatch):
    from datetime import datetime

    from transformers.utils import chat_template_utils

    folder = standin_folder(tmp_path / "model", "llama3-8b", template=DATED)
    tokenizer, untouched = load_tokenizer(at(folder)), AutoTokenizer.from_pretrained(folder)

    def on(day: int):
        class Clock(datetime):
            @classmethod
            def now(cls, *_):
                return cls(2031, 1, day)

        monkeypatch.setattr(chat_template_utils, "datetime", Clock)
        return template_hash(tokenizer), template_hash(untouched), render_prompt(tokenizer, "a")

    (first, loose, text), (second, looser, _) = on(1), on(2)
    assert loose != looser  # the fault is there, on the template as published
    assert first == second
    assert "Today Date: 26 Jul 2024\n" in text
    tokenizer.save_pretrained(tmp_path / "saved")
    assert render_prompt(AutoTokenizer.from_pretrained(tmp_path / "saved"), "a") == text


def test_a_date_in_a_form_unknown_here_is_refused(tmp_path):
    folder = standin_folder(tmp_path, "llama3-8b", template=DATED.replace("%d %b %Y", "%A"))
    with pytest.raises(InputError, match="prints today's date as %A"):
        load_tokenizer(at(folder))


# --- tekken ----------------------------------------------------------------------------------------------------------


HARD = "It's 12345 + é? \n\nTHIS isCamelCase $\\frac{1}{2}$\tand 数学\r\n  </s> [INST] end"
ALONE = """
import json, sys
if sys.argv[2] == "without":
    sys.modules["mistral_common"] = None
from sftrl.chat import encode_example
from sftrl.models import load_tokenizer
from sftrl.recipes import Checkpoint
tokenizer = load_tokenizer(Checkpoint(model=sys.argv[1]))
print(json.dumps([type(tokenizer).__name__, *encode_example(tokenizer, sys.argv[3], "3")]))
"""


@pytest.fixture(scope="module")
def nemo(tmp_path_factory):
    pytest.importorskip("mistral_common")
    return tekken_folder(tmp_path_factory.mktemp("nemo"))


def test_nemos_ids_are_those_of_its_makers_library_with_and_without_it(nemo, tmp_path):
    from mistral_common.tokens.tokenizers.tekken import Tekkenizer

    assert type(AutoTokenizer.from_pretrained(nemo)).__name__ == "MistralCommonBackend"  # the fault: and no template
    tokenizer = load_tokenizer(at(nemo))
    plain = HARD.replace("</s>", "").replace("[INST]", "")  # in a text, the makers' library reads no special token
    reference = Tekkenizer.from_file(str(nemo / "tekken.json")).encode(plain, bos=False, eos=False)
    assert encode_prompt(tokenizer, plain) == [1, 3, *reference, 4]

    ids = [tokenizer.__class__.__name__, *encode_example(tokenizer, HARD, "3")]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", ALONE, str(nemo), "without", HARD]
    found = subprocess.run(command, capture_output=True, text=True, env=environment, check=True).stdout
    assert json.loads(found) == ids

    tokenizer.save_pretrained(tmp_path)
    shrunk("mistral-nemo-12b", tokenizer).save_pretrained(tmp_path)
    assert [type(tokenizer).__name__, *encode_example(load_tokenizer(at(tmp_path)), HARD, "3")] == ids


@pytest.mark.vllm
def test_vllm_reads_the_files_that_training_reads(tmp_path):
    """Mistral's repositories hold each model twice, and vLLM by itself takes the copy that nothing else reads."""
    engine = pytest.importorskip("vllm.engine.arg_utils").EngineArgs
    folder = standin_folder(tmp_path, "mistral-nemo-12b", dtype="bfloat16")
    (folder / "consolidated.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    sizes = {"dim": 64, "n_layers": 2, "head_dim": 32, "hidden_dim": 128, "n_heads": 4, "n_kv_heads": 1,
             "norm_eps": 1e-5, "vocab_size": 285, "rope_theta": 1e6, "max_position_embeddings": 512}  # fmt: skip
    (folder / "params.json").write_text(json.dumps(sizes))

    def read_as(**options) -> str:
        return type(engine(model=str(folder), dtype="bfloat16", **options).create_model_config().hf_config).__name__

    assert read_as() == "PreTrainedConfig"  # the fault: made of params.json
    assert read_as(**VLLM_FORMAT) == "MistralConfig"


# --- precision -------------------------------------------------------------------------------------------------------


def test_auto_is_the_precision_on_disk_and_one_for_all(folders, tmp_path):
    checkpoint = at(folders["llama3-8b"])
    assert resolved_dtype(checkpoint) == "bfloat16"
    assert load_model(checkpoint).dtype == torch.bfloat16
    whole = at(folders["llama3-8b"], dtype="float32")
    assert resolved_dtype(whole) == "float32"
    assert load_model(whole).dtype == torch.float32
    settings = json.loads((folders["llama3-8b"] / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({k: v for k, v in settings.items() if k != "dtype"}))
    with pytest.raises(InputError, match=r"config\.json names no dtype; give `dtype`"):
        resolved_dtype(at(tmp_path))


def test_attention_can_be_named(folders):
    eager, sdpa = (load_model(at(folders["qwen3-4b"], dtype="float32", attention=how)) for how in ("eager", "sdpa"))
    assert (eager.config._attn_implementation, sdpa.config._attn_implementation) == ("eager", "sdpa")
    ids = torch.arange(5, 60)[None]
    assert torch.allclose(eager(ids).logits, sdpa(ids).logits, atol=1e-4)


# --- adapters --------------------------------------------------------------------------------------------------------


@pytest.fixture
def adapter(tmp_path):
    """A LoRA adapter that changes something, and its base."""
    from peft import LoraConfig, get_peft_model

    base = standin_folder(tmp_path / "base", "qwen3-4b")
    torch.manual_seed(1)
    model = get_peft_model(
        load_model(at(base)), LoraConfig(r=4, target_modules=["q_proj", "down_proj"], init_lora_weights=False)
    )
    model.save_pretrained(tmp_path / "adapter")
    return base, tmp_path / "adapter", model.eval()


def test_an_adapter_is_a_checkpoint_merged_into_its_base(adapter, tmp_path):
    base, folder, unmerged = adapter
    checkpoint = at(folder)
    assert is_adapter(checkpoint)
    assert not is_adapter(at(base))
    merged = load_model(checkpoint)
    ids = torch.arange(5, 60)[None]
    assert type(merged) is type(load_model(at(base)))
    assert torch.allclose(merged(ids).logits, unmerged(ids).logits, atol=1e-4)
    assert not torch.allclose(merged(ids).logits, load_model(at(base))(ids).logits, atol=1e-2)
    assert encode_prompt(load_tokenizer(checkpoint), PROMPT) == encode_prompt(load_tokenizer(at(base)), PROMPT)
    written = merge_adapter(checkpoint, tmp_path / "merged")
    assert not is_adapter(written)
    assert torch.equal(load_model(written)(ids).logits, merged(ids).logits)


def test_an_adapter_without_its_base_is_named_before_anything_is_loaded(adapter, tmp_path):
    base, folder, _ = adapter
    moved = base.rename(tmp_path / "elsewhere")
    for call in (load_model, load_tokenizer, resolved_dtype):
        with pytest.raises(InputError, match=r"adapter: the base of this adapter is not there: .*base: no such folder"):
            call(at(folder))
    assert load_model(at(folder, base=str(moved))).config.model_type == "qwen3"
    settings = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps(settings | {"base_model_name_or_path": None}))
    with pytest.raises(InputError, match="names no base model; give its folder or name as `base`"):
        load_model(at(folder))
    with pytest.raises(InputError, match="is no adapter"):
        load_model(at(moved, base="x"))


# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": "/nowhere/at/all"}, "/nowhere/at/all: no such folder"),
        ({"model": "./not/there"}, "./not/there: no such folder"),
        ({"revision": "main"}, "a folder has no revision; leave `revision` out"),
        ({"template": "no/such.jinja"}, "no/such.jinja: no such template file"),
        ({"eos": "<|nope|>"}, r"'<\|nope\|>', given to end a response, is no token of its vocabulary"),
        ({"stop": ["<|nope|>"]}, r"'<\|nope\|>', given to end a response"),
    ],
)
def test_slips_are_named_before_any_weight_is_loaded(folders, options, message, monkeypatch):
    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", None)
    with pytest.raises(InputError, match=message):
        load_model(Checkpoint(**({"model": str(folders["qwen3-4b"])} | options)))


def test_a_missing_template_is_asked_for(folders, tmp_path):
    tokenizer = tokenizer_of("plain")
    tokenizer.save_pretrained(tmp_path)
    shrunk("llama3-8b", tokenizer).save_pretrained(tmp_path)
    with pytest.raises(InputError, match="no chat template; give a file as `template`, or `template: plain`"):
        load_tokenizer(at(tmp_path))
    given = tmp_path / "mine.jinja"
    given.write_text(TEMPLATES["mistral"])
    assert render_prompt(load_tokenizer(at(tmp_path, template=str(given))), "a") == "<|begin_of_text|>[INST]a[/INST]"
    given.write_text("{{ raise_exception('only with tools') }}")
    with pytest.raises(InputError, match="cannot render one user turn: only with tools"):
        load_tokenizer(at(tmp_path, template=str(given)))


def test_a_folder_that_is_no_model_is_named(tmp_path):
    with pytest.raises(InputError, match=r"has no config\.json"):
        load_tokenizer(at(tmp_path))
    (tmp_path / "config.json").write_text('{"model_type": "unheard-of"}')
    with pytest.raises(InputError, match=r"config\.json cannot be used: .*unheard-of"):
        resolved_dtype(at(tmp_path))


class Hub(BaseHTTPRequestHandler):
    """Answers as the hub does for a gated model, an absent one, and one without the revision asked for."""

    def do_GET(self):
        if self.path.startswith("/gated/"):
            status, reason = 403, "GatedRepo"
        elif self.path.startswith("/absent/"):
            status, reason = 404, "RepoNotFound"
        else:
            status, reason = 404, "RevisionNotFound" if "/v9/" in self.path else "EntryNotFound"
        self.send_response(status)
        self.send_header("X-Error-Code", reason)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_HEAD = do_GET

    def log_message(self, *_):
        pass


ASK = """
import sys
from sftrl.errors import InputError
from sftrl.models import load_model
from sftrl.recipes import Checkpoint
for words in sys.argv[1:]:
    model, _, revision = words.partition("@")
    try:
        print(load_model(Checkpoint(model=model, revision=revision or None)).config.model_type)
    except InputError as error:
        print(error)
"""


def test_what_the_hub_refuses_is_said_in_one_line(tmp_path):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    environment = os.environ | {
        "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}", "HF_HUB_OFFLINE": "0",
        "HF_HOME": str(tmp_path), "PYTHONPATH": str(ROOT),
    }  # fmt: skip
    asked = ["gated/m", "absent/m", "there/m@v9", "there/m"]
    try:
        lines = subprocess.run(
            [sys.executable, "-c", ASK, *asked], capture_output=True, text=True, env=environment, check=True
        ).stdout.splitlines()
    finally:
        server.shutdown()
    assert lines[0].startswith("gated/m: gated; ask for access")
    assert lines[1].startswith("absent/m: no such folder, and no such model on the hub")
    assert lines[2].startswith("there/m: has no revision 'v9'")
    assert lines[3].startswith("there/m: has no config.json")


def test_a_model_fetched_before_needs_no_hub(folders, tmp_path):
    """A compute node without a network: the files that the cache holds are all there is."""
    snapshot = tmp_path / "hub" / "models--some--model" / "snapshots" / "abc"
    snapshot.parent.mkdir(parents=True)
    snapshot.symlink_to(folders["qwen3-4b"])
    references = snapshot.parent.parent / "refs"
    references.mkdir()
    (references / "main").write_text("abc")
    environment = os.environ | {"HF_HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    lines = subprocess.run(
        [sys.executable, "-c", ASK, "some/model", "other/model@v1"],
        capture_output=True, text=True, env=environment, check=True,
    ).stdout.splitlines()  # fmt: skip
    assert lines == [
        "qwen3",
        "other/model: no such folder, not in the cache at revision v1, and the hub is out of reach",
    ]
