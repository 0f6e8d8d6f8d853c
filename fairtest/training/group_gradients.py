"""Gradients of a group of units: each unit's norm, the plain and the clipped sum, and curvature along directions."""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from fairtest.errors import TrainingError
from fairtest.training.clipping import OneHot, Outer, PerUnit, PerUnitClipping, Term
from fairtest.training.clipping.terms import Scratch, weighted_sum
from fairtest.training.encoding import EncodedUnit, MicroBatch, micro_batches
from fairtest.training.steps import Clipping, Steps, clipping_of
from fairtest.training.token_loss import kept_logits

Vector = list[Tensor]
# Sums of several blocks are kept at once as long as they have no more values than this (256 MiB).
MOST_VALUES = 1 << 26


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


class BlockSums(PerUnitClipping):
    """Per-unit clipping that adds up blocks of units apart, clipped and as they are, from one backward pass.

    `owners` has the block of each unit of the batch that comes next, `plain` and `clipped` the sums of each block; the
    parameters' `grad` stays as it is.
    """

    def __init__(self, model: nn.Module, max_grad_norm: float) -> None:
        self.owners: Sequence[int] = ()
        self.plain: list[dict[nn.Parameter, Tensor]] = []
        self.clipped: list[dict[nn.Parameter, Tensor]] = []
        super().__init__(model, max_grad_norm)

    def start(self, blocks: int) -> None:
        """Forgets all sums; without clipping both are the same."""
        self.plain = [{} for _ in range(blocks)]
        self.clipped = [{} for _ in range(blocks)] if math.isfinite(self.max_grad_norm) else self.plain

    def _add_weighted(self, slices: Any, weights: Tensor) -> None:
        first, scratch = 0, Scratch()
        for terms, part in slices:
            units = (part.stop - part.start) // part.rows_each
            for block, run in itertools.groupby(range(units), key=lambda unit: self.owners[first + unit]):
                members = list(run)
                some = slice(members[0], members[-1] + 1)
                own = weights[first:][some]
                for parameter, found in terms.items():
                    held = [_units_of(term, some) for term in found]
                    _add_into(self.plain[block], parameter, held, torch.ones_like(own), scratch)
                    if self.clipped is not self.plain:
                        _add_into(self.clipped[block], parameter, held, own, scratch)
            first += units


def _units_of(term: Term, some: slice) -> Term:
    if isinstance(term, PerUnit):
        return PerUnit(term.gradient[some])
    left = term.left
    return Outer(OneHot(left.index[some], left.size) if isinstance(left, OneHot) else left[some], term.right[some])


def _add_into(
    sums: dict[nn.Parameter, Tensor], parameter: nn.Parameter, terms: Sequence[Term], weights: Tensor, scratch: Scratch
) -> None:
    kept, parameter.grad = parameter.grad, sums.get(parameter)
    try:
        sums[parameter] = weighted_sum(terms, weights, parameter, scratch)
    finally:
        parameter.grad = kept


