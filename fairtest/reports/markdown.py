"""The result document as Markdown, for a pull request or a file in a repository."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fairtest.gates.messages import SIGNED, flips, number
from fairtest.gates.result import Flips
from fairtest.reports import diagnoses, explanations, sections
from fairtest.reports.terminal import estimate_text, gate_name, totals


def escape(text: object) -> str:
    """Text that Markdown, in a table cell too, shows as it is."""
    escaped = html.escape(str(text), quote=False).replace("|", "\\|").replace("\n", " ")
    for character in "`*_[]$~":
        escaped = escaped.replace(character, "\\" + character)
    return escaped


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """A Markdown table, cells escaped."""
    lines = ["| " + " | ".join(header) + " |", "|" + " --- |" * len(header)]
    lines += ["| " + " | ".join(escape(cell) for cell in row) + " |" for row in rows]
    return lines


def render(document: Mapping[str, Any], *, title: str = "fairtest report", command: str = "") -> str:
    """The whole report as Markdown."""
    lines = [f"# {title}", "", totals(document["summary"]) + ".", ""]
    if command:
        lines += ["Made by:", "", f"    {command}", ""]
    for test in document.get("failed_otherwise", ()):
        lines += [f"**Failed for another reason than a gate:** {escape(test)}", ""]
    lines += _in_short(document["gates"])
    lines += _gates(document["gates"])
    lines += _explanations(explanations.of_document(document))
    lines += _measurements(document["measurements"])
    lines += _arms(document["arms"])
    lines += _diagnoses(document["arms"])
    lines += _privacy(document["arms"])
    lines += _environment(document)
    return "\n".join(lines).rstrip() + "\n"


def _in_short(gates: Sequence[Mapping[str, Any]]) -> list[str]:
    """What is decided and what is not, in words."""
    lines: list[str] = []
    for verdict, heading in (("FAIL", "Does not hold"), ("PASS", "Holds"), ("UNDECIDED", "Not decided by this data")):
        chosen = [gate for gate in gates if gate["verdict"] == verdict]
        if chosen:
            lines += [f"**{heading}** ({len(chosen)} of {len(gates)}):", ""]
            lines += [f"- {escape(sections.sentence(gate))}" for gate in chosen]
            lines.append("")
    return ["## In short", "", *lines] if lines else []


_GATE_COLUMNS = ("verdict", "in the family", "measured", "arms", "value and interval", "allowed", "why")


def _in_family(gate: Mapping[str, Any]) -> str:
    """The verdict after Holm's correction over all gates of the session."""
    family = gate.get("family")
    return "-" if not family else f"{family['verdict']} (p {number(family['p'])}, {family['size']} gates)"


def _gates(gates: Sequence[Mapping[str, Any]]) -> list[str]:
    if not gates:
        return []
    rows = []
    for gate in gates:
        signed = gate["gate"] in SIGNED
        what, arms = gate_name(gate)
        rows.append(
            (
                gate["verdict"],
                _in_family(gate),
                what,
                arms,
                estimate_text(gate["change"], sign=signed),
                number(gate["allowed"]),
                gate["reason"],
            )
        )
    lines = ["## Gates", "", *table(_GATE_COLUMNS, rows), ""]
    lines += ["### What each verdict rests on", ""]
    for gate in gates:
        what, arms = gate_name(gate)
        lines.append(f"**{escape(gate['verdict'])}** {escape(arms)}, {escape(what)}")
        lines.append("")
        if gate["items"]:
            seeds = "1 seed (this checkpoint only)" if gate["seeds"] == 1 else f"{gate['seeds']} paired seeds"
            clusters = " x ".join(map(str, gate.get("factors") or (gate["clusters"],)))
            lines.append(
                f"- {100 * gate['confidence']:g}% interval over {seeds} x {gate['items']} items "
                f"in {clusters} clusters; protocol {escape(gate['protocol'])}"
            )
        if gate.get("look"):
            lines.append(f"- {escape(gate['look'])}")
        if gate.get("flips"):
            lines.append(f"- flips: {escape(flips([Flips(**row) for row in gate['flips']]))}")
        if gate["levels"]:
            levels = "; ".join(
                f"{escape(name)} {escape(estimate_text(value))}" for name, value in gate["levels"].items()
            )
            target = "" if gate["target"] is None else f" (target {gate['target']:g})"
            lines.append(f"- levels{target}: {levels}")
        lines += [f"- {escape(gate[key])}" for key in ("finding", "advice") if gate[key]]
        unmet = [guard for guard in gate["guards"] if not guard["met"]]
        lines += [f"- guard **not met**: {escape(guard['name'])}; {escape(guard['detail'])}" for guard in unmet]
        if gate["guards"] and not unmet:
            lines.append("- every guard is met")
        lines.append("")
    return lines + _guards(gates)


