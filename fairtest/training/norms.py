"""Norms of units' gradients at a model as it is, for the choice of a clipping norm."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from fairtest.errors import TrainingError
from fairtest.specs import Training
from fairtest.training.encoding import MicroBatch, encode_units, micro_batches
from fairtest.training.forward import CausalForward
from fairtest.training.models import LoadedModel
from fairtest.training.steps import Clipping, clipping_of
from fairtest.training.token_loss import kept_logits

if TYPE_CHECKING:
    from fairtest.augmentation import UnitViews


def unit_gradient_norms(
    loaded: LoadedModel, units: Sequence[UnitViews], training: Training, clipping: str = "fairtest"
) -> list[float]:
    """L2 norm of each unit's gradient over all trainable parameters, without dropout; trains nothing.

    They are computed from the units' own texts: use units that no privacy claim is about, or keep the norms secret.

    Raises:
        TrainingError, ModelError: as `finetune`.
    """
    corpus = encode_units(loaded, units, training)
    forward = CausalForward(loaded)
    norms = [math.nan] * len(units)
    engine = clipping_of(loaded.model, math.inf, clipping)
    loaded.model.eval()
    try:
        for part in micro_batches(corpus.units, training.micro_batch_tokens):
            _norms_of(MicroBatch.of(part), forward, engine, norms)
            for parameter in loaded.model.parameters():
                parameter.grad = None
    finally:
        engine.close()
    return norms


def _norms_of(batch: MicroBatch, forward: CausalForward, engine: Clipping, norms: list[float]) -> None:
    with engine:
        with kept_logits():  # an engine may go through the graph more than once
            log_probs = forward.token_log_probs(batch.tokens)
        weights = batch.weights.to(log_probs.device)
        found = engine.backward(-log_probs.sum(1) * weights, batch.rows_per_unit)
    for unit, norm in zip(batch.units, found.norms.tolist(), strict=True):
        norms[unit.index] = norm


def median_gradient_norm(
    loaded: LoadedModel, units: Sequence[UnitViews], training: Training, clipping: str = "fairtest"
) -> float:
    """The (lower) median of `unit_gradient_norms`: clipping there shortens about half of such units.

    Raises:
        TrainingError: there is no unit, or half of the norms are 0.
    """
    if not units:
        raise TrainingError(
            "there is no unit to take a median norm of",
            where='DP(max_grad_norm="median")',
            fix="hold units out (setting held_out), or give max_grad_norm as a number",
        )
    with torch.random.fork_rng(devices=[]):
        median = statistics.median_low(unit_gradient_norms(loaded, units, training, clipping))
    if not median > 0:
        raise TrainingError(
            "the median gradient norm is 0",
            where='DP(max_grad_norm="median")',
            fix="give max_grad_norm as a number, such as 1.0",
        )
    return median
