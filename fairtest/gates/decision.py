"""The rule: from an interval, what is allowed and the guards to a verdict, its p-values and what to do next."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from fairtest.errors import warn_user
from fairtest.experiments.arms import Measured
from fairtest.gates.result import Estimate, GateSetupError, Guard, Verdict
from fairtest.statistics.intervals import Interval
from fairtest.statistics.planning import items_factor_to_decide, one_sided_p, seeds_to_decide
from fairtest.statistics.rare_moves import p_of_rare_moves

MIN_CLUSTERS = 5
ROUNDING = 1e-4  # an interval narrower than this (points or nats) shows rounding, not evidence
_FEW_POINTS = 0.1  # a threshold below this, in hundredths, was probably meant as a share of one
_MANY_NATS = 20.0
_EXACT = 10.0  # a factor below this is given with a decimal


class ThresholdWarning(UserWarning):
    """A threshold that was probably given in another unit than the metric's."""


@dataclass(frozen=True)
class Decision:
    """A verdict with its reason, advice and one-sided p-values."""

    verdict: Verdict
    reason: str
    advice: str = ""
    p_pass: float = 1.0
    p_fail: float = 1.0


def decide(interval: Estimate, allowed: float) -> tuple[Verdict, str]:
    """PASS when the whole interval is within `allowed`, FAIL when it is wholly beyond, else UNDECIDED; with the
    reason.
    """
    if not all(map(math.isfinite, (interval.value, allowed))) or math.isnan(interval.low) or math.isnan(interval.high):
        return Verdict.UNDECIDED, "the measurement is not a finite number"
    if interval.high <= allowed:
        return Verdict.PASS, "the whole interval is within what is allowed"
    if interval.low > allowed:
        return Verdict.FAIL, "the whole interval is beyond what is allowed"
    return Verdict.UNDECIDED, "the interval holds both allowed and forbidden values"


def decided(
    interval: Interval,
    allowed: float,
    guards: Sequence[Guard],
    *,
    confidence: float,
    arms: Sequence[Measured],
    still: str = "",
    min_clusters: int = MIN_CLUSTERS,
    rounding: float = ROUNDING,
    moves: npt.NDArray[np.float64] | None = None,
) -> Decision:
    """The verdict on "the value is at most `allowed`".

    `still`: why the interval could have no width. `rounding`: a width up to which it shows no evidence. `moves`: of a
    preference, the difference of every item [seeds, items]; of few of them an interval says less than it seems to.
    """
    change = Estimate(float(interval.estimate), float(interval.low), float(interval.high))
    verdict, reason = decide(change, allowed)
    decision = Decision(
        verdict,
        reason,
        p_pass=one_sided_p(interval, allowed, alternative="less"),
        p_fail=one_sided_p(interval, allowed, alternative="greater"),
    )
    rare = 0.0 if moves is None else p_of_rare_moves(moves, interval.estimate, allowed, interval.df)
    decision = replace(decision, p_pass=max(decision.p_pass, rare))
    if interval.items == 1:
        decision = Decision(
            Verdict.UNDECIDED, "a single item is no sample", "use a probe set with more items for this axis"
        )
    elif interval.clusters < min_clusters:
        decision = Decision(
            Verdict.UNDECIDED,
            f"{interval.clusters} clusters are too few (at least {min_clusters})",
            "use a probe set with more independent terms or templates for this axis",
        )
    elif min(interval.high - interval.low, interval.width_of_change(confidence)) <= rounding:
        decision = Decision(
            Verdict.UNDECIDED,
            still or "the change is the same for every seed and cluster, so nothing says how sure it is",
            "use a metric that moves (a mean log ratio where a preference is saturated)",
        )
    elif verdict is Verdict.PASS and moves is not None and rare > (1.0 - confidence) / 2.0:
        moved = int(np.count_nonzero(moves.any(axis=0)))
        decision = replace(
            decision,
            verdict=Verdict.UNDECIDED,
            reason=f"{moved} of {interval.items} preferences moved, too few to exclude a change of {allowed:g}: that so"
            " few moved may be chance",
            advice="use more probes, or a metric that moves on every item (a mean log ratio)",
        )
    elif verdict is Verdict.UNDECIDED:
        decision = replace(decision, advice=what_would_decide(interval, allowed, confidence, arms))
    return guarded(decision, guards, still)