def _guards(gates: Sequence[Mapping[str, Any]]) -> list[str]:
    """Each guard once, however many gates it stands before."""
    unique = dict.fromkeys((guard["name"], guard["met"], guard["detail"]) for gate in gates for guard in gate["guards"])
    if not unique:
        return []
    rows = [(name, "met" if met else "NOT MET", detail) for name, met, detail in unique]
    return ["### Guards", "", *table(("guard", "", "on what it rests"), rows), ""]


def _explanations(found: Sequence[Mapping[str, Any]]) -> list[str]:
    """Of each amplification that was taken apart: its parts, and what they say."""
    lines: list[str] = []
    for one in found:
        parts = explanations.parts_table(one)
        lines += [
            f"### {escape(explanations.name(one))}",
            "",
            *table([escape(cell) for cell in parts.header], parts.rows),
        ]
        lines += ["", *(f"- {escape(sentence)}" for sentence in one["sentences"]), ""]
    return [f"## {explanations.HEADING}", "", *lines] if lines else []


def _measurements(measurements: Sequence[Mapping[str, Any]]) -> list[str]:
    if not measurements:
        return []
    metrics = list(dict.fromkeys(row["metric"] for row in measurements))
    arms = list(dict.fromkeys(row["arm"] for row in measurements))
    cells = {(row["arm"], row["metric"]): row for row in measurements}
    rows = []
    for arm in arms:
        shown = [estimate_text(cells[arm, metric]) if (arm, metric) in cells else "" for metric in metrics]
        seeds = max(row["seeds"] for row in measurements if row["arm"] == arm)
        rows.append((arm, seeds, *shown))
    return [
        "## Measurements",
        "",
        "Values with their interval over seeds and items (items alone where there is one seed).",
        "",
        *table(("arm", "seeds", *(escape(metric) for metric in metrics)), rows),
        "",
    ]


def _arms(arms: Mapping[str, Mapping[str, Any]]) -> list[str]:
    shown = sections.arms_table(arms)
    if not shown.rows:
        return []
    note = []
    if any(row[shown.header.index("clipped")] != "-" for row in shown.rows):
        note = ["The clipped share is read off private records and not covered by epsilon: not for release.", ""]
    return ["## Arms", "", *table(shown.header, shown.rows), "", *note]


def _diagnoses(arms: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Of each arm that was diagnosed: where its groups began and ended, and what was looked at."""
    shown = diagnoses.table_of(arms)
    if not shown.rows:
        return []
    lines = [f"## {diagnoses.HEADING}", "", *table(shown.header, shown.rows), ""]
    for name in diagnoses.diagnosed(arms):
        kept_back, note = diagnoses.kept_back(arms[name]), arms[name].get("diagnostics_note", "")
        warning = f"**{diagnoses.NOT_FOR_RELEASE}:** {escape(kept_back)}." if kept_back else ""
        lines += [" ".join(filter(None, (f"{escape(name)}:", warning, escape(note)))), ""]
        if found := diagnoses.findings(arms[name]):
            lines += [*(f"- {escape(finding)}" for finding in found), ""]
    return lines


def _privacy(arms: Mapping[str, Mapping[str, Any]]) -> list[str]:
    lines: list[str] = []
    for name, arm in arms.items():
        if arm.get("privacy"):
            lines += [f"**{escape(name)}**: {escape(arm['privacy'])}", ""]
    return ["## Privacy statements", "", *lines] if lines else []


def _environment(document: Mapping[str, Any]) -> list[str]:
    environment = document["environment"]
    packages = ", ".join(f"{name} {version}" for name, version in environment["packages"].items())
    settings = ", ".join(f"{name} = {value!r}" for name, value in sections.changed_settings(document).items())
    lines = ["## How to repeat it", ""]
    lines += [f"- {escape(text)}" for text in sections.data_lines(document["arms"])]
    if settings:
        lines.append(f"- settings: {escape(settings)}; all others are defaults")
    lines.append(
        f"- made {document['made_at']} on Python {environment['python']}, {environment['cpus']} CPUs; {packages}"
    )
    return [*lines, ""]
