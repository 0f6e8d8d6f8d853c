"""The loss that overwrites its logits, against torch's own."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from fairtest.training.token_loss import kept_logits, token_losses


@given(seed=st.integers(0, 1000), tokens=st.integers(1, 9), vocabulary=st.integers(1, 40), scale=st.floats(0.1, 200))
def test_losses_and_gradients_are_those_of_cross_entropy(seed, tokens, vocabulary, scale):
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(tokens, 5, generator=generator)
    targets = torch.randint(vocabulary, (tokens,), generator=generator)
    weights = torch.randn(tokens, generator=generator)
    head = torch.nn.Linear(5, vocabulary)
    torch.nn.init.normal_(head.weight, std=scale)
    found = []
    for loss in (token_losses, lambda x, t: functional.cross_entropy(x, t, reduction="none")):
        inputs = hidden.clone().requires_grad_()
        losses = loss(head(inputs), targets)
        gradients = torch.autograd.grad((losses * weights).sum(), [inputs, *head.parameters()])
        found.append((losses.detach(), *gradients))
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5 * scale)


def test_a_value_that_is_not_finite_stays_one():
    logits = torch.zeros(2, 4)
    logits[0, 1] = float("nan")
    assert token_losses(logits, torch.tensor([1, 1])).isnan().tolist() == [True, False]


def test_logits_that_something_else_keeps_are_an_error():
    hidden = torch.randn(2, 4, requires_grad=True)
    capped = hidden.tanh()  # keeps its output for the backward pass
    losses = token_losses(capped, torch.tensor([0, 1]))
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        losses.sum().backward()


def test_kept_logits_can_be_gone_through_again():
    logits = torch.randn(3, 5, requires_grad=True)
    copy = logits * 1.0
    with kept_logits():
        losses = token_losses(copy, torch.tensor([0, 1, 2]))
    first, second = (torch.autograd.grad(losses.sum(), logits, retain_graph=True)[0] for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(copy, logits)
