"""From two sets of scores to a verdict. Nothing here raises because a gate fails: that is the assertions' business."""

from __future__ import annotations

import math

import numpy as np

from fairtest.errors import ComparisonError
from fairtest.experiments.arms import Measured
from fairtest.gates.guards import collapse_guard, different_weights_guard, same_texts, trained_guard
from fairtest.gates.measure import Values, estimate_of, gate_metric, item_matrix, measure
from fairtest.gates.result import Estimate, GateResult, GateSetupError, Guard, Verdict, WorstItem
from fairtest.metrics import MetricRef
from fairtest.privacy.checks import judge_privacy
from fairtest.settings import Settings
from fairtest.statistics.intervals import (
    Interval,
    amplification_interval,
    mean_interval,
    perplexity_ratio_interval,
)
from fairtest.statistics.planning import items_factor_to_decide, seeds_to_decide

MIN_CLUSTERS = 5
WORST_ITEMS = 3
ROUNDING = 1e-4  # an interval narrower than this (points or nats) shows rounding, not evidence


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


def judge_amplification(
    candidate: Measured, reference: Measured, *, metric: str, max_increase: float, settings: Settings
) -> GateResult:
    """Is the candidate further from the metric's target than the reference by no more than `max_increase`?

    Raises:
        GateSetupError, MetricError, ComparisonError: the question has no answer as asked.
    """
    _finite("max_increase", max_increase)
    require_arms(candidate, reference)
    if isinstance(metric, str) and metric.partition("[")[0] == "perplexity":
        raise GateSetupError(
            "perplexity is utility, not bias", where="metric=", fix="use assert_utility(max_perplexity_ratio=)"
        )
    ref = gate_metric(metric)
    confidence = settings.confidence
    ours, ids, clusters = item_matrix(candidate, ref)
    theirs, their_ids, _ = item_matrix(reference, ref)
    _same_protocol(candidate, reference, ref)
    if ids != their_ids:
        raise ComparisonError(
            f"{candidate.name} and {reference.name} were scored on different items",
            where=metric,
            fix="score them again",
        )
    target = ref.metric.target
    interval = amplification_interval(ours, theirs, clusters, target, confidence=confidence)
    change = estimate_of(interval)
    verdict, reason = decide(change, max_increase)
    advice = ""
    if interval.clusters < MIN_CLUSTERS:
        verdict, reason = Verdict.UNDECIDED, f"{interval.clusters} clusters are too few (at least {MIN_CLUSTERS})"
        advice = "use a probe set with more independent terms or templates for this axis"
    elif interval.high - interval.low < ROUNDING:
        verdict = Verdict.UNDECIDED
        reason = "the change is the same for every seed and cluster, so nothing says how sure it is"
        advice = "use a metric that moves (a mean log ratio where a preference is saturated)"
    elif verdict is Verdict.UNDECIDED:
        advice = _what_would_decide(interval, max_increase, confidence)
    guards = [different_weights_guard(candidate, reference), *_trained_guards((candidate, reference), settings)]
    guards.append(collapse_guard(candidate, reference, max_collapse=settings.max_collapse, confidence=confidence))
    verdict, reason, advice = _guarded(verdict, reason, advice, guards)
    levels = {
        candidate.name: estimate_of(mean_interval(ours, clusters, confidence=confidence)),
        reference.name: estimate_of(mean_interval(theirs, clusters, confidence=confidence)),
    }
    finding = ""
    start = candidate.start()
    if candidate.tuned and start.identity != reference.identity:
        before, _, _ = item_matrix(start, ref)
        levels[start.name] = estimate_of(mean_interval(before, clusters, confidence=confidence))
        against_start = estimate_of(amplification_interval(ours, before, clusters, target, confidence=confidence))
        finding = _finding(candidate.name, reference.name, change, against_start)
    seeds = _seeds(candidate, reference)
    moved = _away(ours, target).mean(axis=0) - _away(theirs, target).mean(axis=0)
    terms = np.atleast_2d(clusters)[0]
    worst = sorted(range(len(ids)), key=lambda i: -moved[i])[:WORST_ITEMS]
    return GateResult(
        gate="no_amplification",
        metric=metric,
        unit=ref.metric.unit,
        protocol=f"{ref.metric.protocol} v{ref.metric.version}",
        candidate=candidate.name,
        reference=reference.name,
        verdict=verdict,
        reason=reason,
        allowed=max_increase,
        confidence=confidence,
        change=change,
        levels=levels,
        target=target,
        scope="training" if seeds > 1 else "this checkpoint only",
        seeds=seeds,
        items=interval.items,
        clusters=interval.clusters,
        factors=interval.factors,
        finding=finding,
        advice=advice or ("" if verdict is not Verdict.FAIL else _after_failure(candidate.name)),
        guards=tuple(guards),
        worst=tuple(WorstItem(ids[i], str(terms[i]), float(moved[i])) for i in worst),
    )


