import pytest
import torch
from model_builders import gpt2, llama
from torch import nn

from fairtest.errors import TrainingError
from fairtest.training.clipping import verify_against_autograd


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