class GradientMeter:
    """Measures units at the weights of a run as they are, without dropout; leaves no trace in the run.

    `max_grad_norm` is the run's C, infinite where it does not clip: then the clipped sum is the plain one.
    """

    def __init__(self, steps: Steps, engine: str = "fairtest") -> None:
        noise = steps.noise
        self.steps = steps
        self.parameters = list(steps.parameters.values())
        self.size = sum(p.numel() for p in self.parameters)
        self.max_grad_norm = noise.max_grad_norm if noise is not None and noise.clips else math.inf
        self._sums: BlockSums | None = None
        self._engines: list[Clipping] = []
        if engine == "fairtest":
            self._sums = BlockSums(steps.model, self.max_grad_norm)
            self._engines = [self._sums]
        else:
            norms = dict.fromkeys((math.inf, self.max_grad_norm))
            self._engines = [clipping_of(steps.model, norm, engine) for norm in norms]

    def close(self) -> None:
        """Takes the hooks off the model."""
        for engine in self._engines:
            engine.close()

    def measure(self, blocks: Sequence[Sequence[EncodedUnit]]) -> Iterator[GroupGradient]:
        """Each block of units measured, from one forward and backward pass of all units together, as far as the sums
        of their blocks have room; the engine that forms each record's gradient takes two passes a block.
        """
        together = max(1, MOST_VALUES // (2 * self.size)) if self._sums is not None else 1
        for first in range(0, len(blocks), together):
            some = blocks[first : first + together]
            with self._untouched():
                found = self._together(some) if self._sums is not None else [self._one_by_one(some[0])]
            yield from found

    def _together(self, blocks: Sequence[Sequence[EncodedUnit]]) -> list[GroupGradient]:
        sums = self._sums
        assert sums is not None  # noqa: S101 - `measure` looked
        sums.start(len(blocks))
        owner = {id(unit): index for index, units in enumerate(blocks) for unit in units}
        known = self._run([unit for units in blocks for unit in units], sums, owner)
        found = []
        for units, plain, clipped in zip(blocks, sums.plain, sums.clipped, strict=True):
            plain_sum = [plain[p] for p in self.parameters]
            clipped_sum = plain_sum if clipped is plain else [clipped[p] for p in self.parameters]
            found.append(self._gradient(units, known, plain_sum, clipped_sum))
        sums.start(0)
        return found

    def _one_by_one(self, units: Sequence[EncodedUnit]) -> GroupGradient:
        sums: list[Vector] = []
        known: dict[int, tuple[float, float]] = {}
        for engine in self._engines:
            known = self._run(units, engine, {})
            sums.append([torch.zeros_like(p) if p.grad is None else p.grad for p in self.parameters])
            for p in self.parameters:
                p.grad = None
        return self._gradient(units, known, sums[0], sums[-1])

    def _gradient(
        self, units: Sequence[EncodedUnit], known: Mapping[int, tuple[float, float]], plain: Vector, clipped: Vector
    ) -> GroupGradient:
        losses, norms = torch.tensor([known[id(unit)] for unit in units]).t()
        return GroupGradient(losses, norms, (self.max_grad_norm / norms).clamp(max=1.0), plain, clipped)

    def _run(
        self, units: Sequence[EncodedUnit], engine: Clipping, owner: Mapping[int, int]
    ) -> dict[int, tuple[float, float]]:
        """Sends the units through the engine; (loss, norm) of each."""
        known: dict[int, tuple[float, float]] = {}
        for part in micro_batches(units, self.steps.training.micro_batch_tokens):
            batch = MicroBatch.of(sorted(part, key=lambda unit: owner.get(id(unit), 0)))
            if isinstance(engine, BlockSums):
                engine.owners = [owner[id(unit)] for unit in batch.units]
            with engine, contextlib.nullcontext() if isinstance(engine, BlockSums) else kept_logits():
                rows = self.row_losses(batch)
                norms = engine.backward(rows, batch.rows_per_unit).norms
            losses = unit_losses(batch, rows.detach())
            for unit, loss, norm in zip(batch.units, losses.tolist(), norms.tolist(), strict=True):
                known[id(unit)] = (loss, norm)
        return known

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
    products = [torch.dot(a.reshape(-1).float(), b.reshape(-1).float()) for a, b in zip(x, y, strict=True)]
    return math.fsum(torch.stack(products).tolist())  # a GPU is waited for once, not for each parameter


@dataclass(frozen=True)
class Direction:
    """A gradient that others are compared with, and its length."""

    vector: Vector
    length: float

    @classmethod
    def of(cls, vector: Vector) -> Direction:
        """The direction of a gradient."""
        return cls(vector, math.sqrt(dot(vector, vector)))

    def cosine(self, other: Direction) -> float | None:
        """Cosine of the angle between two; None where one of them is 0."""
        lengths = self.length * other.length
        return dot(self.vector, other.vector) / lengths if lengths > 0 else None


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
