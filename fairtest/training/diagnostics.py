"""Looks at groups of units while a model is trained: losses, gradients, what clipping and noise make of them.

`HeldOutDiagnostics` measures units that are not trained on, at a few steps: the weights of a DP run are covered by its
epsilon, and so is what follows from them and from other people's records. `BatchDiagnostics` reads the norms that the
run computes of its own units: free, and not covered by epsilon.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from fairtest.errors import TrainingError
from fairtest.training.encoding import EncodedUnit, MicroBatch, encode_units
from fairtest.training.group_gradients import (
    Direction,
    ExcessLoss,
    GradientMeter,
    GroupGradient,
    Vector,
    dot,
    excess_loss,
    unit_losses,
)
from fairtest.training.models import LoadedModel
from fairtest.training.steps import Steps, derived_seed

if TYPE_CHECKING:
    from fairtest.augmentation import UnitViews

# Share of the run's time that looking may add, by count of tokens; where few steps fit into it, so many are taken.
BUDGET = 0.1
FEWEST = 3
MOST = 40
# A pass over units that are looked at, against a step over as many tokens: two sums instead of one, by blocks, and
# products of whole gradients. benchmarks/diagnostics.py measures 1.5; a third more, so that the budget is kept where a
# step is cheaper.
RELATIVE_COST = 2.0
# A group's units are measured in so many parts of equal size, which tell how much a cosine depends on the units drawn.
BLOCKS = 4
DECOMPOSED_STEPS = 5
PROBES = 8
WINDOWS = 40

QUANTILES = {"norm_low": 0.1, "norm_median": 0.5, "norm_high": 0.9}


@dataclass
class Observations:
    """What was seen at each of `steps`: `values[quantity][group]` has one value a step (None: there was none to
    measure), `items[quantity][group]` the values behind it, of each unit or each block of units.

    `cost` is the expected share of the run's time, `seconds` what it took.
    """

    steps: list[int] = field(default_factory=list)
    values: dict[str, dict[str, list[float | None]]] = field(default_factory=dict)
    items: dict[str, dict[str, list[list[float]]]] = field(default_factory=dict)
    cost: float = 0.0
    seconds: float = 0.0

    def add(self, quantity: str, group: str, value: float | None, items: Sequence[float] | None = None) -> None:
        """Adds the value of a step, of which all groups have one."""
        self.values.setdefault(quantity, {}).setdefault(group, []).append(value)
        if items is not None:
            self.items.setdefault(quantity, {}).setdefault(group, []).append(list(items))

    def add_units(
        self, group: str, losses: Tensor, norms: Tensor, max_grad_norm: float, *, blocks: Sequence[int] = ()
    ) -> None:
        """Adds what is known of single units. With the sizes of `blocks`, for units that are the same every time, it is
        kept of each unit, and quantiles of each block.
        """
        clipped, factors = (norms > max_grad_norm).float(), (max_grad_norm / norms).clamp(max=1.0)
        for quantity, values in (("loss", losses), ("clipped_share", clipped), ("clip_factor", factors)):
            self.add(quantity, group, float(values.mean()), values.tolist() if blocks else None)
        for quantity, at in QUANTILES.items():
            parts = [float(torch.quantile(part, at)) for part in torch.split(norms, list(blocks))] if blocks else None
            self.add(quantity, group, float(torch.quantile(norms, at)), parts)

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON data."""
        return {
            "steps": self.steps,
            "values": self.values,
            "items": self.items,
            "cost": self.cost,
            "seconds": self.seconds,
        }


def observed_steps(count: int, cost: float, budget: float = BUDGET) -> list[int]:
    """Which of `count` steps to look at where a look costs `cost` steps: as many as the budget allows, at most 40 and
    at least 3 (all steps of a shorter run), evenly spread, the first and the last among them.
    """
    affordable = int(budget * count / cost) if cost > 0 else MOST
    wanted = min(max(FEWEST, min(affordable, MOST)), count)
    if wanted == 1:
        return [count - 1]
    return sorted({round(index * (count - 1) / (wanted - 1)) for index in range(wanted)})


