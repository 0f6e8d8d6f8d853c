"""Gates that are planned, made up."""

from __future__ import annotations

from fairtest.gates.planning.planned_gate import (
    PlannedGate,
)
from fairtest.statistics.components import Contrast


def gate_of(*, allowed=2.0, seeds=(5,), spread=None, **fields):
    spread = Contrast(0.0, 5, 1.0, 0.5, 0.0, 200.0) if spread is None else spread
    known = {
        "gate": "no_amplification",
        "metric": "m",
        "unit": "points",
        "candidate": "dp",
        "reference": "baseline",
        "confidence": 0.95,
        "items": 500,
        "factors": (201,),
        "looks": seeds,
        "spread": spread,
        "basis": "made up",
    }
    return PlannedGate(allowed=allowed, **{**known, **fields})
