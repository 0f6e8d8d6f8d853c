"""A regression test for bias: an arm of today against its stored baseline, item by item and seed by seed."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from fairtest.experiments.arms import Measured
from fairtest.gates.baselines.entry import DECIMALS, BaselineEntry, BaselineKey, rounded
from fairtest.gates.baselines.of_arm import all_seeds, baselines_of, entry_from, key_of
from fairtest.gates.baselines.stored_side import StoredSide, finding, guards_against, require_comparable, same_weights
from fairtest.gates.compare import compare, require_arms
from fairtest.gates.decision import (
    MIN_CLUSTERS,
    Decision,
    decide,
    decided,
    guarded,
    require_finite,
    warn_of_unit,
)
from fairtest.gates.guards import guards_of
from fairtest.gates.looks import at_looks
from fairtest.gates.measure import Values, estimate_of, gate_metric
from fairtest.gates.result import GateResult, Verdict
from fairtest.settings import FIRST_LOOK, Settings
from fairtest.statistics.intervals import Interval, amplification_interval

GATE = "no_regression"
# A change that varies by less than two and a half steps of rounding is of one size.
_ONE_SIZE = 2.5 * 10.0**-DECIMALS


@dataclass(frozen=True)
class Regression:
    """What the gate found, and what it did to the baselines: plain data for whoever writes them (see
    fairtest.gates.baselines.records).
    """

    result: GateResult
    record: dict[str, Any]


def judge_regression(arm: Measured, *, metric: str, max_increase: float, settings: Settings) -> GateResult:
    """Is the arm further from the metric's target than its stored baseline by no more than `max_increase`?

    Raises:
        BaselineError: there is no such baseline, or it cannot be compared with.
        GateSetupError, MetricError, ComparisonError: the question has no answer as asked.
    """
    return regression(arm, metric=metric, max_increase=max_increase, settings=settings).result


def regression(arm: Measured, *, metric: str, max_increase: float, settings: Settings, update: str = "") -> Regression:
    """The same with its record. `update` "new": an arm without a baseline is recorded, not judged; "all": every arm is.

    Where it is recorded, the verdict is UNDECIDED, because nothing was compared, and `result.recorded` says that it is
    no failure. An arm that a guard stops is not recorded.

    Raises:
        As `judge_regression`.
    """
    require_finite("max_increase", max_increase)
    require_arms(arm)
    ref = gate_metric(metric, arm)
    warn_of_unit("max_increase", max_increase, ref.metric.unit)
    file = baselines_of(arm, settings)
    if not update and not any((key.arm, key.metric) == (arm.name, str(ref)) for key in file.entries):
        file.require(BaselineKey(arm.name, str(ref), "", ""))  # told before anything is trained
    compared = compare(metric, arm)
    key = key_of(arm, compared)
    stored = file.get(key) if update else file.require(key)
    record: dict[str, Any] = {"file": str(file.path), "model": file.model, "key": key.text, "status": "compared"}
    if update == "all" or stored is None:
        result, entry = _recorded(all_seeds(arm), metric, stored, max_increase, settings)
        if entry is None:
            return Regression(result, {**record, "status": "blocked"})
        return Regression(result, {**record, "status": "recorded", "entry": entry.as_dict()})
    require_comparable(stored, compared, file)

    def judge(sides: tuple[Measured, ...], settings: Settings) -> GateResult:
        return _judged(sides[0], stored, metric, max_increase, settings)

    if arm.available_seeds is not None and stored.seeds >= FIRST_LOOK:
        result = at_looks(judge, (arm, cast("Measured", StoredSide(stored, stored.seeds))), settings)
    else:
        result = judge((arm,), settings)
    return Regression(result, record)


# -- verdicts ---------------------------------------------------------------------------------------------------------


def _judged(arm: Measured, stored: BaselineEntry, metric: str, max_increase: float, settings: Settings) -> GateResult:
    compared = compare(metric, arm)
    seeds = min(len(compared.values[arm.name]), stored.seeds)
    ours, theirs = rounded(compared.values[arm.name])[:seeds], np.asarray(stored.values)[:seeds]
    side = cast("Measured", StoredSide(stored, seeds))
    both = dataclasses.replace(compared, values={arm.name: ours, side.name: theirs})
    definition, confidence = compared.ref.metric, settings.confidence
    interval = amplification_interval(ours, theirs, compared.clusters, definition.target, confidence=confidence)
    guards = guards_against(arm, stored, compared, settings)
    still = both.stillness(arm, side)
    sample = interval.items > 1 and interval.clusters >= MIN_CLUSTERS and not still
    unchanged = sample and same_weights(arm, stored, ours, theirs)
    if unchanged:
        interval = dataclasses.replace(interval, estimate=0.0, low=0.0, high=0.0)
        decision = _nothing_changed(interval, max_increase)
    elif sample and np.ptp(ours - theirs) <= _ONE_SIZE:
        decision = _one_size(ours - theirs)
    else:
        moves = both.moves(arm, side)
        decision = decided(interval, max_increase, (), confidence=confidence, arms=(arm,), still=still, moves=moves)
    decision = guarded(decision, guards)
    advice = decision.advice
    if decision.verdict is Verdict.FAIL:
        advice = (
            "find what changed since (data, settings, packages); if it is meant, run pytest "
            "--fairtest-update-baseline for this test and commit the file"
        )
    if "seeds would decide" in advice and seeds == stored.seeds:
        advice += f"; the baseline has {seeds}, so record one of more seeds first"
    return GateResult(
        gate=GATE,
        metric=str(compared.ref),
        unit=definition.unit,
        protocol=compared.protocol,
        candidate=arm.name,
        reference=side.name,
        verdict=decision.verdict,
        reason=decision.reason,
        allowed=max_increase,
        confidence=confidence,
        change=estimate_of(interval),
        levels={one.name: both.level(one, confidence) for one in (arm, side)},
        target=definition.target,
        scope=_scope(arm, seeds),
        seeds=seeds,
        items=interval.items,
        clusters=interval.clusters,
        factors=interval.factors,
        finding="" if unchanged else finding(arm, stored, seeds),
        advice=advice,
        guards=tuple(guards),
        worst=() if unchanged else both.worst(arm, side),
        flips=() if unchanged else both.flips(arm, side),
        p_pass=None if unchanged else decision.p_pass,
        p_fail=None if unchanged else decision.p_fail,
        alpha=(1.0 - confidence) / 2.0,
    )


def _recorded(
    arm: Measured, metric: str, stored: BaselineEntry | None, max_increase: float, settings: Settings
) -> tuple[GateResult, BaselineEntry | None]:
    """(result, entry), where nothing is compared and the arm's values become the baseline; no entry where a guard or
    values without any difference stop it: such a model is no standard for another.
    """
    compared = compare(metric, arm)
    guards = guards_of(arm, (), settings, compared.scores)
    entry = entry_from(arm, compared, settings)
    reason = "no earlier value to compare with: recorded as the baseline"
    if stored is not None:
        reason = f"recorded as the baseline in the place of that of {stored.date}: {stored.text()} -> {entry.text()}"
    still = compared.stillness(arm)
    decision = guarded(Decision(Verdict.UNDECIDED, f"not recorded: {still}" if still else reason), guards)
    blocked = bool(still) or any(not guard.met for guard in guards)
    definition = compared.ref.metric
    result = GateResult(
        gate=GATE,
        metric=str(compared.ref),
        unit=definition.unit,
        protocol=compared.protocol,
        candidate=arm.name,
        reference="",
        verdict=Verdict.UNDECIDED,
        reason=decision.reason,
        allowed=max_increase,
        confidence=settings.confidence,
        levels={arm.name: entry.estimate},
        target=definition.target,
        scope=_scope(arm, entry.seeds),
        seeds=entry.seeds,
        items=entry.items,
        clusters=int(min(len(np.unique(labels)) for labels in np.atleast_2d(compared.clusters))),
        advice=decision.advice if blocked else "commit the file: later models are compared with it",
        guards=tuple(guards),
        recorded=not blocked,
    )
    return result, None if blocked else entry


def _nothing_changed(interval: Interval, allowed: float) -> Decision:
    verdict, _ = decide(estimate_of(interval), allowed)
    reason = "the same weights as the baseline: nothing changed"
    if verdict is Verdict.FAIL:
        reason += f", and a decrease of at least {-allowed:g} was asked for"
    return Decision(verdict, reason)


def _one_size(change: Values) -> Decision:
    reason = "the change is the same on every item and seed, so nothing says how sure it is"
    if not change.any():
        reason = "no preference flipped, though the weights differ: it is too coarse to show a change"
    return Decision(
        Verdict.UNDECIDED, reason, "use a metric that moves (a mean log ratio where a preference is saturated)"
    )


def _scope(arm: Measured, seeds: int) -> str:
    return "training" if arm.tuned and seeds > 1 else "this checkpoint only"