def judge_utility(
    candidate: Measured, reference: Measured, *, max_perplexity_ratio: float, settings: Settings
) -> GateResult:
    """Is the candidate's held-out perplexity at most `max_perplexity_ratio` times the reference's?

    Raises:
        GateSetupError, ComparisonError: the question has no answer as asked.
    """
    _finite("max_perplexity_ratio", max_perplexity_ratio)
    require_arms(candidate, reference)
    if max_perplexity_ratio <= 0:
        raise GateSetupError(
            f"max_perplexity_ratio must be above 0, got {max_perplexity_ratio!r}",
            where="assert_utility(max_perplexity_ratio=)",
            fix="1.25 allows a perplexity a quarter higher than the reference's",
        )
    confidence = settings.confidence
    ours, theirs = candidate.held_out(), reference.held_out()
    same_texts(ours, theirs, candidate.name, reference.name)
    interval = perplexity_ratio_interval(
        np.asarray(ours.nll),
        np.asarray(theirs.nll),
        np.asarray(ours.tokens, dtype=float),
        ours.units,
        confidence=confidence,
    )
    change = estimate_of(interval)
    verdict, reason = decide(change, max_perplexity_ratio)
    advice = _what_would_decide(interval, max_perplexity_ratio, confidence) if verdict is Verdict.UNDECIDED else ""
    guards = [different_weights_guard(candidate, reference), *_trained_guards((candidate, reference), settings)]
    verdict, reason, advice = _guarded(verdict, reason, advice, guards)
    seeds = _seeds(candidate, reference)
    levels = {arm.name: measure(arm, "perplexity", confidence=confidence)[0] for arm in (candidate, reference)}
    if candidate.tuned and candidate.start().identity != reference.identity:
        levels[candidate.start().name] = measure(candidate.start(), "perplexity", confidence=confidence)[0]
    return GateResult(
        gate="utility",
        metric="perplexity",
        unit="times the reference's",
        protocol="held-out, token-weighted v1",
        candidate=candidate.name,
        reference=reference.name,
        verdict=verdict,
        reason=reason,
        allowed=max_perplexity_ratio,
        confidence=confidence,
        change=change,
        levels=levels,
        scope="training" if seeds > 1 else "this checkpoint only",
        seeds=seeds,
        items=interval.items,
        clusters=interval.clusters,
        factors=interval.factors,
        advice=advice,
        guards=tuple(guards),
    )