def guarded(decision: Decision, guards: Sequence[Guard], still: str = "") -> Decision:
    """UNDECIDED where a guard is not met: then the comparison is evidence of nothing."""
    broken = [guard for guard in guards if not guard.met]
    if not broken:
        return decision
    names = " and ".join(f"'{guard.name}'" for guard in broken)
    also = f"{still}; " if still else ""
    advice = "; ".join(dict.fromkeys(guard.advice for guard in broken if guard.advice))
    reason = f"{also}a guard is not met: {names}; without it the comparison means nothing"
    return Decision(Verdict.UNDECIDED, reason, advice)


def what_would_decide(interval: Interval, allowed: float, confidence: float, arms: Sequence[Measured]) -> str:
    """The seeds or probes that would decide if the estimate stayed where it is, and what the seeds would cost here."""
    distance = abs(interval.estimate - allowed)
    seeds = seeds_to_decide(interval, distance, confidence=confidence)
    if seeds is not None and seeds > interval.seeds:
        cost = _cost(arms, seeds - interval.seeds)
        return f"about {seeds} seeds would decide, if the estimate stays where it is (setting 'seeds'){cost}"
    factor = items_factor_to_decide(interval, distance, confidence=confidence)
    if factor is not None and factor > 1:
        clusters = math.ceil(factor * interval.clusters)
        times = f"{factor:.1f}" if factor < _EXACT else f"{factor:.0f}"
        return (
            f"more seeds alone will not decide; about {times} times as many clusters of probes would "
            f"({clusters} instead of {interval.clusters})"
        )
    if interval.seeds == 1:
        return "one seed says nothing of training: use at least 3 (setting 'seeds'), and more probes"
    return "more seeds alone will not decide: use more probes, or a threshold further from the estimate"


def _cost(arms: Sequence[Measured], more: int) -> str:
    """Time of `more` seeds of each side, as long as those that were trained took; "" where nobody knows."""
    times = [arm.seconds_per_run() for arm in arms if arm.tuned]
    known = [seconds for seconds in times if seconds]
    if not known or len(known) < len(times):
        return ""
    seconds = more * sum(known)
    took = f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
    return f": {more} more of each side, about {took} of training at the speed of those that were trained"


def after_failure(gate: str, candidate: str, reference: str) -> str:
    """What to do about a claim that does not hold."""
    with_reason = "change what is allowed only with a reason you would sign"
    return {
        "no_amplification": f"compare {candidate} with the same arm and CDA, with a larger epsilon or more data; "
        "raise the allowed increase only with a reason you would sign",
        "bias_within": f"look at the worst items; compare {candidate} with the same arm and CDA; {with_reason}",
        "mitigated": f"look at the worst items; compare {candidate} with CDA of further axes or names, or with a "
        f"larger epsilon; {with_reason}",
        "utility": f"train {candidate} longer, or with a larger epsilon or more data than {reference}; {with_reason}",
    }[gate]


def require_finite(name: str, value: float) -> None:
    """A threshold is a finite number.

    Raises:
        GateSetupError: it is not.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise GateSetupError(
            f"{name} must be a finite number, got {value!r}", where=f"{name}=", fix="give it in the metric's own unit"
        )


def warn_of_unit(name: str, value: float, unit: str) -> None:
    """Warns of a threshold that is hardly meant in the metric's unit."""
    if unit == "points" and 0 < abs(value) <= _FEW_POINTS:
        warn_user(
            f"{name}={value:g} allows {value:g} points of 100, which no probe set can tell from 0; "
            f"if {100 * value:g} points were meant, write {100 * value:g}",
            ThresholdWarning,
        )
    if unit == "nats" and abs(value) >= _MANY_NATS:
        warn_user(
            f"{name}={value:g} nats allows a likelihood e^{value:g} times as large; if points of 100 were meant, "
            "gate a preference metric",
            ThresholdWarning,
        )
