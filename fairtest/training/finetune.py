"""Fine-tunes a causal language model on privacy units, with or without differential privacy, along one path.

All arms of a seed see the same Poisson batches and the same dropout, and all take

    theta <- AdamW(theta, (sum_{u in batch} clip(g_u, C) + sigma C z) / (q N)),   z standard normal,

with g_u the mean gradient of the unit's views. Without noise, C is infinite and sigma 0, and nothing else differs.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import math
import re
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, nn

from fairtest.errors import TrainingError
from fairtest.specs import Training
from fairtest.training.clipping import PerUnitClipping, verify_against_autograd
from fairtest.training.forward import MOST_UNKNOWN, CausalForward, TokenBatch, encode, require_embedded, unknown_share
from fairtest.training.models import LoadedModel
from fairtest.training.sampling import poisson_batches, sample_rate_for

if TYPE_CHECKING:
    from fairtest.augmentation import UnitViews


_OUT_OF_MEMORY = re.compile(r"out of memory|can't allocate memory|not enough memory", re.IGNORECASE)


class TokenScorer(Protocol):
    """What training needs of a forward pass: log-probabilities [B, T] of a batch's tokens, 0 where none is scored."""

    def token_log_probs(self, batch: TokenBatch) -> Tensor: ...


@dataclass(frozen=True)
class NoiseSpec:
    """The Gaussian mechanism: noise of standard deviation `noise_multiplier` * `max_grad_norm` on the clipped sum."""

    noise_multiplier: float
    max_grad_norm: float

    def __post_init__(self) -> None:
        if not 0 <= self.noise_multiplier < math.inf or not 0 < self.max_grad_norm < math.inf:
            raise TrainingError(
                f"noise_multiplier must be at least 0 and max_grad_norm above 0, got {self.noise_multiplier!r} and"
                f" {self.max_grad_norm!r}",
                where="NoiseSpec",
                fix="noise_multiplier=0 clips without noise; an arm without clipping has no NoiseSpec",
            )


