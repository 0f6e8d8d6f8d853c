"""Trains without noise until a loss is that of another run: the same run as always, taken at an earlier step.

"More biased" may mean "less trained". A run stopped at equal held-out loss tells the two apart. Only the loss decides
where it stops, never a probe, so nothing is chosen by what is measured afterwards.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from fairtest.specs import Training
from fairtest.training.finetune import TrainingLog, finetune
from fairtest.training.models import LoadedModel, load_trained_state, trained_state
from fairtest.training.sampling import sample_rate_for

if TYPE_CHECKING:
    from fairtest.augmentation import UnitViews

_EVERY_STEP_UP_TO = 8
_GROWTH = 1.15
_EXACT = 0.005  # of what was learned
_MOST_LOOKS = 8

OnStep = Callable[[int, float | None], None]


@dataclass(frozen=True)
class Matched:
    """Where a run was stopped: within `step`, of which a `share` was taken (1: all of it).

    A share of a step is that step with so much of its learning rate: an update is proportional to the rate. `losses`
    has the loss that was found after each step that was looked at; `reached` says whether one was at or below the
    target, and `log` is of the steps up to `step`, though more were taken to find it.
    """

    step: int
    share: float
    loss: float
    target: float
    reached: bool
    losses: dict[int, float]
    log: TrainingLog


@dataclass(frozen=True)
class _Look:
    step: int
    loss: float
    state: dict[str, Tensor]


@dataclass
class _Looks:
    """What was seen so far: the last step above the target, and the first at or below it."""

    target: float
    loss_of: Callable[[], float]
    model: nn.Module
    losses: dict[int, float] = field(default_factory=dict)
    above: _Look | None = None
    below: _Look | None = None

    def look(self, step: int) -> bool:
        """Looks at the model after `step` steps; whether its loss is at or below the target."""
        loss = self.loss_of()
        self.losses[step] = loss
        seen = _Look(step, loss, trained_state(self.model))
        if loss <= self.target:
            self.below = seen
            return True
        self.above = seen
        return False

    def unseen_before_the_last(self) -> range:
        """Steps between the last two that were looked at."""
        steps = sorted(self.losses)
        return range(steps[-2] + 1, steps[-1]) if len(steps) > 1 else range(0)

    def nearest(self) -> tuple[_Look, float]:
        """The model as it is left, and the share of its last step that was taken.

        Between the two steps around the target the share is found by the secant's rule with halving (the loss falls
        within a step that crosses the target), to half a percent of what was learned.
        """
        above, below = self.above, self.below
        if above is None or below is None:
            found = below or above
            if found is None:
                raise AssertionError("nothing was looked at")
            return found, 1.0
        enough = _EXACT * abs(self.losses[0] - self.target)
        low, high, low_loss, high_loss = 0.0, 1.0, above.loss, below.loss
        best, share = (below, 1.0)
        for turn in range(_MOST_LOOKS):
            if abs(best.loss - self.target) <= enough:
                break
            steepness = low_loss - high_loss
            guess = low + (high - low) * (low_loss - self.target) / steepness if steepness > 0 else (low + high) / 2
            if turn % 3 == 2:  # the secant alone may keep one end for ever
                guess = (low + high) / 2
            state = {name: torch.lerp(value, below.state[name], guess) for name, value in above.state.items()}
            load_trained_state(self.model, state)
            loss = self.loss_of()
            if abs(loss - self.target) < abs(best.loss - self.target):
                best, share = _Look(below.step, loss, state), guess
            if loss <= self.target:
                high, high_loss = guess, loss
            else:
                low, low_loss = guess, loss
        return best, share


def train_to_loss(
    loaded: LoadedModel,
    units: Sequence[UnitViews],
    training: Training,
    seed: int,
    *,
    target: float,
    loss_of: Callable[[LoadedModel], float],
    on_step: OnStep | None = None,
) -> Matched:
    """Leaves `loaded.model` as plain training has it where `loss_of` is `target`.

    The loss is looked at before the first step, after each of the first eight, and then at steps that grow by 15%,
    until it is at or below the target; then at every step since the look before, for which those steps are taken again.
    Of the first step that crosses the target, only a share is taken, so that the loss is the target's to half a percent
    of what was learned. Step 0 where the pretrained model already has the loss; the last step where none has it.

    Raises:
        TrainingError: as `finetune`.
    """
    count = training.steps_for(len(units))
    start = trained_state(loaded.model)
    looks = _Looks(target, lambda: loss_of(loaded), loaded.model)
    with_loss = [0]  # batches that were not empty, after each step
    log = TrainingLog(0, len(units), sample_rate_for(training.batch_size, len(units)), seconds=0.0, empty_batches=0)
    reached = looks.look(0)
    if not reached:
        following = 1

        def note(step: int, loss: float | None) -> None:
            with_loss.append(with_loss[-1] + (loss is not None))
            if on_step is not None:
                on_step(step, loss)

        def stop(taken: int) -> bool:
            nonlocal following, reached
            if taken < following and taken < count:
                return False
            following = taken + 1 if taken < _EVERY_STEP_UP_TO else max(taken + 1, int(taken * _GROWTH))
            reached = looks.look(taken)
            return reached

        log = finetune(loaded, units, training, None, seed, on_step=note, stop=stop)
        between = looks.unseen_before_the_last() if reached else range(0)
        if between:
            load_trained_state(loaded.model, start)

            def refine(taken: int) -> bool:
                return (taken in between and looks.look(taken)) or taken == between[-1]

            again = finetune(loaded, units, training, None, seed, stop=refine)
            log = dataclasses.replace(log, seconds=log.seconds + again.seconds)
    found, share = looks.nearest()
    load_trained_state(loaded.model, found.state)
    seen = with_loss[found.step]
    log = dataclasses.replace(
        log,
        steps=found.step,
        losses=log.losses[:seen],
        empty_batches=found.step - seen,
        trained_tensors=log.trained_tensors if found.step else 0,
    )
    return Matched(found.step, share, found.loss, target, reached, dict(sorted(looks.losses.items())), log)
