"""Claims about bias: from scores to a verdict. Nothing here raises because a gate fails: that is the assertions'
business.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from fairtest.experiments.arms import Measured
from fairtest.gates.compare import Compared, compare, require_arms, scope
from fairtest.gates.decision import Decision, after_failure, decided, require_finite, warn_of_unit
from fairtest.gates.guards import guards_of, start_of
from fairtest.gates.matching import match_guards
from fairtest.gates.measure import estimate_of
from fairtest.gates.result import Estimate, GateResult, GateSetupError, Guard, Verdict
from fairtest.settings import Settings
from fairtest.statistics.intervals import Interval, amplification_interval, distance_interval


def judge_amplification(
    candidate: Measured, reference: Measured, *, metric: str, max_increase: float, settings: Settings
) -> GateResult:
    """Is the candidate further from the metric's target than the reference by no more than `max_increase`?

    Raises:
        GateSetupError, MetricError, ComparisonError: the question has no answer as asked.
    """
    require_finite("max_increase", max_increase)
    require_arms(candidate, reference)
    compared = compare(metric, candidate, reference)
    warn_of_unit("max_increase", max_increase, compared.ref.metric.unit)
    claim = _Claim("no_amplification", compared, candidate, reference, settings)
    interval = claim.amplification(candidate, reference)
    guards = [*guards_of(candidate, (reference,), settings, compared.scores), *match_guards(candidate, reference)]
    result = claim.result(interval, max_increase, guards)
    levels, finding = dict(result.levels), ""
    start = start_of(candidate)
    if start is not None and candidate.tuned and start.identity != reference.identity:
        with_start = compare(metric, candidate, start)
        levels[start.name] = with_start.level(start, settings.confidence)
        against_start = _Claim("", with_start, candidate, start, settings).amplification(candidate, start)
        finding = _finding(candidate.name, reference.name, estimate_of(interval), estimate_of(against_start))
    return dataclasses.replace(result, levels=levels, finding=finding)


def judge_bias_within(arm: Measured, *, metric: str, max_distance: float, settings: Settings) -> GateResult:
    """Is the arm's metric no further than `max_distance` from its target?

    Raises:
        GateSetupError, MetricError, ComparisonError: the question has no answer as asked.
    """
    require_finite("max_distance", max_distance)
    if max_distance <= 0:
        raise GateSetupError(
            f"max_distance must be above 0, got {max_distance!r}",
            where="assert_bias_within(max_distance=)",
            fix="no interval lies within 0 of the target: allow a distance that you would sign",
        )
    require_arms(arm)
    compared = compare(metric, arm)
    warn_of_unit("max_distance", max_distance, compared.ref.metric.unit)
    claim = _Claim("bias_within", compared, arm, None, settings)
    interval = distance_interval(
        compared.values[arm.name], compared.clusters, compared.ref.metric.target, confidence=settings.confidence
    )
    result = claim.result(interval, max_distance, guards_of(arm, (), settings, compared.scores))
    start = start_of(arm)
    if start is None or not arm.tuned:
        return result
    before = compare(metric, start).level(start, settings.confidence)
    return dataclasses.replace(result, levels={**result.levels, start.name: before})


def judge_mitigated(
    candidate: Measured,
    amplified: Measured,
    reference: Measured,
    *,
    metric: str,
    min_reduction: float,
    settings: Settings,
) -> GateResult:
    """Is the candidate (DP with CDA) nearer to the metric's target than `amplified` (DP) by at least `min_reduction`,
    where `amplified` is further from it than `reference` (no DP)?

    The measured change is negative where the candidate is nearer, and compared with -`min_reduction`.

    Raises:
        GateSetupError, MetricError, ComparisonError: the question has no answer as asked.
    """
    require_finite("min_reduction", min_reduction)
    if min_reduction < 0:
        raise GateSetupError(
            f"min_reduction must be at least 0, got {min_reduction!r}",
            where="assert_mitigated(min_reduction=)",
            fix="it is how much nearer to the target the candidate has to be, in the metric's unit",
        )
    require_arms(candidate, amplified, reference)
    compared = compare(metric, candidate, amplified, reference)
    warn_of_unit("min_reduction", min_reduction, compared.ref.metric.unit)
    claim = _Claim("mitigated", compared, candidate, amplified, settings)
    guards = guards_of(candidate, (amplified, reference), settings, compared.scores)
    raised = estimate_of(claim.amplification(amplified, reference))
    guards.append(
        Guard(
            f"{amplified.name} is further from the target than {reference.name}",
            raised.low > 0,
            f"by {raised.text(sign=True)} {compared.ref.metric.unit}",
            "nothing was raised beyond doubt, so nothing can be undone: assert_no_amplification is the gate for that",
            open=raised.low <= 0 < raised.value,
        )
    )
    result = claim.result(claim.amplification(candidate, amplified), 0.0 - min_reduction, guards)
    levels = {**result.levels, reference.name: compared.level(reference, settings.confidence)}
    return dataclasses.replace(result, levels=levels)


def judge_kept_score(
    candidate: Measured, reference: Measured, *, metric: str, max_drop: float, settings: Settings
) -> GateResult:
    """Is the candidate's language modelling score (target 100) at most `max_drop` points below the reference's?

    Raises:
        GateSetupError, MetricError, ComparisonError: the question has no answer as asked.
    """
    require_finite("max_lms_drop", max_drop)
    require_arms(candidate, reference)
    compared = compare(metric, candidate, reference)
    if not compared.ref.metric.name.partition(".")[2].startswith("lms"):
        raise GateSetupError(
            f"{metric!r} is no language modelling score", where="metric=", fix='for example "stereoset.lms[gender]"'
        )
    warn_of_unit("max_lms_drop", max_drop, compared.ref.metric.unit)
    claim = _Claim("utility", compared, candidate, reference, settings)
    guards = guards_of(candidate, (reference,), settings, compared.scores, collapse=False)
    return claim.result(claim.amplification(candidate, reference), max_drop, guards)


@dataclass(frozen=True)
class _Claim:
    """What the results of all claims about a metric share."""

    gate: str
    compared: Compared
    candidate: Measured
    reference: Measured | None
    settings: Settings

    def amplification(self, candidate: Measured, reference: Measured) -> Interval:
        values = self.compared.values
        return amplification_interval(
            values[candidate.name],
            values[reference.name],
            self.compared.clusters,
            self.compared.ref.metric.target,
            confidence=self.settings.confidence,
        )

    def result(self, interval: Interval, allowed: float, guards: Sequence[Guard]) -> GateResult:
        compared, candidate, reference = self.compared, self.candidate, self.reference
        confidence, metric = self.settings.confidence, compared.ref.metric
        sides = (candidate,) if reference is None else (candidate, reference)
        decision: Decision = decided(
            interval,
            allowed,
            guards,
            confidence=confidence,
            arms=sides,
            still=compared.stillness(*sides),
            moves=compared.moves(candidate, reference),
        )
        advice = decision.advice
        if decision.verdict is Verdict.FAIL:
            advice = after_failure(self.gate, candidate.name, "" if reference is None else reference.name)
        seeds, about = scope(*sides)
        return GateResult(
            gate=self.gate,
            metric=str(compared.ref),
            unit=metric.unit,
            protocol=compared.protocol,
            candidate=candidate.name,
            reference="" if reference is None else reference.name,
            verdict=decision.verdict,
            reason=decision.reason,
            allowed=allowed,
            confidence=confidence,
            change=estimate_of(interval),
            levels={arm.name: compared.level(arm, confidence) for arm in sides},
            target=metric.target,
            scope=about,
            seeds=seeds,
            items=interval.items,
            clusters=interval.clusters,
            factors=interval.factors,
            advice=advice,
            guards=tuple(guards),
            worst=compared.worst(candidate, reference),
            flips=() if reference is None else compared.flips(candidate, reference),
            p_pass=decision.p_pass,
            p_fail=decision.p_fail,
            alpha=(1.0 - confidence) / 2.0,
        )


def _finding(candidate: str, reference: str, change: Estimate, against_start: Estimate) -> str:
    """In words, which of the two things 'more biased than the reference' is: bias kept, or bias added."""
    if change.low <= 0:
        return ""
    moved = f"{against_start.text(sign=True)} against the pretrained model"
    if against_start.low > 0:
        return f"{candidate} adds bias: it is further from the target than the pretrained model was ({moved})"
    if against_start.high < change.low:
        return f"{candidate} keeps bias of the pretrained model that {reference} removed ({moved})"
    return f"whether {candidate} adds bias or keeps what {reference} removed is open ({moved})"