@dataclass(frozen=True)
class TrainingLog:
    """What happened in a run. `cut_texts` is how many distinct texts were longer than `max_length` and lost their
    end, `identical_views` how many counterfactuals became the same tokens as a record of their unit, so that they
    changed nothing. `losses` (mean over a batch's units, nats a token) has one entry for each batch that was
    not empty; so have, with clipping only, `clipped_share` and `median_norms` of the units' gradients.

    The last three are computed from private records and are not covered by epsilon: not for release.
    """

    steps: int
    units: int
    sample_rate: float
    seconds: float
    empty_batches: int
    cut_texts: int = 0
    identical_views: int = 0
    losses: tuple[float, ...] = ()
    clipped_share: tuple[float, ...] = ()
    median_norms: tuple[float, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON data."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(self).items()}


def finetune(
    loaded: LoadedModel,
    units: Sequence[UnitViews],
    training: Training,
    noise: NoiseSpec | None,
    seed: int,
    *,
    on_step: Callable[[int, float | None], None] | None = None,
    forward: TokenScorer | None = None,
) -> TrainingLog:
    """Trains `loaded.model` in place, on those of its parameters that require gradients.

    The loss of a view is the mean over its tokens, that of a unit the mean over its views. The same arguments give
    the same weights, bit by bit, on the same machine; who knows the seed can undo noise and sampling, so a model that
    is released needs a secret one.

    Args:
        on_step: called after each step with its index and mean unit loss, None for an empty batch.
        forward: another way to compute the model's log-probabilities, such as `CausalForward` with a cached trunk; by
            default the whole model runs.

    Raises:
        TrainingError: a batch cannot be sampled, a unit has nothing to learn from, the tokenizer does not know the
            texts, no counterfactual differs from its record, a parameter cannot be clipped, a step does not fit into
            memory, a loss, gradient or weight is not finite, or training changed no weight.
        ModelError: the tokenizer has tokens that the model does not know.
    """
    began = time.perf_counter()
    sample_rate = sample_rate_for(training.batch_size, len(units))
    steps = training.steps_for(len(units))
    encoded, cut_texts = _encode_units(loaded, units, training.max_length)
    identical_views = _identical_views(units, encoded, training.max_length)
    model = loaded.model
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    scorer = forward if forward is not None else CausalForward(loaded)
    run = _Run(model, scorer, list(parameters.values()), training, noise, sample_rate * len(units), seed)
    before = _fingerprint(parameters)
    model.train()
    try:
        with torch.random.fork_rng(devices=_cuda_devices(model)):
            for step, chosen in enumerate(poisson_batches(len(units), sample_rate, steps, seed)):
                torch.manual_seed(derived_seed(seed, "dropout", step))
                run.set_learning_rate(learning_rate_at(training, step, steps))
                with _memory_named([units[index] for index in chosen]):
                    loss = run.step([encoded[index] for index in chosen])
                if on_step is not None:
                    on_step(step, loss)
    finally:
        run.close()
        model.eval()
    _require_trained(parameters, before, steps)
    return TrainingLog(
        steps=steps,
        units=len(units),
        sample_rate=sample_rate,
        seconds=time.perf_counter() - began,
        empty_batches=steps - len(run.losses),
        cut_texts=cut_texts,
        identical_views=identical_views,
        losses=tuple(run.losses),
        clipped_share=tuple(run.clipped_share),
        median_norms=tuple(run.median_norms),
    )


def learning_rate_at(training: Training, step: int, steps: int) -> float:
    """Learning rate of step 0 <= `step` < `steps`: constant, or falling linearly so that it would be 0 at `steps`."""
    if training.lr_schedule == "constant":
        return training.learning_rate
    return training.learning_rate * (1 - step / steps)


def derived_seed(seed: int, purpose: str, step: int = 0) -> int:
    """A seed in [0, 2^63) for one purpose, unrelated to those for other purposes and steps."""
    digest = hashlib.sha256(f"{purpose}:{seed}:{step}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


@dataclass(frozen=True)
class _EncodedUnit:
    rows: tuple[list[int], ...]

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.rows), max(map(len, self.rows))


def _encode_units(loaded: LoadedModel, units: Sequence[UnitViews], max_length: int) -> tuple[list[_EncodedUnit], int]:
    """The units' token ids, and how many distinct texts were cut."""
    texts = list(dict.fromkeys(text for unit in units for text in unit.views))
    whole = encode(loaded.tokenizer, texts)
    ids = {text: row[:max_length] for text, row in zip(texts, whole, strict=True)}
    require_embedded(loaded, whole)
    encoded = [_EncodedUnit(tuple(ids[text] for text in unit.views)) for unit in units]
    for unit, found in zip(units, encoded, strict=True):
        if not found.rows or min(map(len, found.rows)) < 2:
            raise TrainingError(
                f"unit {unit.id!r} has a view without a token to learn from",
                where=f"unit {unit.id!r}, max_length={max_length}",
                fix="leave empty records out of the corpus; max_length must be at least 2",
            )
    share = unknown_share(loaded.tokenizer, ids.values())
    if share > MOST_UNKNOWN:
        raise TrainingError(
            f"{share:.0%} of the corpus' tokens are unknown to the tokenizer of model {loaded.source.name!r}"
            f" ({loaded.tokenizer.unk_token}), so training would learn that one token",
            where=f"{len(units)} training units, model {loaded.source.name!r}",
            fix="use a model whose tokenizer knows this text",
        )
    return encoded, sum(len(row) > max_length for row in whole)


def _identical_views(units: Sequence[UnitViews], encoded: Sequence[_EncodedUnit], max_length: int) -> int:
    """How many counterfactual rows equal a row of their unit's records; an error where all of them do."""
    counterfactuals = identical = 0
    for unit, found in zip(units, encoded, strict=True):
        originals = found.rows[: unit.records]
        added = found.rows[unit.records :]
        counterfactuals += len(added)
        identical += sum(row in originals for row in added)
    if counterfactuals and identical == counterfactuals:
        raise TrainingError(
            f"none of {counterfactuals} counterfactuals differs from its record in the tokens that are trained on, so"
            " augmentation would change nothing",
            where=f"Training(max_length={max_length})",
            fix="raise max_length so that the swapped words are not cut off, or use a model whose tokenizer knows them",
        )
    return identical


@contextlib.contextmanager
def _memory_named(units: Sequence[UnitViews]) -> Iterator[None]:
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not units or not (isinstance(error, MemoryError) or _OUT_OF_MEMORY.search(str(error))):
            raise
        largest = max(units, key=lambda unit: (len(unit.views), sum(map(len, unit.views))))
        raise TrainingError(
            f"a step does not fit into memory; the largest unit of its batch, {largest.id!r}, has {len(largest.views)}"
            " texts, and all texts of a unit are clipped together",
            where=f"unit {largest.id!r}",
            fix="keep fewer records of a unit in the corpus (some tens are plenty), or lower max_length or"
            " micro_batch_tokens",
        ) from error


def micro_batches(shapes: Sequence[tuple[int, int]], max_tokens: int) -> Iterator[list[int]]:
    """Splits units of (views, longest view) into lists of indices: equal views, close lengths, at most `max_tokens`
    tokens with padding, except that a unit which alone has more still stays in one piece.
    """
    pending: list[int] = []
    views = width = 0
    for index in sorted(range(len(shapes)), key=lambda i: (shapes[i], i), reverse=True):
        if pending and (shapes[index][0] != views or (len(pending) + 1) * views * width > max_tokens):
            yield pending
            pending = []
        if not pending:
            views, width = shapes[index]  # the longest of those to come
        pending.append(index)
    if pending:
        yield pending


@dataclass
class _Run:
    model: nn.Module
    scorer: TokenScorer
    parameters: list[nn.Parameter]
    training: Training
    noise: NoiseSpec | None
    expected_batch_size: float
    seed: int
    losses: list[float] = field(default_factory=list)
    clipped_share: list[float] = field(default_factory=list)
    median_norms: list[float] = field(default_factory=list)
    verified: bool = False

    def __post_init__(self) -> None:
        if not self.parameters:
            raise TrainingError(
                "the model has no trainable parameter", where="Training(trainable=)", fix="train at least one layer"
            )
        self.optimizer: Any = torch.optim.AdamW(
            self.parameters,
            lr=self.training.learning_rate,
            weight_decay=self.training.weight_decay,
            foreach=False,
            fused=True,
        )
        self.clipping: PerUnitClipping | None = None
        if self.noise is not None:
            self.clipping = PerUnitClipping(self.model, self.noise.max_grad_norm)
            self.optimizer = self._noisy(self.noise)

    def _noisy(self, noise: NoiseSpec) -> Any:
        from opacus.optimizers.optimizer_fast_gradient_clipping import (
            DPOptimizerFastGradientClipping,
        )

        generator = torch.Generator(device=self.parameters[0].device)
        generator.manual_seed(derived_seed(self.seed, "noise"))
        return DPOptimizerFastGradientClipping(
            self.optimizer,
            noise_multiplier=noise.noise_multiplier,
            max_grad_norm=noise.max_grad_norm,
            expected_batch_size=self.expected_batch_size,
            loss_reduction="mean",
            generator=generator,
        )

    def set_learning_rate(self, value: float) -> None:
        """The rate of the next step."""
        for group in self.optimizer.param_groups:
            group["lr"] = value

    def step(self, batch: Sequence[_EncodedUnit]) -> float | None:
        """One optimizer step on a logical batch, which may be empty: noise and the step itself happen all the same."""
        self.optimizer.zero_grad(set_to_none=True)
        total = 0.0
        norms: list[float] = []
        for chosen in micro_batches([unit.shape for unit in batch], self.training.micro_batch_tokens):
            part = [batch[index] for index in chosen]
            views = len(part[0].rows)
            loss, found = self._accumulate(TokenBatch.from_ids([row for unit in part for row in unit.rows]), views)
            total += loss
            norms += found
        if batch:
            self._require_gradients()
        for parameter in self.parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            if self.noise is None:
                parameter.grad /= self.expected_batch_size
        self.optimizer.step()
        if not batch:
            return None
        self.losses.append(total / len(batch))
        if self.noise is not None:
            self.clipped_share.append(sum(norm > self.noise.max_grad_norm for norm in norms) / len(norms))
            self.median_norms.append(statistics.median(norms))
        return self.losses[-1]

    def _accumulate(self, batch: TokenBatch, views: int) -> tuple[float, list[float]]:
        """Adds a micro-batch's gradient sum to the parameters' `grad`; the sum of its unit losses, and their norms."""
        if self.clipping is None:
            losses = self._row_losses(batch)
            total = losses.sum() / views
            total.backward()  # type: ignore[no-untyped-call]
            loss = float(total.detach())
            self._require_finite(loss)
            return loss, []
        if not self.verified:
            few = TokenBatch(batch.input_ids[: 2 * views], batch.lengths[: 2 * views])
            verify_against_autograd(self.model, lambda: self._row_losses(few) / views, views)
            self.verified = True
        with self.clipping as clipping:
            losses = self._row_losses(batch) / views
            clipped = clipping.backward(losses, views)
        return float(losses.detach().sum()), clipped.norms.tolist()

    def _row_losses(self, batch: TokenBatch) -> Tensor:
        """Mean negative log-likelihood of each row's scored tokens, all but the first, as [B]."""
        log_probs = self.scorer.token_log_probs(batch)
        return -log_probs.sum(1) / (batch.lengths.to(log_probs.device) - 1)

    def _require_finite(self, loss: float) -> None:
        if not math.isfinite(loss):
            raise TrainingError(
                f"the training loss is not finite after {len(self.losses)} steps",
                where="Training(learning_rate=)",
                fix="use a lower learning_rate; if it happens at the first step, check the model's weights",
            )

    def _require_gradients(self) -> None:
        if missing := [n for n, p in self.model.named_parameters() if p.requires_grad and p.grad is None]:
            raise TrainingError(
                f"{len(missing)} trainable parameters got no gradient, the first is {missing[0]}",
                where=type(self.model).__name__,
                fix="freeze what the loss does not depend on (Training(trainable=))",
            )

    def close(self) -> None:
        """Leaves the model without hooks and gradients."""
        if self.clipping is not None:
            self.clipping.close()
        for parameter in self.parameters:
            parameter.grad = None
            parameter.__dict__.pop("summed_grad", None)


def _cuda_devices(model: nn.Module) -> list[int]:
    return sorted({p.device.index for p in model.parameters() if p.device.type == "cuda"})


def _fingerprint(parameters: dict[str, nn.Parameter]) -> list[float]:
    return [float(p.detach().sum(dtype=torch.float64)) for p in parameters.values()]


def _require_trained(parameters: dict[str, nn.Parameter], before: list[float], steps: int) -> None:
    broken = [name for name, p in parameters.items() if not bool(torch.isfinite(p).all())]
    if broken:
        raise TrainingError(
            f"{len(broken)} parameters are not finite after {steps} steps, the first is {broken[0]}",
            where="Training(learning_rate=)",
            fix="use a lower learning_rate",
        )
    if _fingerprint(parameters) == before:
        raise TrainingError(
            f"no weight changed in {steps} steps",
            where="Training",
            fix="use a larger learning_rate, more steps or a larger batch_size; was every batch empty?",
        )
