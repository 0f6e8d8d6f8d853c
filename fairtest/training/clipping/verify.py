"""Checks a model's rules against plain autograd, once, on a few of its own rows."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor, nn

from fairtest.errors import TrainingError
from fairtest.training.clipping.engine import PerUnitClipping

TOLERANCE = 1e-3


def verify_against_autograd(model: nn.Module, row_losses: Callable[[], Tensor], rows_per_unit: int = 1) -> None:
    """Compares the engine's unclipped gradient sum with autograd's; the parameters' `grad` is left as it was.

    `row_losses` runs the model and gives [rows]. This finds what a rule cannot see: a weight that is also used
    outside its layer, or a layer that computes something other than its name says.

    Raises:
        TrainingError: a parameter whose gradients differ by more than a thousandth; its norm, and with it the privacy
            claim, would be wrong.
    """
    named = {p: name for name, p in model.named_parameters() if p.requires_grad}
    kept = {p: p.grad for p in named}
    clipping = PerUnitClipping(model, math.inf)
    try:
        with _same_dropout(named):
            plain = torch.autograd.grad(row_losses().sum(), list(named), allow_unused=True)
        for p in named:
            p.grad = None
        with _same_dropout(named), clipping:
            clipping.backward(row_losses(), rows_per_unit)
        wholes = [
            torch.zeros_like(p) if gradient is None else gradient for p, gradient in zip(named, plain, strict=True)
        ]
        scale = torch.stack([whole.norm() for whole in wholes]).norm()
        wrong = [
            named[p]
            for p, whole in zip(named, wholes, strict=True)
            if p.grad is None or (p.grad - whole).norm() > TOLERANCE * whole.norm() + 1e-6 * scale
        ]
    finally:
        clipping.close()
        for p, gradient in kept.items():
            p.grad = gradient
    if wrong:
        raise TrainingError(
            f"per-unit gradients of {len(wrong)} parameters do not add up to the gradient autograd computes,"
            f" the first is {wrong[0]}",
            where=type(model).__name__,
            fix="the layer is used in a way its clipping rule does not know: freeze it, or register a rule for it",
        )


@contextlib.contextmanager
def _same_dropout(parameters: Iterable[nn.Parameter]) -> Iterator[None]:
    devices = sorted({p.device.index for p in parameters if p.device.type == "cuda"})
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(0)
        yield