class HeldOutDiagnostics:
    """An observer (`finetune(observer=)`) that measures groups of units which are not trained on.

    Without dropout, at the weights before an observed step's update: of each group loss, gradient norms, clipped share
    and clip factor, the cosine of its mean gradient with the batch's clipped mean and with what the optimizer is given,
    and its signal to noise, |mean clipped gradient| / (sigma C sqrt(d) / B), d trained parameters, B the expected
    batch. With `decompose`, at five of these steps, `excess_loss` too.

    The cosine with the clipped mean and the excess loss read the batch before noise: no epsilon covers them.

    Args:
        groups: units of each group, as many in each, their texts as training would take them.
        engine: who takes gradients apart (`specs.CLIPPING_ENGINES`).
        budget: share of the run's time that looking may add (not counting `decompose`).
        probes: random directions for the trace of a Hessian.
        seed: of these directions.
    """

    def __init__(
        self,
        groups: Mapping[str, Sequence[UnitViews]],
        *,
        engine: str = "fairtest",
        budget: float = BUDGET,
        decompose: bool = False,
        probes: int = PROBES,
        seed: int = 0,
    ) -> None:
        self.observations = Observations()
        self._groups = {name: tuple(units) for name, units in groups.items()}
        self._engine, self._budget, self._decompose, self._probes = engine, budget, decompose, probes
        self._seed = seed
        self._encoded: dict[str, tuple[EncodedUnit, ...]] = {}
        self._meter: GradientMeter | None = None
        self._due: set[int] = set()
        self._decomposed: set[int] = set()
        self._batch: list[EncodedUnit] = []
        self._clipped: Vector | None = None
        self._taken = -1

    def begin(self, loaded: LoadedModel, steps: Steps, units: Sequence[EncodedUnit], count: int) -> None:
        """Chooses the steps to look at, by the number of tokens that a look and a step go through.

        Raises:
            TrainingError: several processes train, or an empty group.
        """
        if steps.processes.size > 1:
            raise TrainingError(
                f"training is observed in one process, and here are {steps.processes.size}",
                where="finetune(observer=)",
                fix="observe a run without torchrun",
            )
        if empty := [name for name, members in self._groups.items() if not members]:
            raise TrainingError(f"group {empty[0]!r} has no units", where="groups", fix="leave the group out")
        self._encoded = {
            name: encode_units(loaded, members, steps.training).units for name, members in self._groups.items()
        }
        looked_at = sum(_tokens(members) for members in self._encoded.values())
        per_step = _tokens(units) * steps.expected_batch_size / len(units)
        cost = RELATIVE_COST * looked_at / per_step
        chosen = observed_steps(count, cost, self._budget)
        self._due = set(chosen)
        self.observations.cost = len(chosen) * cost / count
        if self._decompose:
            some = observed_steps(len(chosen), 1.0, DECOMPOSED_STEPS / len(chosen))
            self._decomposed = {chosen[index] for index in some}
        self._meter = GradientMeter(steps, self._engine)

    def micro_batch(self, batch: MicroBatch, row_losses: Tensor, norms: Tensor | None) -> None:
        """Remembers which units the batch has, where its unclipped gradient will be needed."""
        del row_losses, norms
        if self._decompose:
            self._batch += batch.units

    def summed(self, steps: Steps) -> None:
        """Keeps the clipped mean, before noise is put on it."""
        if steps.taken not in self._due:
            self._batch.clear()
            return
        scale = 1.0 if steps.noise is None else 1.0 / steps.expected_batch_size
        self._clipped = [p.grad.detach() * scale for p in steps.parameters.values() if p.grad is not None]
        self._taken = steps.taken

    def before_update(self, steps: Steps) -> None:
        """Looks at all groups, if this step is one of those."""
        clipped, meter = self._clipped, self._meter
        if clipped is None or meter is None:
            return
        began = time.perf_counter()
        self._clipped = None
        batch: GroupGradient | None = None
        try:
            update = [p.grad.detach() for p in steps.parameters.values() if p.grad is not None]
            self.observations.steps.append(self._taken)
            if self._batch and self._taken in self._decomposed:
                (batch,) = meter.measure([self._batch])
            # Without noise the optimizer is given the clipped mean itself.
            mean = Direction.of(clipped)
            given = mean if steps.noise is None else Direction.of(update)
            blocks = {name: _blocks(units) for name, units in self._encoded.items()}
            measured = meter.measure([block for parts in blocks.values() for block in parts])
            for name, parts in blocks.items():
                self._look(name, parts, measured, (mean, given), batch)
        finally:
            self._batch.clear()
            self.observations.seconds += time.perf_counter() - began

    def _look(
        self,
        name: str,
        blocks: Sequence[Sequence[EncodedUnit]],
        measured: Iterator[GroupGradient],
        against: tuple[Direction, Direction],
        batch: GroupGradient | None,
    ) -> None:
        """Records one group from its blocks, which come next in `measured`, against clipped mean and update."""
        meter, seen = self._meter, self.observations
        assert meter is not None  # noqa: S101 - `begin` made it
        found: list[dict[str, float | None]] = []
        excess: list[ExcessLoss] = []
        whole: GroupGradient | None = None
        for block, one in zip(blocks, measured, strict=False):
            found.append(self._directions(one, *against))
            if batch is not None:
                seed = derived_seed(self._seed, "curvature", self._taken)
                own = [x / len(block) for x in one.plain]
                excess.append(excess_loss(meter, block, own, batch, probes=self._probes, seed=seed))
            whole = one if whole is None else _joined(whole, one)
        assert whole is not None  # noqa: S101 - no group is empty
        sizes = [len(block) for block in blocks]
        seen.add_units(name, whole.losses, whole.norms, meter.max_grad_norm, blocks=sizes)
        for quantity, value in self._directions(whole, *against).items():
            told = [known for one in found if (known := one[quantity]) is not None]
            seen.add(quantity, name, value, told if len(told) == len(blocks) else [])
        if self._decompose:
            for part in ("direction", "magnitude", "noise"):
                values = [getattr(one, part) for one in excess]
                # Linear in the group's mean gradient and Hessian, so the mean of blocks is the group's own.
                total = (
                    math.fsum(x * size for x, size in zip(values, sizes, strict=True)) / sum(sizes) if values else None
                )
                seen.add(f"excess_{part}", name, total, values)

    def _directions(self, found: GroupGradient, mean: Direction, given: Direction) -> dict[str, float | None]:
        own = Direction.of(found.plain)
        cosine = own.cosine(mean)
        values = {"cosine_clipped": cosine, "cosine_update": cosine if given is mean else own.cosine(given)}
        meter = self._meter
        assert meter is not None  # noqa: S101 - `begin` made it
        noise = meter.steps.noise
        if noise is not None and noise.std > 0:
            length = math.sqrt(dot(found.clipped, found.clipped)) / len(found.losses)
            values["signal_to_noise"] = length / (noise.std * math.sqrt(meter.size) / meter.steps.expected_batch_size)
        return values

    def close(self) -> None:
        """Takes the hooks off the model."""
        if self._meter is not None:
            self._meter.close()


