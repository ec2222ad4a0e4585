"""The loss against a plain loop over whole logits, for many architectures, batches, paddings and templates."""

import math
import warnings
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from sftrl import loss
from sftrl.chat import encode_example
from sftrl.errors import InputError
from sftrl.loss import logits, response_loss

LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789+-=. "
USER, ASSISTANT = "{{ bos_token }}<u>{{ messages[0]['content'] }}<a>", "{{ messages[1]['content'] }}"
TURN = "{% if messages|length > 1 %}{% generation %}" + ASSISTANT + "{{ eos_token }}{% endgeneration %}{% endif %}"
TEMPLATES = {
    "none": None,
    "without markers": USER + "{% if messages|length > 1 %}" + ASSISTANT + "{{ eos_token }}{% endif %}",
    "with markers": USER + TURN,
}


def tokenizer_of(template: str | None = None) -> PreTrainedTokenizerFast:
    """One token a letter, and a post-processor that adds a BOS of its own, as many have."""
    names = ["<pad>", "<bos>", "<eos>", "<u>", "<a>", "<unk>", *LETTERS]
    backend = Tokenizer(models.WordLevel({name: i for i, name in enumerate(names)}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    backend.add_special_tokens(names[:6])
    backend.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 1)])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<bos>", eos_token="<eos>", pad_token="<pad>", unk_token="<unk>"
    )
    tokenizer.chat_template = template
    return tokenizer


# Scaled logits, capped logits, a head with a bias, a projection or none of these; mixtures, states, learned positions.
FAMILIES = {
    "Llama": {},
    "Qwen3": {},
    "Mistral": {"sliding_window": 8},
    "Gemma2": {"final_logit_softcapping": 2.0, "query_pre_attn_scalar": 8},
    "NanoChat": {"final_logit_softcapping": 2.0},
    "Cohere": {"logit_scale": 0.25},
    "Granite": {"logits_scaling": 3.0},
    "Phi": {},
    "Mixtral": {"num_local_experts": 4},
    "Mamba": {},
    "GPT2": {"n_embd": 32, "n_layer": 2, "n_head": 4},
    "OPT": {"ffn_dim": 64, "word_embed_proj_dim": 16},
}


