"""What an amplification is made of: sampling, clipping and noise; and what of it is training less.

No verdict is made here. A gate says whether there is an amplification, and this takes it apart.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from fairtest.experiments.arms import Measured
from fairtest.gates.compare import Compared, compare, require_arms
from fairtest.gates.decision import MIN_CLUSTERS, ROUNDING
from fairtest.gates.guards import (
    augmented_guards,
    collapse_guard,
    different_weights_guard,
    seeds_guards,
    start_of,
    trained_guard,
)
from fairtest.gates.matching import Matching, matching_of
from fairtest.gates.measure import estimate_of
from fairtest.gates.result import Estimate, GateSetupError, Guard
from fairtest.settings import Settings
from fairtest.statistics.interaction import interaction_interval
from fairtest.statistics.intervals import Interval, amplification_interval
from fairtest.statistics.planning import items_factor_to_decide, seeds_to_decide

ABOVE, BELOW, OPEN, MEANS_NOTHING = "above zero", "below zero", "open", "means nothing"
SAMPLING, CLIPPING, NOISE = "sampling", "clipping", "noise"
NOISE_ALONE, TOGETHER = "noise alone", "clipping with noise"
LESS_TRAINING, OWN = "under-training", "DP's own"
TOTAL, WHOLE = "total", "total with sampling"
Kind = Literal["total", "cause", "beside", "training"]
POWER = 0.8  # that of a plan (fairtest.statistics.power, which takes longer to import)
_MOST_TIMES = 10.0  # more probes than so many times these are no advice


@dataclass(frozen=True)
class Part:
    """A change of the distance from the target, of one arm against another; positive is further away.

    `kind`: "cause" parts lie on the way from the reference to the candidate, "training" parts divide the same total
    by what training less does, "beside" is on no way. `share_of_total` is None where the total may be zero, and of
    what is no part of it. `says`: ABOVE or BELOW where the interval excludes zero, OPEN, or MEANS_NOTHING with the
    `reason`. `advice`: what would tell an open part from zero.
    """

    name: str
    kind: Kind
    of: str
    against: str
    estimate: Estimate
    says: str
    share_of_total: float | None = None
    reason: str = ""
    advice: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        data = dataclasses.asdict(self)
        del data["estimate"], data["share_of_total"]
        return {**data, **dataclasses.asdict(self.estimate), "share": self.share_of_total}


@dataclass(frozen=True)
class Explanation:
    """An amplification and its parts. `total` is what `assert_no_amplification` judges; clipping and noise add up to
    it, and so do under-training and DP's own. `whole`: the same from shuffled batches on, to which sampling, clipping
    and noise add up; None without that arm. `from_start`: the pretrained model against the reference.
    """

    metric: str
    unit: str
    target: float | None
    candidate: str
    reference: str
    total: Part
    whole: Part | None
    parts: tuple[Part, ...]
    levels: Mapping[str, Estimate]
    from_start: Part | None
    matching: Matching | None
    confidence: float
    seeds: int
    items: int
    factors: tuple[int, ...]

    @property
    def sentences(self) -> tuple[str, ...]:
        """The finding in words."""
        from fairtest.gates.explain_words import sentences

        return tuple(sentences(self))

    def part(self, name: str) -> Part | None:
        """The part of that name, if it was asked for."""
        return next((part for part in self.parts if part.name == name), None)

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "metric": self.metric,
            "unit": self.unit,
            "target": self.target,
            "candidate": self.candidate,
            "reference": self.reference,
            "total": self.total.as_dict(),
            "whole": None if self.whole is None else self.whole.as_dict(),
            "start": None if self.from_start is None else self.from_start.as_dict(),
            "parts": [part.as_dict() for part in self.parts],
            "levels": {name: dataclasses.asdict(level) for name, level in self.levels.items()},
            "sentences": list(self.sentences),
            "confidence": self.confidence,
            "seeds": self.seeds,
            "items": self.items,
            "factors": list(self.factors),
        }


def explain_amplification(
    candidate: Measured,
    reference: Measured,
    *,
    metric: str,
    clip_only: Measured | None = None,
    noise_only: Measured | None = None,
    shuffled: Measured | None = None,
    matched: Measured | None = None,
    settings: Settings,
) -> Explanation:
    """Takes apart by how much `candidate` (DP) is further from the metric's target than `reference` (the same without
    DP), on the same items and with paired seeds.

    Args:
        candidate, reference: the two sides of the amplification.
        metric: any that a gate takes.
        clip_only: as the candidate, without noise. Clipping is clip_only - reference, noise is candidate - clip_only.
        noise_only: as the candidate, without clipping. It stands beside: noise without clipping is another noise.
        shuffled: as the reference, in shuffled batches instead of Poisson samples. Sampling is reference - shuffled.
        matched: as the reference, stopped at the candidate's held-out loss. Under-training is matched - reference,
            DP's own is candidate - matched.
        settings: confidence and guards.

    Raises:
        GateSetupError, MetricError, ComparisonError: the question has no answer as asked.
    """
    given = [arm for arm in (shuffled, clip_only, noise_only, matched) if arm is not None]
    if not given:
        raise GateSetupError(
            f"there is nothing to take {candidate.name} against {reference.name} apart with",
            where="explain_amplification(...)",
            fix="give at least one of clip_only=, noise_only=, shuffled=, matched=: arms.clip_only, for example",
        )
    require_arms(candidate, reference, *given)
    ordered = [arm for arm in (shuffled, reference, clip_only, noise_only, matched, candidate) if arm is not None]
    start = start_of(candidate) if candidate.tuned else None
    if start is not None and not any(start.name == arm.name for arm in ordered):
        ordered.insert(0, start)
    else:
        start = None
    work = _Work(compare(metric, *ordered), settings, {})
    total = work.part(TOTAL, "total", candidate, reference)
    known = total.says in (ABOVE, BELOW)

    def share(part: Part) -> Part:
        if not known or part.says == MEANS_NOTHING:
            return part
        return dataclasses.replace(part, share_of_total=part.estimate.value / total.estimate.value)

    parts: list[Part] = []
    if shuffled is not None:
        parts.append(work.part(SAMPLING, "cause", reference, shuffled))
    if clip_only is not None:
        parts.append(share(work.part(CLIPPING, "cause", clip_only, reference)))
        parts.append(share(work.part(NOISE, "cause", candidate, clip_only)))
    if noise_only is not None:
        parts.append(work.part(NOISE_ALONE, "beside", noise_only, reference))
        if clip_only is not None:
            parts.append(work.interaction(candidate, clip_only, noise_only, reference))
    if matched is not None:
        parts.append(share(work.part(LESS_TRAINING, "training", matched, reference)))
        parts.append(share(work.part(OWN, "training", candidate, matched)))
    basis = work.interval(candidate, reference)
    return Explanation(
        metric=str(work.compared.ref),
        unit=work.compared.ref.metric.unit,
        target=work.compared.ref.metric.target,
        candidate=candidate.name,
        reference=reference.name,
        total=total,
        whole=None if shuffled is None else work.part(WHOLE, "total", candidate, shuffled),
        parts=tuple(parts),
        levels={arm.name: work.compared.level(arm, settings.confidence) for arm in ordered},
        from_start=None if start is None else work.part("the start", "beside", start, reference),
        matching=None if matched is None else matching_of(matched, candidate),
        confidence=settings.confidence,
        seeds=basis.seeds,
        items=basis.items,
        factors=basis.factors,
    )


@dataclass(frozen=True)
class _Work:
    """What all parts share; `guarded` keeps each arm's own guards, which are asked for several times."""

    compared: Compared
    settings: Settings
    guarded: dict[str, list[Guard]]

    def interval(self, of: Measured, against: Measured) -> Interval:
        values = self.compared.values
        return amplification_interval(
            values[of.name],
            values[against.name],
            self.compared.clusters,
            self.compared.ref.metric.target,
            confidence=self.settings.confidence,
        )

    def part(self, name: str, kind: Kind, of: Measured, against: Measured) -> Part:
        guards = [different_weights_guard(of, against), *self._own(of), *self._own(against)]
        if of.tuned:  # a start is worse by what training gains, and has not collapsed for it
            guards.append(self._collapse(of, against))
        interval = self.interval(of, against)
        found = self._judged(interval, guards, self.compared.stillness(of, against))
        return Part(name, kind, of.name, against.name, estimate_of(interval), *found)

    def interaction(self, both: Measured, first: Measured, second: Measured, neither: Measured) -> Part:
        arms = (both, first, second, neither)
        values = self.compared.values
        interval = interaction_interval(
            (values[both.name], values[first.name], values[second.name], values[neither.name]),
            self.compared.clusters,
            self.compared.ref.metric.target,
            confidence=self.settings.confidence,
        )
        guards = [guard for arm in arms for guard in self._own(arm)]
        guards += [self._collapse(arm, neither) for arm in (both, second)]
        of, against = f"{both.name} - {first.name}", f"{second.name} - {neither.name}"
        found = self._judged(interval, guards, self.compared.stillness(*arms))
        return Part(TOGETHER, "beside", of, against, estimate_of(interval), *found)

    def _collapse(self, of: Measured, against: Measured) -> Guard:
        most, confidence = self.settings.max_collapse, self.settings.confidence
        return collapse_guard(of, against, max_collapse=most, confidence=confidence)

    def _own(self, arm: Measured) -> list[Guard]:
        if arm.name not in self.guarded:
            least, confidence = self.settings.min_improvement, self.settings.confidence
            trained = [trained_guard(arm, min_improvement=least, confidence=confidence)] if arm.tuned else []
            augmented = augmented_guards(arm) if arm.tuned else []
            seeds = seeds_guards(arm, self.compared.scores.get(arm.name, ()))
            self.guarded[arm.name] = [*trained, *augmented, *seeds]
        return self.guarded[arm.name]

    def _judged(self, interval: Interval, guards: Sequence[Guard], still: str) -> tuple[str, float | None, str, str]:
        """(says, no share yet, reason, advice) of a part."""
        unmet = dict.fromkeys(f"{guard.name}: {guard.detail}" for guard in guards if not guard.met)
        if unmet:
            return MEANS_NOTHING, None, f"a guard is not met, {'; '.join(unmet)}", ""
        if interval.clusters < MIN_CLUSTERS:
            reason = f"{interval.clusters} clusters of probes are too few (at least {MIN_CLUSTERS})"
            return OPEN, None, reason, "use a probe set with more independent terms or templates"
        width = min(interval.high - interval.low, interval.width_of_change(self.settings.confidence))
        if width <= ROUNDING:
            same = "the two sides differ alike for every seed and cluster, so nothing says how sure that is"
            return MEANS_NOTHING, None, still or same, ""
        if interval.low > 0:
            return ABOVE, None, "", ""
        if interval.high < 0:
            return BELOW, None, "", ""
        return OPEN, None, "", _would_tell(interval, self.settings.confidence)


