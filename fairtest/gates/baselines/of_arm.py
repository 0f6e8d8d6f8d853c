"""What the baseline of an arm is: its key, its file, and the entry that an update writes."""

from __future__ import annotations

import dataclasses
import math
import re
from pathlib import Path

from fairtest.digests import digest_of
from fairtest.experiments.arms import HeldOut, Measured, TunedArm
from fairtest.gates.baselines.entry import (
    DECIMALS,
    DIGEST_LENGTH,
    BaselineEntry,
    BaselineKey,
    StoredHeldOut,
    environment,
    rounded,
)
from fairtest.gates.baselines.files import BaselineFile, file_of, load, model_name
from fairtest.gates.compare import Compared, compare, require_arms
from fairtest.gates.result import Estimate
from fairtest.settings import Settings

_LOSS_DECIMALS = 6


def baselines_of(arm: Measured, settings: Settings) -> BaselineFile:
    """The baselines of an arm's model: the base model that the settings name; an arm that was trained elsewhere is a
    model of its own.

    Raises:
        BaselineError: the file cannot be read, or is of another model.
    """
    directory = Path(settings.baseline_dir)
    model = model_name(settings.model, directory) if isinstance(arm, TunedArm) else arm.name
    return load(file_of(model, directory), model)


def entry_of(arm: Measured, metric: str, settings: Settings) -> BaselineEntry:
    """What an update writes for this arm.

    Raises:
        GateSetupError, MetricError, ComparisonError: it cannot be measured.
    """
    require_arms(arm)
    arm = all_seeds(arm)
    return entry_from(arm, compare(metric, arm), settings)


def all_seeds(arm: Measured) -> Measured:
    """With seeds="auto", the arm with as many as may be had: no later comparison can have more than its baseline."""
    return arm if arm.available_seeds is None else arm.limited(arm.available_seeds)


def entry_from(arm: Measured, compared: Compared, settings: Settings) -> BaselineEntry:
    """The entry of an arm whose items are at hand."""
    values = rounded(compared.values[arm.name])
    level = dataclasses.replace(compared, values={arm.name: values}).level(arm, settings.confidence)
    held_out = arm.held_out()
    return BaselineEntry(
        key=key_of(arm, compared),
        unit=compared.ref.metric.unit,
        target=compared.ref.metric.target,
        estimate=Estimate(*(round(number, DECIMALS) + 0.0 for number in (level.value, level.low, level.high))),
        confidence=settings.confidence,
        runs=run_digests(arm),
        item_digest=items_digest(compared),
        values=tuple(map(tuple, values.tolist())),
        held_out=None if held_out is None else stored_losses(held_out),
        made=environment(),
    )


def key_of(arm: Measured, compared: Compared) -> BaselineKey:
    """The key of an arm whose items are at hand."""
    metric, scores = compared.ref.metric, compared.scores[arm.name][0]
    protocol = f"{metric.protocol} v{metric.version}, {scores.protocol}".replace("|", "/")
    return BaselineKey(arm.name, str(compared.ref), protocol, scores.probe_digest[:DIGEST_LENGTH])


def items_digest(compared: Compared) -> str:
    """The start of the digest of the items' names, in order."""
    return digest_of(list(compared.ids))[:DIGEST_LENGTH]


def run_digests(arm: Measured) -> tuple[str, ...]:
    """The start of the digest of each of the arm's runs."""
    return tuple(
        (run if re.fullmatch(r"[0-9a-f]{64}", run) else digest_of(run))[:DIGEST_LENGTH] for run in arm.identity
    )


def stored_losses(held_out: HeldOut) -> StoredHeldOut:
    """Held-out losses as an entry keeps them."""
    tokens = sum(held_out.tokens)
    return StoredHeldOut(
        texts=digest_of([held_out.digest, list(held_out.tokens)])[:DIGEST_LENGTH],
        tokens=tokens,
        loss=tuple(round(math.fsum(row) / tokens, _LOSS_DECIMALS) for row in held_out.nll),
    )
