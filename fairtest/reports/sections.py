"""What a report says, as rows and sentences that any page can lay out; nothing here knows of HTML."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fairtest.augmentation.coverage import NOT_ASKED_FOR
from fairtest.gates.family import weakened
from fairtest.gates.messages import SIGNED, flips, number, signed_number
from fairtest.gates.result import Flips
from fairtest.reports.terminal import estimate_text, family_note, gate_name, notes

VERDICTS = ("FAIL", "UNDECIDED", "PASS")
HEADINGS = {"FAIL": "Does not hold", "UNDECIDED": "Not decided by this data", "PASS": "Holds"}
PERPLEXITY = "perplexity"
Gate = Mapping[str, Any]
Numbered = tuple[int, Gate]


@dataclass(frozen=True)
class Badge:
    """A verdict in a cell."""

    verdict: str


@dataclass(frozen=True)
class Table:
    """A table with what it shows in one line. `heads`: the column whose cells name their row."""

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[Any]]
    heads: int = 0
    anchors: Sequence[str] = field(default=())


def numbered(gates: Iterable[Gate]) -> list[Numbered]:
    """Gates with the numbers that a report calls them by, in the order in which they were judged."""
    return list(enumerate(gates, start=1))


def allowed_text(gate: Gate) -> str:
    """What is allowed, with a sign where the change has one."""
    value = float(gate["allowed"])
    return signed_number(value) if gate["gate"] in SIGNED else number(value)


def measured_text(gate: Gate) -> str:
    """What was measured, with its interval."""
    return estimate_text(gate["change"], sign=gate["gate"] in SIGNED)


def headline(summary: Mapping[str, Any]) -> str:
    """How many gates hold, how many do not, and how many are not decided."""
    total = int(summary["gates"])
    if not total:
        return "No gate was judged"
    held, failed, open_ = (int(summary.get(name, 0)) for name in ("PASS", "FAIL", "UNDECIDED"))
    if held == total:
        return "The one gate holds" if total == 1 else f"All {total} gates hold"
    parts = [f"{held} of {total} gates {'holds' if held == 1 else 'hold'}"]
    if failed:
        parts.append(f"{failed} {'does' if failed == 1 else 'do'} not hold")
    if open_:
        parts.append(f"{open_} {'is' if open_ == 1 else 'are'} not decided")
    return ", ".join(parts)


def overall(summary: Mapping[str, Any]) -> str:
    """The verdict whose colour the headline has."""
    if summary.get("FAIL") or summary.get("failed_otherwise"):
        return "FAIL"
    return "PASS" if summary["gates"] and summary.get("PASS") == summary["gates"] else "UNDECIDED"


def sentence(gate: Gate) -> str:
    """A gate in one line: what, on which arms, how much, and how much is allowed."""
    what, arms = gate_name(gate)
    why = gate["reason"] if gate["blocked"] or (gate["gate"] == "privacy" and gate["verdict"] != "PASS") else ""
    text = f"{arms}, {what}: {measured_text(gate)}, allowed {allowed_text(gate)}"
    return "; ".join(filter(None, (text, why, gate["finding"] if gate["gate"] == "no_amplification" else "")))


def by_verdict(gates: Sequence[Numbered]) -> list[tuple[str, str, list[tuple[int, str]]]]:
    """(verdict, heading, numbered sentences), what does not hold first."""
    groups = []
    for verdict in VERDICTS:
        chosen = [(place, sentence(gate)) for place, gate in gates if gate["verdict"] == verdict]
        if chosen:
            groups.append((verdict, HEADINGS[verdict], chosen))
    return groups


def limits(gates: Sequence[Gate], *, by_number: bool = True) -> list[str]:
    """What limits the verdicts, without the words that mark a line of a terminal. `by_number`: gates are shown with
    their numbers, so that one may be told by it.
    """
    texts = [note.removeprefix("note: ") for note in notes(gates)]
    if texts and family_note(gates):
        lost = [str(place) for place, gate in numbered(gates) if gate in weakened(gates)]
        named = f"gate{'s' * (len(lost) > 1)} {', '.join(lost)}: " if lost and by_number else ""
        texts[0] = f"{named}{texts[0].removeprefix('* ')}"
        texts[0] = f"{texts[0][0].upper()}{texts[0][1:]}"
    return [f"{text}." for text in texts]


def gates_table(gates: Sequence[Numbered]) -> Table:
    """Every gate in one row."""
    rows = []
    for place, gate in gates:
        what, arms = gate_name(gate)
        family = gate.get("family")
        together = f"{family['verdict']} (p {number(family['p'])})" if family else "-"
        cells = (f"#{place}", Badge(gate["verdict"]), arms, what, measured_text(gate), allowed_text(gate), together)
        rows.append((*cells, gate["reason"]))
    header = ("#", "verdict", "arms", "measured", "value and interval", "allowed at most", "in the family", "why")
    return Table(
        "Every gate: its own verdict, and the one that holds in the family of all gates (Holm).",
        header,
        rows,
        anchors=[f"gate-{place}" for place, _ in gates],
    )


def basis_table(gates: Sequence[Numbered]) -> Table:
    """What each verdict rests on, and what to do about it."""
    rows = []
    for place, gate in gates:
        unmet = [f"guard not met: {guard['name']}; {guard['detail']}" for guard in gate["guards"] if not guard["met"]]
        shown = "; ".join(f"{name} {estimate_text(value)}" for name, value in gate["levels"].items())
        target = "" if gate["target"] is None or not shown else f" (target {gate['target']:g})"
        counted = [Flips(**row) for row in gate.get("flips") or ()]
        told = [*unmet, gate["finding"], gate["advice"], f"flips: {flips(counted)}" if counted else ""]
        rows.append(
            (f"#{place}", Badge(gate["verdict"]), _rests_on(gate), f"{shown}{target}", "; ".join(filter(None, told)))
        )
    header = ("#", "verdict", "rests on", "levels", "meaning and advice")
    return Table("What each verdict rests on.", header, rows)


def _rests_on(gate: Gate) -> str:
    if not gate["items"]:
        return str(gate["protocol"])
    seeds = "1 seed (this checkpoint only)" if gate["seeds"] == 1 else f"{gate['seeds']} paired seeds"
    clusters = " x ".join(map(str, gate.get("factors") or (gate["clusters"],)))
    text = (
        f"{100 * gate['confidence']:g}% interval over {seeds} x {gate['items']} items in {clusters} clusters;"
        f" {gate['protocol']}"
    )
    return f"{text}; {gate['look']}" if gate.get("look") else text


def worst_table(gates: Sequence[Numbered]) -> Table:
    """Items that moved furthest in the direction that a gate guards against."""
    rows = [
        (f"#{place}", gate_name(gate)[1], gate_name(gate)[0], item["id"], item["cluster"], f"{item['change']:+.2f}")
        for place, gate in gates
        for item in gate["worst"]
    ]
    return Table(
        "Items that moved furthest in the direction a gate guards against.",
        ("#", "arms", "measured", "item", "cluster", "change"),
        rows,
    )


def guards_table(gates: Sequence[Gate]) -> Table:
    """Each guard once, however many gates it stands before; those that are not met first."""
    unique = dict.fromkeys((guard["met"], guard["name"], guard["detail"]) for gate in gates for guard in gate["guards"])
    rows = [(name, "met" if met else "NOT MET", detail) for met, name, detail in sorted(unique, key=lambda row: row[0])]
    return Table("What has to hold before a comparison means anything.", ("guard", "met?", "on what it rests"), rows)


def privacy_table(arms: Mapping[str, Mapping[str, Any]]) -> Table:
    """The numbers of each privacy statement."""
    rows = []
    for name, arm in arms.items():
        stated = arm.get("statement")
        if stated:
            epsilon = "none" if stated["epsilon"] is None else number(stated["epsilon"])
            cells = (name, epsilon, f"{stated['delta']:.2g}", stated["unit"], f"{stated['units']:,}")
            mechanism = (f"{stated['sample_rate']:.4g}", stated["steps"], f"{stated['noise_multiplier']:.4g}")
            rows.append((*cells, *mechanism, f"{stated['max_grad_norm']:.4g}", stated["accountant"]))
    header = ("arm", "epsilon", "delta", "unit", "N", "q", "steps", "sigma", "C", "accountant")
    return Table("The numbers of each statement.", header, rows)


def levels_by_metric(document: Mapping[str, Any]) -> dict[str, dict[str, Mapping[str, Any]]]:
    """Metric -> arm -> level with interval: what was measured, and what gates compared."""
    found: dict[str, dict[str, Mapping[str, Any]]] = {}
    for row in document["measurements"]:
        found.setdefault(str(row["metric"]), {}).setdefault(str(row["arm"]), row)
    for gate in document["gates"]:
        for arm, level in gate["levels"].items():
            found.setdefault(str(gate["metric"]), {}).setdefault(str(arm), level)
    return found


def targets(gates: Iterable[Gate]) -> dict[str, float]:
    """Metric -> its target, of those that have one."""
    return {str(gate["metric"]): float(gate["target"]) for gate in gates if gate["target"] is not None}


def levels_table(levels: Mapping[str, Mapping[str, Mapping[str, Any]]], arms: Sequence[str], caption: str) -> Table:
    """A row a metric, a column an arm."""
    rows = [(metric, *(estimate_text(found.get(arm)) for arm in arms)) for metric, found in levels.items()]
    return Table(caption, ("metric", *arms), rows)


def arms_table(arms: Mapping[str, Mapping[str, Any]]) -> Table:
    """How each arm was trained."""
    rows = []
    for name, arm in arms.items():
        training = arm.get("training") or []
        if training:
            first = training[0]
            clipped = [row["mean_clipped_share"] for row in training if row.get("mean_clipped_share") is not None]
            counts = (name, len(training), first["steps"], first["units"], f"{first['trained_parameters']:,}")
            cut = "-" if first.get("cut_texts") is None else first["cut_texts"]
            share = f"{100 * sum(clipped) / len(clipped):.0f}%" if clipped else "-"
            seconds = f"{sum(row['seconds'] for row in training) / len(training):.1f}"
            rows.append((*counts, reached(first["coverage"]), cut, share, seconds))
    header = ("arm", "seeds", "steps", "units", "trained parameters", "records with a counterfactual", "texts cut")
    return Table("How each arm was trained.", (*header, "clipped", "s a seed"), rows)


def reached(coverage: Mapping[str, Any]) -> str:
    """How many records have a counterfactual; nothing where none was asked for."""
    if NOT_ASKED_FOR in coverage["unchanged_by_reason"]:
        return "-"
    return f"{coverage['changed']} of {coverage['records']}"


def data_lines(arms: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Model and corpus, each once."""
    described: list[Mapping[str, Any]] = []
    for arm in arms.values():
        if arm.get("data") and arm["data"] not in described:
            described.append(arm["data"])
    return [
        f"Model {data['model']} (SHA-256 {data['model_digest'][:12]}), corpus {data['corpus']} (SHA-256"
        f" {data['corpus_digest'][:12]}): {data['training_units']} units ({data['unit']}s) to train on,"
        f" {data['held_out_units']} held out{_seen(data)}"
        for data in described
    ]


def _seen(data: Mapping[str, Any]) -> str:
    """How much of the held-out texts was trained on after all; a report of before does not say."""
    if not data.get("held_out_seen"):
        return ""
    return (
        f"; {data['held_out_seen']} of {data['held_out_records']} held-out texts are in training too, word for word or"
        " of another group, so that their loss is that of texts that were learned"
    )


def changed_settings(document: Mapping[str, Any]) -> dict[str, Any]:
    """Settings that are not defaults."""
    return {name: row["value"] for name, row in document["settings"].items() if row["origin"] != "default"}
