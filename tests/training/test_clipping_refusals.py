"""What cannot be clipped exactly is an error that says where, and adds nothing to any gradient."""

import pickle

import pytest
import torch
from clipping_oracle import Scaled, row_losses, rows_of
from model_builders import gpt2, llama
from torch import nn

from fairtest.errors import NotFiniteError, TrainingError
from fairtest.training.clipping import PerUnitClipping, register_rule, registry


def test_a_layer_that_computes_something_else_is_refused_by_name():
    model = gpt2()
    model.transformer.h[1].mlp.c_fc = Scaled(16, 64)
    with pytest.raises(TrainingError, match=r"h\.1\.mlp\.c_fc\.bias \(no rule for Scaled\)") as caught:
        PerUnitClipping(model, 1.0)
    assert "register_rule" in caught.value.fix
    assert 'DP(clipping="opacus")' in caught.value.fix


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
