"""The summary at the end of a test session: one row a gate, at any width, with or without colour."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fairtest.gates.family import weakened
from fairtest.gates.messages import SIGNED, number, signed_number
from fairtest.gates.result import Estimate

_HEADER = ("verdict", "measured", "allowed", "gate")


def estimate_text(value: Mapping[str, Any] | None, *, sign: bool = False) -> str:
    """An estimate of the result document for a person; "-" where there is none."""
    if value is None:
        return "-"
    low, middle, high = (float(value[key]) for key in ("low", "value", "high"))
    if low == middle == high:
        return number(middle)
    return Estimate(middle, low, high).text(sign=sign)


def gate_name(gate: Mapping[str, Any]) -> tuple[str, str]:
    """(what is measured, on which arms)."""
    if gate["gate"] == "privacy":
        return ", ".join(filter(None, ("epsilon", str(gate["unit"])))), str(gate["candidate"])
    what = "perplexity ratio" if gate["metric"] == "perplexity" else f"{gate['metric']}, {gate['unit']}"
    if gate["gate"] == "bias_within":
        return f"distance from {gate['target']:g} of {what}", str(gate["candidate"])
    if gate.get("recorded"):
        return f"{what}: recorded", str(gate["candidate"])
    return what, f"{gate['candidate']} against {gate['reference']}"


def summary_rows(gates: Iterable[Mapping[str, Any]], width: int) -> list[tuple[str, str]]:
    """(verdict or "", line) of a table that fits into `width` columns; the arms go on a line of their own where it is
    narrow.
    """
    rows = []
    for gate in gates:
        signed = gate["gate"] in SIGNED
        allowed = (signed_number if signed else number)(float(gate["allowed"]))
        rows.append((_verdict(gate), estimate_text(gate["change"], sign=signed), allowed, *gate_name(gate)))
    first = max([len(_HEADER[0]), *(len(row[0]) for row in rows)])
    second = max([len(_HEADER[1]), *(len(row[1]) for row in rows)])
    third = max([len(_HEADER[2]), *(len(row[2]) for row in rows)])
    lead = first + second + third + 6
    lines = [("", f"{_HEADER[0]:<{first}}  {_HEADER[1]:<{second}}  {_HEADER[2]:>{third}}  {_HEADER[3]}")]
    for shown, measured, allowed, what, arms in rows:
        verdict = shown.rstrip("*")
        head = f"{shown:<{first}}  {measured:<{second}}  {allowed:>{third}}  "
        if lead + len(what) + 2 + len(arms) <= width:
            lines.append((verdict, f"{head}{arms}: {what}"))
        elif lead + max(len(what), len(arms)) <= width:
            lines += [(verdict, head + arms), ("", " " * lead + what)]
        else:
            lines += [(verdict, head.rstrip()), ("", f"    {arms}"), ("", f"    {what}")]
    return lines


def _verdict(gate: Mapping[str, Any]) -> str:
    """The gate's own verdict; a star where it does not hold in the family of all gates."""
    return f"{gate['verdict']}{'*' if weakened([gate]) else ''}"


def family_note(gates: Sequence[Mapping[str, Any]]) -> str:
    """What holds of all verdicts together; "" for a single gate."""
    sizes = [gate["family"]["size"] for gate in gates if gate.get("family")]
    if not sizes or sizes[0] < 2:
        return ""
    lost = weakened(gates)
    if not lost:
        return f"note: each verdict also holds in the family of {sizes[0]} gates (Holm)"
    return (
        f"note: * {_count(len(lost), 'verdict')} that would not hold in the family of {sizes[0]} gates (Holm): "
        "so many gates err somewhere by chance"
    )


def notes(gates: Sequence[Mapping[str, Any]]) -> list[str]:
    """What limits a verdict, one line each: what holds in the family of all gates, what a privacy claim does not say,
    and gates that rest on one seed.
    """
    first = family_note(gates)
    limits: dict[str, list[str]] = {}
    for gate in gates:
        if gate["gate"] == "privacy" and gate["finding"]:
            limits.setdefault(str(gate["finding"]), []).append(str(gate["candidate"]))
        elif gate["items"] and gate["seeds"] == 1:
            limit = "one seed, so the verdict is about this checkpoint only and not about training"
            limits.setdefault(limit, []).append(gate_name(gate)[1])
    return [first] * bool(first) + [
        f"note: {', '.join(dict.fromkeys(arms))}: {limit}" for limit, arms in limits.items()
    ]


def explanation_notes(explanations: Iterable[Mapping[str, Any]]) -> list[str]:
    """What each amplification is made of, one line each."""
    return [
        f"made of: {one['candidate']} against {one['reference']}, {one['metric']}"
        f" {estimate_text(one['total'], sign=True)} {one['unit']}: "
        + ", ".join(f"{part['name']} {estimate_text(part, sign=True)} ({part['says']})" for part in _divided(one))
        for one in explanations
    ]


def _divided(explanation: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The parts that a total is divided into."""
    return [part for part in explanation["parts"] if part["kind"] != "beside"]


def totals(summary: Mapping[str, Any]) -> str:
    """One line: how many gates of each verdict, what was trained, what came from the store."""
    counts = ", ".join(f"{summary[name]} {name}" for name in ("PASS", "FAIL", "UNDECIDED") if summary[name])
    parts = [f"{_count(summary['gates'], 'gate')}: {counts}"] if summary["gates"] else ["no gates"]
    if summary.get("failed_otherwise"):
        parts.append(
            f"{_count(summary['failed_otherwise'], 'test')} that asked for a verdict FAILED for another reason"
        )
    if summary["runs_trained"]:
        parts.append(f"{_count(summary['runs_trained'], 'run')} trained ({summary['training_seconds']:.0f} s)")
    if summary["runs_from_store"]:
        parts.append(f"{_count(summary['runs_from_store'], 'run')} from the store")
    return "; ".join(parts)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
