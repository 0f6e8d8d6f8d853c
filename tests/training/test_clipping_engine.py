"""Per-unit clipping against its definition: autograd one unit at a time, clipped, added up."""

import importlib.util
import itertools
import math
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from model_builders import gpt2, llama
from torch import nn

from fairtest.errors import NotFiniteError, TrainingError
from fairtest.specs import Training
from fairtest.training.clipping import Outer, PerUnitClipping, register_rule, registry, terms
from fairtest.training.clipping import engine as engine_module
from fairtest.training.models import set_trainable

MODELS = {
    "gpt2-tied": lambda: gpt2(tied=True),
    "gpt2-untied": lambda: gpt2(tied=False),
    "llama-tied": lambda: llama(tied=True),
    "llama-untied": lambda: llama(tied=False),
}


def rows_of(model, rows, *, length=7, seed=1):
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(2, model.config.vocab_size, (rows, length), generator=generator)
    lengths = torch.randint(2, length + 1, (rows,), generator=generator)
    lengths[0] = length
    return ids, lengths


def row_losses(model, ids, lengths, **options):
    real = torch.arange(ids.shape[1]) < lengths[:, None]
    logits = model(input_ids=ids, attention_mask=real.long(), use_cache=False, **options).logits[:, :-1]
    nll = nn.functional.cross_entropy(logits.transpose(1, 2), ids[:, 1:], reduction="none")
    return (nll * real[:, 1:]).sum(1) / real[:, 1:].sum(1)


