import pytest
import torch
from model_builders import gpt2, llama
from torch import nn

from fairtest.errors import TrainingError
from fairtest.training.clipping import engine, verify_against_autograd


@pytest.mark.parametrize("build", [gpt2, llama])
def test_known_families_pass_with_dropout_on_and_nothing_is_left_behind(build):
    model = build().train()
    ids = torch.randint(2, 40, (4, 6), generator=torch.Generator().manual_seed(0))
    before, state = {n: p.clone() for n, p in model.named_parameters()}, torch.get_rng_state()
    verify_against_autograd(model, lambda: model(input_ids=ids).logits.square().mean((1, 2)), rows_per_unit=2)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(p.grad is None and p.requires_grad and torch.equal(p, before[n]) for n, p in model.named_parameters())


class UsedOutsideItsLayer(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(7, 4)

    def forward(self, ids):
        return self.embedding(ids) @ self.embedding.weight.t()


def test_a_weight_used_outside_its_layer_is_found():
    model = UsedOutsideItsLayer()
    ids = torch.tensor([[1, 2, 3]])
    with pytest.raises(TrainingError, match=r"do not add up .* the first is embedding\.weight"):
        verify_against_autograd(model, lambda: model(ids).square().mean((1, 2)))


class CubedRMSNorm(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([1.0, 2.0, 3.0]))
        self.eps = 1e-6

    def forward(self, x):
        return self.weight**3 * x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps)


def test_a_layer_that_is_not_what_its_name_says_is_found():
    model = CubedRMSNorm()
    with pytest.raises(TrainingError, match=r"weight \(CubedRMSNorm: it computes neither"):
        verify_against_autograd(model, lambda: model(torch.arange(6.0).reshape(1, 2, 3)).square().mean((1, 2)))


class TableForAllRows(nn.Module):
    """A table of biases for pairs of positions, looked up once for all rows."""

    def __init__(self):
        super().__init__()
        self.words, self.biases = nn.Embedding(9, 4), nn.Embedding(9, 1)

    def forward(self, ids):
        pairs = torch.arange(ids.shape[1])[:, None] + torch.arange(ids.shape[1])
        return self.biases(pairs).squeeze(-1) @ self.words(ids)


class RowsMinusTheirMean(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, ids):
        hidden = self.layer(torch.nn.functional.one_hot(ids, 4).float())
        return (hidden - hidden.mean(0)).exp()


@pytest.mark.parametrize("build", [TableForAllRows, RowsMinusTheirMean])
def test_what_rows_share_is_found_even_where_shapes_do_not_tell(build):
    torch.manual_seed(0)
    model = build()
    ids = torch.tensor([[0, 1, 3], [3, 2, 1], [1, 1, 2]])
    with pytest.raises(TrainingError, match="per-unit gradient"):
        verify_against_autograd(model, lambda: model(ids).square().mean((1, 2)))


def test_units_with_different_numbers_of_rows():
    model = gpt2()
    ids = torch.randint(2, 40, (6, 5), generator=torch.Generator().manual_seed(0))
    verify_against_autograd(model, lambda: model(input_ids=ids).logits.square().mean((1, 2)), [1, 3, 2], tolerance=1e-5)


def test_a_wrong_norm_is_found(monkeypatch):
    whole = engine.squared_norms
    monkeypatch.setattr(engine, "squared_norms", lambda terms: 1.01 * whole(terms))
    model = gpt2()
    ids = torch.randint(2, 40, (2, 5), generator=torch.Generator().manual_seed(0))
    with pytest.raises(TrainingError, match="per-unit gradient"):
        verify_against_autograd(model, lambda: model(input_ids=ids).logits.square().mean((1, 2)))
