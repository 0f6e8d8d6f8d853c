"""What the gradient of a layer's own parameters is, one rule for each kind of layer.

A rule is called once for each use of a layer in the forward pass, with what went in and the loss gradient of what came
out, both already grouped by unit, and returns a term for each of its parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from fairtest.training.clipping.terms import OneHot, Outer, PerUnit, Term

Derivation = Callable[[nn.Module, Tensor, Tensor], Mapping[str, Term]]
Refusal = Callable[[nn.Module], str]


@dataclass(frozen=True)
class LayerRule:
    """How one kind of layer is differentiated by unit.

    Args:
        applies: whether a module is of this kind.
        terms: (module, input, output gradient) -> {parameter name: term}. The input is [U, N, features], or ids
            [U, N] where it holds whole numbers; the output gradient is [U, N, features].
        refuses: why this very module cannot be differentiated by unit; "" if it can.
    """

    applies: Callable[[nn.Module], bool]
    terms: Derivation
    refuses: Refusal


_rules: list[LayerRule] = []


def _accepts_all(_module: nn.Module) -> str:
    return ""


def register_rule(
    kind: type[nn.Module] | Callable[[nn.Module], bool], *, refuses: Refusal = _accepts_all
) -> Callable[[Derivation], Derivation]:
    """Decorates a rule for a class of layers, or for the modules that a predicate accepts; the last one wins.

    A class stands for its subclasses too as long as they inherit its `forward`: one that computes something else has
    another gradient.
    """
    applies = _computes_like(kind) if isinstance(kind, type) else kind

    def register(terms: Derivation) -> Derivation:
        _rules.insert(0, LayerRule(applies, terms, refuses))
        return terms

    return register


def _computes_like(kind: type[nn.Module]) -> Callable[[nn.Module], bool]:
    return lambda module: isinstance(module, kind) and type(module).forward is kind.forward


def rule_for(module: nn.Module) -> LayerRule | None:
    """The rule of a layer, or None."""
    return next((rule for rule in _rules if rule.applies(module)), None)


@register_rule(nn.Linear)
def linear(module: nn.Module, inputs: Tensor, gradient: Tensor) -> Mapping[str, Term]:
    """y_n = W a_n + b with W [out, in]: dL/dW = sum_n g_n a_n' and dL/db = sum_n g_n, where g_n = dL/dy_n."""
    return _with_bias(module, Outer(gradient, inputs), gradient)


@register_rule(Conv1D)
def transposed_linear(module: nn.Module, inputs: Tensor, gradient: Tensor) -> Mapping[str, Term]:
    """GPT-2's linear layer, y_n = W' a_n + b with W [in, out]: dL/dW = sum_n a_n g_n'."""
    return _with_bias(module, Outer(inputs, gradient), gradient)


def _with_bias(module: nn.Module, weight: Term, gradient: Tensor) -> Mapping[str, Term]:
    if getattr(module, "bias", None) is None:
        return {"weight": weight}
    return {"weight": weight, "bias": PerUnit(gradient.sum(1))}


def _embedding_refuses(module: nn.Module) -> str:
    if getattr(module, "scale_grad_by_freq", False):
        return "scale_grad_by_freq divides a unit's gradient by counts over all units"
    if getattr(module, "max_norm", None) is not None:
        return "max_norm changes weights during the forward pass"
    return ""


@register_rule(nn.Embedding, refuses=_embedding_refuses)
def embedding(module: nn.Module, ids: Tensor, gradient: Tensor) -> Mapping[str, Term]:
    """y_n = W[id_n] = W' e_(id_n): dL/dW = sum_n e_(id_n) g_n', without the row `padding_idx`, which stays."""
    assert isinstance(module, nn.Embedding)  # noqa: S101 - what it is registered for
    if module.padding_idx is not None:
        gradient = gradient * (ids != module.padding_idx).unsqueeze(-1)
    return {"weight": Outer(OneHot(ids, module.num_embeddings), gradient)}


def _layer_norm_refuses(module: nn.Module) -> str:
    shape = getattr(module, "normalized_shape", ())
    return "" if len(shape) == 1 else f"it normalises over {len(shape)} dimensions, and the rule is for the last one"


@register_rule(nn.LayerNorm, refuses=_layer_norm_refuses)
def layer_norm(module: nn.Module, inputs: Tensor, gradient: Tensor) -> Mapping[str, Term]:
    """y_n = w * z_n + b with z_n = (a_n - mean) / sqrt(var + eps): dL/dw = sum_n g_n * z_n and dL/db = sum_n g_n."""
    assert isinstance(module, nn.LayerNorm)  # noqa: S101 - what it is registered for
    normalised = nn.functional.layer_norm(inputs, module.normalized_shape, eps=module.eps)
    return _with_bias(module, PerUnit((gradient * normalised).sum(1)), gradient)


_EPSILON_NAMES = ("variance_epsilon", "eps", "epsilon", "norm_eps")


def _epsilon(module: nn.Module) -> float | None:
    values = (getattr(module, name, None) for name in _EPSILON_NAMES)
    return next((float(value) for value in values if isinstance(value, (int, float))), None)


def _is_rms_norm(module: nn.Module) -> bool:
    weight = getattr(module, "weight", None)
    named = type(module).__name__.endswith("RMSNorm")
    return named and isinstance(weight, Tensor) and weight.dim() == 1 and _epsilon(module) is not None


@register_rule(_is_rms_norm)
def rms_norm(module: nn.Module, inputs: Tensor, gradient: Tensor) -> Mapping[str, Term]:
    """y_n = w * z_n with z_n = a_n / sqrt(mean(a_n^2) + eps): dL/dw = sum_n g_n * z_n; (1 + w) * z_n has the same.

    Every model family brings a class of its own, so it is known by its shape: a name that ends in RMSNorm, a vector
    `weight`, an epsilon. `verify_against_autograd` tells whether a family means something else by it.
    """
    scale = torch.rsqrt(inputs.square().mean(-1, keepdim=True) + (_epsilon(module) or 0.0))
    return {"weight": PerUnit((gradient * inputs * scale).sum(1))}
