"""Clipped gradient sums from one backward pass.

During the forward pass the trained parameters do not require gradients, so the backward pass computes the gradients
of activations only; hooks keep what goes into each trained layer and the gradient of what comes out. From these two
follow the norm of each unit's gradient (see `terms`) and then the clipped sum, at about the cost that autograd would
have had for the plain sum.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from fairtest.errors import TrainingError
from fairtest.training.clipping.rules import LayerRule, rule_for
from fairtest.training.clipping.terms import Term, cheapest, squared_norms, weighted_sum

if TYPE_CHECKING:
    from typing_extensions import Self  # in the standard library from Python 3.11


@dataclass(frozen=True)
class Clipped:
    """Norm of each unit's gradient before clipping and the factor min(1, C / norm) it was scaled with, both [U].

    They are computed from the units' own gradients, so no epsilon covers them: not for release.
    """

    norms: Tensor
    factors: Tensor


@dataclass
class _Use:
    module: nn.Module
    rule: LayerRule
    inputs: Tensor
    gradient: Tensor | None = None


class PerUnitClipping:
    """Clips the gradient of each privacy unit over all trainable parameters to L2 norm `max_grad_norm`.

    Used as a context around forward and `backward`; outside of it the model behaves as if this were not there:

        with clipping:
            clipping.backward(row_losses(model), rows_per_unit=2)

    A row of the model's batch belongs to one unit, so no layer may mix rows (no batch normalisation). Which parameters
    are trainable is looked up anew at each entry.

    Raises:
        TrainingError: nothing is trainable, a trainable parameter has no rule, or `max_grad_norm` is not above 0.
    """

    def __init__(self, model: nn.Module, max_grad_norm: float) -> None:
        if not max_grad_norm > 0:
            raise TrainingError(
                f"max_grad_norm must be above 0, got {max_grad_norm!r}", where="DP(max_grad_norm=)", fix="1.0 is usual"
            )
        self.model = model
        self.max_grad_norm = max_grad_norm
        self._handles: list[RemovableHandle] = []
        self._trainable: dict[nn.Parameter, str] = {}
        self._uses: list[_Use] = []
        self._active = False
        self._rows = 0
        self._install()

    def _install(self) -> None:
        self.close()
        self._trainable = {p: name for name, p in self.model.named_parameters() if p.requires_grad}
        if not self._trainable:
            raise TrainingError(
                "the model has no trainable parameter", where="Training(trainable=)", fix="train at least one layer"
            )
        covered: set[nn.Parameter] = set()
        reasons: dict[nn.Parameter, str] = {}
        for module in self.model.modules():
            own = {p for p in module.parameters(recurse=False) if p in self._trainable}
            rule = rule_for(module) if own else None
            if rule is None:
                # Not an error yet: a container may list a parameter that one of its layers uses (a tied bias).
                reasons.update((p, f"no rule for {type(module).__name__}") for p in own)
                continue
            if reason := rule.refuses(module):
                raise self._refusal({p: f"{type(module).__name__}: {reason}" for p in own})
            covered |= own
            self._watch(module, rule)
        if missing := self._trainable.keys() - covered:
            raise self._refusal({p: reasons.get(p, "no layer owns it") for p in missing})
        for entry in {self.model, getattr(self.model, "base_model", self.model)}:
            self._handles.append(entry.register_forward_pre_hook(self._note_rows, with_kwargs=True))

    def _refusal(self, reasons: Mapping[nn.Parameter, str]) -> TrainingError:
        named = sorted((self._trainable[p], reason) for p, reason in reasons.items())
        shown = "; ".join(f"{name} ({reason})" for name, reason in named[:5])
        more = f" and {len(named) - 5} more" if len(named) > 5 else ""
        return TrainingError(
            f"per-unit clipping cannot differentiate {len(named)} trainable parameters: {shown}{more}",
            where=type(self.model).__name__,
            fix="freeze them (Training(trainable='last:K') or 'lora'), or register a rule for the layer with"
            " fairtest.training.clipping.register_rule",
        )

    def _watch(self, module: nn.Module, rule: LayerRule) -> None:
        if isinstance(module, nn.Embedding):
            self._handles.append(module.register_forward_pre_hook(self._one_row_each))

        def keep(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> Tensor | None:
            if not self._active or not torch.is_grad_enabled():
                return None
            use = _Use(module, rule, next(iter((*args, *kwargs.values()))).detach())
            self._uses.append(use)
            # The first trained layer: nothing before it asked for gradients.
            output = output if output.requires_grad else output.detach().requires_grad_()

            def keep_gradient(gradient: Tensor) -> None:
                use.gradient = gradient.detach()

            output.register_hook(keep_gradient)  # type: ignore[no-untyped-call]
            return output

        self._handles.append(module.register_forward_hook(keep, with_kwargs=True))

    def _note_rows(self, _module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if self._active:
            tensors = (x for x in (kwargs.get("input_ids"), kwargs.get("inputs_embeds"), *args) if x is not None)
            self._rows = next((int(x.shape[0]) for x in tensors if isinstance(x, Tensor)), 0)

    def _one_row_each(self, _module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        # Positions given once for all rows, [1, T], would have one gradient for all units together.
        if self._active and self._rows > 1 and args and args[0].dim() >= 2 and args[0].shape[0] == 1:
            return (args[0].expand(self._rows, *args[0].shape[1:]), *args[1:])
        return None

    def __enter__(self) -> Self:
        if self._active:
            raise TrainingError("per-unit clipping is entered twice", where="PerUnitClipping", fix="leave it first")
        trainable = {p for p in self.model.parameters() if p.requires_grad}
        if trainable != self._trainable.keys() or not self._handles:
            self._install()
        for parameter in self._trainable:
            parameter.requires_grad_(False)
        self._active = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._active = False
        self._uses.clear()
        for parameter in self._trainable:
            parameter.requires_grad_(True)

    def close(self) -> None:
        """Takes the hooks off the model."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def backward(self, row_losses: Tensor, rows_per_unit: int = 1) -> Clipped:
        """Adds sum_u min(1, C / |g_u|) g_u to the parameters' `grad`, with g_u the gradient of the sum of unit u's row
        losses; for the mean of a unit's views, divide each by their number before.

        `row_losses` is [rows], the rows of a unit next to each other. Norms are taken in float32 at least.

        Raises:
            TrainingError: a loss or norm is not finite, a layer mixed rows, or a parameter got no gradient; no
                parameter's `grad` has changed then.
        """
        rows = row_losses.shape[0]
        if not self._active or row_losses.dim() != 1 or rows == 0 or rows_per_unit < 1 or rows % rows_per_unit:
            raise TrainingError(
                f"clipping got losses of shape {tuple(row_losses.shape)} for {rows_per_unit} rows a unit"
                + ("" if self._active else ", outside its context"),
                where="PerUnitClipping.backward",
                fix="call it inside `with clipping:` with one loss a row, the rows of a unit next to each other",
            )
        self._require_finite(row_losses.detach(), "loss")
        try:
            row_losses.sum().backward()  # type: ignore[no-untyped-call]
            with torch.no_grad():
                return self._add_clipped(rows, rows_per_unit)
        finally:
            self._uses.clear()

    def _add_clipped(self, rows: int, rows_per_unit: int) -> Clipped:
        terms = {parameter: cheapest(found) for parameter, found in self._terms(rows, rows_per_unit).items()}
        norms = torch.stack([squared_norms(found) for found in terms.values()]).sum(0).clamp(min=0).sqrt()
        self._require_finite(norms, "gradient norm")
        factors = (self.max_grad_norm / norms).clamp(max=1.0)
        for parameter, found in terms.items():
            total = parameter.grad if parameter.grad is not None else torch.zeros_like(parameter)
            for term in found:
                _add(term, factors, total)
            parameter.grad = total
        return Clipped(norms, factors)

    def _terms(self, rows: int, rows_per_unit: int) -> dict[nn.Parameter, list[Term]]:
        terms: dict[nn.Parameter, list[Term]] = {}
        for use in self._uses:
            if use.gradient is None:
                continue
            if use.gradient.shape[0] != rows or use.inputs.shape[0] != rows:
                raise TrainingError(
                    f"{type(use.module).__name__} worked on {use.inputs.shape[0]} rows where the batch has {rows},"
                    " so gradients cannot be told apart by unit",
                    where=type(self.model).__name__,
                    fix="freeze that layer, or pass each row its own inputs (positions as [rows, tokens])",
                )
            found = use.rule.terms(
                use.module, _by_unit(use.inputs, rows_per_unit), _by_unit(use.gradient, rows_per_unit)
            )
            for name, term in found.items():
                parameter = getattr(use.module, name)
                if parameter in self._trainable:
                    terms.setdefault(parameter, []).append(term)
        if missing := sorted(self._trainable[p] for p in self._trainable.keys() - terms.keys()):
            raise TrainingError(
                f"{len(missing)} trainable parameters got no gradient, the first is {missing[0]}",
                where=type(self.model).__name__,
                fix="freeze what the loss does not depend on",
            )
        return terms

    @staticmethod
    def _require_finite(values: Tensor, what: str) -> None:
        finite = torch.isfinite(values)
        if not bool(finite.all()):
            first = int(torch.nonzero(~finite)[0])
            raise TrainingError(
                f"the {what} of {int((~finite).sum())} of {len(values)} in a batch is not finite",
                where=f"position {first} of the batch",
                fix="use a lower learning_rate; if it happens at the first step, check the model's weights",
            )


def _by_unit(x: Tensor, rows_per_unit: int) -> Tensor:
    """[U * rows_per_unit, ..., features] -> [U, N, features], or [U * rows_per_unit, ...] -> [U, N] for ids; floats as float32."""
    if not x.is_floating_point():
        return x.reshape(x.shape[0] // rows_per_unit, -1)
    x = x.to(torch.promote_types(x.dtype, torch.float32))
    return x.reshape(x.shape[0] // rows_per_unit, -1, x.shape[-1])


def _add(term: Term, factors: Tensor, total: Tensor) -> None:
    if total.dtype == factors.dtype:
        weighted_sum(term, factors, total)
    else:
        wide = torch.zeros(total.shape, dtype=factors.dtype, device=total.device)
        weighted_sum(term, factors, wide)
        total.add_(wide)
