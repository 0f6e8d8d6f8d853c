"""Gradients of a group of units: each unit's norm, the plain and the clipped sum, and curvature along directions."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from fairtest.errors import TrainingError
from fairtest.training.clipping import PerUnitClipping
from fairtest.training.encoding import EncodedUnit, MicroBatch, micro_batches
from fairtest.training.steps import Clipping, Steps, clipping_of
from fairtest.training.token_loss import kept_logits

Vector = list[Tensor]


@dataclass(frozen=True)
class GroupGradient:
    """Of each unit loss, gradient norm and clip factor min(1, C / norm), all [U]; the sums of the units' gradients as
    they are (`plain`) and clipped, a tensor for each trained parameter.
    """

    losses: Tensor
    norms: Tensor
    factors: Tensor
    plain: Vector
    clipped: Vector


class BothSums(PerUnitClipping):
    """Per-unit clipping that keeps the sum of unclipped gradients too, from the same backward pass, in `plain`."""

    def __init__(self, model: nn.Module, max_grad_norm: float) -> None:
        self.plain: dict[nn.Parameter, Tensor] = {}
        super().__init__(model, max_grad_norm)

    def _add_weighted(self, slices: Any, weights: Tensor) -> None:
        super()._add_weighted(slices, weights)
        clipped = {p: p.grad for p in self._trainable}
        for p in self._trainable:
            p.grad = self.plain.get(p)
        super()._add_weighted(slices, torch.ones_like(weights))
        for p, gradient in clipped.items():
            if p.grad is not None:
                self.plain[p] = p.grad
            p.grad = gradient


class GradientMeter:
    """Measures groups of units at the weights of a run as they are, without dropout; leaves no trace in the run.

    `max_grad_norm` is the run's C, infinite where it does not clip: then the clipped sum is the plain one.
    """

    def __init__(self, steps: Steps, engine: str = "fairtest") -> None:
        noise = steps.noise
        self.steps = steps
        self.parameters = list(steps.parameters.values())
        self.max_grad_norm = noise.max_grad_norm if noise is not None and noise.clips else math.inf
        self._both: BothSums | None = None
        self._plain_engine: Clipping | None = None
        self._clipping_engine: Clipping | None = None
        if engine == "fairtest" and math.isfinite(self.max_grad_norm):
            self._both = BothSums(steps.model, self.max_grad_norm)
            return
        self._plain_engine = clipping_of(steps.model, math.inf, engine)
        if math.isfinite(self.max_grad_norm):
            self._clipping_engine = clipping_of(steps.model, self.max_grad_norm, engine)

    def close(self) -> None:
        """Takes the hooks off the model."""
        for engine in (self._both, self._plain_engine, self._clipping_engine):
            if engine is not None:
                engine.close()

    def measure(self, units: Sequence[EncodedUnit]) -> GroupGradient:
        """One forward and backward pass over the units; two with the engine that forms each record's gradient."""
        with self._untouched():
            if self._both is not None:
                self._both.plain.clear()
                losses, norms = self._sums(units, self._both)
                clipped = self._taken()
                plain = [self._both.plain[p] for p in self.parameters]
                self._both.plain.clear()
            else:
                assert self._plain_engine is not None  # noqa: S101 - one of the two is there
                losses, norms = self._sums(units, self._plain_engine)
                plain = clipped = self._taken()
                if self._clipping_engine is not None:
                    self._sums(units, self._clipping_engine)
                    clipped = self._taken()
        factors = (self.max_grad_norm / norms).clamp(max=1.0)
        return GroupGradient(losses, norms, factors, plain, clipped)

    def _sums(self, units: Sequence[EncodedUnit], engine: Clipping) -> tuple[Tensor, Tensor]:
        losses, norms = torch.zeros(len(units)), torch.zeros(len(units))
        place = {unit.index: position for position, unit in enumerate(units)}
        several = engine is not self._both and self._both is None
        for part in micro_batches(units, self.steps.training.micro_batch_tokens):
            batch = MicroBatch.of(part)
            with engine, kept_logits() if several else contextlib.nullcontext():
                rows = self.row_losses(batch)
                found = engine.backward(rows, batch.rows_per_unit)
            where = torch.tensor([place[unit.index] for unit in batch.units])
            losses[where] = unit_losses(batch, rows.detach()).float().cpu()
            norms[where] = found.norms.float().cpu()
        return losses, norms

    def _taken(self) -> Vector:
        taken = [torch.zeros_like(p) if p.grad is None else p.grad for p in self.parameters]
        for p in self.parameters:
            p.grad = None
        return taken

    def row_losses(self, batch: MicroBatch, *, exact: bool = False) -> Tensor:
        """What each row adds to its unit's loss, as [rows], in the run's own precision, or `exact` in its weights'."""
        half = self.steps.training.precision == "bfloat16" and not exact
        with torch.autocast(self.parameters[0].device.type, dtype=torch.bfloat16, enabled=half):
            log_probs = self.steps.scorer.token_log_probs(batch.tokens)
        return -log_probs.float().sum(1) * batch.weights.to(log_probs.device)

    def curvature(self, units: Sequence[EncodedUnit], directions: Sequence[Vector]) -> list[float]:
        """The curvature v' H v along each direction v, with H the Hessian of the units' mean loss."""
        found = [0.0] * len(directions)
        # The fused attention kernels have no second derivative, and neither has the loss that reuses its logits.
        with self._untouched(), kept_logits(), sdpa_kernel(SDPBackend.MATH):
            for part in micro_batches(units, self.steps.training.micro_batch_tokens):
                loss = self.row_losses(MicroBatch.of(part), exact=True).sum() / len(units)
                first = torch.autograd.grad(loss, self.parameters, create_graph=True)
                for index, direction in enumerate(directions):
                    second = torch.autograd.grad(first, self.parameters, direction, retain_graph=True)
                    found[index] += dot(list(second), direction)
        return found

    def probes(self, count: int, seed: int) -> list[Vector]:
        """Directions of independent signs +1 and -1: the mean of v' H v over them is unbiased for the trace of H
        (Hutchinson 1990).
        """
        generator = torch.Generator().manual_seed(seed)
        return [
            [
                torch.randint(0, 2, p.shape, generator=generator).mul_(2).sub_(1).to(p.device, p.dtype)
                for p in self.parameters
            ]
            for _ in range(count)
        ]

    @contextlib.contextmanager
    def _untouched(self) -> Iterator[None]:
        """Gradients, modes of modules and random state are afterwards what they were."""
        kept = [p.grad for p in self.parameters]
        modes = [(module, module.training) for module in self.steps.model.modules()]
        devices = sorted({p.device.index for p in self.parameters if p.device.type == "cuda"})
        for p in self.parameters:
            p.grad = None
        self.steps.model.eval()
        try:
            with torch.random.fork_rng(devices=devices), torch.enable_grad():
                yield
        finally:
            for module, mode in modes:
                module.training = mode
            for p, gradient in zip(self.parameters, kept, strict=True):
                p.grad = gradient