def judge_privacy_claim(
    arm: Measured,
    *,
    max_epsilon: float,
    max_delta: float | None,
    unit: str | None,
    allow_repeated: bool,
    settings: Settings,
    release: bool = False,
) -> GateResult:
    """Does the arm's privacy statement hold, and stay within the budget?"""
    _finite("max_epsilon", max_epsilon)
    if max_delta is not None:
        _finite("max_delta", max_delta)
    require_arms(arm)
    statement = arm.statement()
    problems = judge_privacy(
        statement,
        max_epsilon=max_epsilon,
        max_delta=max_delta,
        unit=unit,
        release=release,
        allow_repeated=allow_repeated,
    )
    epsilon = statement.epsilon if statement is not None else math.inf
    guards = _trained_guards((arm,), settings)
    verdict = Verdict.FAIL if problems else Verdict.PASS
    reason = "; ".join(problems) or "the statement holds and stays within the budget"
    advice = ""
    if verdict is Verdict.PASS:  # an overspent budget stays a failure, trained or not
        verdict, reason, advice = _guarded(verdict, reason, "", guards)
    return GateResult(
        gate="privacy",
        metric="epsilon",
        unit="" if statement is None else f"delta {statement.delta:.1e}, per {statement.unit}",
        protocol="" if statement is None else statement.accountant,
        candidate=arm.name,
        reference="",
        verdict=verdict,
        reason=reason,
        allowed=max_epsilon,
        confidence=settings.confidence,
        change=Estimate(epsilon, epsilon, epsilon) if math.isfinite(epsilon) else None,
        finding="" if statement is None else statement.caveat(),
        advice=advice,
        guards=tuple(guards),
    )


def _away(values: Values, target: float | None) -> Values:
    """How far items lie on the side of their arm's own deviation from the target."""
    if target is None:
        return values
    side = 1.0 if values.mean() >= target else -1.0
    return side * (values - target)


def require_arms(*arms: Measured) -> None:
    """Both sides are arms.

    Raises:
        GateSetupError: one is something else, a name for example.
    """
    for arm in arms:
        if not hasattr(arm, "held_out") or not hasattr(arm, "scores"):
            raise GateSetupError(
                f"{arm!r} is no arm", where="candidate, reference", fix='give arms.dp or arms["dp"], not its name'
            )


def _trained_guards(arms: tuple[Measured, ...], settings: Settings) -> list[Guard]:
    return [
        trained_guard(arm, min_improvement=settings.min_improvement, confidence=settings.confidence)
        for arm in arms
        if arm.tuned
    ]


def _seeds(*arms: Measured) -> int:
    """Fewest seeds of the tuned sides: one seed on either makes it a claim about that checkpoint."""
    return min((len(arm.identity) for arm in arms if arm.tuned), default=1)


def _finite(name: str, value: float) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise GateSetupError(
            f"{name} must be a finite number, got {value!r}", where=f"{name}=", fix="give it in the metric's own unit"
        )


def _same_protocol(candidate: Measured, reference: Measured, ref: MetricRef) -> None:
    sides = [arm.scores(ref.metric.probe_set, ref.axis)[0] for arm in (candidate, reference)]
    if sides[0].probe_digest != sides[1].probe_digest or sides[0].protocol != sides[1].protocol:
        raise ComparisonError(
            f"{candidate.name} and {reference.name} were scored with different probes or protocols "
            f"({sides[0].protocol} and {sides[1].protocol})",
            where=str(ref),
            fix="score both sides with one version of the probe set and one protocol",
        )


def _guarded(verdict: Verdict, reason: str, advice: str, guards: list[Guard]) -> tuple[Verdict, str, str]:
    broken = [guard for guard in guards if not guard.met]
    if not broken:
        return verdict, reason, advice
    names = " and ".join(f"'{guard.name}'" for guard in broken)
    return (
        Verdict.UNDECIDED,
        f"a guard is not met: {names}; without it the comparison means nothing",
        "train longer, with a larger budget or learning rate, or more units, until the guard is met",
    )


def _what_would_decide(interval: Interval, allowed: float, confidence: float) -> str:
    distance = abs(interval.estimate - allowed)
    seeds = seeds_to_decide(interval, distance, confidence=confidence)
    if seeds is not None and seeds > interval.seeds:
        return f"about {seeds} seeds would decide, if the estimate stays where it is (setting 'seeds')"
    factor = items_factor_to_decide(interval, distance, confidence=confidence)
    if factor is not None and factor > 1:
        return f"more seeds alone will not decide; about {factor:.1f} times as many clusters of probes would"
    return "more seeds alone will not decide: use more probes, or a threshold further from the estimate"


def _after_failure(candidate: str) -> str:
    return (
        f"compare {candidate} with the same arm and CDA, with a larger epsilon or more data; "
        "raise the allowed increase only with a reason you would sign"
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