def model_of(family: str = "Llama", dtype=torch.float32, **options):
    torch.manual_seed(0)
    shape = {
        "vocab_size": 6 + len(LETTERS),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "max_position_embeddings": 64,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    config = getattr(transformers, family + "Config")(**{**shape, **FAMILIES[family], **options})
    model = AutoModelForCausalLM.from_config(config).to(dtype)
    for parameter in model.get_output_embeddings().parameters():  # sharper than at the start, so that a cap is felt
        parameter.data *= 5
    return model.eval()


@pytest.fixture(scope="module")
def examples():
    random = np.random.default_rng(0)

    def text(most):
        return "".join(random.choice(list(LETTERS), random.integers(1, most)))

    return [{"id": f"e{i}", "prompt": text(20), "response": text(30)} for i in range(23)]


@torch.inference_mode()
def plain(model, tokenizer, examples) -> pd.DataFrame:
    """One example at a time, whole logits, double precision."""
    rows = []
    for example in examples:
        ids, prompt = encode_example(tokenizer, example["prompt"], example["response"])
        logits = model(torch.tensor([ids])).logits[0, prompt - 1 : -1].double()
        targets = torch.tensor(ids[prompt:])
        log_odds = logits.log_softmax(-1)
        nll = -log_odds.gather(1, targets[:, None]).sum().item()
        entropy = -(log_odds.exp() * log_odds).sum().item() / len(targets)
        right = (logits.argmax(-1) == targets).float().mean().item()
        rows.append((example["id"], len(targets), nll, entropy, right))
    return pd.DataFrame(rows, columns=["id", "n_tokens", "nll_sum", "entropy", "token_accuracy"])


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_agrees_with_a_plain_loop(family, examples):
    model, tokenizer = model_of(family), tokenizer_of()
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # none of these needs its logits whole
        got = response_loss(model, tokenizer, examples, token_budget=100)
    want = plain(model, tokenizer, examples)
    pd.testing.assert_frame_equal(got.per_example[list(want)], want, rtol=1e-4)
    assert got.nll_sum == pytest.approx(want["nll_sum"].sum(), rel=1e-5)
    assert got.n_tokens == want["n_tokens"].sum()


def test_logits_changed_in_another_way_are_held_whole(examples):
    model, tokenizer = model_of(), tokenizer_of()
    forward = model.forward

    def odd(*inputs, **options):
        output = forward(*inputs, **options)
        output.logits = output.logits - output.logits.abs()
        return output

    model.forward = odd
    with pytest.warns(UserWarning, match="held whole"):
        got = response_loss(model, tokenizer, examples)
    assert got.nll_sum == pytest.approx(plain(model, tokenizer, examples)["nll_sum"].sum(), rel=1e-5)


def test_states_changed_before_the_head_are_noticed(examples):
    model, tokenizer = model_of(), tokenizer_of()

    def odd(input_ids, **options):
        return SimpleNamespace(logits=model.lm_head(2 * model.model(input_ids=input_ids).last_hidden_state))

    model.forward = odd
    with pytest.warns(UserWarning, match="held whole"):
        got = response_loss(model, tokenizer, examples)
    assert got.nll_sum == pytest.approx(plain(model, tokenizer, examples)["nll_sum"].sum(), rel=1e-5)


@torch.inference_mode()
def plain_kl(model, reference, tokenizer, examples) -> list[float]:
    """KL(model || reference) of each example's response tokens, their mean; one at a time, in double precision."""
    values = []
    for example in examples:
        ids, prompt = encode_example(tokenizer, example["prompt"], example["response"])
        ours, theirs = (m(torch.tensor([ids])).logits[0, prompt - 1 : -1].double() for m in (model, reference))
        ours, theirs = ours.log_softmax(-1), theirs.log_softmax(-1)
        values.append((ours.exp() * (ours - theirs)).sum(-1).mean().item())
    return values


@pytest.mark.parametrize("budget", [1, 10_000])
def test_kl_from_a_reference_agrees_with_a_plain_loop(budget, examples, monkeypatch):
    model, reference, tokenizer = model_of("Gemma2"), model_of("Llama"), tokenizer_of()
    monkeypatch.setitem(loss.CHUNK_LOGITS, "cpu", 10 * model.config.vocab_size)
    told: list[str] = []
    alone = response_loss(model, tokenizer, examples, progress=told.append)
    assert len(set(told[-1].split(" tokens")[0].split(" of "))) == 1  # all of them, and no more
    got = response_loss(model, tokenizer, examples, reference=reference, token_budget=budget)
    want = plain_kl(model, reference, tokenizer, examples)
    assert got.per_example["kl"].tolist() == pytest.approx(want, rel=1e-4)
    assert got.kl == pytest.approx(np.average(want, weights=got.per_example["n_tokens"]), rel=1e-5)
    back = plain_kl(reference, model, tokenizer, examples)
    other = response_loss(reference, tokenizer, examples, reference=model)
    assert other.kl == pytest.approx(np.average(back, weights=got.per_example["n_tokens"]), rel=1e-4)
    assert abs(other.kl - got.kl) > 0.01 * got.kl  # it has a direction
    assert got.nll_sum == pytest.approx(alone.nll_sum, rel=1e-6)
    assert got.entropy == pytest.approx(alone.entropy, rel=1e-6)
    assert alone.kl is None
    assert response_loss(model, tokenizer, examples, reference=model).kl == pytest.approx(0, abs=1e-6)


def test_kl_where_tokens_are_ruled_out(examples):
    model, reference, tokenizer = model_of("Phi"), model_of("Phi"), tokenizer_of()
    reference.lm_head.weight.data *= 2
    for one in (model, reference):
        one.lm_head.bias.data[0] = -math.inf  # <pad>
    want = response_loss(model, tokenizer, examples, reference=reference).kl
    assert 0 < want < math.inf
    reference.lm_head.bias.data[0] = 0  # the model gives it nothing: no part
    assert 0 < response_loss(model, tokenizer, examples, reference=reference).kl < math.inf
    assert response_loss(reference, tokenizer, examples, reference=model).kl == math.inf


def test_a_reference_of_another_vocabulary_is_refused(examples):
    with pytest.raises(InputError, match="reference: its vocabulary has 100 tokens, and the model's 47"):
        response_loss(model_of(), tokenizer_of(), examples, reference=model_of(vocab_size=100))


def test_a_rollout_that_was_cut_off_has_no_eos():
    model, tokenizer = model_of(), tokenizer_of()
    row = {"id": "x", "prompt": "1+2=", "response": "3. "}
    ended, cut = (
        response_loss(model, tokenizer, [row | {"finish_reason": reason}]).per_example.iloc[0]
        for reason in ("stop", "length")
    )
    whole = response_loss(model, tokenizer, [row]).per_example.iloc[0]
    assert (ended["n_tokens"], cut["n_tokens"], whole["n_tokens"]) == (4, 3, 4)
    assert ended["nll_sum"] == whole["nll_sum"] > cut["nll_sum"]


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("budget", [1, 64, 10_000])
def test_batches_order_and_padding_do_not_matter(side, budget, examples):
    model, tokenizer = model_of(), tokenizer_of()
    reference = response_loss(model, tokenizer, examples, token_budget=200)
    tokenizer.padding_side = side
    again = response_loss(model, tokenizer, pd.DataFrame(examples[::-1]), token_budget=budget)
    assert again.per_token == pytest.approx(reference.per_token, rel=1e-6)
    assert again.entropy == pytest.approx(reference.entropy, rel=1e-6)
    assert again.token_accuracy == reference.token_accuracy
    flipped = again.per_example[::-1].reset_index(drop=True)
    pd.testing.assert_frame_equal(flipped, reference.per_example, rtol=1e-5)


def test_no_batch_exceeds_the_budget_and_no_logits_the_chunk(examples, monkeypatch):
    model, tokenizer = model_of(), tokenizer_of()
    reference = response_loss(model, tokenizer, examples)
    monkeypatch.setitem(loss.CHUNK_LOGITS, "cpu", 10 * model.config.vocab_size)
    passes, rows = [], []
    model.model.register_forward_pre_hook(lambda m, a, options: passes.append(options["input_ids"]), with_kwargs=True)
    model.lm_head.register_forward_hook(lambda m, inputs, output: rows.append(output.numel() // output.shape[-1]))
    got = response_loss(model, tokenizer, examples, token_budget=120)
    assert max(ids.numel() for ids in passes) <= 120
    assert len(passes) < len(examples)
    assert max(rows) <= 10
    assert got.per_token == pytest.approx(reference.per_token, rel=1e-6)


def test_batches_are_as_full_as_the_budget_allows():
    assert list(logits.batches([3, 5, 5, 2, 9], 10)) == [[4], [1, 2], [0, 3]]
    assert list(logits.batches([11, 1], 10)) == [[0], [1]]


def test_reduction_is_in_float32_for_a_bfloat16_model(examples):
    model, tokenizer = model_of(dtype=torch.bfloat16), tokenizer_of()
    got = response_loss(model, tokenizer, examples, token_budget=200)
    want = plain(model, tokenizer, examples)  # the same bfloat16 logits, reduced in double
    assert got.per_token == pytest.approx(want["nll_sum"].sum() / want["n_tokens"].sum(), rel=2e-3)


@pytest.mark.parametrize("template", TEMPLATES)
def test_one_bos_and_exactly_the_response(template, examples):
    tokenizer = tokenizer_of(TEMPLATES[template])
    assert tokenizer("a")["input_ids"].count(1) == 1  # this tokenizer would add its own
    for example in examples:
        ids, prompt = encode_example(tokenizer, example["prompt"], example["response"])
        assert ids.count(tokenizer.bos_token_id) == 1
        assert ids[0] == tokenizer.bos_token_id
        assert tokenizer.decode(ids[prompt:]).replace(" ", "") == (example["response"] + "<eos>").replace(" ", "")
    got = response_loss(model_of(), tokenizer, examples)
    assert list(got.per_example["n_tokens"]) == [len(example["response"]) + 1 for example in examples]


def test_generation_markers_mark_the_same_tokens(examples):
    tokenizer = tokenizer_of(TEMPLATES["with markers"])
    for example in examples:
        ids, prompt = encode_example(tokenizer, example["prompt"], example["response"])
        turns = [{"role": "user", "content": example["prompt"]}, {"role": "assistant", "content": example["response"]}]
        marked = tokenizer.apply_chat_template(turns, return_dict=True, return_assistant_tokens_mask=True)
        assert marked["input_ids"] == ids
        assert marked["assistant_masks"] == [int(at >= prompt) for at in range(len(ids))]


def test_what_the_sums_become():
    model, tokenizer = model_of(), tokenizer_of()
    got = response_loss(
        model,
        tokenizer,
        [{"id": 1, "prompt": "a", "response": "é1"}, {"id": 2, "prompt": "b", "response": "2+2=4."}],
    )
    table = got.per_example
    assert list(table["id"]) == ["1", "2"]
    assert list(table["n_bytes"]) == [3, 6]  # é has two
    assert got.per_token == pytest.approx(table["nll_sum"].sum() / 10)
    assert got.example_mean == pytest.approx((table["nll_sum"] / table["n_tokens"]).mean())
    assert got.bits_per_byte == pytest.approx(table["nll_sum"].sum() / math.log(2) / 9)
    assert got.entropy == pytest.approx((table["entropy"] * table["n_tokens"]).sum() / 10)
    assert got.skipped == ()


def test_the_model_is_left_as_it_was(examples):
    model, tokenizer = model_of(attention_dropout=0.5), tokenizer_of()
    reference = response_loss(model, tokenizer, examples)
    model.train()
    assert response_loss(model, tokenizer, examples).nll_sum == reference.nll_sum  # no dropout
    other = model_of(attention_dropout=0.5).train()
    assert response_loss(model, tokenizer, examples, reference=other).kl == pytest.approx(0, abs=1e-6)
    assert other.training
    assert model.training
    assert not model.lm_head._forward_hooks


def test_a_token_ruled_out_leaves_the_entropy_finite(examples):
    model, tokenizer = model_of("Phi"), tokenizer_of()
    model.lm_head.bias.data[0] = -math.inf  # <pad>
    got = response_loss(model, tokenizer, examples)
    assert got.nll_sum == pytest.approx(plain(model, tokenizer, examples)["nll_sum"].sum(), rel=1e-5)
    with torch.inference_mode():  # and it is what the other tokens make of it
        ids, prompt = encode_example(tokenizer, examples[0]["prompt"], examples[0]["response"])
        odds = model(torch.tensor([ids])).logits[0, prompt - 1 : -1].double().softmax(-1)
    assert got.per_example["entropy"][0] == pytest.approx(torch.special.entr(odds).sum(-1).mean().item(), rel=1e-5)


def test_a_token_ruled_out_at_one_place_alone_leaves_the_entropy_there_finite():
    logits = torch.tensor([[-math.inf, 0.0, 0.0], [0.0, 0.0, 0.0]])
    nll, entropy, right = loss._score(torch.tensor([1, 0]), logits).T.tolist()
    assert nll == pytest.approx([math.log(2), math.log(3)])
    assert entropy == pytest.approx([math.log(2), math.log(3)])
    assert right == [1, 1]


def test_a_model_without_a_head_of_its_own_is_held_whole(examples):
    model, tokenizer = model_of(), tokenizer_of()
    model.get_output_embeddings = lambda: None
    with pytest.warns(UserWarning, match="held whole"):
        got = response_loss(model, tokenizer, examples[:2])
    assert got.nll_sum == pytest.approx(plain(model, tokenizer, examples[:2])["nll_sum"].sum(), rel=1e-5)


def test_a_response_that_the_model_rules_out_is_named():
    model, tokenizer = model_of("Phi"), tokenizer_of()
    model.lm_head.bias.data[tokenizer.convert_tokens_to_ids("7")] = -math.inf
    rows = [{"id": "fine", "prompt": "a", "response": "b"}, {"id": "bad", "prompt": "a", "response": "7"}]
    with pytest.raises(InputError, match="example bad: the model's loss on it is inf"):
        response_loss(model, tokenizer, rows)


def test_a_vocabulary_larger_than_a_chunk_goes_a_token_at_a_time(examples, monkeypatch):
    model, tokenizer = model_of(), tokenizer_of()
    reference = response_loss(model, tokenizer, examples)
    monkeypatch.setitem(loss.CHUNK_LOGITS, "cpu", model.config.vocab_size - 1)
    rows = []
    model.lm_head.register_forward_hook(lambda m, inputs, output: rows.append(output.numel() // output.shape[-1]))
    got = response_loss(model, tokenizer, examples)
    assert max(rows[1:]) == 1  # the first is the probe
    assert got.per_token == pytest.approx(reference.per_token, rel=1e-6)


def test_too_long_is_an_error_or_counted(examples):
    model, tokenizer = model_of(), tokenizer_of()
    long = {"id": "long", "prompt": "a", "response": "b" * 62}  # 65 tokens with BOS and EOS; the context is 64
    with pytest.raises(InputError, match="example long: 65 tokens, and the model's context is 64"):
        response_loss(model, tokenizer, [*examples, long])
    fits = long | {"response": "b" * 61}  # as many tokens as the context has
    assert response_loss(model, tokenizer, [fits]).n_tokens == 62
    got = response_loss(model, tokenizer, [long, *examples], too_long="skip")
    assert got.skipped == ("long",)
    assert got.nll_sum == response_loss(model, tokenizer, examples).nll_sum
    with pytest.raises(InputError, match="max_length is 10"):
        response_loss(model, tokenizer, [*examples, long], max_length=10)
    with pytest.raises(InputError, match="no examples left: all 1 are longer than 64"):
        response_loss(model, tokenizer, [long], too_long="skip")


@pytest.mark.parametrize(
    ("rows", "options", "says"),
    [
        ([], {}, "no examples"),
        ([{"id": "x", "prompt": "a"}], {}, "example x: no 'response'"),
        ([{"prompt": "a", "response": "b"}], {}, "example 0: no 'id'"),
        ([{"id": "x", "prompt": "a", "response": None}], {}, "example x: its response is not text but None"),
        ([{"id": "x", "prompt": "a", "response": ""}], {}, "example x: empty response"),
        (
            [{"id": "x", "prompt": "a", "response": "b\udc80"}],
            {},
            "example x: character 1 of its response is half a surr",
        ),
        ([{"id": "x", "prompt": "\ud800", "response": "b"}], {}, "example x: character 0 of its prompt is half a surr"),
        ([{"id": "x", "prompt": "a", "response": "b"}], {"token_budget": 0}, "token_budget = 0"),
        ([{"id": "x", "prompt": "a", "response": "b"}], {"token_budget": 2.5}, "token_budget = 2.5"),
        (
            [{"id": "x", "prompt": "a", "response": "b"}],
            {"max_length": 0},
            "max_length = 0: a number of tokens, at least 1",
        ),
        ([{"id": "x", "prompt": "a", "response": "b"}], {"max_length": "8"}, "max_length = '8'"),
        ([{"id": "x", "prompt": "a", "response": "b"}], {"too_long": "cut"}, "too_long = 'cut'"),
    ],
)
def test_bad_examples_are_refused_by_name(rows, options, says):
    with pytest.raises(InputError, match=says):
        response_loss(model_of(), tokenizer_of(), rows, **options)


@pytest.mark.parametrize("field", ["prompt", "response"])
def test_a_token_beyond_the_vocabulary_is_refused_by_name(field):
    tokenizer = tokenizer_of()
    tokenizer.add_tokens(["first", "second"])
    model = model_of(vocab_size=len(tokenizer) - 1)
    rows = [{"id": "fits", "prompt": "first", "response": "first"}, {"id": "x", "prompt": "a", "response": "b"}]
    response_loss(model, tokenizer, rows)
    rows[1][field] = "a second"
    with pytest.raises(
        InputError, match=f"example x: token {len(tokenizer) - 1}, 'second', is beyond the model's {len(tokenizer) - 1}"
    ):
        response_loss(model, tokenizer, rows)


def test_a_response_that_nothing_predicts():
    tokenizer = tokenizer_of()
    tokenizer.bos_token = None
    with pytest.raises(InputError, match="example x: no token stands before the response"):
        response_loss(model_of(), tokenizer, [{"id": "x", "prompt": "", "response": "b"}])


def test_nan_logits_name_the_example(examples):
    model, tokenizer = model_of(), tokenizer_of()
    rows = [*examples, {"id": "bad", "prompt": "<u>", "response": "b"}]
    model.get_input_embeddings().weight.data[3] = math.nan  # <u> is in no other prompt
    with pytest.raises(InputError, match="example bad: the model's loss on it is nan"):
        response_loss(model, tokenizer, rows)
