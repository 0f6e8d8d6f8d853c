"""Which rule differentiates which kind of layer; users add their own with `register_rule`.

A rule is called once for each use of a layer in the forward pass, with what went in and the loss gradient of what came
out, both already grouped by unit, and returns a term for each of its parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from fairtest.training.clipping.terms import Term

Derivation = Callable[[nn.Module, Tensor, Tensor], Mapping[str, Term]]
Refusal = Callable[[nn.Module], str]
Inputs = Callable[[nn.Module, tuple[Any, ...], dict[str, Any]], Tensor]


@dataclass(frozen=True)
class LayerRule:
    """How one kind of layer is differentiated by unit.

    Args:
        applies: whether a module is of this kind.
        terms: (module, input, output gradient) -> {parameter name: term}. The input is [U, N, features], or ids
            [U, N] where it holds whole numbers; the output gradient is [U, N, features].
        refuses: why this very module cannot be differentiated by unit; "" if it can.
        inputs: (module, args, kwargs) of a call -> the input, rows first.
    """

    applies: Callable[[nn.Module], bool]
    terms: Derivation
    refuses: Refusal
    inputs: Inputs


_rules: list[LayerRule] = []
_refusals: list[Callable[[nn.Module], Mapping[nn.Module, str]]] = []
_flattening: list[Callable[[nn.Module], Iterable[nn.Module]]] = []


def _accepts_all(_module: nn.Module) -> str:
    return ""


def _first_argument(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    first: Tensor = next(iter((*args, *kwargs.values())))
    return first


def register_rule(
    kind: type[nn.Module] | Callable[[nn.Module], bool],
    *,
    refuses: Refusal = _accepts_all,
    inputs: Inputs = _first_argument,
) -> Callable[[Derivation], Derivation]:
    """Decorates a rule for a class of layers, or for the modules that a predicate accepts; the last one wins.

    A class stands for its subclasses too as long as they inherit its `forward`: one that computes something else has
    another gradient. `inputs` finds a call's input, by default its first argument.
    """
    applies = _computes_like(kind) if isinstance(kind, type) else kind

    def register(terms: Derivation) -> Derivation:
        _rules.insert(0, LayerRule(applies, terms, refuses, inputs))
        return terms

    return register


def _computes_like(kind: type[nn.Module]) -> Callable[[nn.Module], bool]:
    return lambda module: isinstance(module, kind) and type(module).forward is kind.forward


def rule_for(module: nn.Module) -> LayerRule | None:
    """The rule of a layer, or None."""
    return next((rule for rule in _rules if rule.applies(module)), None)


def register_refusal(
    reasons: Callable[[nn.Module], Mapping[nn.Module, str]],
) -> Callable[[nn.Module], Mapping[nn.Module, str]]:
    """Decorates a function that says which children a module uses in a way no rule can tell apart by row, and why."""
    _refusals.append(reasons)
    return reasons


def refused_children(module: nn.Module) -> dict[nn.Module, str]:
    """Children of a module that have a rule, but are not used as it says, each with the reason."""
    return {child: reason for reasons in _refusals for child, reason in reasons(module).items()}


def register_flattened(
    children: Callable[[nn.Module], Iterable[nn.Module]],
) -> Callable[[nn.Module], Iterable[nn.Module]]:
    """Decorates a function that says which children a module gives its rows end to end, [rows * tokens, features].

    Tokens in any other order would be counted to wrong units, so no layer may be taken for one of these by its shapes.
    """
    _flattening.append(children)
    return children


def flattened_children(module: nn.Module) -> set[nn.Module]:
    """Children of a module, and the layers within, that see its rows end to end."""
    return {layer for found in _flattening for child in found(module) for layer in child.modules()}