class BatchDiagnostics:
    """An observer that reads loss and gradient norm of the run's own units, by group, from what clipping computes.

    It costs next to nothing, and reads private units: not for release. Batches are pooled, so that there are at most 40
    points.

    Args:
        groups: the group of each unit, by id; other units are left out.
    """

    def __init__(self, groups: Mapping[str, str]) -> None:
        self.observations = Observations()
        self._groups = groups
        self._names = sorted(set(groups.values()))
        self._pool: dict[str, tuple[list[float], list[float]]] = {}
        self._every = 1
        self._last = 0
        self._max_grad_norm = math.inf

    def begin(self, loaded: LoadedModel, steps: Steps, units: Sequence[EncodedUnit], count: int) -> None:
        """Raises:
        TrainingError: the run clips nothing, so that it computes no norms, or several processes train.
        """
        del loaded, units
        if steps.noise is None or not steps.noise.clips or steps.processes.size > 1:
            raise TrainingError(
                "norms of training units are known where one process clips them, and this run does not",
                where="diagnostics of private units",
                fix="look at held-out units, which every run can do: leave private=True out",
            )
        self._max_grad_norm = steps.noise.max_grad_norm
        self._every = math.ceil(count / WINDOWS)
        self._last = count - 1
        self._pool = {name: ([], []) for name in self._names}

    def micro_batch(self, batch: MicroBatch, row_losses: Tensor, norms: Tensor | None) -> None:
        """Adds the units' losses and norms to their groups."""
        if norms is None:
            return
        for unit, loss, norm in zip(batch.units, unit_losses(batch, row_losses).tolist(), norms.tolist(), strict=True):
            group = self._groups.get(unit.id)
            if group is not None:
                self._pool[group][0].append(loss)
                self._pool[group][1].append(norm)

    def summed(self, steps: Steps) -> None:
        """Ends a window of steps; a group that was not met in it has no value."""
        if (steps.taken + 1) % self._every and steps.taken != self._last:
            return
        self.observations.steps.append(steps.taken)
        for name, (losses, norms) in self._pool.items():
            if losses:
                self.observations.add_units(name, torch.tensor(losses), torch.tensor(norms), self._max_grad_norm)
                continue
            for quantity in ("loss", "clipped_share", "clip_factor", *QUANTILES):
                self.observations.add(quantity, name, None)
        self._pool = {name: ([], []) for name in self._names}

    def before_update(self, steps: Steps) -> None:
        """Nothing more to see."""

    def close(self) -> None:
        """Nothing to take back."""


def _blocks(units: Sequence[EncodedUnit]) -> list[Sequence[EncodedUnit]]:
    return [units[first::BLOCKS] for first in range(min(BLOCKS, len(units)))]


def _tokens(units: Sequence[EncodedUnit]) -> int:
    return sum(len(row) for unit in units for row in unit.rows)


def _joined(x: GroupGradient, y: GroupGradient) -> GroupGradient:
    for total, added in zip(x.plain, y.plain, strict=True):
        total.add_(added)
    if x.clipped is not x.plain:
        for total, added in zip(x.clipped, y.clipped, strict=True):
            total.add_(added)
    return GroupGradient(
        torch.cat([x.losses, y.losses]),
        torch.cat([x.norms, y.norms]),
        torch.cat([x.factors, y.factors]),
        x.plain,
        x.clipped,
    )
