"""What may look on while a model is trained, without a trace in what is trained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor

    from fairtest.training.encoding import EncodedUnit, MicroBatch
    from fairtest.training.models import LoadedModel
    from fairtest.training.steps import Steps


class StepObserver(Protocol):
    """Called at four places of a run. It leaves weights, gradients and random state as they are, so that the run ends
    with the same weights as without it. Of a step, `steps.taken` is the index.
    """

    def begin(self, loaded: LoadedModel, steps: Steps, units: Sequence[EncodedUnit], count: int) -> None:
        """Before the first of `count` steps on `units`."""

    def micro_batch(self, batch: MicroBatch, row_losses: Tensor, norms: Tensor | None) -> None:
        """After a micro-batch: what each row [rows] adds to its unit's loss, and each unit's gradient norm [U] where
        units are clipped.
        """

    def summed(self, steps: Steps) -> None:
        """With the batch's sum of gradients in the parameters' `grad`, clipped where units are: before noise is added
        and the sum divided by `steps.expected_batch_size`. Without noise, it is divided already.
        """

    def before_update(self, steps: Steps) -> None:
        """With what the optimizer is given in the parameters' `grad`, before it moves the weights."""

    def close(self) -> None:
        """After the last step, or when training failed."""