def unit_losses(batch: MicroBatch, row_losses: Tensor) -> Tensor:
    """Loss [U] of each unit of a micro-batch, from its rows'."""
    return torch.stack([part.sum() for part in torch.split(row_losses, list(batch.rows_per_unit))])


def dot(x: Sequence[Tensor], y: Sequence[Tensor]) -> float:
    """Inner product of two gradients."""
    return math.fsum(float(torch.dot(a.reshape(-1).float(), b.reshape(-1).float())) for a, b in zip(x, y, strict=True))


def cosine(x: Sequence[Tensor], y: Sequence[Tensor]) -> float | None:
    """Cosine of the angle between two gradients; None where one of them is 0."""
    length = math.sqrt(dot(x, x) * dot(y, y))
    return dot(x, y) / length if length > 0 else None


@dataclass(frozen=True)
class ExcessLoss:
    """What clipping and noise add to a group's loss in one step, to second order, in nats a token (Esipova et al.
    2023; Tran et al. 2021): by turning the mean gradient, by shortening it, by noise.
    """

    direction: float
    magnitude: float
    noise: float


def excess_loss(
    meter: GradientMeter,
    units: Sequence[EncodedUnit],
    group_mean: Vector,
    batch: GroupGradient,
    *,
    probes: int,
    seed: int,
) -> ExcessLoss:
    """The parts of a group's excess loss, for a step of plain gradient descent at the run's learning rate eta.

    With g the batch's mean gradient, c the clipped mean, s = |c| / |g|, a the group's mean gradient, H its Hessian:

        direction  eta a.(s g - c) + eta^2/2 (c'Hc - s^2 g'Hg)
        magnitude  eta (1 - s) a.g + eta^2/2 (s^2 - 1) g'Hg
        noise      eta^2/2 tr(H) (sigma C / B)^2,   tr(H) from `probes` random directions

    The first two add up to the loss after a clipped step less that after an unclipped one. Optimizers other than SGD
    take other steps: for them the parts tell groups apart at equal eta, and are no forecast.

    Raises:
        TrainingError: the batch is empty.
    """
    if not len(batch.losses):
        raise TrainingError("an empty batch has no gradient", where="decompose", fix="leave the step out")
    steps, eta = meter.steps, meter.steps.learning_rate
    size = steps.expected_batch_size
    plain, clipped = [x / size for x in batch.plain], [x / size for x in batch.clipped]
    std = steps.noise.std / size if steps.noise is not None else 0.0
    signs = meter.probes(probes if std > 0 else 0, seed)
    along_plain, along_clipped, *trace = meter.curvature(units, [plain, clipped, *signs])
    length = math.sqrt(dot(plain, plain))
    s = math.sqrt(dot(clipped, clipped)) / length if length > 0 else 1.0
    with_plain, with_clipped = dot(group_mean, plain), dot(group_mean, clipped)
    half = eta * eta / 2
    return ExcessLoss(
        direction=eta * (s * with_plain - with_clipped) + half * (along_clipped - s * s * along_plain),
        magnitude=eta * (1 - s) * with_plain + half * (s * s - 1) * along_plain,
        noise=half * std * std * math.fsum(trace) / len(trace) if trace else 0.0,
    )
