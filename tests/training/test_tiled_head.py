from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from fairtest.training.tiled_head import COLUMNS, ROWS, linear_log_probs


@pytest.mark.parametrize("vocabulary", [3, COLUMNS, COLUMNS + 1, 3 * COLUMNS - 5])
@pytest.mark.parametrize("count", [1, ROWS, ROWS + 3])
@pytest.mark.parametrize("biased", [False, True])
def test_tiles_give_what_all_logits_at_once_give(vocabulary, count, biased):
    generator = torch.Generator().manual_seed(vocabulary + count)
    states, weight = (torch.randn(n, 16, generator=generator) for n in (count, vocabulary))
    bias = torch.randn(vocabulary, generator=generator) if biased else None
    targets = torch.randint(vocabulary, (count,), generator=generator)
    logits = functional.linear(states.double(), weight.double(), None if bias is None else bias.double())
    expected = -functional.cross_entropy(logits, targets, reduction="none")
    found = linear_log_probs(states, targets, weight, bias)
    assert torch.allclose(found.double(), expected, atol=2e-5, rtol=2e-6)


@settings(max_examples=40)
@given(st.floats(-300, 300), st.integers(0, COLUMNS + 3))
def test_a_constant_on_all_logits_and_one_that_towers_above_change_nothing_they_should_not(shift, place):
    weight = torch.zeros(COLUMNS + 4, 2)
    weight[:, 0] = 1.0
    weight[place, 1] = 1.0
    states = torch.tensor([[shift, 0.0], [shift, 200.0]])
    targets = torch.tensor([place, place])
    even, towering = linear_log_probs(states, targets, weight, None).tolist()
    assert even == pytest.approx(-torch.tensor(float(COLUMNS + 4)).log().item(), abs=1e-4)
    assert towering == pytest.approx(0.0, abs=1e-4)


def test_a_state_that_is_not_a_number_stays_none():
    states = torch.tensor([[float("nan"), 1.0], [0.5, 1.0]])
    found = linear_log_probs(states, torch.tensor([0, 1]), torch.eye(2), None)
    assert found[0].isnan()
    assert found[1].isfinite()
