"""A report on GitHub: a short page for the summary of a job, and annotations of what failed.

GitHub takes at most 1 MiB of summary from a step and shows ten annotations of one; both are kept, and what is left out
is counted.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fairtest.errors import StoreError
from fairtest.reports import sections
from fairtest.reports.markdown import escape, table
from fairtest.reports.reading import showable
from fairtest.reports.terminal import gate_name, totals

SUMMARY_LIMIT = 1024 * 1024
MOST_ANNOTATIONS = 9
STEP_SUMMARY = "GITHUB_STEP_SUMMARY"
_MARKS = {"PASS": "🟢", "FAIL": "🔴", "UNDECIDED": "🟡"}
_LONGEST_CELL = 300
_LONGEST_MESSAGE = 2000
_EXPECTED = frozenset({"xfailed", "skipped"})
_ROOM = 200  # for the line that says how much was left out


def summary(document: Mapping[str, Any], *, title: str = "fairtest", limit: int = SUMMARY_LIMIT) -> str:
    """The short form of a report as Markdown of at most `limit` bytes: verdict, one row a gate (what does not hold
    first), and the numbers of each privacy statement.
    """
    document = showable(document)
    gates = sections.numbered(document["gates"])
    ordered = [one for verdict in sections.VERDICTS for one in gates if one[1]["verdict"] == verdict]
    head = [f"## {escape(showable(title))}: {sections.headline(document['summary'])}", ""]
    head += [f"{escape(totals(document['summary']))}.", ""]
    head += [
        f"**Failed for another reason than a gate:** {_cell(test)}\n" for test in document.get("failed_otherwise", ())
    ]
    header, rows = _table(ordered)
    tail = [f"- {_cell(text)}" for text in sections.limits(document["gates"])]
    private = sections.privacy_table(document["arms"])
    if private.rows:
        tail += ["", *table(private.header, [tuple(map(_cut, row)) for row in private.rows])]
    return _fitted(head, header, rows, ["", *tail], limit)


def append_summary(
    document: Mapping[str, Any], environ: Mapping[str, str] | None = None, *, title: str = "fairtest"
) -> bool:
    """Appends the short form to the file that GitHub names in GITHUB_STEP_SUMMARY; False where it names none, or the
    file has no room left.

    Raises:
        StoreError: the file cannot be written.
    """
    named = (os.environ if environ is None else environ).get(STEP_SUMMARY)
    if not named:
        return False
    path = Path(named)
    try:
        written = path.stat().st_size if path.exists() else 0
        room = SUMMARY_LIMIT - written - 2
        if room < 4 * _ROOM:
            return False
        with path.open("a", encoding="utf-8") as file:
            file.write("\n" * bool(written) + summary(document, title=title, limit=room))
    except OSError as error:
        raise StoreError(
            f"the summary of the job cannot be written: {error.strerror or error}",
            where=f"{STEP_SUMMARY}={named}",
            fix="unset the variable outside GitHub Actions",
        ) from error
    return True


def workflow_commands(document: Mapping[str, Any], *, most: int = MOST_ANNOTATIONS) -> list[str]:
    """Workflow commands for what does not hold, at most `most` and one line for the rest.

    A gate's `location` [file, line] places it, else its test's file does; one whose test was expected to fail
    (`outcome` "xfailed") is told by pytest alone.
    """
    document = showable(document)
    failed = [gate for gate in document["gates"] if gate["verdict"] == "FAIL" and gate.get("outcome") not in _EXPECTED]
    undecided = [
        gate for gate in document["gates"] if gate["verdict"] == "UNDECIDED" and gate.get("outcome") == "failed"
    ]
    lines = [
        _annotation(*_location(gate), title=f"fairtest: a gate {what}", message=_message(gate))
        for what, gates in (("does not hold", failed), ("is not decided, which fails its test", undecided))
        for gate in gates
    ]
    lines += [
        _annotation(
            str(test).partition("::")[0], None, title="fairtest: a test without a verdict", message=f"{test} failed"
        )
        for test in document.get("failed_otherwise", ())
    ]
    if len(lines) > most:
        more = len(lines) - most
        rest = _annotation("", None, title="fairtest", message=f"{more} more: see the summary of the job")
        return [*lines[:most], rest]
    return lines


def _message(gate: Mapping[str, Any]) -> str:
    return "\n".join(filter(None, (sections.sentence(gate), gate["reason"], gate["advice"])))[:_LONGEST_MESSAGE]


def _location(gate: Mapping[str, Any]) -> tuple[str, int | None]:
    place = gate.get("location")
    if place:
        return str(place[0]), int(place[1])
    return str(gate.get("test", "")).partition("::")[0], None


def _annotation(file: str, line: int | None, *, title: str, message: str) -> str:
    named = {"file": file, "line": "" if line is None else str(line), "title": title}
    properties = ",".join(f"{key}={_property(value)}" for key, value in named.items() if value)
    return f"::error {properties}::{_data(message)}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


def _table(gates: Sequence[sections.Numbered]) -> tuple[list[str], list[str]]:
    rows = []
    for place, gate in gates:
        what, arms = gate_name(gate)
        family = gate.get("family")
        weak = "" if not family or family["verdict"] == gate["verdict"] else f" (in the family: {family['verdict']})"
        verdict = f"{_MARKS.get(gate['verdict'], '')} {gate['verdict']}{weak}"
        cells = (place, verdict, arms, what, sections.measured_text(gate), sections.allowed_text(gate), gate["reason"])
        rows.append(tuple(map(_cut, cells)))
    lines = table(("gate", "verdict", "arms", "measured", "value and interval", "allowed at most", "why"), rows)
    return lines[:2], lines[2:]


def _cell(text: object) -> str:
    return escape(_cut(text))


def _cut(text: object) -> str:
    shown = str(text)
    return shown if len(shown) <= _LONGEST_CELL else f"{shown[:_LONGEST_CELL]}…"


def _fitted(head: list[str], header: list[str], rows: list[str], tail: list[str], limit: int) -> str:
    """As many rows as fit; then the tail, if it fits too."""
    lines = [*head, *(header if rows else [])]
    left = limit - _ROOM - _bytes(lines)
    for place, row in enumerate(rows):
        left -= _bytes([row])
        if left < 0:
            return "\n".join([*lines, "", f"and {len(rows) - place} more gates: see the report"]) + "\n"
        lines.append(row)
    for line in tail:
        left -= _bytes([line])
        if left < 0:
            lines += ["", "more is in the report"]
            break
        lines.append(line)
    return "\n".join(lines).rstrip() + "\n"


def _bytes(lines: Sequence[str]) -> int:
    return sum(len(line.encode("utf-8")) + 1 for line in lines)
