"""Activations of transformers that are written as a chain of operations, run as the one fused kernel that they are."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from torch import Tensor, nn
from torch.nn import functional
from transformers.activations import NewGELUActivation


def _gelu_tanh(states: Tensor) -> Tensor:
    return functional.gelu(states, approximate="tanh")


@contextlib.contextmanager
def fused_activations(model: nn.Module) -> Iterator[None]:
    """Within it the model's tanh GELUs (GPT-2's) take one pass over memory instead of eight, by the same formula."""
    chained = [one for one in model.modules() if type(one) is NewGELUActivation and "forward" not in vars(one)]
    for module in chained:
        module.forward = _gelu_tanh
    try:
        yield
    finally:
        for module in chained:
            del module.forward
