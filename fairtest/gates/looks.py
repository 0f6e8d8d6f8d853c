"""Adaptive seeds: more are trained only while a gate is undecided, at an error rate that was fixed before."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from fairtest.experiments.arms import Measured
from fairtest.gates.decision import MIN_CLUSTERS
from fairtest.gates.result import GateResult, Verdict
from fairtest.settings import FIRST_LOOK, Settings
from fairtest.statistics.sequential import Look, looks, overall_p

Judge = Callable[[tuple[Measured, ...], Settings], GateResult]


def at_looks(judge: Judge, arms: tuple[Measured, ...], settings: Settings) -> GateResult:
    """The verdict of `judge` on these arms: at once where seeds are fixed, else at the first look that decides.

    Each look has more seeds and an interval of its own confidence, so that all looks together hold
    `settings.confidence` (fairtest.statistics.sequential). A guard that is refuted ends it too: an arm that did not
    train will not with another seed. One whose interval is merely wide is asked again with more seeds.
    """
    most = [arm.available_seeds for arm in arms if arm.available_seeds is not None]
    if not most:
        return judge(arms, settings)
    # Beside an arm that can have more seeds, one of so many as it has: they are paired as far as both go.
    fixed = [len(arm.identity) for arm in arms if arm.available_seeds is None and len(arm.identity) > 1]
    limit = min(most + fixed)
    if limit < FIRST_LOOK:
        return judge(_limited(arms, limit), settings)
    for look in looks(FIRST_LOOK, limit):
        limited = _limited(arms, look.seeds)
        result = _of_look(judge(limited, _at(settings, look)), look, settings)
        refuted = any(not guard.met and not guard.open for guard in result.guards)
        if result.verdict is not Verdict.UNDECIDED or refuted or result.clusters < MIN_CLUSTERS:
            break
    return result


def _limited(arms: tuple[Measured, ...], seeds: int) -> tuple[Measured, ...]:
    """The arms with so many seeds; one that has a single one stands for itself."""
    return tuple(arm if arm.available_seeds is None and len(arm.identity) == 1 else arm.limited(seeds) for arm in arms)


def _at(settings: Settings, look: Look) -> Settings:
    return dataclasses.replace(settings, confidence=look.confidence(settings.confidence))


def _of_look(result: GateResult, look: Look, settings: Settings) -> GateResult:
    return dataclasses.replace(
        result,
        look=f"{look.text()}; all looks together hold {100 * settings.confidence:g}%",
        p_pass=None if result.p_pass is None else overall_p(result.p_pass, look),
        p_fail=None if result.p_fail is None else overall_p(result.p_fail, look),
        alpha=(1.0 - settings.confidence) / 2.0,
    )
