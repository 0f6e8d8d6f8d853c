"""A layer's parameter gradients for each row of a batch: Opacus' grad samplers, and autograd for other layers."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._pytree import tree_flatten, tree_leaves, tree_unflatten

GradSampler = Callable[[nn.Module, list[Tensor], Tensor], Mapping[nn.Parameter, Tensor]]


def grad_sampler(module: nn.Module) -> GradSampler | None:
    """Opacus' way to the row gradients of a layer, or None."""
    from opacus.grad_sample import GradSampleHooks

    if isinstance(module, nn.LayerNorm) and getattr(module, "bias", None) is None:
        return None  # Opacus' sampler takes it that there is a bias
    sampler: GradSampler | None = GradSampleHooks.GRAD_SAMPLERS.get(type(module))
    return sampler


def row_gradients(
    module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], gradient: Tensor, rows: int
) -> Mapping[nn.Parameter, Tensor]:
    """Each row's gradient [rows, *parameter.shape] of the layer's parameters."""
    sampler = grad_sampler(module)
    if sampler is None or gradient.shape[0] != rows:
        return _by_autograd(module, args, kwargs, gradient, rows)
    found = dict(sampler(module, [*args, *kwargs.values()], gradient))
    if isinstance(module, nn.Embedding) and module.padding_idx is not None:
        for of_weight in found.values():
            of_weight[:, module.padding_idx] = 0  # autograd leaves that row alone, Opacus does not
    return found


def _by_autograd(
    module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], gradient: Tensor, rows: int
) -> Mapping[nn.Parameter, Tensor]:
    """Calls the layer again for each row; a batch of rows and tokens in one dimension is taken apart again."""
    parameters = {name: p.detach() for name, p in module.named_parameters() if p.requires_grad}
    leaves, structure = tree_flatten((args, kwargs))
    by_row = [isinstance(x, Tensor) and x.dim() > 0 and x.shape[0] == gradient.shape[0] for x in leaves]

    def product(parameters: dict[str, Tensor], inputs: list[Tensor], result_gradient: Tensor) -> Tensor:
        remaining = iter(inputs)
        given = [next(remaining) if split else x for x, split in zip(leaves, by_row, strict=True)]
        output = torch.func.functional_call(module, parameters, *tree_unflatten(given, structure))
        result: Tensor = next(x for x in tree_leaves(output) if isinstance(x, Tensor))
        return (result * result_gradient).sum()

    inputs = [_by_row(x, rows) for x, split in zip(leaves, by_row, strict=True) if split]
    with warnings.catch_warnings(), sdpa_kernel(SDPBackend.MATH):
        warnings.filterwarnings("ignore", "There is a performance drop")  # of vmap: slower, and right
        by_name = torch.func.vmap(torch.func.grad(product), in_dims=(None, 0, 0))(
            parameters, inputs, _by_row(gradient, rows)
        )
    named = dict(module.named_parameters())
    return {named[name]: value for name, value in by_name.items()}


def _by_row(x: Tensor, rows: int) -> Tensor:
    """[rows * N, ...] -> [rows, N, ...]."""
    return x.reshape(rows, -1, *x.shape[1:])
