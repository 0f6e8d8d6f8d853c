"""Verdicts of fairtest and of other rules on the same simulated experiments."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal
from zlib import crc32

import numpy as np
from _calibration_rows import Row
from _calibration_worlds import Values, World

from fairtest.statistics.bootstrap import bootstrap_interval
from fairtest.statistics.intervals import amplification_interval, distance_interval
from fairtest.statistics.sequential import Look

Verdict = Literal["PASS", "FAIL", "UNDECIDED"]
FAIRTEST = "fairtest"
BOOTSTRAP = "crossed bootstrap"
CONFIDENCE = 0.95
RESAMPLES = 500
BOOTSTRAPS = 400  # experiments at most: it is slow with many clusters


@dataclass(frozen=True)
class Judged:
    """A verdict, and the interval it rests on if there is one."""

    verdict: Verdict
    low: float | None = None
    high: float | None = None


def from_interval(low: float, high: float, allowed: float) -> Judged:
    """fairtest's verdict: PASS, FAIL only where the whole interval is on one side."""
    verdict: Verdict = "PASS" if high <= allowed else "FAIL" if low > allowed else "UNDECIDED"
    return Judged(verdict, low, high)


def fairtest(ours: Values, theirs: Values, world: World, confidence: float = CONFIDENCE) -> Judged:
    interval = amplification_interval(ours, theirs, world.clusters, world.target, confidence=confidence)
    return from_interval(interval.low, interval.high, world.allowed)


def bootstrapped(ours: Values, theirs: Values, world: World) -> Judged:
    low, high = bootstrap_interval(
        ours,
        theirs,
        world.clusters,
        world.target,
        confidence=CONFIDENCE,
        resamples=RESAMPLES,
        rng_seed=crc32(ours.tobytes()),
    )
    return from_interval(low, high, world.allowed)


def items_alone(ours: Values, theirs: Values, world: World) -> Judged:
    """The same interval with seeds averaged and every item a cluster: paired items, as one checkpoint is tested."""
    means = (side.mean(axis=0, keepdims=True) for side in (ours, theirs))
    interval = amplification_interval(*means, None, world.target, confidence=CONFIDENCE)
    return from_interval(interval.low, interval.high, world.allowed)


def no_overlap(ours: Values, theirs: Values, world: World) -> Judged:
    """FAIL where each arm's own interval is apart from the other's, PASS where they overlap."""
    mine, other = (
        distance_interval(side, world.clusters, world.target, confidence=CONFIDENCE) for side in (ours, theirs)
    )
    return Judged("FAIL" if mine.low > other.high else "PASS")


def bare(ours: Values, theirs: Values, world: World) -> Judged:
    return Judged("FAIL" if _change(ours, theirs, world) > 0.0 else "PASS")


def beyond_threshold(ours: Values, theirs: Values, world: World) -> Judged:
    return Judged("FAIL" if _change(ours, theirs, world) > world.allowed else "PASS")


def _change(ours: Values, theirs: Values, world: World) -> float:
    return float(abs(ours.mean() - world.target) - abs(theirs.mean() - world.target))


RULES: Mapping[str, Callable[[Values, Values, World], Judged]] = {
    FAIRTEST: fairtest,
    "candidate > baseline": bare,
    "more than allowed": beyond_threshold,
    "intervals do not overlap": no_overlap,
    "items alone": items_alone,
    BOOTSTRAP: bootstrapped,
}


def world_rows(world: World, seeds: int, repeats: int, others: int, rules: Sequence[str] = tuple(RULES)) -> list[Row]:
    """One row a rule. All rules see the same experiments, those that are not fairtest's the first `others` of them."""
    rng = np.random.default_rng([seeds, *map(ord, world.name)])
    effect = world.detectable(seeds)
    changes = (0.0, world.allowed, world.allowed + effect)
    rows = {name: Row(world.name, name, str(seeds)) for name in rules}
    rows[FAIRTEST].note = f"allowed {world.allowed:g}, minimum detectable {effect:.3g} more"
    for repeat in range(repeats):
        latent = world.latent(rng, seeds)
        sides = [world.observed(latent, world.candidate_at(change)) for change in changes]
        for name, row in rows.items():
            if repeat >= {FAIRTEST: repeats, BOOTSTRAP: min(others, BOOTSTRAPS)}.get(name, others):
                continue
            for index, change in enumerate(changes):
                judged = RULES[name](*sides[index], world)
                count(row, judged, index, change)
    return list(rows.values())


def count(row: Row, judged: Judged, condition: int, truth: float) -> None:
    """Enters a verdict under condition 0 (unchanged), 1 (at the boundary) or 2 (detectable)."""
    if condition == 0:
        row.unchanged.count(judged.verdict == "FAIL")
    elif condition == 1:
        row.false_fail.count(judged.verdict == "FAIL")
        row.false_pass.count(judged.verdict == "PASS")
        if judged.low is not None and judged.high is not None:
            row.covered.count(judged.low <= truth <= judged.high)
    else:
        row.power.count(judged.verdict == "FAIL")


def adaptive(ours: Values, theirs: Values, world: World, plan: Sequence[Look]) -> tuple[Judged, Look]:
    """The verdict at the first look that decides, or the last; with that look."""
    for look in plan:
        judged = fairtest(ours[: look.seeds], theirs[: look.seeds], world, look.confidence(CONFIDENCE))
        if judged.verdict != "UNDECIDED":
            break
    return judged, look
