"""Per-unit clipping against its definition: autograd one unit at a time, clipped, added up."""

import importlib.util
import math

import pytest
import torch
from clipping_oracle import (
    MODELS,
    Scaled,
    assert_exact,
    brute_force,
    clipped,
    relative_error,
    row_losses,
    rows_of,
    trainable,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from model_builders import gpt2, llama
from torch import nn

from fairtest.specs import Training
from fairtest.training.clipping import Outer, PerUnitClipping, register_rule, registry, terms
from fairtest.training.clipping import engine as engine_module
from fairtest.training.models import set_trainable


@pytest.mark.parametrize("views", [1, 2, [1, 1, 4], [3, 1, 2], [6]], ids=str)
@pytest.mark.parametrize("name", MODELS)
def test_clipped_sum_equals_autograd_unit_by_unit(name, views):
    model = MODELS[name]()
    assert_exact(model, *rows_of(model, 6), views)


@pytest.mark.parametrize("name", ["gpt2-tied", "llama-tied"])
def test_long_rows_are_exact_too(name):
    model = MODELS[name]()
    assert_exact(model, *rows_of(model, 4, length=32), 2)


@pytest.mark.parametrize("name", ["gpt2-tied", "llama-tied"])
def test_only_the_last_layer_is_trained(name):
    model = MODELS[name]()
    set_trainable(model, Training(trainable="last:1"))
    assert_exact(model, *rows_of(model, 6), 2)


@pytest.mark.skipif(importlib.util.find_spec("peft") is None, reason="peft is not installed")
@pytest.mark.parametrize("name", ["gpt2-tied", "llama-tied"])
def test_lora_adapters(name):
    model = MODELS[name]()
    set_trainable(model, Training(trainable="lora", lora_rank=2, lora_layers=1))
    for p in trainable(model).values():
        nn.init.normal_(p, std=0.1)  # adapters start at zero, where half of the gradients vanish
    assert_exact(model, *rows_of(model, 6), 2)


def test_rows_given_as_embeddings():
    model = llama(tied=False)
    model.model.embed_tokens.requires_grad_(False)
    ids, lengths = rows_of(model, 4)
    expected, _ = brute_force(model, ids, lengths, 1, 0.5)
    clipping = PerUnitClipping(model, 0.5)
    with clipping:
        real = torch.arange(ids.shape[1]) < lengths[:, None]
        embeds = model.get_input_embeddings()(ids)
        logits = model(inputs_embeds=embeds, attention_mask=real.long()).logits[:, :-1]
        nll = nn.functional.cross_entropy(logits.transpose(1, 2), ids[:, 1:], reduction="none")
        clipping.backward((nll * real[:, 1:]).sum(1) / real[:, 1:].sum(1))
    assert relative_error({name: p.grad for name, p in trainable(model).items()}, expected) <= 1e-5


@pytest.mark.parametrize("shape", [(1, 7), (4, 7)])
def test_positions_shared_by_all_rows_are_told_apart_by_unit(shape):
    model = gpt2()
    ids, lengths = rows_of(model, 4)
    expected, _ = brute_force(model, ids, lengths, 1, 0.5)
    positions = torch.arange(7).expand(shape)
    found, _ = clipped(model, ids, lengths, 1, 0.5, position_ids=positions)
    assert relative_error(found, expected) <= 1e-5


def test_dropout_is_part_of_the_gradient():
    model = gpt2(embd_pdrop=0.3, attn_pdrop=0.3, resid_pdrop=0.3).train()
    ids, lengths = rows_of(model, 4)
    torch.manual_seed(3)
    found, _ = clipped(model, ids, lengths, 1, 1e9)
    torch.manual_seed(3)
    row_losses(model, ids, lengths).sum().backward()
    assert relative_error(found, {name: p.grad for name, p in trainable(model).items()}) <= 1e-5


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6), units=st.integers(1, 3), views=st.integers(1, 3), tied=st.booleans())
def test_a_large_limit_gives_the_plain_gradient(seed, units, views, tied):
    model = gpt2(tied=tied)
    ids, lengths = rows_of(model, units * views, seed=seed)
    found, report = clipped(model, ids, lengths, views, 1e9)
    assert report.factors.tolist() == [1.0] * units
    row_losses(model, ids, lengths).sum().backward()
    assert relative_error(found, {name: p.grad for name, p in trainable(model).items()}) <= 1e-5


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6), cut=st.integers(1, 5))
def test_micro_batches_add_up_and_order_does_not_matter(seed, cut):
    model = llama()
    ids, lengths = rows_of(model, 6, seed=seed)
    whole, _ = clipped(model, ids, lengths, 1, 0.7)
    order = torch.randperm(6, generator=torch.Generator().manual_seed(seed))
    clipping = PerUnitClipping(model, 0.7)
    for part in (order[:cut], order[cut:]):
        with clipping:
            clipping.backward(row_losses(model, ids[part], lengths[part]))
    assert relative_error({name: p.grad for name, p in trainable(model).items()}, whole) <= 1e-5


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6), limit=st.floats(1e-3, 10), views=st.integers(1, 2))
def test_leaving_out_a_unit_with_all_its_views_moves_the_sum_by_at_most_the_limit(seed, limit, views):
    model = gpt2()
    ids, lengths = rows_of(model, 3 * views, seed=seed)
    with_unit, _ = clipped(model, ids, lengths, views, limit)
    without, _ = clipped(model, ids[views:], lengths[views:], views, limit)
    moved = torch.stack([(with_unit[name] - without[name]).norm() for name in without]).norm()
    assert moved <= limit * (1 + 1e-4) + 1e-5