def trainable(model):
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def units_of(rows, views):
    """Slices of `rows` rows, `views` for each unit: one number for all, or one for each."""
    counts = [views] * (rows // views) if isinstance(views, int) else views
    return [slice(stop - count, stop) for count, stop in zip(counts, itertools.accumulate(counts), strict=True)]


def brute_force(model, ids, lengths, views, max_grad_norm):
    parameters = trainable(model)
    total = {name: torch.zeros_like(p) for name, p in parameters.items()}
    norms = []
    for unit in units_of(len(ids), views):
        loss = row_losses(model, ids[unit], lengths[unit]).sum()
        gradients = torch.autograd.grad(loss, list(parameters.values()))
        norm = math.sqrt(sum(float(g.double().square().sum()) for g in gradients))
        norms.append(norm)
        for name, gradient in zip(parameters, gradients, strict=True):
            total[name] += gradient * min(1.0, max_grad_norm / norm)
    return total, torch.tensor(norms)


def clipped(model, ids, lengths, views, max_grad_norm, **options):
    clipping = PerUnitClipping(model, max_grad_norm)
    with clipping:
        found = clipping.backward(row_losses(model, ids, lengths, **options), views)
    clipping.close()
    gradients = {name: p.grad.clone() for name, p in trainable(model).items()}
    model.zero_grad(set_to_none=True)
    return gradients, found


def relative_error(found, expected):
    assert found.keys() == expected.keys()
    difference = torch.stack([(found[name] - expected[name]).norm() for name in expected]).norm()
    return float(difference / torch.stack([expected[name].norm() for name in expected]).norm())


def assert_exact(model, ids, lengths, views, *, tolerance=1e-5):
    _, norms = brute_force(model, ids, lengths, views, math.inf)
    limit = float(norms.median())  # clips about half of the units
    expected, _ = brute_force(model, ids, lengths, views, limit)
    found, report = clipped(model, ids, lengths, views, limit)
    assert relative_error(found, expected) <= tolerance
    torch.testing.assert_close(report.norms, norms, rtol=tolerance, atol=0)
    torch.testing.assert_close(report.factors, (limit / norms).clamp(max=1), rtol=tolerance, atol=0)
    for name, gradient in expected.items():
        assert (found[name] - gradient).norm() <= 1e-4 * gradient.norm() + 1e-6, name


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


class Scaled(nn.Linear):
    def forward(self, x):
        return 3 * super().forward(x)


def test_a_layer_that_computes_something_else_is_refused_by_name():
    model = gpt2()
    model.transformer.h[1].mlp.c_fc = Scaled(16, 64)
    with pytest.raises(TrainingError, match=r"h\.1\.mlp\.c_fc\.bias \(no rule for Scaled\)") as caught:
        PerUnitClipping(model, 1.0)
    assert "register_rule" in caught.value.fix
    assert 'DP(clipping="opacus")' in caught.value.fix


def test_a_registered_rule_makes_a_layer_trainable(monkeypatch):
    monkeypatch.setattr(registry, "_rules", list(registry._rules))

    @register_rule(Scaled)
    def scaled(module, inputs, gradient):
        return {"weight": Outer(3 * gradient, inputs)}

    model = gpt2()
    model.transformer.h[1].mlp.c_fc = Scaled(16, 64, bias=False)
    assert_exact(model, *rows_of(model, 4), 2)


@pytest.mark.parametrize("options", [{"scale_grad_by_freq": True}, {"max_norm": 1.0}])
def test_an_embedding_that_couples_units_is_refused(options):
    with pytest.raises(TrainingError, match="Embedding: "):
        PerUnitClipping(nn.Sequential(nn.Embedding(5, 3, **options)), 1.0)


def test_a_parameter_without_gradient_is_an_error_not_a_zero():
    model = llama(tied=False)
    clipping = PerUnitClipping(model, 1.0)
    ids, _ = rows_of(model, 2)
    with pytest.raises(TrainingError, match=r"1 trainable .* got no gradient, the first is lm_head\.weight"), clipping:
        clipping.backward(model.model(input_ids=ids).last_hidden_state.square().mean((1, 2)))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_is_an_error_and_adds_nothing(bad):
    model = gpt2()
    clipping = PerUnitClipping(model, 1.0)
    with pytest.raises(NotFiniteError, match="the loss of 1 of 2 units in a batch is not finite") as caught, clipping:
        clipping.backward(row_losses(model, *rows_of(model, 3)) * torch.tensor([1.0, 1.0, bad]), [2, 1])
    assert caught.value.unit == 1
    assert caught.value.where == "unit 1 of the batch"
    assert pickle.loads(pickle.dumps(caught.value)).unit == 1
    assert all(p.grad is None for p in model.parameters())


def test_a_gradient_that_is_not_finite_is_an_error_and_adds_nothing():
    model = gpt2()
    clipping = PerUnitClipping(model, 1.0)

    def losses_with_a_flat_one():
        losses = row_losses(model, *rows_of(model, 4))
        return torch.cat([losses[:3], (losses[3:] - losses[3:].detach()).sqrt()])  # value 0, slope infinite

    with pytest.raises(NotFiniteError, match="the gradient norm of 1 of 3 units") as caught, clipping:
        clipping.backward(losses_with_a_flat_one(), [1, 2, 1])
    assert caught.value.unit == 2
    assert all(p.grad is None for p in model.parameters())


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


def test_an_input_overwritten_before_the_backward_pass_is_an_error():
    model = nn.Linear(3, 2)
    rows = torch.ones(2, 3)
    clipping = PerUnitClipping(model, 1.0)

    def losses_of_overwritten_rows():
        losses = model(rows).sum(1)
        rows.zero_()
        return losses

    with pytest.raises(RuntimeError, match="modified by an inplace operation"), clipping:
        clipping.backward(losses_of_overwritten_rows())
    assert model.weight.grad is None


def test_a_layer_that_returns_no_tensor_is_refused(monkeypatch):
    monkeypatch.setattr(registry, "_rules", list(registry._rules))
    register_rule(nn.LSTM)(lambda module, inputs, gradient: {})
    model = nn.LSTM(3, 2, batch_first=True)
    clipping = PerUnitClipping(model, 1.0)
    with pytest.raises(TrainingError, match="LSTM returns tuple"), clipping:
        model(torch.ones(2, 4, 3))


def test_rows_mixed_by_a_layer_are_an_error():
    model = nn.Sequential(nn.Linear(3, 3), nn.Flatten(0, 1), nn.Linear(3, 1), nn.Unflatten(0, (2, 4)))
    clipping = PerUnitClipping(model, 1.0)
    with pytest.raises(TrainingError, match="worked on 8 rows where the batch has 2") as caught, clipping:
        clipping.backward(model(torch.ones(2, 4, 3)).sum((1, 2)))
    assert caught.value.where == "2.weight, 2.bias of Sequential"


class PositionsForAllRows(nn.Module):
    def __init__(self):
        super().__init__()
        self.words, self.positions = nn.Embedding(9, 4), nn.Embedding(9, 4)

    def forward(self, ids):
        return self.words(ids) + self.positions(torch.arange(ids.shape[1]))


@pytest.mark.parametrize("rows", [2, 3])
def test_positions_without_rows_are_refused_even_where_they_are_as_many_as_rows(rows):
    model = PositionsForAllRows()
    clipping = PerUnitClipping(model, 1.0)
    with pytest.raises(TrainingError, match=r"Embedding looked up ids of shape \(3,\)") as caught, clipping:
        clipping.backward(model(torch.ones(rows, 3, dtype=torch.long)).sum((1, 2)))
    assert caught.value.where == "positions.weight of PositionsForAllRows"


@pytest.mark.parametrize("limit", [0, -1.0, float("nan")])
def test_a_limit_that_is_not_positive_is_refused(limit):
    with pytest.raises(TrainingError, match="max_grad_norm must be above 0"):
        PerUnitClipping(gpt2(), limit)


def test_a_model_without_trainable_parameters_is_refused():
    with pytest.raises(TrainingError, match="no trainable parameter"):
        PerUnitClipping(gpt2().requires_grad_(False), 1.0)


def test_losses_must_divide_into_units():
    model = gpt2()
    clipping = PerUnitClipping(model, 1.0)
    for counts in (2, 0, [1, 1], [3, 0], [4, -1], []):
        with pytest.raises(TrainingError, match=r"shape \(3,\) for .* rows a unit"), clipping:
            clipping.backward(row_losses(model, *rows_of(model, 3)), counts)
    with pytest.raises(TrainingError, match="outside its context"):
        clipping.backward(torch.ones(2))


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
