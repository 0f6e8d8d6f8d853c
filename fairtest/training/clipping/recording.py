"""Keeps what goes into a layer and the gradient of what comes out, through the autograd graph itself.

The input is saved the way autograd saves its own, so that gradient checkpointing drops and recomputes it too, and an
input that is overwritten in place before the backward pass is an error.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fairtest.errors import TrainingError
from fairtest.training.clipping.registry import LayerRule


@dataclass(frozen=True)
class Use:
    """One use of a layer in a forward pass: its input and its output's gradient, rows first."""

    module: nn.Module
    rule: LayerRule
    inputs: Tensor
    gradient: Tensor


def record_use(
    module: nn.Module, rule: LayerRule, inputs: Tensor, output: Tensor, found: Callable[[Use], object]
) -> Tensor:
    """The same output; when its gradient arrives in the backward pass, `found` is called with the use."""
    if not isinstance(output, Tensor):
        raise TrainingError(
            f"{type(module).__name__} returns {type(output).__name__}, and a layer that is clipped returns a tensor",
            where=type(module).__name__,
            fix="register the rule for the inner layer that owns the parameters",
        )
    first = not output.requires_grad  # nothing before this layer asked for gradients
    if first:
        output = output.detach().requires_grad_()

    def arrived(inputs: Tensor, gradient: Tensor) -> None:
        found(Use(module, rule, inputs, gradient))

    recorded: Tensor = _Recorded.apply(output, inputs.detach(), arrived, first)  # type: ignore[no-untyped-call]
    return recorded


class _Recorded(torch.autograd.Function):
    """The identity, which tells of its gradient."""

    @staticmethod
    def forward(
        ctx: Any, output: Tensor, inputs: Tensor, arrived: Callable[[Tensor, Tensor], None], first: bool
    ) -> Tensor:
        ctx.save_for_backward(inputs)
        ctx.arrived = arrived
        ctx.first = first
        return output.detach()  # a view of an input could not be changed in place, as some models do

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, None, None, None]:
        ctx.arrived(*ctx.saved_tensors, *gradients)
        return (None if ctx.first else gradients[0]), None, None, None