def test_a_unit_with_twice_the_same_row_has_twice_the_gradient_and_the_same_clipped_one():
    model = gpt2()
    ids, lengths = rows_of(model, 3)
    once, single = clipped(model, ids, lengths, 1, 0.5)
    assert single.norms.min() > 0.5
    twice, double = clipped(model, ids.repeat_interleave(2, 0), lengths.repeat_interleave(2, 0), 2, 0.5)
    assert relative_error(twice, once) <= 1e-5
    torch.testing.assert_close(double.norms, 2 * single.norms)


def test_half_precision_norms_are_taken_in_single_precision():
    model = gpt2().to(torch.bfloat16)
    ids, lengths = rows_of(model, 3)
    gradients, report = clipped(model, ids, lengths, 1, 0.5)
    assert report.norms.dtype == torch.float32
    assert {g.dtype for g in gradients.values()} == {torch.bfloat16}


class TiedTwice(nn.Module):
    """One matrix as embedding of two inputs, as output layer, and as the output layer of a second head."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Embedding(11, 6, padding_idx=3)
        self.second = nn.Embedding(11, 6)
        self.mix = nn.Linear(6, 6)
        self.norm = nn.LayerNorm(6)
        self.head = nn.Linear(6, 11, bias=False)
        self.other_head = nn.Linear(6, 11)
        self.second.weight = self.head.weight = self.other_head.weight = self.first.weight

    def forward(self, input_ids):
        hidden = self.norm(self.mix(self.first(input_ids) + self.second(input_ids.flip(1))))
        hidden = self.norm(self.mix(hidden))
        return self.head(hidden) + self.other_head(hidden).sin()


@pytest.mark.parametrize("views", [1, 2])
@pytest.mark.parametrize("length", [2, 9])
def test_a_parameter_used_many_times_includes_all_cross_terms(views, length):
    model = TiedTwice()
    ids = torch.randint(11, (4 * views, length), generator=torch.Generator().manual_seed(0))
    limit = 2.0

    def losses(rows):
        return model(rows).logsumexp(-1).square().mean(1)

    expected = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    norms = []
    for start in range(0, len(ids), views):
        gradients = torch.autograd.grad(losses(ids[start : start + views]).sum(), list(model.parameters()))
        norms.append(torch.stack([g.norm() for g in gradients]).norm())
        for name, gradient in zip(expected, gradients, strict=True):
            expected[name] += gradient * min(1.0, limit / float(norms[-1]))
    clipping = PerUnitClipping(model, limit)
    with clipping:
        report = clipping.backward(losses(ids), views)
    torch.testing.assert_close(report.norms, torch.stack(norms), rtol=1e-5, atol=0)
    assert relative_error({name: p.grad for name, p in model.named_parameters()}, expected) <= 1e-5


def test_outside_the_context_the_model_is_unchanged():
    model = gpt2()
    ids, lengths = rows_of(model, 2)
    row_losses(model, ids, lengths).sum().backward()
    before = {name: p.grad.clone() for name, p in trainable(model).items()}
    model.zero_grad(set_to_none=True)
    clipping = PerUnitClipping(model, 1.0)
    with clipping:
        clipping.backward(row_losses(model, ids, lengths))
    model.zero_grad(set_to_none=True)
    row_losses(model, ids, lengths).sum().backward()
    for name, p in trainable(model).items():
        torch.testing.assert_close(p.grad, before[name], rtol=0, atol=0)


def test_parameters_require_gradients_again_after_an_exception():
    model = gpt2()
    before = {name: p.requires_grad for name, p in model.named_parameters()}

    def interrupted():
        with PerUnitClipping(model, 1.0):
            assert not any(p.requires_grad for p in model.parameters())
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert {name: p.requires_grad for name, p in model.named_parameters()} == before


def test_recorded_tensors_are_freed_after_backward():
    model = gpt2()
    clipping = PerUnitClipping(model, 1.0)
    with clipping:
        clipping.backward(row_losses(model, *rows_of(model, 2)))
        assert clipping._uses == []


def test_a_parameter_frozen_after_set_up_is_left_alone():
    model = gpt2()
    clipping = PerUnitClipping(model, 1.0)
    model.transformer.wpe.requires_grad_(False)
    ids, lengths = rows_of(model, 3)
    expected, norms = brute_force(model, ids, lengths, 1, 1.0)
    with clipping:
        report = clipping.backward(row_losses(model, ids, lengths))
    assert model.transformer.wpe.weight.grad is None
    assert not model.transformer.wpe.weight.requires_grad
    torch.testing.assert_close(report.norms, norms, rtol=1e-5, atol=0)
    assert relative_error({name: p.grad for name, p in trainable(model).items()}, expected) <= 1e-5


def test_a_registered_rule_makes_a_layer_trainable(monkeypatch):
    monkeypatch.setattr(registry, "_rules", list(registry._rules))

    @register_rule(Scaled)
    def scaled(module, inputs, gradient):
        return {"weight": Outer(3 * gradient, inputs)}

    model = gpt2()
    model.transformer.h[1].mlp.c_fc = Scaled(16, 64, bias=False)
    assert_exact(model, *rows_of(model, 4), 2)


def test_an_output_changed_in_place_is_exact():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(inplace=True), nn.LayerNorm(4), nn.Tanh(), nn.Linear(4, 2))
    rows = torch.randn(4, 5, 3)
    norms, expected = [], {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    for row in rows:
        gradients = torch.autograd.grad(model(row).square().sum(), list(model.parameters()))
        norms.append(torch.stack([g.norm() for g in gradients]).norm())
        for name, gradient in zip(expected, gradients, strict=True):
            expected[name] += gradient * min(1.0, 0.5 / float(norms[-1]))
    clipping = PerUnitClipping(model, 0.5)
    with clipping:
        found = clipping.backward(model(rows).square().sum((1, 2)))
    torch.testing.assert_close(found.norms, torch.stack(norms))
    assert relative_error({name: p.grad for name, p in model.named_parameters()}, expected) <= 1e-5


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("most_formed", [0, terms.MAX_FORMED_VALUES], ids=["blocks", "formed"])
def test_a_unit_of_many_records_is_exact_in_bounded_memory(name, most_formed, monkeypatch):
    sizes = []
    whole_gram = terms._gram

    def gram(x, y):
        sizes.append(whole_gram(x, y).numel())
        return whole_gram(x, y)

    monkeypatch.setattr(terms, "MAX_GRAM_VALUES", 5000)
    monkeypatch.setattr(terms, "MAX_FORMED_VALUES", most_formed)
    monkeypatch.setattr(terms, "_gram", gram)
    model = MODELS[name]()
    ids, lengths = rows_of(model, 60, length=5)
    _, norms = brute_force(model, ids, lengths, 60, 1.0)
    for limit in (float(norms) / 3, math.inf):
        expected, _ = brute_force(model, ids, lengths, 60, limit)
        gradients, found = clipped(model, ids, lengths, 60, limit)
        torch.testing.assert_close(found.norms, norms, rtol=1e-5, atol=0)
        assert relative_error(gradients, expected) < 1e-5
    if most_formed:
        assert not sizes  # 300 positions, and no matrix of the model has more than 40 x 16 values
    else:
        assert 0 < max(sizes) <= 5000


def test_blocks_of_two_terms_give_their_inner_product(monkeypatch):
    generator = torch.Generator().manual_seed(3)
    dense = [
        terms.Outer(torch.randn(2, n, 6, generator=generator), torch.randn(2, n, 5, generator=generator))
        for n in (23, 31)
    ]
    index = torch.randint(6, (2, 17), generator=generator)
    found = [*dense, terms.Outer(terms.OneHot(index, 6), torch.randn(2, 17, 5, generator=generator))]
    monkeypatch.setattr(terms, "MAX_GRAM_VALUES", 100)
    for x in found:
        for y in found:
            expected = (terms.formed(x).gradient * terms.formed(y).gradient).sum((1, 2))
            torch.testing.assert_close(terms.inner(x, y), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("allowed", ["high", "medium"])
def test_products_that_decide_norms_are_exact_whatever_is_allowed_elsewhere(allowed, monkeypatch):
    seen = []
    squared = engine_module.squared_norms
    monkeypatch.setattr(
        engine_module,
        "squared_norms",
        lambda found: seen.append(torch.get_float32_matmul_precision()) or squared(found),
    )
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(allowed)
    try:
        clipped(gpt2(), *rows_of(gpt2(), 4), 1, 0.5)
        assert torch.get_float32_matmul_precision() == allowed
    finally:
        torch.set_float32_matmul_precision(before)
    assert set(seen) == {"highest"}
