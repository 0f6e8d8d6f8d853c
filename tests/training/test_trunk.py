import pytest
import torch
from model_builders import gpt2, llama, loaded
from transformers import Gemma2Config, Gemma2ForCausalLM, Qwen2Config, Qwen2ForCausalLM

from fairtest.specs import Training
from fairtest.training.forward import CausalForward, TokenBatch
from fairtest.training.models import set_trainable
from fairtest.training.trunk import TrunkCache, split_trunk

ROWS = [[0, 4, 9, 11, 2, 30], [0, 7], [0], [0, 0, 1, 1]]
STEADY = {"attn_pdrop": 0.0, "embd_pdrop": 0.0, "resid_pdrop": 0.0}


def gpt2_without_dropout():
    return gpt2(layers=3, **STEADY)


def tuned(build, trainable="lora", layers=1):
    model = build()
    torch.manual_seed(3)
    set_trainable(model, Training(trainable=trainable, lora_rank=2, lora_layers=layers))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return loaded(model)


def gradients(forward, model):
    model.zero_grad()
    forward.token_log_probs(TokenBatch.from_ids(ROWS)).sum().backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.requires_grad}


@pytest.mark.parametrize("build", [llama, gpt2_without_dropout])
@pytest.mark.parametrize(("trainable", "layers"), [("lora", 1), ("lora", 2), ("last:1", 1)])
def test_values_and_gradients_are_those_of_the_whole_model(build, trainable, layers):
    one = tuned(build, trainable, layers)
    trunk = split_trunk(one)
    assert trunk is not None
    assert trunk.depth == 3 - layers
    plain, cut = CausalForward(one), CausalForward(one, trunk=trunk)
    batch = TokenBatch.from_ids(ROWS, pad_id=7)
    with torch.inference_mode():
        first = cut.token_log_probs(batch)
        torch.testing.assert_close(first, plain.token_log_probs(batch), atol=1e-5, rtol=1e-5)
        assert torch.equal(cut.token_log_probs(batch), first)
    expected, found = gradients(plain, one.model), gradients(cut, one.model)
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, atol=1e-5, rtol=1e-4)


def test_frozen_layers_run_once_for_a_row_whatever_it_is_padded_with():
    one, runs = tuned(llama), []
    forward = CausalForward(one, trunk=split_trunk(one))
    one.model.model.layers[0].register_forward_hook(lambda _m, args, _o: runs.append(args[0].shape[:2]))
    with torch.no_grad():
        alone = forward.token_log_probs(TokenBatch.from_ids([ROWS[1], ROWS[1]]))
        padded = forward.token_log_probs(TokenBatch.from_ids([ROWS[1], ROWS[0]]))
        forward.token_log_probs(TokenBatch.from_ids(ROWS[:2]))
    assert runs == [(1, 2), (1, 6)]
    torch.testing.assert_close(padded[0, :2], alone[0], atol=1e-6, rtol=1e-6)


def test_arms_and_seeds_share_a_cache_and_keep_their_own_values():
    cache, runs = TrunkCache(), []
    ones = [tuned(llama), tuned(llama), tuned(llama, "last:1")]
    with torch.no_grad():
        for index, one in enumerate(ones):
            plain = CausalForward(one).token_log_probs(TokenBatch.from_ids(ROWS))
            one.trunk = split_trunk(one, cache)
            one.model.model.layers[0].register_forward_hook(lambda *_, index=index: runs.append(index))
            found = CausalForward(one).token_log_probs(TokenBatch.from_ids(ROWS))
            torch.testing.assert_close(found, plain, atol=1e-5, rtol=1e-5)
    # The forward's own check of the whole model runs the layers too; rows were computed by the first model only.
    assert len(cache.rows("0" * 64, 2)) == len(ROWS)
    assert runs.count(0) == runs.count(1) + 1


def test_another_depth_or_another_model_shares_nothing():
    cache = TrunkCache()
    for one in (tuned(llama, layers=1), tuned(llama, layers=2)):
        one.trunk = split_trunk(one, cache)
        with torch.no_grad():
            CausalForward(one).token_log_probs(TokenBatch.from_ids(ROWS[:1]))
    assert list(cache.rows("0" * 64, 1)) == list(cache.rows("0" * 64, 2)) == [tuple(ROWS[0])]
    assert cache.rows("1" * 64, 1) == {}


def test_a_full_cache_costs_time_and_not_exactness():
    one, cache = tuned(llama), TrunkCache(max_bytes=2 * 16 * 4)
    forward = CausalForward(one, trunk=split_trunk(one, cache))
    with torch.no_grad():
        expected = CausalForward(one).token_log_probs(TokenBatch.from_ids(ROWS))
        for _ in range(2):
            found = forward.token_log_probs(TokenBatch.from_ids(ROWS))
            torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert 0 < cache.bytes <= cache.max_bytes


def test_what_scoring_kept_can_be_trained_on():
    one = tuned(llama)
    forward = CausalForward(one, trunk=split_trunk(one))
    with torch.inference_mode():
        forward.token_log_probs(TokenBatch.from_ids(ROWS))
    assert all(gradient.isfinite().all() for gradient in gradients(forward, one.model).values())


def test_a_model_that_trains_nothing_is_cut_where_it_is_told_to():
    one = loaded(llama())
    one.model.requires_grad_(False)
    assert split_trunk(one) is None
    trunk = split_trunk(one, depth=2)
    with torch.no_grad():
        found = CausalForward(one, trunk=trunk).token_log_probs(TokenBatch.from_ids(ROWS))
        torch.testing.assert_close(found, CausalForward(one).token_log_probs(TokenBatch.from_ids(ROWS)))


def test_trained_layers_below_the_cut_dropout_and_whole_training_have_no_trunk():
    assert split_trunk(tuned(llama, layers=3)) is None
    assert split_trunk(tuned(llama, layers=2), depth=2) is None
    assert split_trunk(tuned(llama, "all")) is None
    assert split_trunk(tuned(lambda: gpt2(layers=3))) is None


def test_layers_of_several_kinds_and_scaled_logits_have_no_trunk():
    small = {
        "vocab_size": 40,
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
    }
    torch.manual_seed(0)
    mixed = Qwen2Config(**small, use_sliding_window=True, sliding_window=4, max_window_layers=1)
    assert len(set(mixed.layer_types)) == 2
    capped = Gemma2Config(**small, head_dim=8, final_logit_softcapping=0.05, layer_types=["full_attention"] * 3)
    assert split_trunk(tuned(lambda: Qwen2ForCausalLM(mixed).eval())) is None
    assert split_trunk(tuned(lambda: Gemma2ForCausalLM(capped).eval())) is None
