"""What amplifications are made of, in a report: a table, sentences and a drawing each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from fairtest.reports import plots
from fairtest.reports.sections import Table
from fairtest.reports.terminal import estimate_text

HEADING = "What the amplification is made of"
MOST_DRAWN = 6
_BLOCKS = {"cause": "By cause", "beside": "Noise without clipping, beside", "training": "By training"}
Explanation = Mapping[str, Any]
Part = Mapping[str, Any]


def of_document(document: Mapping[str, Any]) -> Sequence[Explanation]:
    """The explanations; none in a document made before there were any."""
    found: Sequence[Explanation] = document.get("explanations") or ()
    return found


def name(explanation: Explanation) -> str:
    """What is taken apart."""
    return f"{explanation['metric']}: {explanation['candidate']} against {explanation['reference']}"


def parts_table(explanation: Explanation) -> Table:
    """The total and each part in a row."""
    rows = [
        (
            part["name"],
            f"{part['of']} against {part['against']}",
            estimate_text(part, sign=True),
            share_text(part),
            part["says"],
        )
        for part in _rows(explanation)
    ]
    header = ("part", "between", f"change and interval, {explanation['unit']}", "share of the total", "says")
    return Table(f"{name(explanation)}: by how much further from the target, part by part.", header, rows)


def share_text(part: Part) -> str:
    """The share of the total in percent; "-" where it has none."""
    return "-" if part["share"] is None else f"{100 * float(part['share']):.0f}%"


def figures(explanations: Sequence[Explanation]) -> Iterator[str]:
    """A drawing each, of the first `MOST_DRAWN`: the total, its causes, and what of it is training less."""
    for count, explanation in enumerate(explanations[:MOST_DRAWN], start=1):
        unit = explanation["unit"]
        yield plots.forest(
            list(_blocks(explanation)),
            name=f"parts-{count}",
            title=f"{HEADING}: {name(explanation)}",
            description=" ".join(_told(_rows(explanation), unit)),
            axis=f"change in distance from the target, {unit} (right is worse)",
            neutral=0.0,
        )


def not_drawn(explanations: Sequence[Explanation]) -> str:
    """How many are in tables alone; "" where all are drawn."""
    more = len(explanations) - MOST_DRAWN
    return "" if more <= 0 else f"Drawn are the first {MOST_DRAWN} of {len(explanations)}; the others are in tables."


def _rows(explanation: Explanation) -> list[Part]:
    whole = explanation.get("whole")
    return [explanation["total"], *([whole] if whole else []), *explanation["parts"]]


def _blocks(explanation: Explanation) -> Iterator[tuple[str, list[plots.ForestRow]]]:
    whole = explanation.get("whole")
    yield name(explanation), [_row(part) for part in (explanation["total"], *([whole] if whole else []))]
    for kind, heading in _BLOCKS.items():
        found = [_row(part) for part in explanation["parts"] if part["kind"] == kind]
        if found:
            yield heading, found


def _row(part: Part) -> plots.ForestRow:
    share = "" if part["share"] is None else f", {share_text(part)} of the total"
    return plots.ForestRow(
        label=f"{part['name']}{share}",
        verdict=part["says"],
        interval=plots.Interval.of(part),
        allowed=None,
        shown=estimate_text(part, sign=True),
    )


def _told(parts: Iterable[Part], unit: str) -> list[str]:
    """The drawing in words."""
    return [
        f"{part['name']} ({part['of']} against {part['against']}): {estimate_text(part, sign=True)} {unit},"
        f" {part['says']}."
        for part in parts
    ]
