"""What a report keeps of the diagnoses of one arm, where it was diagnosed by more than one grouping."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def joined(known: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """An arm's record with what a further diagnosis (`Diagnosis.as_dict`) adds: a series of the same quantity by the
    same groups takes the old one's place, and nothing else is lost.
    """
    if not new.get("diagnostics"):
        return dict(known)
    series = {(one["name"], one.get("by", "")): one for one in (*known.get("diagnostics", ()), *new["diagnostics"])}
    notes = dict.fromkeys((*known.get("diagnostics_notes", ()), *new["diagnostics_notes"]))
    findings = dict.fromkeys((*known.get("diagnostics_findings", ()), *new["diagnostics_findings"]))
    return {
        **known,
        "diagnostics": list(series.values()),
        "diagnostics_notes": list(notes),
        "diagnostics_note": " ".join(notes),
        "diagnostics_findings": list(findings),
    }
