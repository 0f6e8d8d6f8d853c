import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from model_builders import gpt2, llama, loaded, word_tokenizer
from transformers import (
    BertConfig,
    BertLMHeadModel,
    Gemma2Config,
    Gemma2ForCausalLM,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    GraniteConfig,
    GraniteForCausalLM,
)

from fairtest.errors import ModelError
from fairtest.training.forward import CausalForward, TokenBatch, bos_id, encode

SMALL = {
    "vocab_size": 40,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 32,
}


def gemma2():
    torch.manual_seed(0)
    return Gemma2ForCausalLM(Gemma2Config(**SMALL, head_dim=8, final_logit_softcapping=0.05)).eval()


def granite():
    torch.manual_seed(0)
    return GraniteForCausalLM(GraniteConfig(**SMALL, logits_scaling=3.0)).eval()


def neox():
    torch.manual_seed(0)
    options = {key: value for key, value in SMALL.items() if key != "num_key_value_heads"}
    return GPTNeoXForCausalLM(GPTNeoXConfig(**options)).eval()


ROWS = [[0, 4, 9, 11, 2, 30], [0, 7], [0], [0, 0, 1, 1]]


SHARED = gpt2()


def oracle(model, row):
    with torch.no_grad():
        logits = model(torch.tensor([row])).logits[0].double()
    log_probs = logits.log_softmax(-1)
    return torch.tensor([0.0, *(float(log_probs[i - 1, row[i]]) for i in range(1, len(row)))])


@pytest.mark.parametrize("build", [gpt2, llama, gemma2, granite, neox])
@pytest.mark.parametrize("grad", [False, True])
def test_log_probs_equal_the_plain_model_row_by_row(build, grad):
    model = build()
    forward = CausalForward(loaded(model))
    batch = TokenBatch.from_ids(ROWS, pad_id=1)
    with torch.set_grad_enabled(grad):
        found = forward.token_log_probs(batch).detach()
    assert found.shape == (4, 6)
    for index, row in enumerate(ROWS):
        torch.testing.assert_close(found[index, : len(row)], oracle(model, row), atol=1e-5, rtol=1e-5)
        assert (found[index, len(row) :] == 0).all()


def test_gradients_equal_those_of_the_plain_model():
    model = gpt2()
    model.requires_grad_(True)
    CausalForward(loaded(model)).token_log_probs(TokenBatch.from_ids(ROWS)).sum().backward()
    found = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    model.zero_grad()
    for row in ROWS:
        ids = torch.tensor([row])
        log_probs = model(ids).logits[:, :-1].log_softmax(-1)
        log_probs.gather(-1, ids[:, 1:, None]).sum().backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(found[name], parameter.grad, atol=1e-5, rtol=1e-4)


def test_the_head_sees_one_row_per_text_and_positions_too_when_gradients_are_wanted():
    model, seen = gpt2(), {}
    forward = CausalForward(loaded(model))
    model.lm_head.register_forward_pre_hook(lambda _, args: seen.update(head=args[0].shape))
    model.transformer.wpe.register_forward_pre_hook(lambda _, args: seen.update(positions=args[0].shape))
    forward.token_log_probs(TokenBatch.from_ids(ROWS))
    assert seen == {"head": (4, 5, 16), "positions": (4, 6)}


def test_tiles_of_any_size_give_the_same_numbers_and_bound_the_logits():
    model, sizes = llama(), []
    batch = TokenBatch.from_ids(ROWS)
    with torch.inference_mode():
        whole = CausalForward(loaded(model)).token_log_probs(batch)
        tiled = CausalForward(loaded(model), tile_elements=120)
        model.lm_head.register_forward_hook(lambda *call: sizes.append(call[2].numel()))
        found = tiled.token_log_probs(batch)
    torch.testing.assert_close(found, whole, atol=1e-6, rtol=1e-6)
    assert max(sizes) <= 120
    assert sum(sizes) == 40 * sum(len(row) - 1 for row in ROWS)


@settings(max_examples=20, deadline=None)
@given(
    rows=st.lists(st.lists(st.integers(0, 39), min_size=1, max_size=12), min_size=1, max_size=5),
    pad=st.integers(0, 39),
)
def test_padding_and_batch_size_change_no_value(rows, pad):
    forward = CausalForward(loaded(SHARED))
    with torch.inference_mode():
        together = forward.token_log_probs(TokenBatch.from_ids(rows, pad))
        for index, row in enumerate(rows):
            alone = forward.token_log_probs(TokenBatch.from_ids([row]))[0]
            torch.testing.assert_close(together[index, : len(row)], alone, atol=1e-5, rtol=1e-5)


def test_soft_capped_logits_are_taken_from_the_whole_model():
    assert CausalForward(loaded(gemma2()))._whole
    assert CausalForward(loaded(granite()))._whole
    assert not CausalForward(loaded(gpt2()))._whole


def test_a_model_that_sees_later_tokens_is_refused():
    config = BertConfig(
        vocab_size=40,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        is_decoder=False,
    )
    torch.manual_seed(0)
    model = BertLMHeadModel(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter))
    with pytest.raises(ModelError, match="is not causal"):
        CausalForward(loaded(model))


def test_a_text_longer_than_the_model_reads_is_an_error():
    forward = CausalForward(loaded(gpt2()))
    with pytest.raises(ModelError, match="a text has 33 tokens, and model 'test' reads at most 32"):
        forward.hidden(TokenBatch.from_ids([[0] * 33]))


@pytest.mark.parametrize("adds_bos", [False, True])
def test_a_text_gets_one_bos_and_no_eos_whatever_the_tokenizer_adds(adds_bos):
    tokenizer = word_tokenizer(adds_bos=adds_bos)
    plain = encode(tokenizer, ["he is good", "", "<s> he"])
    assert plain == [[0, 3, 5, 9], [0], [0, 3]]


def test_encoding_truncates_with_the_bos_counted():
    assert encode(word_tokenizer(), ["he is good and bad"], max_length=3) == [[0, 3, 5]]
    assert encode(word_tokenizer(), []) == []


@pytest.mark.parametrize(
    ("bos", "eos", "extra", "expected"),
    [
        ("<s>", "</s>", (), "<s>"),
        ("<s>", "</s>", ("<|endoftext|>",), "<s>"),
        ("<|im_start|>", "</s>", ("<|im_start|>", "<|endoftext|>"), "<|endoftext|>"),
        (None, "</s>", ("<|endoftext|>",), "<|endoftext|>"),
        (None, "</s>", (), "</s>"),
        ("<|im_start|>", None, ("<|im_start|>",), "<|im_start|>"),
    ],
)
def test_the_token_in_front_is_the_bos_or_the_document_separator(bos, eos, extra, expected):
    tokenizer = word_tokenizer(bos, eos, extra=extra)
    assert tokenizer.convert_ids_to_tokens(bos_id(tokenizer)) == expected


def test_a_tokenizer_without_bos_and_eos_is_an_error():
    with pytest.raises(ModelError, match="neither a BOS nor an EOS"):
        bos_id(word_tokenizer(None, None))


def test_a_batch_is_masked_by_length_even_where_padding_is_a_real_token():
    batch = TokenBatch.from_ids([[0, 1, 1], [0]], pad_id=1)
    assert batch.input_ids.tolist() == [[0, 1, 1], [0, 1, 1]]
    assert batch.mask.tolist() == [[True, True, True], [True, False, False]]
