"""One step after the other: micro-batches, clipping, one draw of noise, the optimizer."""

from __future__ import annotations

import contextlib
import hashlib
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from fairtest.errors import NotFiniteError, TrainingError
from fairtest.specs import CLIPPING_ENGINES, Training
from fairtest.training.clipping import Clipped, PerUnitClipping, verify_against_autograd
from fairtest.training.distributed import Processes
from fairtest.training.encoding import EncodedUnit, MicroBatch, micro_batches
from fairtest.training.forward import TokenBatch
from fairtest.training.noise import GaussianNoise
from fairtest.training.observing import StepObserver
from fairtest.training.optimizers import NoisyOptimizer, plain_optimizer
from fairtest.training.token_loss import kept_logits

_VERIFIED_UNITS = 2


class TokenScorer(Protocol):
    """What training needs of a forward pass: log-probabilities [B, T] of a batch's tokens, 0 where none is scored."""

    def token_log_probs(self, batch: TokenBatch) -> Tensor: ...


class Clipping(Protocol):
    """Adds clipped sums of units' gradients to the parameters; `PerUnitClipping` and `PerSampleClipping`."""

    def __enter__(self) -> Any: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...

    def backward(self, row_losses: Tensor, rows_per_unit: int | Sequence[int] = 1) -> Clipped: ...

    def close(self) -> None: ...


@dataclass(frozen=True)
class NoiseSpec:
    """The Gaussian mechanism: noise of standard deviation `noise_multiplier` * `max_grad_norm` on the clipped sum.

    `release` takes noise and batches from the operating system; `clipping` is one of `specs.CLIPPING_ENGINES`. `clips`
    False puts the same noise on the sum of gradients as they are: no norm is computed, and there is no privacy.
    """

    noise_multiplier: float
    max_grad_norm: float
    release: bool = False
    clipping: str = "fairtest"
    clips: bool = True

    @property
    def std(self) -> float:
        """Standard deviation of the noise on the sum, before it is divided by the batch size."""
        return self.noise_multiplier * self.max_grad_norm

    def __post_init__(self) -> None:
        if not 0 <= self.noise_multiplier < math.inf or not 0 < self.max_grad_norm < math.inf:
            raise TrainingError(
                f"noise_multiplier must be at least 0 and max_grad_norm above 0, got {self.noise_multiplier!r} and"
                f" {self.max_grad_norm!r}",
                where="NoiseSpec",
                fix="noise_multiplier=0 clips without noise; an arm without clipping has no NoiseSpec",
            )
        if self.clipping not in CLIPPING_ENGINES:
            raise TrainingError(
                f"clipping must be one of {', '.join(CLIPPING_ENGINES)}, got {self.clipping!r}",
                where="NoiseSpec(clipping=)",
                fix="leave it out",
            )


