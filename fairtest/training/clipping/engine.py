"""Clipped gradient sums from one backward pass.

During the forward pass the trained parameters do not require gradients, so the backward pass computes the gradients
of activations only; `recording` keeps what goes into each trained layer and the gradient of what comes out. From these
two follow the norm of each unit's gradient (see `terms`) and then the clipped sum, at about the cost that autograd
would have had for the plain sum.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from fairtest.errors import NotFiniteError, TrainingError
from fairtest.training.clipping.recording import Use, record_use
from fairtest.training.clipping.registry import LayerRule, flattened_children, refused_children, rule_for
from fairtest.training.clipping.terms import Scratch, Term, cheapest, squared_norms, weighted_sum

if TYPE_CHECKING:
    from typing_extensions import Self  # in the standard library from Python 3.11


@dataclass(frozen=True)
class Clipped:
    """Norm of each unit's gradient before clipping and the factor min(1, C / norm) it was scaled with, both [U].

    They are computed from the units' own gradients, so no epsilon covers them: not for release.
    """

    norms: Tensor
    factors: Tensor


@dataclass(frozen=True)
class _Slice:
    """Neighbouring units with equally many rows each: rows `start` to `stop` of the batch."""

    start: int
    stop: int
    rows_each: int

    def of(self, x: Tensor) -> Tensor:
        """[rows, ..., features] -> [U, N, features] in float32 at least, or [rows, ...] -> [U, N] for ids."""
        part, units = x[self.start : self.stop], (self.stop - self.start) // self.rows_each
        if not part.is_floating_point():
            return part.reshape(units, -1)
        part = part.to(torch.promote_types(part.dtype, torch.float32))
        return part.reshape(units, -1, part.shape[-1])


class PerUnitClipping:
    """Clips the gradient of each privacy unit over all trainable parameters to L2 norm `max_grad_norm`.

    Used as a context around forward and `backward`; outside of it the model behaves as if this were not there:

        with clipping:
            clipping.backward(row_losses(model), rows_per_unit=2)

    A row of the model's batch belongs to one unit, so no layer may mix rows (no batch normalisation). Which parameters
    are trainable is looked up anew at each entry. `max_grad_norm` may be set between two uses.

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
        self._flattened: set[nn.Module] = set()
        self._uses: list[Use] = []
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
        refused: dict[nn.Module, str] = {}
        self._flattened = set()
        for module in self.model.modules():
            refused.update(refused_children(module))
            self._flattened |= flattened_children(module)
            own = {p for p in module.parameters(recurse=False) if p in self._trainable}
            rule = rule_for(module) if own else None
            reason = refused.get(module, "") or (rule.refuses(module) if rule is not None else "")
            if own and reason:
                raise self._refusal({p: f"{type(module).__name__}: {reason}" for p in own})
            if rule is None:
                # Not an error yet: a container may list a parameter that one of its layers uses (a tied bias).
                reasons.update((p, f"no rule for {type(module).__name__}") for p in own)
                continue
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
            fix="freeze them (Training(trainable='last:K') or 'lora'), register a rule for the layer with"
            ' fairtest.training.clipping.register_rule, or use DP(clipping="opacus"), which is slower',
        )

    def _mixed(self, module: nn.Module, what: str) -> TrainingError:
        names = [self._trainable[p] for p in module.parameters(recurse=False) if p in self._trainable]
        return TrainingError(
            f"{type(module).__name__} {what}, so gradients cannot be told apart by unit",
            where=f"{', '.join(names)} of {type(self.model).__name__}",
            fix="freeze that layer, or pass each row its own inputs (positions as [rows, tokens])",
        )

    def _watch(self, module: nn.Module, rule: LayerRule) -> None:
        def keep(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> Tensor | None:
            if not self._active or not torch.is_grad_enabled():
                return None
            inputs = rule.inputs(module, args, kwargs)
            if isinstance(module, nn.Embedding) and inputs.dim() < 2:
                # Positions [T] would be taken for one id a row in a batch of T rows.
                raise self._mixed(module, f"looked up ids of shape {tuple(inputs.shape)}")
            if isinstance(module, nn.Embedding) and inputs.shape[0] == 1 < self._rows:
                # Positions given once for all rows, [1, T], would have one gradient for all units together.
                inputs, output = (x.expand(self._rows, *x.shape[1:]) for x in (inputs, output))
            return record_use(module, rule, inputs, output, self._uses.append)

        self._handles.append(module.register_forward_hook(keep, with_kwargs=True))
        if isinstance(module, nn.Linear):
            self._handles.append(module.register_forward_pre_hook(self._in_one_piece))

    def _in_one_piece(self, _module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        # Without a gradient for its weight, torch multiplies rows with gaps between them one by one, which is slower.
        if self._active and args and not args[0].is_contiguous():
            return (args[0].contiguous(), *args[1:])
        return None

    def _note_rows(self, _module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if self._active:
            tensors = (x for x in (kwargs.get("input_ids"), kwargs.get("inputs_embeds"), *args) if x is not None)
            self._rows = next((int(x.shape[0]) for x in tensors if isinstance(x, Tensor)), 0)

    def __enter__(self) -> Self:
        if self._active:
            raise TrainingError("per-unit clipping is entered twice", where="PerUnitClipping", fix="leave it first")
        trainable = {p for p in self.model.parameters() if p.requires_grad}
        if trainable != self._trainable.keys() or not self._handles:
            self._install()
        for parameter in self._trainable:
            parameter.requires_grad_(False)
        self._active = True
        self._rows = 0
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

    def backward(self, row_losses: Tensor, rows_per_unit: int | Sequence[int] = 1) -> Clipped:
        """Adds sum_u min(1, C / |g_u|) g_u to the parameters' `grad`, with g_u the gradient of the sum of unit u's row
        losses; for the mean of a unit's views, divide each by their number before.

        `row_losses` is [rows], the rows of a unit next to each other; `rows_per_unit` says how many rows each unit
        has, one number for all or one for each. Neighbours with equally many are worked on together, so units are best
        sorted by it. Norms are taken in float32 at least.

        Raises:
            NotFiniteError: a loss or norm is not finite; `unit` is its unit's position.
            TrainingError: a layer mixed rows, or a parameter got no gradient. In both cases no parameter's `grad` has
                changed.
        """
        counts = row_counts(row_losses, rows_per_unit) if self._active else []
        if not counts:
            raise TrainingError(
                f"clipping got losses of shape {tuple(row_losses.shape)} for {rows_per_unit} rows a unit"
                + ("" if self._active else ", outside its context"),
                where="PerUnitClipping.backward",
                fix="call it inside `with clipping:` with one loss a row, the rows of a unit next to each other",
            )
        finite = torch.isfinite(row_losses.detach())
        if not bool(finite.all()):
            units = torch.repeat_interleave(torch.tensor(counts))[(~finite).cpu()]
            raise _not_finite("loss", sorted(set(units.tolist())), len(counts))
        self._uses.clear()
        try:
            row_losses.sum().backward()  # type: ignore[no-untyped-call]
            with torch.no_grad(), exact_products(row_losses.device.type):
                return self._add_clipped(counts)
        finally:
            self._uses.clear()

    def _add_clipped(self, counts: Sequence[int]) -> Clipped:
        slices = [(self._terms(part, sum(counts)), part) for part in _slices(counts)]
        norms = torch.cat([_norms(terms) for terms, _ in slices])
        finite = torch.isfinite(norms)
        if not bool(finite.all()):
            raise _not_finite("gradient norm", torch.nonzero(~finite).flatten().tolist(), len(counts))
        factors = (self.max_grad_norm / norms).clamp(max=1.0)
        self._add_weighted(slices, factors)
        return Clipped(norms, factors)

    def _add_weighted(self, slices: Sequence[tuple[dict[nn.Parameter, list[Term]], _Slice]], weights: Tensor) -> None:
        first, scratch = 0, Scratch()
        for terms, part in slices:
            units = (part.stop - part.start) // part.rows_each
            for parameter, found in terms.items():
                parameter.grad = weighted_sum(found, weights[first : first + units], parameter, scratch)
            first += units

    def _terms(self, part: _Slice, rows: int) -> dict[nn.Parameter, list[Term]]:
        terms: dict[nn.Parameter, list[Term]] = {}
        for use in self._uses:
            inputs, gradient = use.inputs, use.gradient
            if use.module in self._flattened and inputs.dim() == 2 and inputs.shape[0] % rows == 0:
                inputs, gradient = (x.reshape(rows, -1, x.shape[-1]) for x in (inputs, gradient))
            if gradient.shape[0] != rows or inputs.shape[0] != rows:
                raise self._mixed(use.module, f"worked on {inputs.shape[0]} rows where the batch has {rows}")
            found = use.rule.terms(use.module, part.of(inputs), part.of(gradient))
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
        return {parameter: cheapest(found) for parameter, found in terms.items()}


def row_counts(row_losses: Tensor, rows_per_unit: int | Sequence[int]) -> list[int]:
    """Rows of each unit; empty where they do not add up to the rows there are."""
    rows = row_losses.shape[0] if row_losses.dim() == 1 else 0
    if isinstance(rows_per_unit, int):
        whole = rows_per_unit >= 1 and rows % rows_per_unit == 0
        return [rows_per_unit] * (rows // rows_per_unit) if whole else []
    counts = [int(count) for count in rows_per_unit]
    return counts if sum(counts) == rows and min(counts, default=0) >= 1 else []


def _slices(counts: Sequence[int]) -> Iterator[_Slice]:
    start = 0
    for count, run in itertools.groupby(counts):
        stop = start + count * len(list(run))
        yield _Slice(start, stop, count)
        start = stop


@contextlib.contextmanager
def exact_products(device: str) -> Iterator[None]:
    """Matrix products in float32, whatever autocast or `torch.set_float32_matmul_precision` allow elsewhere.

    In half precision or TF32 norms would be wrong by up to percents, and a clipped gradient longer than C.
    """
    with _ieee_products(), torch.autocast(device, enabled=False):
        yield


@contextlib.contextmanager
def _ieee_products() -> Iterator[None]:
    try:
        allowed = torch.get_float32_matmul_precision()
    except RuntimeError:  # somebody has set it backend by backend, as torch 2.9 and later have it
        mkldnn: Any = torch.backends.mkldnn
        backends = (torch.backends.cuda.matmul, mkldnn.matmul)
        before = [backend.fp32_precision for backend in backends]
        for backend in backends:
            backend.fp32_precision = "ieee"
        try:
            yield
        finally:
            for backend, precision in zip(backends, before, strict=True):
                backend.fp32_precision = precision
        return
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(allowed)


def _norms(terms: Mapping[nn.Parameter, list[Term]]) -> Tensor:
    return torch.stack([squared_norms(found) for found in terms.values()]).sum(0).clamp(min=0).sqrt()


def _not_finite(what: str, units: Sequence[int], count: int) -> NotFiniteError:
    return NotFiniteError(
        f"the {what} of {len(units)} of {count} units in a batch is not finite",
        where=f"unit {units[0]} of the batch",
        fix="use a lower learning_rate; if it happens at the first step, check the model's weights",
        unit=units[0],
    )
