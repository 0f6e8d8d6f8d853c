"""Fine-tunes a causal language model on privacy units, with or without differential privacy, along one path.

All arms of a seed see the same Poisson batches and the same dropout, and all take

    theta <- optimizer(theta, (sum_{u in batch} clip(g_u, C) + sigma C z) / (q N)),   z standard normal,

with g_u the gradient of the unit's mean loss over records and their views. Without noise, C is infinite and sigma 0,
and nothing else differs. What takes DP apart takes this path too: sigma 0 alone, or the same noise with C infinite, or
shuffled passes instead of Poisson batches.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from fairtest.errors import TrainingError
from fairtest.specs import Training
from fairtest.training.distributed import Processes
from fairtest.training.encoding import encode_units
from fairtest.training.forward import CausalForward
from fairtest.training.models import LoadedModel
from fairtest.training.observing import StepObserver
from fairtest.training.optimizers import learning_rate_at
from fairtest.training.sampling import poisson_batches, sample_rate_for, shuffled_batches
from fairtest.training.steps import NoiseSpec, Steps, TokenScorer, derived_seed

if TYPE_CHECKING:
    from fairtest.augmentation import UnitViews

__all__ = ["NoiseSpec", "TokenScorer", "TrainingLog", "finetune"]

_OUT_OF_MEMORY = re.compile(r"out of memory|can't allocate memory|not enough memory", re.IGNORECASE)
# A run that reads less of the corpus has frozen layers run for what it reads only.
_WARM_EPOCHS = 0.25


@dataclass(frozen=True)
class TrainingLog:
    """What happened in a run. `cut_texts` is how many distinct texts were longer than `max_length` and lost their
    end, `identical_views` how many counterfactuals became the same tokens as a record of their unit, so that they
    changed nothing, `trained_tensors` how many parameters were trained, each of which got a gradient. `losses` (mean
    over a batch's units, nats a token) has one entry for each batch that was not empty; so have, with clipping only,
    `clipped_share` and `median_norms` of the units' gradients.

    The last three are computed from private records and are not covered by epsilon: not for release.
    """

    steps: int
    units: int
    sample_rate: float
    seconds: float
    empty_batches: int
    cut_texts: int = 0
    identical_views: int = 0
    rows: int = 0
    trained_tensors: int = 0
    processes: int = 1
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
    stop: Callable[[int], bool] | None = None,
    shuffled: bool = False,
    forward: TokenScorer | None = None,
    observer: StepObserver | None = None,
) -> TrainingLog:
    """Trains `loaded.model` in place, on those of its parameters that require gradients.

    The loss of a view is the mean over its tokens, that of a record the mean over its views, that of a unit the mean
    over its records. The same arguments give
    the same weights, bit by bit, on the same machine, unless `noise.release` is set (on a GPU, as far as torch has
    deterministic algorithms for what the model does); who knows the seed can undo noise and sampling, so a model that
    is released needs that.

    Where torch.distributed is initialised (`torchrun`), the processes share each batch's work, and all end with the
    same weights; call it in each with the same arguments.

    Args:
        on_step: called after each step with its index and mean unit loss, None for an empty batch.
        stop: called after each step with the number of steps taken; True ends the run there. The learning rates are
            those of the whole run all the same: what is left is that run at an earlier step. It may score the model,
            which changes nothing of the run.
        shuffled: take batches of `batch_size` units from shuffled passes; not with noise, whose accounting is not of
            such batches.
        forward: another way to compute the model's log-probabilities, such as `CausalForward` with a cached trunk; by
            default the whole model runs.
        observer: looks on at every step and changes nothing (`fairtest.training.diagnostics`).

    Raises:
        TrainingError: a batch cannot be sampled, a unit has nothing to learn from, the tokenizer does not know the
            texts, no counterfactual differs from its record, a parameter cannot be clipped or is never given a
            gradient, a step does not fit into memory, a loss, gradient or weight is not finite, training changed no
            weight, or processes ended with different weights.
        ModelError: the tokenizer has tokens that the model does not know.
    """
    began = time.perf_counter()
    sample_rate = sample_rate_for(training.batch_size, len(units))
    count = training.steps_for(len(units))
    corpus = encode_units(loaded, units, training)
    model = loaded.model
    scorer = forward if forward is not None else CausalForward(loaded)
    if isinstance(scorer, CausalForward) and count * sample_rate >= _WARM_EPOCHS:
        scorer.warm(row for unit in corpus.units for row in unit.rows)
    processes = Processes.current()
    steps = Steps(
        model=model,
        scorer=scorer,
        training=training,
        noise=noise,
        expected_batch_size=sample_rate * len(units),
        seed=seed,
        processes=processes,
        observer=observer,
    )
    processes.require_equal(steps.parameters.values(), "before training")
    before = _fingerprint(steps.parameters)
    batches = _batches(training, noise, len(units), seed, processes, shuffled=shuffled)
    model.train()
    try:
        if observer is not None:
            observer.begin(loaded, steps, corpus.units, count)
        devices = _cuda_devices(model)
        with torch.random.fork_rng(devices=devices), _in_a_fixed_order(devices), _checkpointing(loaded, training):
            for step, chosen in enumerate(batches):
                torch.manual_seed(derived_seed(seed, f"dropout {processes.rank}", step))
                steps.set_learning_rate(learning_rate_at(training, step, count))
                with _memory_named([units[index] for index in chosen]):
                    loss = steps.take([corpus.units[index] for index in chosen])
                if on_step is not None:
                    on_step(step, loss)
                if stop is not None and stop(steps.taken):
                    break
    finally:
        if observer is not None:
            observer.close()
        steps.close()
        model.eval()
    _require_trained(steps, before)
    processes.require_equal(steps.parameters.values(), "after training")
    return TrainingLog(
        steps=steps.taken,
        units=len(units),
        sample_rate=sample_rate,
        seconds=time.perf_counter() - began,
        empty_batches=steps.taken - len(steps.losses),
        cut_texts=corpus.cut_texts,
        identical_views=corpus.identical_views,
        rows=sum(len(unit.rows) for unit in corpus.units),
        trained_tensors=len(steps.parameters),
        processes=processes.size,
        losses=tuple(steps.losses),
        clipped_share=tuple(steps.clipped_share),
        median_norms=tuple(steps.median_norms),
    )


def _batches(
    training: Training, noise: NoiseSpec | None, units: int, seed: int, processes: Processes, *, shuffled: bool
) -> Iterator[list[int]]:
    count = training.steps_for(units)
    if not shuffled:
        secret = noise is not None and noise.release
        rate = sample_rate_for(training.batch_size, units)
        return poisson_batches(units, rate, count, None if secret else seed, share=processes.first)
    if noise is not None:
        raise TrainingError(
            "shuffled batches with noise have no epsilon: it is accounted for Poisson batches",
            where="finetune(shuffled=)",
            fix="leave shuffled out, or train without noise",
        )
    return shuffled_batches(units, training.batch_size, count, seed)


@contextlib.contextmanager
def _checkpointing(loaded: LoadedModel, training: Training) -> Iterator[None]:
    if not training.gradient_checkpointing:
        yield
        return
    if not loaded.model.supports_gradient_checkpointing:
        raise TrainingError(
            f"{type(loaded.model).__name__} has no gradient checkpointing",
            where="Training(gradient_checkpointing=)",
            fix="leave it out, or lower micro_batch_tokens to save memory",
        )
    with warnings.catch_warnings():  # the method has a new name in transformers 5; both work
        warnings.simplefilter("ignore", FutureWarning)
        loaded.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    try:
        yield
    finally:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            loaded.model.gradient_checkpointing_disable()


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
            fix="set max_records_per_unit (some tens are plenty), or lower max_length or micro_batch_tokens",
        ) from error


def _cuda_devices(model: nn.Module) -> list[int]:
    return sorted({p.device.index for p in model.parameters() if p.device.type == "cuda"})


@contextlib.contextmanager
def _in_a_fixed_order(devices: Sequence[int]) -> Iterator[None]:
    """On a GPU: sums in the same order every time, where torch has a way to, so that a run can be repeated."""
    if not devices:
        yield
        return
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])


def _fingerprint(parameters: dict[str, nn.Parameter]) -> list[float]:
    sums: list[float] = torch.stack([p.detach().sum(dtype=torch.float64) for p in parameters.values()]).tolist()
    return sums


def _require_trained(steps: Steps, before: list[float]) -> None:
    parameters, taken = steps.parameters, steps.taken
    finite = torch.stack([torch.isfinite(p).all() for p in parameters.values()]).tolist()
    broken = [name for name, sound in zip(parameters, finite, strict=True) if not sound]
    if broken:
        raise TrainingError(
            f"{len(broken)} parameters are not finite after {taken} steps, the first is {broken[0]}",
            where="Training(learning_rate=)",
            fix="use a lower learning_rate",
        )
    if _fingerprint(parameters) == before:
        raise TrainingError(
            f"no weight changed in {taken} steps",
            where="Training",
            fix="use a larger learning_rate, more steps or a larger batch_size; was every batch empty?",
        )
    # One half of a LoRA adapter starts at zero, so that at the first step the other half has no gradient.
    if steps.without_gradient and len(steps.losses) > 1:
        first = min(steps.without_gradient)
        raise TrainingError(
            f"{len(steps.without_gradient)} of {len(parameters)} trainable parameters had a gradient of zero in all"
            f" {taken} steps, the first is {first}",
            where=type(steps.model).__name__,
            fix="freeze them (Training(trainable=)): noise alone would move them, which costs privacy for nothing",
        )