def derived_seed(seed: int, purpose: str, step: int = 0) -> int:
    """A seed in [0, 2^63) for one purpose, unrelated to those for other purposes and steps."""
    digest = hashlib.sha256(f"{purpose}:{seed}:{step}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def clipping_of(model: nn.Module, max_grad_norm: float, engine: str = "fairtest") -> Clipping:
    """The clipping engine of a name (`specs.CLIPPING_ENGINES`) around `model`.

    Raises:
        TrainingError: it cannot clip one of the trainable parameters, or none is.
    """
    if engine == "opacus":
        from fairtest.training.clipping.per_sample import PerSampleClipping

        return PerSampleClipping(model, max_grad_norm)
    return PerUnitClipping(model, max_grad_norm)


@dataclass
class Steps:
    """The optimizer steps of one run, with what they leave for its log.

    `expected_batch_size` is q N: what a sum is divided by, whatever the batch that was drawn.
    """

    model: nn.Module
    scorer: TokenScorer
    training: Training
    noise: NoiseSpec | None
    expected_batch_size: float
    seed: int
    processes: Processes = field(default_factory=Processes)
    losses: list[float] = field(default_factory=list)
    clipped_share: list[float] = field(default_factory=list)
    median_norms: list[float] = field(default_factory=list)
    taken: int = 0
    learning_rate: float = 0.0
    observer: StepObserver | None = None

    def __post_init__(self) -> None:
        self.parameters = {name: p for name, p in self.model.named_parameters() if p.requires_grad}
        if not self.parameters:
            raise TrainingError(
                "the model has no trainable parameter", where="Training(trainable=)", fix="train at least one layer"
            )
        self.without_gradient = set(self.parameters)
        self._verified = False
        self._clipping: Clipping | None = None
        self._optimizer: Any = plain_optimizer(self.parameters.values(), self.training)
        if self.observer is not None:
            look = self.observer.before_update
            self._optimizer.register_step_pre_hook(lambda *_: look(self))
        if self.noise is not None:
            if self.noise.clips:
                self._clipping = clipping_of(self.model, self.noise.max_grad_norm, self.noise.clipping)
            self._optimizer = NoisyOptimizer(
                self._optimizer,
                noise_multiplier=self.noise.noise_multiplier,
                max_grad_norm=self.noise.max_grad_norm,
                expected_batch_size=self.expected_batch_size,
                noise=GaussianNoise(None if self.noise.release else self.seed, share=self.processes.first),
            )

    def set_learning_rate(self, value: float) -> None:
        """The rate of the next step."""
        self.learning_rate = value
        for group in self._optimizer.param_groups:
            group["lr"] = value

    def take(self, batch: Sequence[EncodedUnit]) -> float | None:
        """One optimizer step on a logical batch, which may be empty: noise and the step itself happen all the same.

        The mean loss of its units, None for an empty batch. With several processes each works on a part of it.
        """
        self._optimizer.zero_grad(set_to_none=True)
        loss, norms = 0.0, []
        own = sorted(batch, key=lambda unit: (unit.longest, unit.index))[self.processes.rank :: self.processes.size]
        for part in micro_batches(own, self.training.micro_batch_tokens):
            added, found = self._accumulate(MicroBatch.of(part))
            loss += added
            norms += found
        if own:
            self._require_gradients()
        self._add_up()
        if self.observer is not None:
            self.observer.summed(self)
        self._optimizer.step()
        self.taken += 1
        if not batch:
            return None
        shares = self.processes.gather((loss, norms))
        self.losses.append(math.fsum(share[0] for share in shares) / len(batch))
        if self.noise is not None and self._clipping is not None:
            every = [norm for share in shares for norm in share[1]]
            self.clipped_share.append(sum(norm > self.noise.max_grad_norm for norm in every) / len(every))
            self.median_norms.append(statistics.median(every))
        return self.losses[-1]

    def _add_up(self) -> None:
        for parameter in self.parameters.values():
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        gradients = {name: p.grad for name, p in self.parameters.items() if p.grad is not None}
        self.processes.add_up(gradients.values())
        if self.without_gradient:
            names = sorted(self.without_gradient)
            found = torch.stack([gradients[name].any() for name in names]).tolist()
            self.without_gradient -= {name for name, there in zip(names, found, strict=True) if there}
        if self.noise is None:  # otherwise noise comes first, and whoever adds it divides
            for gradient in gradients.values():
                gradient.div_(self.expected_batch_size)

    def _accumulate(self, batch: MicroBatch) -> tuple[float, list[float]]:
        """Adds a micro-batch's gradient sum to the parameters' `grad`; the sum of its unit losses, and their norms."""
        if self._clipping is None:
            losses = self._row_losses(batch)
            self._require_finite(losses.detach(), batch)
            losses.sum().backward()  # type: ignore[no-untyped-call]
            if self.observer is not None:
                self.observer.micro_batch(batch, losses.detach(), None)
            return float(losses.detach().sum()), []
        try:
            if not self._verified:
                self._verify(batch)
            with self._clipping as clipping:
                losses = self._row_losses(batch)
                clipped = clipping.backward(losses, batch.rows_per_unit)
        except NotFiniteError as error:
            raise self._not_finite("loss or gradient", batch.units[error.unit]) from error
        if self.observer is not None:
            self.observer.micro_batch(batch, losses.detach(), clipped.norms)
        loss, *norms = torch.cat([losses.detach().sum()[None], clipped.norms]).tolist()  # a GPU is waited for once
        return loss, norms

    def _verify(self, batch: MicroBatch) -> None:
        """The engine against autograd on a few of the run's own units, before anything depends on it."""
        few = MicroBatch.of(batch.units[:_VERIFIED_UNITS])
        if self.noise is not None and self.noise.clipping == "fairtest":
            # In single precision whatever the run has: halves would hide an error behind their rounding.
            verify_against_autograd(self.model, lambda: self._row_losses(few, exact=True), few.rows_per_unit)
        self._verified = True

    def _row_losses(self, batch: MicroBatch, *, exact: bool = False) -> Tensor:
        """What each row adds to its unit's loss, as [rows]."""
        half = self.training.precision == "bfloat16" and not exact
        device = next(iter(self.parameters.values())).device
        several_passes = exact or (self.noise is not None and self.noise.clips and self.noise.clipping == "opacus")
        with (
            torch.autocast(device.type, dtype=torch.bfloat16, enabled=half),
            kept_logits() if several_passes else contextlib.nullcontext(),
        ):
            log_probs = self.scorer.token_log_probs(batch.tokens)
        return -log_probs.float().sum(1) * batch.weights.to(log_probs.device)

    def _require_finite(self, row_losses: Tensor, batch: MicroBatch) -> None:
        finite = torch.isfinite(row_losses).tolist()
        if all(finite):
            return
        start = 0
        for unit, rows in zip(batch.units, batch.rows_per_unit, strict=True):
            if not all(finite[start : start + rows]):
                raise self._not_finite("loss", unit)
            start += rows

    def _not_finite(self, what: str, unit: EncodedUnit) -> TrainingError:
        return TrainingError(
            f"the {what} of unit {unit.index} (id {unit.id!r}) is not finite at step {self.taken}",
            where="Training(learning_rate=)",
            fix="use a lower learning_rate; if it happens at the first step, check the model's weights",
        )

    def _require_gradients(self) -> None:
        if missing := [name for name, p in self.parameters.items() if p.grad is None]:
            raise TrainingError(
                f"{len(missing)} trainable parameters got no gradient, the first is {missing[0]}",
                where=type(self.model).__name__,
                fix="freeze what the loss does not depend on (Training(trainable=))",
            )

    def close(self) -> None:
        """Leaves the model without hooks and gradients."""
        if self._clipping is not None:
            self._clipping.close()
        for parameter in self.parameters.values():
            parameter.grad = None
            parameter.__dict__.pop("summed_grad", None)
