"""A stored baseline as the other side of a comparison: what has to hold of it, and what a reader has to know of it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from fairtest.experiments.arms import Measured
from fairtest.gates.baselines.entry import DECIMALS, BaselineEntry, BaselineError
from fairtest.gates.baselines.files import UPDATE, BaselineFile
from fairtest.gates.baselines.of_arm import items_digest, run_digests, stored_losses
from fairtest.gates.compare import Compared
from fairtest.gates.guards import guards_of
from fairtest.gates.measure import Values
from fairtest.gates.result import Guard
from fairtest.settings import Settings

_EQUAL = 1.01 * 10.0**-DECIMALS  # two roundings of one number, computed on two machines, differ by a step at most
_EQUAL_LOSS = 1e-5


@dataclass(frozen=True)
class StoredSide:
    """A baseline in the place of a reference arm."""

    entry: BaselineEntry
    seeds: int

    @property
    def name(self) -> str:
        """As messages name it."""
        return f"baseline file of {self.entry.date}"

    @property
    def available_seeds(self) -> int:
        """No look can have more seeds than the baseline has."""
        return self.entry.seeds

    def limited(self, seeds: int) -> StoredSide:
        """With its first `seeds` seeds."""
        return StoredSide(self.entry, min(seeds, self.entry.seeds))


def require_comparable(stored: BaselineEntry, compared: Compared, file: BaselineFile) -> None:
    """The baseline is of the definition and the items that are measured now.

    Raises:
        BaselineError: it is not.
    """
    metric = compared.ref.metric
    changed = [
        f"{name} {old}, now {new}"
        for name, old, new in (
            ("unit", stored.unit, metric.unit),
            ("target", stored.target, metric.target),
            ("items", stored.items, len(compared.ids)),
            ("names of the items", stored.item_digest, items_digest(compared)),
        )
        if old != new
    ]
    if changed:
        raise BaselineError(
            f"the baseline of {stored.key.arm} for {stored.key.metric} is of another definition: {'; '.join(changed)}",
            where=f"{file.path}, baseline {stored.key.text!r}",
            fix=f"remove this entry and run {UPDATE} on a model you trust",
        )


def guards_against(arm: Measured, stored: BaselineEntry, compared: Compared, settings: Settings) -> list[Guard]:
    """Those of every gate; but whether it still models language is asked against the baseline, if it has the texts."""
    guards = guards_of(arm, (), settings, compared.scores)
    held_out = arm.held_out()
    ours = None if held_out is None else stored_losses(held_out)
    if ours is None or stored.held_out is None or ours.texts != stored.held_out.texts:
        return guards
    name = f"{arm.name} still models language"
    ratio = max(_exp(after - before) for after, before in zip(ours.loss, stored.held_out.loss, strict=False))
    kept = Guard(
        name,
        ratio <= settings.max_collapse,
        f"held-out perplexity {ratio:.2f} times the baseline's on the same texts (in the worst seed), more than "
        f"{settings.max_collapse:g} times counts as collapsed",
        f"train {arm.name} until it models language again: a model that does not is near the target by chance",
    )
    return [*(guard for guard in guards if guard.name != name), kept]


def same_weights(arm: Measured, stored: BaselineEntry, ours: Values, theirs: Values) -> bool:
    """Whether these are the weights that the baseline was recorded of: every value is the same within rounding.

    The digest of a run alone does not say so: it is of all that is asked of a run, and another version of torch may
    make other weights of that. Preferences alone do not say so either, because different weights may prefer the same
    sentences; then the runs or the held-out losses have to be the same too.
    """
    if np.abs(ours - theirs).max() > _EQUAL:
        return False
    seeds = len(theirs)
    if not stored.coarse or run_digests(arm)[:seeds] == stored.runs[:seeds]:
        return True
    held_out = arm.held_out()
    now = None if held_out is None else stored_losses(held_out)
    if now is None or stored.held_out is None or now.texts != stored.held_out.texts:
        return False
    return np.allclose(now.loss[:seeds], stored.held_out.loss[:seeds], rtol=0.0, atol=_EQUAL_LOSS)


def finding(arm: Measured, stored: BaselineEntry, seeds: int) -> str:
    """What a reader has to know of the two sides."""
    notes = []
    if run_digests(arm)[:seeds] == stored.runs[:seeds]:
        notes.append(
            "all that was asked of the runs is as it was: other packages or another machine made the difference"
        )
    if len(arm.identity) != stored.seeds:
        most = max(len(arm.identity), stored.seeds)
        notes.append(f"{seeds} of {most} seeds are compared: the baseline has {stored.seeds}")
    return "; ".join(notes)


def _exp(value: float) -> float:
    return math.exp(value) if value < 700.0 else math.inf
