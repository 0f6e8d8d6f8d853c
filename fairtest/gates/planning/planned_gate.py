"""What a gate will be able to tell, before anything is trained: which change it would find, and what would have to be
more for it to find less.

Everything follows from the parts of the standard error that a gate's change is expected to have (a `Contrast`): where
they come from is the business of fairtest.gates.planning.basis.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fairtest.gates.decision import MIN_CLUSTERS
from fairtest.gates.messages import number, signed_number
from fairtest.statistics.components import Contrast
from fairtest.statistics.planning import MAX_FACTOR, MAX_SEEDS, with_clusters, with_seeds
from fairtest.statistics.power import detectable as detectable_change

PRIVACY, MEASURED = "privacy", "measure"
RATIO = "times the reference's"
_MANY_TIMES = 4.0  # more seeds are asked for rather than more than so many times the probes
_NOT_DECIDABLE = "cannot be decided with this probe set"


@dataclass(frozen=True)
class PlannedRun:
    """One run that a gate needs: of which arm and seed, whether it is in the store, and how long it will train.

    `later`: adaptive seeds train it only if earlier looks do not decide. `seconds` None: nobody knows; `timed` says
    where they come from.
    """

    digest: str
    arm: str
    seed: int
    stored: bool
    later: bool = False
    seconds: float | None = None
    timed: str = ""


@dataclass(frozen=True, kw_only=True)
class PlannedGate:
    """One gate that a test declares.

    `allowed` is in the metric's unit (of a ratio, the ratio itself), `confidence` that of the interval which decides
    (of the last look, with adaptive seeds), `looks` the numbers of seeds at which it is looked at, `factors` the number
    of clusters by crossed factor. `spread`: the parts of the standard error at `spread.seeds` seeds, of a ratio those
    of its logarithm; None where there is no basis, and `basis` says why. `finding`: what is known before training.
    `signed`: the change has a sign (an increase), it is no distance or ratio.
    """

    gate: str
    metric: str
    unit: str
    candidate: str
    reference: str
    allowed: float
    confidence: float
    items: int = 0
    factors: tuple[int, ...] = ()
    looks: tuple[int, ...] = ()
    spread: Contrast | None = None
    basis: str = ""
    finding: str = ""
    enforced: bool = False
    runs: tuple[PlannedRun, ...] = ()
    test: str = ""

    @property
    def seeds(self) -> int:
        """The most seeds it may have."""
        return self.looks[-1] if self.looks else 0

    @property
    def clusters(self) -> int:
        """Clusters of the factor with the fewest."""
        return min(self.factors, default=0)

    @property
    def tested(self) -> bool:
        """Whether it rests on a sample, so that it has a power and counts in the family."""
        return self.gate not in (PRIVACY, MEASURED)

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON; an infinite bound does not occur."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> PlannedGate:
        """The inverse of `as_dict`."""
        spread = data["spread"]
        return cls(
            **{
                **data,
                "factors": tuple(data["factors"]),
                "looks": tuple(data["looks"]),
                "spread": None if spread is None else Contrast(**spread),
                "runs": tuple(PlannedRun(**run) for run in data["runs"]),
            }
        )


def detectable(gate: PlannedGate, *, tests: int = 1, seeds: int | None = None, factor: float = 1.0) -> float | None:
    """The change beyond `allowed` that the gate finds with 80% probability, in the metric's unit; None without a basis.

    It is also the smallest allowed change with which the gate passes as often where nothing changed. Of a ratio it is
    what is above 1. `tests`: gates that Holm corrects for; `factor`: times as many clusters.
    """
    if gate.spread is None:
        return None
    contrast = with_clusters(with_seeds(gate.spread, seeds or gate.seeds), factor)
    if not math.isfinite(contrast.variance):
        return math.inf
    found = detectable_change(contrast, gate.confidence, tests=tests)
    return _expm1(found) if gate.unit == RATIO else found


def needs(gate: PlannedGate, *, tests: int = 1) -> str:
    """What the threshold needs for a PASS where nothing changed: nothing more, seeds, probes, or it cannot be decided.

    `tests` counts only where the family's verdict is enforced.
    """
    tests = tests if gate.enforced else 1
    if gate.gate == PRIVACY:
        return gate.finding
    if 0 < gate.clusters < _fewest(gate):
        return f"{_NOT_DECIDABLE}: {gate.clusters} clusters, and at least {_fewest(gate)} are needed"
    found = detectable(gate, tests=tests)
    if found is None:
        return f"not planned: {gate.basis}"
    room = gate.allowed - 1.0 if gate.unit == RATIO else gate.allowed
    if room <= 0 or found <= room:
        return _as_it_is(gate, room, found)
    return _more(gate, room, tests)


def family_size(gates: Sequence[PlannedGate]) -> int:
    """How many claims Holm corrects for: the same claim made twice counts once, privacy rests on no sample."""
    claims = {(g.gate, g.metric, g.candidate, g.reference, g.allowed) for g in gates if g.tested}
    return max(len(claims), 1)


def _as_it_is(gate: PlannedGate, room: float, found: float) -> str:
    """What it takes to pass with 80% where no more seeds or probes are asked for."""
    if not math.isfinite(found):
        return _NOT_DECIDABLE
    if room > 0:
        where = "at the target" if gate.gate == "bias_within" else "where nothing changed"
        return f"needs nothing more: it passes with 80% or more {where}"
    if gate.unit == RATIO:
        return f"needs a ratio of {number((1.0 + room) / (1.0 + found))} or less, to pass with 80%"
    return f"needs a change of {signed_number(room - found)} or less, to pass with 80%"


def _more(gate: PlannedGate, room: float, tests: int) -> str:
    """Seeds if they are enough, else probes, else both."""
    seeds = _seeds_needed(gate, room, tests)
    if seeds is not None:
        return f"needs {seeds} seeds" + (" (setting max_seeds)" if len(gate.looks) > 1 else "")
    factor, with_them = _factor_needed(gate, room, tests, gate.seeds), ""
    if (factor is None or factor > _MANY_TIMES) and gate.spread is not None and gate.spread.seed_sd is not None:
        for seeds in range(gate.seeds + 1, MAX_SEEDS + 1) if gate.seeds > 1 else ():
            found = _factor_needed(gate, room, tests, seeds)
            if found is not None and (factor is None or found <= _MANY_TIMES):
                factor, with_them = found, f" with {seeds} seeds"
                if found <= _MANY_TIMES:
                    break
    if factor is None:
        return f"{_NOT_DECIDABLE}, nor with {MAX_SEEDS} seeds and any number of clusters"
    clusters = math.ceil(factor * gate.clusters)
    return f"{_NOT_DECIDABLE}: about {factor:.1f} times as many clusters would do{with_them} ({clusters})"


def _fewest(gate: PlannedGate) -> int:
    return 2 if gate.unit == RATIO else MIN_CLUSTERS


def _seeds_needed(gate: PlannedGate, room: float, tests: int) -> int | None:
    if gate.spread is None or gate.spread.seed_sd is None or gate.seeds < 2:
        return None
    for seeds in range(gate.seeds + 1, MAX_SEEDS + 1):
        found = detectable(gate, tests=tests, seeds=seeds)
        if found is not None and found <= room:
            return seeds
    return None


def _factor_needed(gate: PlannedGate, room: float, tests: int, seeds: int) -> float | None:
    def enough(factor: float) -> bool:
        found = detectable(gate, tests=tests, seeds=seeds, factor=factor)
        return found is not None and found <= room

    if not enough(MAX_FACTOR):
        return None
    low, high = 1.0, 2.0
    while not enough(high):
        low, high = high, 2.0 * high
    while high - low > 0.01 * high:
        middle = (low + high) / 2.0
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def _expm1(value: float) -> float:
    return math.expm1(value) if value < 700.0 else math.inf
