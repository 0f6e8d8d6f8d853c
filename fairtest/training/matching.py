"""Trains without noise until a loss is that of another run: the same run as always, taken at an earlier step.

"More biased" may mean "less trained". A run stopped at equal held-out loss tells the two apart. Only the loss decides
where it stops, never a probe, so nothing is chosen by what is measured afterwards.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from torch import Tensor, nn

from fairtest.specs import Training
from fairtest.training.finetune import TrainingLog, finetune
from fairtest.training.models import LoadedModel, load_trained_state, trained_state
from fairtest.training.sampling import sample_rate_for

if TYPE_CHECKING:
    from fairtest.augmentation import UnitViews

_EVERY_STEP_UP_TO = 8
_GROWTH = 1.15

OnStep = Callable[[int, float | None], None]


@dataclass(frozen=True)
class Matched:
    """Where a run was stopped.

    `losses` has the loss that was found at each step that was looked at, by step; `reached` says whether one was at or
    below the target, and `log` is of the steps up to `step`, though more were taken to find it.
    """

    step: int
    loss: float
    target: float
    reached: bool
    losses: dict[int, float]
    log: TrainingLog


@dataclass
class _Looks:
    """What was seen so far, with the weights of the step that is nearest."""

    target: float
    loss_of: Callable[[], float]
    model: nn.Module
    losses: dict[int, float] = field(default_factory=dict)
    best: int = 0
    state: dict[str, Tensor] = field(default_factory=dict)

    def look(self, step: int) -> bool:
        """Looks at the model after `step` steps; whether its loss is at or below the target."""
        self.losses[step] = loss = self.loss_of()
        if not self.state or (abs(loss - self.target), step) < (self.distance, self.best):
            self.best, self.state = step, trained_state(self.model)
        return loss <= self.target

    @property
    def distance(self) -> float:
        return abs(self.losses[self.best] - self.target)

    def unseen_before_the_last(self) -> range:
        """Steps between the last two that were looked at."""
        steps = sorted(self.losses)
        return range(steps[-2] + 1, steps[-1]) if len(steps) > 1 else range(0)


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
    """Leaves `loaded.model` as plain training has it at the step at which `loss_of` is nearest to `target`.

    The loss is looked at before the first step, after each of the first eight, and then at steps that grow by 15%,
    until it is at or below the target; then at every step since the look before, for which those steps are taken again.
    Of all steps that were looked at, the nearest counts, the earliest of equals: step 0 where the pretrained model
    already has the loss. A loss that never falls so far gives the nearest too, which is the last step while it falls.

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
                if taken in between:
                    looks.look(taken)
                return taken == between[-1]

            again = finetune(loaded, units, training, None, seed, stop=refine)
            log = dataclasses.replace(log, seconds=log.seconds + again.seconds)
    load_trained_state(loaded.model, looks.state)
    seen = with_loss[looks.best]
    log = dataclasses.replace(
        log,
        steps=looks.best,
        losses=log.losses[:seen],
        empty_batches=looks.best - seen,
        trained_tensors=log.trained_tensors if looks.best else 0,
    )
    losses = dict(sorted(looks.losses.items()))
    return Matched(looks.best, losses[looks.best], target, reached, losses, log)
