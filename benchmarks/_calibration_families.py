"""Adaptive seeds, and families of gates under Holm."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from _calibration_rows import Row
from _calibration_rules import CONFIDENCE, adaptive, count
from _calibration_worlds import Values, World

from fairtest.statistics.intervals import amplification_interval
from fairtest.statistics.planning import holm, one_sided_p
from fairtest.statistics.sequential import Look, looks, overall_p

PLAN = looks(3, 8)
_NAIVE = tuple(Look(look.seeds, 1.0, look.number, look.of) for look in PLAN)
_ALPHA = (1.0 - CONFIDENCE) / 2.0


def adaptive_rows(world: World, repeats: int) -> list[Row]:
    """Three, five or eight seeds, as many as it takes: with the error divided over the looks, and without."""
    rng = np.random.default_rng([38, *map(ord, world.name)])
    most = PLAN[-1].seeds
    effect = world.detectable(most, PLAN[-1].confidence(CONFIDENCE))
    changes = (0.0, world.allowed, world.allowed + effect)
    plans = {"fairtest, adaptive seeds": PLAN, "the 95% interval at each look": _NAIVE}
    rows = {name: Row(world.name, name, f"{PLAN[0].seeds}-{most}") for name in plans}
    used: dict[str, list[list[int]]] = {name: [[], [], []] for name in plans}
    for _ in range(repeats):
        latent = world.latent(rng, most)
        for index, change in enumerate(changes):
            sides = world.observed(latent, world.candidate_at(change))
            for name, plan in plans.items():
                judged, look = adaptive(*sides, world, plan)
                count(rows[name], judged, index, change)
                used[name][index].append(look.seeds)
    for name, row in rows.items():
        means = "/".join(f"{np.mean(seeds):.1f}" for seeds in used[name])
        row.note = f"minimum detectable {effect:.3g} more; seeds used {means}"
    return list(rows.values())


def family_rows(gate: World, gates: int, repeats: int) -> list[Row]:
    """Any wrong FAIL, any wrong PASS among gates whose true change is what is allowed; the seeds of a repetition move
    all of its gates alike (half of the seeds' variance), and their items are their own.
    """
    rng = np.random.default_rng([gates, 8])
    case = f"{gates} gates at the boundary" + (f", {gate.name}" if gate.name else "")
    names = ("each gate alone", "Holm", "adaptive, each gate alone", "adaptive, Holm")
    rows = [
        Row(case, name, seeds, note="FAIL, PASS: any of them")
        for name, seeds in zip(names, ("3", "3", "3-8", "3-8"), strict=True)
    ]
    for _ in range(repeats):
        shared = gate.parts.seed * rng.normal(size=(2, PLAN[-1].seeds, 1))
        sides = [_at_boundary(gate, rng, shared) for _ in range(gates)]
        fixed = [p_values(*side, gate, PLAN[:1]) for side in sides]
        moving = [p_values(*side, gate, PLAN) for side in sides]
        for (alone, corrected), found in ((rows[:2], fixed), (rows[2:], moving)):
            for kind in (0, 1):
                p = [pair[kind] for pair in found]
                for row, values in ((alone, p), (corrected, holm(p))):
                    rate = row.false_pass if kind else row.false_fail
                    rate.count(min(values) < _ALPHA)
    return rows


def p_values(ours: Values, theirs: Values, gate: World, plan: Sequence[Look]) -> tuple[float, float]:
    """(p of "beyond the allowed", p of "within it") at the look where the gate stops; one look of a longer plan is
    taken as the whole.
    """
    for look in plan:
        interval = amplification_interval(ours[: look.seeds], theirs[: look.seeds], gate.clusters, gate.target)
        beyond, within = (one_sided_p(interval, gate.allowed, alternative=way) for way in ("greater", "less"))
        if len(plan) == 1:
            return beyond, within
        if min(beyond, within) < look.share * _ALPHA:
            break
    return overall_p(beyond, look), overall_p(within, look)


def _at_boundary(gate: World, rng: np.random.Generator, shared: Values) -> tuple[Values, Values]:
    return gate.observed(gate.latent(rng, PLAN[-1].seeds) + shared, gate.candidate_at(gate.allowed))
