"""Clipped gradient sums from each row's own gradient, for layers that the engine has no rule for.

Row gradients come from Opacus' grad samplers where Opacus knows the layer, and from `torch.func`, one row at a time
under `vmap`, where it does not. That takes about twice the time of plain training and as many values as rows times
parameters. Autograd computes the plain sum along the way, and the row gradients of every parameter are compared with
it at every call; the first call also looks whether the loss of one row leaves the others' gradients at zero. So a
layer that mixes rows, or does more than it seems to, is an error and not a wrong norm.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.hooks import RemovableHandle

from fairtest.errors import NotFiniteError, TrainingError
from fairtest.training.clipping.engine import Clipped, exact_products, row_counts
from fairtest.training.clipping.row_gradients import grad_sampler, row_gradients
from fairtest.training.clipping.terms import squared_lengths

if TYPE_CHECKING:
    from typing_extensions import Self  # in the standard library from Python 3.11

TOLERANCE = 1e-3
# Autograd's own sum is no better than this where layers compute in 16 bits.
TOLERANCE_16_BIT = 3e-2


class PerSampleClipping:
    """Clips the gradient of each privacy unit over all trainable parameters to L2 norm `max_grad_norm`.

    Used like `PerUnitClipping`, and gives the same result: a context around forward and `backward`, outside of which
    the model behaves as if this were not there. A row of the model's batch belongs to one unit, so no layer may mix
    rows. Which parameters are trainable is looked up anew at each entry. `max_grad_norm` may be set between two uses.

    Raises:
        TrainingError: nothing is trainable, a layer is a batch normalisation, or `max_grad_norm` is not above 0.
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
        self._samples: dict[nn.Parameter, Tensor] = {}
        self._tolerance = TOLERANCE
        self._first_row_only = self._rows_apart = False
        self._active = False
        self._rows = 0
        self._install()

    def _install(self) -> None:
        self.close()
        self._rows_apart = False
        self._trainable = {p: name for name, p in self.model.named_parameters() if p.requires_grad}
        if not self._trainable:
            raise TrainingError(
                "the model has no trainable parameter", where="Training(trainable=)", fix="train at least one layer"
            )
        for name, module in self.model.named_modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):  # noqa: SLF001 - what all batch norms have in common
                raise TrainingError(
                    f"{name} ({type(module).__name__}) mixes the rows of a batch, so no row has a gradient of its own",
                    where=type(self.model).__name__,
                    fix="use a model with layer or group normalisation",
                )
        for module in dict.fromkeys(_layers(self.model, self._trainable)):
            if isinstance(module, nn.Embedding):
                self._handles.append(module.register_forward_pre_hook(self._one_row_each))
            self._handles.append(module.register_forward_hook(self._watch, with_kwargs=True))
        for entry in {self.model, getattr(self.model, "base_model", self.model)}:
            self._handles.append(entry.register_forward_pre_hook(self._note_rows, with_kwargs=True))

    def _note_rows(self, _module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if self._active:
            tensors = (x for x in (kwargs.get("input_ids"), kwargs.get("inputs_embeds"), *args) if x is not None)
            self._rows = next((int(x.shape[0]) for x in tensors if isinstance(x, Tensor)), 0)

    def _one_row_each(self, _module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        # Positions given once for all rows, [1, T], would have one gradient for all units together.
        if self._active and self._rows > 1 and args and args[0].dim() >= 2 and args[0].shape[0] == 1:
            return (args[0].expand(self._rows, *args[0].shape[1:]), *args[1:])
        return None

    def _watch(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        if not self._active or not torch.is_grad_enabled():
            return
        results = [x for x in tree_leaves(output) if isinstance(x, Tensor) and x.requires_grad]
        if len(results) != 1:
            raise self._refusal(module, f"it gives {len(results)} tensors where row gradients need one")
        inputs = tree_map(lambda x: x.detach() if isinstance(x, Tensor) else x, (args, kwargs))

        def differentiate(gradient: Tensor) -> None:
            self._differentiate(module, inputs, gradient)

        results[0].register_hook(differentiate)  # type: ignore[no-untyped-call]

    def _differentiate(self, module: nn.Module, inputs: tuple[Any, Any], gradient: Tensor) -> None:
        if gradient.shape[0] < self._rows or gradient.shape[0] % self._rows:
            raise self._refusal(
                module, f"it worked on {gradient.shape[0]} rows where the batch has {self._rows}, so rows are mixed"
            )
        if self._first_row_only:
            if bool(gradient[gradient.shape[0] // self._rows :].any()):
                raise self._refusal(module, "the loss of one row depends on its results for another, so rows are mixed")
            return
        own = next(p.dtype for p in module.parameters() if p.requires_grad)
        wide = torch.promote_types(own, gradient.dtype)
        if gradient.dtype != wide:
            self._tolerance = TOLERANCE_16_BIT
        inputs = tree_map(lambda x: x.to(wide) if isinstance(x, Tensor) and x.is_floating_point() else x, inputs)
        # Seen from within, the layer is called again: that is no further use of it.
        self._active = False
        try:
            with torch.no_grad(), exact_products(gradient.device.type):
                found = row_gradients(module, *inputs, gradient.to(wide), self._rows)
        except (RuntimeError, TypeError, ValueError, NotImplementedError, AttributeError) as error:
            reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
            raise self._refusal(module, reason[:300]) from error
        finally:
            self._active = True
        for parameter, rows in found.items():
            if parameter in self._trainable:
                known = self._samples.get(parameter)
                self._samples[parameter] = rows if known is None else known + rows

    def _refusal(self, module: nn.Module, reason: str) -> TrainingError:
        names = [self._trainable[p] for p in module.parameters() if p in self._trainable]
        return TrainingError(
            f"the row gradients of {names[0]} ({type(module).__name__}) cannot be computed: {reason}",
            where=type(self.model).__name__,
            fix="freeze that layer, or register a rule for it with fairtest.training.clipping.register_rule",
        )

    def __enter__(self) -> Self:
        if self._active:
            raise TrainingError("per-sample clipping is entered twice", where="PerSampleClipping", fix="leave it first")
        trainable = {p for p in self.model.parameters() if p.requires_grad}
        if trainable != self._trainable.keys() or not self._handles:
            self._install()
        self._active = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._active = False
        self._samples.clear()

    def close(self) -> None:
        """Takes the hooks off the model."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def backward(self, row_losses: Tensor, rows_per_unit: int | Sequence[int] = 1) -> Clipped:
        """Adds sum_u min(1, C / |g_u|) g_u to the parameters' `grad`, with g_u the gradient of the sum of unit u's row
        losses; for the mean of a unit's views, divide each by their number before.

        `row_losses` is [rows], the rows of a unit next to each other; `rows_per_unit` says how many rows each unit
        has, one number for all or one for each. Norms are taken in float32 at least.

        Raises:
            NotFiniteError: a loss or norm is not finite; `unit` is its unit's position.
            TrainingError: a layer mixed rows or cannot be differentiated by row, or a parameter got no gradient or is
                used outside its layer. In both cases no parameter's `grad` has changed.
        """
        counts = row_counts(row_losses, rows_per_unit) if self._active else []
        if not counts:
            raise TrainingError(
                f"clipping got losses of shape {tuple(row_losses.shape)} for {rows_per_unit} rows a unit"
                + ("" if self._active else ", outside its context"),
                where="PerSampleClipping.backward",
                fix="call it inside `with clipping:` with one loss a row, the rows of a unit next to each other",
            )
        unit_of_row = torch.repeat_interleave(torch.tensor(counts, device=row_losses.device))
        _require_finite(row_losses.detach(), "loss", unit_of_row)
        self._rows, self._tolerance = len(unit_of_row), TOLERANCE
        try:
            if not self._rows_apart and len(unit_of_row) > 1:
                self._first_row_only = True
                self._plain_gradients(row_losses[0], retain_graph=True)
                self._first_row_only, self._rows_apart = False, True
            plain = self._plain_gradients(row_losses.sum())
            with torch.no_grad(), torch.autocast(row_losses.device.type, enabled=False):
                self._require_same(plain)
                return self._add_clipped(unit_of_row, len(counts))
        finally:
            self._first_row_only = False
            self._samples.clear()

    def _plain_gradients(self, loss: Tensor, *, retain_graph: bool = False) -> dict[nn.Parameter, Tensor | None]:
        kept = {p: p.grad for p in self._trainable}
        for p in self._trainable:
            p.grad = None
        try:
            loss.backward(retain_graph=retain_graph)  # type: ignore[no-untyped-call]
            return {p: p.grad for p in self._trainable}
        finally:
            for p, gradient in kept.items():
                p.grad = gradient

    def _require_same(self, plain: Mapping[nn.Parameter, Tensor | None]) -> None:
        """Row gradients have to add up to what autograd found."""
        found = {p: gradient for p, gradient in plain.items() if gradient is not None}
        if missing := sorted(self._trainable[p] for p in self._trainable.keys() - found.keys()):
            raise TrainingError(
                f"{len(missing)} trainable parameters got no gradient, the first is {missing[0]}",
                where=type(self.model).__name__,
                fix="freeze what the loss does not depend on",
            )
        scale = torch.stack([gradient.float().norm() for gradient in found.values()]).norm()
        there = [p for p in found if p in self._samples]
        off = [_differ(self._samples[p], found[p], self._tolerance, scale) for p in there]
        differing = {p for p, differs in zip(there, torch.stack(off).tolist() if off else [], strict=True) if differs}
        wrong = [self._trainable[p] for p in found if p not in self._samples or p in differing]
        if wrong:
            raise TrainingError(
                f"row gradients of {len(wrong)} parameters do not add up to the gradient autograd computes, the first"
                f" is {wrong[0]}",
                where=type(self.model).__name__,
                fix="that weight is also used outside its layer: freeze it",
            )

    def _add_clipped(self, unit_of_row: Tensor, units: int) -> Clipped:
        squares = torch.stack([_unit_squares(rows, unit_of_row, units) for rows in self._samples.values()])
        norms = squares.sum(0).sqrt()
        _require_finite(norms, "gradient norm", torch.arange(units, device=norms.device))
        factors = (self.max_grad_norm / norms).clamp(max=1.0)
        weights = factors[unit_of_row]
        for parameter in self._trainable:
            rows = self._samples.pop(parameter)
            total = torch.mv(rows.flatten(1).t(), weights.to(rows.dtype)).view_as(parameter).to(parameter.dtype)
            parameter.grad = total if parameter.grad is None else parameter.grad.add_(total)
        return Clipped(norms, factors)


def _layers(module: nn.Module, trainable: Mapping[nn.Parameter, str]) -> Iterator[nn.Module]:
    """The modules that have trainable parameters of their own; not those within one that only autograd can do."""
    lists = [child for child in module.children() if isinstance(child, (nn.ParameterList, nn.ParameterDict))]
    if any(p in trainable for owner in (module, *lists) for p in owner.parameters(recurse=False)):
        yield module
        if grad_sampler(module) is None:
            return
    for child in module.children():
        yield from _layers(child, trainable)


def _differ(rows: Tensor, whole: Tensor, tolerance: float, scale: Tensor) -> Tensor:
    difference = (rows.sum(0, dtype=torch.float32) - whole).norm()
    rounding = 1e-2 * tolerance * torch.linalg.vector_norm(rows, dtype=torch.float32) + 1e-6 * scale
    found: Tensor = difference > tolerance * whole.float().norm() + rounding
    return found


def _unit_squares(rows: Tensor, unit_of_row: Tensor, units: int) -> Tensor:
    """Squared norms [U] of the sums of row gradients, in float32 at least."""
    flat = rows.flatten(1).to(torch.promote_types(rows.dtype, torch.float32))
    if len(flat) != units:
        flat = flat.new_zeros(units, flat.shape[1]).index_add_(0, unit_of_row, flat)
    return squared_lengths(flat)


def _require_finite(values: Tensor, what: str, units: Tensor) -> None:
    finite = torch.isfinite(values)
    if not bool(finite.all()):
        broken = sorted(set(units[~finite].tolist()))
        raise NotFiniteError(
            f"the {what} of {len(broken)} of {int(units[-1]) + 1} units in a batch is not finite",
            where=f"unit {broken[0]} of the batch",
            fix="use a lower learning_rate; if it happens at the first step, check the model's weights",
            unit=broken[0],
        )
