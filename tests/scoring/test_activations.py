from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers.activations import NewGELUActivation

from fairtest.scoring.activations import fused_activations


def test_the_fused_activation_is_the_same_function_and_is_taken_back():
    model = nn.Sequential(NewGELUActivation(), nn.GELU())
    states = torch.linspace(-12, 12, 4001)
    before = model[0](states)
    with fused_activations(model):
        assert "forward" in vars(model[0])
        assert torch.allclose(model[0](states), before, atol=2e-6, rtol=2e-6)
    assert "forward" not in vars(model[0])
    with pytest.raises(RuntimeError), fused_activations(model):
        raise RuntimeError
    assert torch.equal(model[0](states), before)
