"""Checks a model's rules against plain autograd, once, on a few of its own rows."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from torch import Tensor, nn

from fairtest.errors import TrainingError
from fairtest.training.clipping.engine import PerUnitClipping, row_counts
from fairtest.training.clipping.terms import squared_lengths

TOLERANCE = 1e-3
HALF_TOLERANCE = 5e-2


def verify_against_autograd(
    model: nn.Module,
    row_losses: Callable[[], Tensor],
    rows_per_unit: int | Sequence[int] = 1,
    *,
    tolerance: float = TOLERANCE,
) -> None:
    """Compares norms and clipped sum with those of autograd, unit by unit; the parameters' `grad` is left as it was.

    `row_losses` runs the model and gives [rows]; it is called twice, and a backward pass is done for each unit, so give
    it few. This finds what a rule cannot see: a weight that is also used outside its layer, a layer that computes
    something other than its name says or is shared by rows. In half precision autograd itself is wrong by a percent:
    `tolerance` is then better HALF_TOLERANCE.

    Raises:
        TrainingError: a norm or parameter gradient differs by more than `tolerance`, relatively; the privacy claim
            would be wrong.
    """
    named = {p: name for name, p in model.named_parameters() if p.requires_grad}
    kept = {p: p.grad for p in named}
    clipping = PerUnitClipping(model, 1.0)
    try:
        with _same_dropout(named):
            norms, expected = _directions(row_losses(), rows_per_unit, named)
        # Below all norms, so that each unit's gradient is scaled: the sum is C sum_u g_u / |g_u|.
        clipping.max_grad_norm = 0.5 * min((norm for norm in norms.tolist() if norm > 0), default=1.0)
        with _same_dropout(named), clipping:
            found = clipping.backward(row_losses(), rows_per_unit).norms
        gradients = {p: p.grad / clipping.max_grad_norm for p in named if p.grad is not None}
    finally:
        clipping.close()
        for p, gradient in kept.items():
            p.grad = gradient
    scale = torch.stack([whole.norm() for whole in expected.values()]).norm()
    right = torch.stack(
        [(gradients[p] - whole).norm() <= tolerance * (whole.norm() + 1e-3 * scale) for p, whole in expected.items()]
    ).tolist()
    wrong = [named[p] for p, agrees in zip(expected, right, strict=True) if not agrees]
    if wrong:
        raise _wrong(
            model, f"gradients of {len(wrong)} parameters do not add up to autograd's, the first is {wrong[0]}"
        )
    off = (found - norms).abs() > tolerance * norms
    if bool(off.any()):
        unit = int(torch.nonzero(off)[0])
        raise _wrong(model, f"gradient norm is {float(found[unit]):.6g} where autograd finds {float(norms[unit]):.6g}")


def _directions(
    losses: Tensor, rows_per_unit: int | Sequence[int], parameters: Iterable[nn.Parameter]
) -> tuple[Tensor, dict[nn.Parameter, Tensor]]:
    """Norms [U] of the units' gradients, and the sum of these gradients scaled to norm 1."""
    total = {p: torch.zeros_like(p) for p in parameters}
    norms = []
    for part in torch.split(losses, row_counts(losses, rows_per_unit)):
        for p in total:
            p.grad = None
        part.sum().backward(retain_graph=True)  # type: ignore[no-untyped-call]
        found = {p: p.grad for p in total if p.grad is not None}
        norm = torch.cat([squared_lengths(gradient.float().reshape(1, -1)) for gradient in found.values()]).sum().sqrt()
        norms.append(norm)
        if norm > 0:
            for p, gradient in found.items():
                total[p] += gradient / norm.to(gradient.dtype)
    for p in total:
        p.grad = None
    return torch.stack(norms), total


def _wrong(model: nn.Module, what: str) -> TrainingError:
    return TrainingError(
        f"per-unit {what}",
        where=type(model).__name__,
        fix="the layer is used in a way its clipping rule does not know: freeze it, or register a rule for it",
    )


@contextlib.contextmanager
def _same_dropout(parameters: Iterable[nn.Parameter]) -> Iterator[None]:
    devices = sorted({p.device.index for p in parameters if p.device.type == "cuda"})
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(0)
        yield
