"""What a gate found: plain data that a test, a report and a reviewer read alike."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from fairtest.errors import FairtestError


class Verdict(str, Enum):
    """PASS: the whole interval is within what is allowed. FAIL: it is wholly beyond. UNDECIDED: neither, or a guard
    is not met.
    """

    PASS = "PASS"  # noqa: S105 - a verdict, no password
    FAIL = "FAIL"
    UNDECIDED = "UNDECIDED"


@dataclass(frozen=True)
class Estimate:
    """A number with its confidence interval, in the unit of its metric."""

    value: float
    low: float
    high: float

    def text(self, *, sign: bool = False) -> str:
        """For a person: `+0.58 [+0.47, +0.69]`, with as many decimals as the width of the interval warrants."""
        width = self.high - self.low
        decimals = 3
        if math.isfinite(width) and width > 0:
            decimals = min(max(1 - math.floor(math.log10(max(width / 2, 1e-9))), 0), 4)
        elif math.isinf(width):
            decimals = 2

        def show(number: float) -> str:
            shown = f"{number:{'+' if sign else ''}.{decimals}f}"
            return shown.replace("-", "+" if sign else "") if not float(shown) else shown

        return f"{show(self.value)} [{show(self.low)}, {show(self.high)}]"


@dataclass(frozen=True)
class Guard:
    """A condition without which a comparison means nothing, whether it is met, the numbers, and what to do if not.

    `open`: not met because its interval is wide, though its estimate is on the right side: more seeds may meet it.
    """

    name: str
    met: bool
    detail: str
    advice: str = ""
    open: bool = False


@dataclass(frozen=True)
class WorstItem:
    """A probe that moved furthest in the direction a gate guards against."""

    id: str
    cluster: str
    change: float


@dataclass(frozen=True)
class Flips:
    """Of one seed, how many items prefer the stereotype on the candidate's side alone (`up`) and on the reference's
    alone (`down`), with McNemar's exact two-sided p, which takes items for independent.
    """

    up: int
    down: int
    p: float


@dataclass(frozen=True, kw_only=True)
class GateResult:
    """One declared claim and its verdict.

    `change` is the amplification (or the distance, the ratio, epsilon) that is compared with `allowed`; `levels` are
    the metric's values of the models involved. `scope` says what the interval covers: "training" (seeds and probes), or
    "this checkpoint only" (probes alone). `factors` has the number of clusters by crossed factor, `clusters` is the
    smallest of them.

    `p_pass` and `p_fail` are one-sided p-values, evidence that the true change is within and beyond what is allowed;
    PASS and FAIL are p <= `alpha`. None: the claim rests on no sample. `family`: verdict, adjusted p-value and number
    of gates after Holm's correction over all gates of a session; None until all are known. `look`: at which look of
    adaptive seeds it was decided, "" where seeds are fixed. `recorded`: there was nothing to compare with, and the
    values become the baseline.
    """

    gate: str
    metric: str
    unit: str
    protocol: str
    candidate: str
    reference: str
    verdict: Verdict
    reason: str
    allowed: float
    confidence: float
    change: Estimate | None = None
    levels: Mapping[str, Estimate] = dataclasses.field(default_factory=dict)
    target: float | None = None
    scope: str = ""
    seeds: int = 0
    items: int = 0
    clusters: int = 0
    factors: tuple[int, ...] = ()
    finding: str = ""
    advice: str = ""
    guards: tuple[Guard, ...] = ()
    worst: tuple[WorstItem, ...] = ()
    flips: tuple[Flips, ...] = ()
    p_pass: float | None = None
    p_fail: float | None = None
    alpha: float = 0.025
    look: str = ""
    family: Mapping[str, Any] | None = None
    recorded: bool = False
    test: str = ""

    @property
    def blocked(self) -> bool:
        """Whether a guard is not met: such a gate never counts as passed, whatever the policy for UNDECIDED."""
        return any(not guard.met for guard in self.guards)

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        data = dataclasses.asdict(self)
        data["verdict"] = self.verdict.value
        data["blocked"] = self.blocked
        return data

    def message(self) -> str:
        """The whole finding for a person, verdict first."""
        from fairtest.gates.messages import explain

        return explain(self)


class GateNotPassed(AssertionError):  # noqa: N818 - it is a finding, not an error
    """A gate that did not pass; `result` has everything that was measured."""

    def __init__(self, result: GateResult) -> None:
        self.result = result
        super().__init__(result.message())


class GateFailure(GateNotPassed):
    """The verdict is FAIL: the claim does not hold."""


class GateUndecided(GateNotPassed):
    """The verdict is UNDECIDED, or a guard is not met: the claim may or may not hold."""


class UndecidedWarning(UserWarning):
    """A gate could not be decided and the policy is to warn."""


class GateSetupError(FairtestError):
    """A gate was asked something that has no answer (unknown sides, threshold not a number, ...)."""
