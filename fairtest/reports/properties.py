"""Gates as properties of a test, for JUnit XML and whatever reads it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from fairtest.reports.reading import showable

_FIELDS = (
    "gate",
    "metric",
    "protocol",
    "candidate",
    "reference",
    "verdict",
    "unit",
    "allowed",
    "reason",
    "seeds",
    "items",
)


def properties(gates: Iterable[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """(name, value) pairs of one test's gates, `fairtest.1.verdict` and so on; what a gate lacks is left out."""
    pairs = []
    for place, gate in enumerate(gates, start=1):
        change = gate["change"] or {}
        values = {name: gate[name] for name in _FIELDS}
        values |= {name: change.get(name) for name in ("value", "low", "high")}
        pairs += [
            (f"fairtest.{place}.{name}", str(showable(value) if isinstance(value, str) else value))
            for name, value in values.items()
            if value not in {None, ""}
        ]
    return pairs