def would_show(estimate: Estimate, confidence: float, power: float = POWER) -> float:
    """The smallest change whose interval, as wide as this one is below its estimate, would lie above zero with
    probability `power`; infinite where the interval has no end.

    half-width (z(1 - alpha) + z(power)) / z(1 - alpha) with alpha = (1 - confidence) / 2: that of many degrees of
    freedom. With few the interval is wider and the factor smaller (1.31 instead of 1.43 with two), so it is cautious.
    """
    from scipy.special import ndtri

    critical = float(ndtri((1.0 + confidence) / 2.0))
    return (estimate.value - estimate.low) * (critical + float(ndtri(power))) / critical


def _would_tell(interval: Interval, confidence: float) -> str:
    """What would tell an estimate from zero, if it stayed where it is."""
    distance = abs(interval.estimate)
    seeds = seeds_to_decide(interval, distance, confidence=confidence)
    if seeds is not None and seeds > interval.seeds:
        return f"about {seeds} seeds would tell it from zero, if the estimate stays where it is"
    if interval.seeds == 1:
        return "one seed says nothing of training: use at least 3"
    factor = items_factor_to_decide(interval, distance, confidence=confidence)
    if factor is not None and 1.0 < factor <= _MOST_TIMES:
        return f"more seeds alone will not tell it from zero; about {factor:.1f} times as many clusters of probes would"
    if factor == 1.0 or seeds is not None:
        return "a side may lie on either side of the target: more probes would tell"
    return "neither 100 seeds nor ten times the probes would tell it from zero, if the estimate stays where it is"
