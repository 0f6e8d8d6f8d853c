"""Cross-entropy of tokens that turns the logits into its own gradient, where they lie.

The usual way keeps logits, log-probabilities and their gradient at once, three arrays of tokens x vocabulary; here they
are one, which takes less memory and, since memory is what such a loss waits for, less time.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

_kept: ContextVar[bool] = ContextVar("logits are kept", default=False)


@contextlib.contextmanager
def kept_logits() -> Iterator[None]:
    """Within it logits are left alone, and a graph can be gone through backwards many times."""
    token = _kept.set(True)
    try:
        yield
    finally:
        _kept.reset(token)


def token_losses(logits: Tensor, targets: Tensor) -> Tensor:
    """-log softmax(logits)[target] (nats) as [N], for logits [N, V] float32, which are overwritten, and targets [N].

    Nothing else may look at `logits` afterwards, nor may whatever made them have kept them for its backward pass (a
    linear layer has not; torch raises an error if something did). One backward pass, no second derivative.
    """
    if _kept.get():
        return functional.cross_entropy(logits, targets, reduction="none")
    losses: Tensor = _TokenLosses.apply(logits, targets)  # type: ignore[no-untyped-call]
    return losses


class _TokenLosses(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor) -> Tensor:
        values = logits.detach()
        at_target = values.gather(1, targets[:, None])[:, 0]
        largest = values.amax(1)
        # exp(logit - largest): with its sum it gives the loss now and the gradient later.
        total = values.sub_(largest[:, None]).exp_().sum(1)
        ctx.save_for_backward(values, targets, total)
        return total.log() + largest - at_target

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (gradient,) = gradients
        values, targets, total = ctx.saved_tensors
        values.mul_((gradient / total)[:, None])
        values.scatter_add_(1, targets[:, None], -gradient[:, None])
        return values, None
