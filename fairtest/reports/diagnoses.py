"""What training did to groups of units (`fairness.diagnose`), as rows and sentences of a report.

An arm of a result document may have `diagnostics`, a list of {"name", "unit", "by", "groups": {group: [[step, value],
...]}, "covered_by_epsilon"}; `diagnostics_note`, which says what was looked at and how; and `diagnostics_findings`,
what it says in words.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from fairtest.gates.messages import number
from fairtest.reports.sections import Table

HEADING = "Gradients by group"
NOT_FOR_RELEASE = "Not for release"
Arms = Mapping[str, Mapping[str, Any]]


def diagnosed(arms: Arms) -> dict[str, Sequence[Mapping[str, Any]]]:
    """The series of each arm that has any."""
    return {name: arm["diagnostics"] for name, arm in arms.items() if arm.get("diagnostics")}


def axis(series: Mapping[str, Any]) -> str:
    """A quantity with its unit."""
    return ", ".join(filter(None, (series["name"], series.get("unit", ""))))


def title(series: Mapping[str, Any], arm: Mapping[str, Any]) -> str:
    """A quantity, with what told the groups apart where the arm was diagnosed by more than one."""
    several = len({one.get("by", "") for one in arm["diagnostics"]}) > 1
    return f"{series['name']} by {series['by']}" if several and series.get("by") else str(series["name"])


def findings(arm: Mapping[str, Any]) -> Sequence[str]:
    """What an arm's diagnoses say in words; none in a document made before they were kept."""
    found: Sequence[str] = arm.get("diagnostics_findings") or ()
    return found


def kept_back(arm: Mapping[str, Any]) -> str:
    """What of an arm's diagnostics no epsilon covers, which is all that is not said to be covered; "" where that is
    nothing.
    """
    series = arm["diagnostics"]
    names = [one["name"] for one in series if not one.get("covered_by_epsilon", False)]
    if not names:
        return ""
    return "no epsilon covers any of it" if len(names) == len(series) else f"no epsilon covers {', '.join(names)}"


def table_of(arms: Arms) -> Table:
    """The first and the last value of every group."""
    rows = []
    for name, found in diagnosed(arms).items():
        for one in found:
            for group, points in one["groups"].items():
                kept = [(step, value) for step, value in points if math.isfinite(value)]
                if kept:
                    rows.append(
                        (name, axis({**one, "name": title(one, arms[name])}), group, _at(*kept[0]), _at(*kept[-1]))
                    )
    return Table("Groups of units under training.", ("arm", "quantity", "group", "first", "last"), rows)


def _at(step: float, value: float) -> str:
    return f"{number(value)} (step {step:g})"
