"""Claims about what is not bias: utility and privacy."""

from __future__ import annotations

import math

import numpy as np

from fairtest.errors import warn_user
from fairtest.experiments.ablations import why_no_claim
from fairtest.experiments.arms import Measured, TunedArm
from fairtest.experiments.checkpoint import Checkpoint
from fairtest.gates.compare import require_arms, scope
from fairtest.gates.decision import Decision, ThresholdWarning, after_failure, decided, guarded, require_finite
from fairtest.gates.guards import augmented_guards, guards_of, same_texts, start_of, trained_guard
from fairtest.gates.measure import estimate_of, held_out_of, measure
from fairtest.gates.result import Estimate, GateResult, GateSetupError, Verdict
from fairtest.privacy.checks import judge_privacy
from fairtest.settings import Settings
from fairtest.statistics.intervals import perplexity_ratio_interval

_LOW_RATIO, _HIGH_RATIO = 0.5, 10.0


def judge_utility(
    candidate: Measured, reference: Measured, *, max_perplexity_ratio: float, settings: Settings
) -> GateResult:
    """Is the candidate's held-out perplexity at most `max_perplexity_ratio` times the reference's?

    Raises:
        GateSetupError, ComparisonError: the question has no answer as asked.
    """
    require_finite("max_perplexity_ratio", max_perplexity_ratio)
    require_arms(candidate, reference)
    if max_perplexity_ratio <= 0:
        raise GateSetupError(
            f"max_perplexity_ratio must be above 0, got {max_perplexity_ratio!r}",
            where="assert_utility(max_perplexity_ratio=)",
            fix="1.25 allows a perplexity a quarter higher than the reference's",
        )
    if not _LOW_RATIO <= max_perplexity_ratio <= _HIGH_RATIO:
        warn_user(
            f"max_perplexity_ratio={max_perplexity_ratio:g} is a factor: 1.25 allows a perplexity a quarter higher",
            ThresholdWarning,
        )
    confidence = settings.confidence
    ours, theirs = held_out_of(candidate), held_out_of(reference)
    same_texts(ours, theirs, candidate.name, reference.name)
    interval = perplexity_ratio_interval(
        np.asarray(ours.nll),
        np.asarray(theirs.nll),
        np.asarray(ours.tokens, dtype=float),
        ours.units,
        confidence=confidence,
    )
    guards = guards_of(candidate, (reference,), settings, {}, collapse=False)
    sides = (candidate, reference)
    decision = decided(
        interval, max_perplexity_ratio, guards, confidence=confidence, arms=sides, min_clusters=2, rounding=0.0
    )
    seeds, about = scope(*sides)
    levels = {arm.name: measure(arm, "perplexity", confidence=confidence)[0] for arm in sides}
    start = start_of(candidate)
    if start is not None and candidate.tuned and start.identity != reference.identity:
        levels[start.name] = measure(start, "perplexity", confidence=confidence)[0]
    return GateResult(
        gate="utility",
        metric="perplexity",
        unit="times the reference's",
        protocol="held-out, token-weighted v1",
        candidate=candidate.name,
        reference=reference.name,
        verdict=decision.verdict,
        reason=decision.reason,
        allowed=max_perplexity_ratio,
        confidence=confidence,
        change=estimate_of(interval),
        levels=levels,
        scope=about,
        seeds=seeds,
        items=interval.items,
        clusters=interval.clusters,
        factors=interval.factors,
        advice=after_failure("utility", candidate.name, reference.name)
        if decision.verdict is Verdict.FAIL
        else decision.advice,
        guards=tuple(guards),
        p_pass=decision.p_pass,
        p_fail=decision.p_fail,
        alpha=(1.0 - confidence) / 2.0,
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
    require_finite("max_epsilon", max_epsilon)
    if max_delta is not None:
        require_finite("max_delta", max_delta)
    require_arms(arm)
    statement = arm.statement()
    # A claim of others is derived anew from its own numbers.
    elsewhere = isinstance(arm, Checkpoint) or (isinstance(arm, TunedArm) and arm.experiment.trainer is not None)
    problems = judge_privacy(
        statement,
        recompute=elsewhere,
        max_epsilon=max_epsilon,
        max_delta=max_delta,
        unit=unit,
        release=release,
        allow_repeated=allow_repeated,
    )
    part = why_no_claim(arm.spec) if isinstance(arm, TunedArm) else None
    if statement is None and part is not None:
        problems = [f"there is no privacy statement: {part}"]
    epsilon = statement.epsilon if statement is not None else math.inf
    guards = []
    if arm.tuned:
        trained = trained_guard(arm, min_improvement=settings.min_improvement, confidence=settings.confidence)
        guards = [trained, *augmented_guards(arm)]
    reason = "; ".join(problems) or "the statement holds and stays within the budget"
    decision = Decision(Verdict.FAIL if problems else Verdict.PASS, reason)
    if not problems:  # an overspent budget stays a failure, trained or not
        decision = guarded(decision, guards)
    return GateResult(
        gate="privacy",
        metric="epsilon",
        unit="" if statement is None else f"delta {statement.delta:.1e}, per {statement.unit}",
        protocol="" if statement is None else statement.accountant,
        candidate=arm.name,
        reference="",
        verdict=decision.verdict,
        reason=decision.reason,
        allowed=max_epsilon,
        confidence=settings.confidence,
        change=Estimate(epsilon, epsilon, epsilon) if math.isfinite(epsilon) else None,
        finding="" if statement is None else statement.caveat(),
        advice=decision.advice,
        guards=tuple(guards),
    )
