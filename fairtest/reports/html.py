"""The result document as one HTML file that needs nothing else: no network, no script, no font.

Verdict first. Everything that comes from the document is escaped; a policy in the page itself forbids scripts and
requests, whatever a name may hold.
"""

from __future__ import annotations

import importlib.util
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fairtest.errors import StoreError
from fairtest.gates.messages import SIGNED, number
from fairtest.reports import diagnoses, explanations, plots, sections
from fairtest.reports.document import write_text
from fairtest.reports.reading import showable
from fairtest.reports.terminal import gate_name, totals

if TYPE_CHECKING:
    from markupsafe import Markup

_TEMPLATES = Path(__file__).parent / "templates"
_PACKAGES = ("jinja2", "matplotlib")
_MOST_SENTENCES = 10  # of one verdict, before the drawing of all gates
_MOST_LINES = 34  # of a forest: more would not fit on a printed page
_UNITS = {"perplexity": "times the reference's perplexity", "epsilon": "epsilon"}


def missing() -> list[str]:
    """Packages that an HTML report needs and that are not installed."""
    return [name for name in _PACKAGES if importlib.util.find_spec(name) is None]


def write_html(path: Path, document: Mapping[str, Any], *, title: str = "fairtest report", command: str = "") -> Path:
    """Writes the page, whole or not at all.

    Raises:
        StoreError: a package that it needs is not installed, or the file cannot be written.
    """
    return write_text(path, render(document, title=title, command=command))


def render(document: Mapping[str, Any], *, title: str = "fairtest report", command: str = "") -> str:
    """The page. `command`: what made the report, shown under how to repeat it.

    Raises:
        StoreError: a package that it needs is not installed.
    """
    lacking = missing()
    if lacking:
        raise StoreError(
            f"an HTML report needs {' and '.join(lacking)}, which {'is' if len(lacking) == 1 else 'are'} not installed",
            where="report.html",
            fix='pip install "fairtest[reports]"',
        )
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    shown = showable(document)
    page = environment.get_template("report.html.j2").render(
        _page(shown, title=showable(title), command=showable(command))
    )
    return f"{page.rstrip()}\n"


def _page(document: Mapping[str, Any], *, title: str, command: str) -> dict[str, Any]:
    gates = sections.numbered(document["gates"])
    levels = sections.levels_by_metric(document)
    arms = list(dict.fromkeys([*document["arms"], *(arm for found in levels.values() for arm in found)]))
    bias = {metric: found for metric, found in levels.items() if metric != sections.PERPLEXITY}
    language = {metric: found for metric, found in levels.items() if metric == sections.PERPLEXITY}
    explained = explanations.of_document(document)
    return {
        "title": title,
        "command": command,
        "document": document,
        "headline": sections.headline(document["summary"]),
        "overall": sections.overall(document["summary"]),
        "totals": totals(document["summary"]),
        "failed_otherwise": document.get("failed_otherwise", ()),
        "groups": sections.by_verdict(gates),
        "most_sentences": _MOST_SENTENCES,
        "limits": sections.limits(document["gates"]),
        "gates": sections.gates_table(gates),
        "forests": [_markup(drawn) for drawn in _forests(gates)],
        "basis": sections.basis_table(gates),
        "prose": _prose(document["arms"]),
        "privacy": sections.privacy_table(document["arms"]),
        "levels": sections.levels_table(
            bias, arms, "Levels with their intervals, by metric (group in brackets) and arm."
        ),
        "language": sections.levels_table(language, arms, "How well each arm models the held-out texts."),
        "level_figures": [_markup(drawn) for drawn in _level_figures(bias, arms, document)],
        "epsilon_figures": [_markup(drawn) for drawn in _epsilon_figures(bias, arms, document)],
        "parts_heading": explanations.HEADING,
        "parts_figures": [_markup(drawn) for drawn in explanations.figures(explained)],
        "parts_not_drawn": explanations.not_drawn(explained),
        "parts": [(explanations.name(one), explanations.parts_table(one), one["sentences"]) for one in explained],
        "curves": [_markup(drawn) for drawn in _curves(document["arms"])],
        "curves_kept_back": _kept_back(document["arms"]),
        "diagnoses_heading": diagnoses.HEADING,
        "not_for_release": diagnoses.NOT_FOR_RELEASE,
        "diagnoses": list(_diagnoses(document["arms"])),
        "worst": sections.worst_table(gates),
        "guards": sections.guards_table(document["gates"]),
        "arms": sections.arms_table(document["arms"]),
        "data": sections.data_lines(document["arms"]),
        "settings": _toml(sections.changed_settings(document)),
        "packages": document["environment"].get("packages", {}),
        "files": list(dict.fromkeys(gate["test"].partition("::")[0] for gate in document["gates"] if gate.get("test"))),
    }


def _markup(drawn: str) -> Markup:
    from markupsafe import Markup

    return Markup(drawn)  # noqa: S704 - an <svg> whose texts fairtest.reports.figures has escaped


def _prose(arms: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, str]]:
    """(names, statement): a statement that several arms share is said once."""
    told: dict[str, list[str]] = {}
    for name, arm in arms.items():
        if arm.get("privacy"):
            told.setdefault(arm["privacy"], []).append(name)
    return [(", ".join(names), text) for text, names in told.items()]


# -- figures ----------------------------------------------------------------------------------------------------------


def _forests(gates: Sequence[sections.Numbered]) -> Iterator[str]:
    panels: dict[tuple[str, bool], dict[str, list[sections.Numbered]]] = {}
    for place, gate in gates:
        signed = gate["gate"] in SIGNED
        heading = gate_name(gate)[0].removesuffix(f", {gate['unit']}")
        unit = str(_UNITS.get(gate["metric"], gate["unit"]))
        panels.setdefault((unit, signed), {}).setdefault(heading, []).append((place, gate))
    count = 0
    for (unit, signed), blocks in panels.items():
        for part in _parts(blocks):
            count += 1
            rows = [(heading, [_forest_row(place, gate) for place, gate in found]) for heading, found in part]
            axis = f"change, {unit} (further right is worse)" if signed else f"{unit} (further right is worse)"
            yield plots.forest(
                rows,
                name=f"forest-{count}",
                title=f"Gates measured in {unit}",
                description=_told(found for _, found in part),
                axis=axis,
                neutral=1.0 if unit == _UNITS[sections.PERPLEXITY] else 0.0,
            )


def _parts(blocks: Mapping[str, list[sections.Numbered]]) -> list[list[tuple[str, list[sections.Numbered]]]]:
    """Blocks of gates in figures that are no higher than a page."""
    parts: list[list[tuple[str, list[sections.Numbered]]]] = [[]]
    lines = 0
    for heading, found in blocks.items():
        for start in range(0, len(found), _MOST_LINES - 1):
            block = found[start : start + _MOST_LINES - 1]
            if lines and lines + len(block) + 1 > _MOST_LINES:
                parts.append([])
                lines = 0
            parts[-1].append((heading, block))
            lines += len(block) + 1
    return parts


def _forest_row(place: int, gate: sections.Gate) -> plots.ForestRow:
    return plots.ForestRow(
        label=f"#{place} {gate_name(gate)[1]}",
        verdict=gate["verdict"],
        interval=plots.Interval.of(gate["change"]),
        allowed=plots.drawable(gate["allowed"]),
        shown=sections.measured_text(gate),
    )


def _told(blocks: Iterable[Sequence[sections.Numbered]]) -> str:
    """A forest in words."""
    return " ".join(
        f"Gate {place}, {gate['verdict']}: {sections.sentence(gate)}." for block in blocks for place, gate in block
    )


def _level_figures(
    levels: Mapping[str, Mapping[str, Mapping[str, Any]]], arms: Sequence[str], document: Mapping[str, Any]
) -> Iterator[str]:
    for count, (heading, panels) in enumerate(_panels(levels, document), start=1):
        shown = {arm: place for place, arm in enumerate(arms) if any(arm in panel.levels for panel in panels)}
        yield plots.levels(
            heading,
            panels,
            shown,
            name=f"levels-{count}",
            title=f"Levels by arm: {heading}",
            description=f"The numbers are in the table of levels below. {_of_targets(panels)}",
        )


def _epsilon_figures(
    levels: Mapping[str, Mapping[str, Mapping[str, Any]]], arms: Sequence[str], document: Mapping[str, Any]
) -> Iterator[str]:
    """Bias over epsilon, where two arms or more have a statement; arms without privacy stand at the right."""
    stated = {name: arm["statement"]["epsilon"] for name, arm in document["arms"].items() if arm.get("statement")}
    if len(stated) < 2:
        return
    private = {name: value for name, value in stated.items() if value is not None}
    labels: dict[str, list[str]] = {}
    for name, value in sorted(private.items(), key=lambda item: item[1]):
        labels.setdefault(number(value), []).append(name)
    plain = [name for name, arm in document["arms"].items() if arm.get("training") and name not in private]
    other = [arm for arm in arms if arm not in private and arm not in plain]
    budgets = [*labels.items(), *([("none", plain)] if plain else []), *([("not\ntuned", other)] if other else [])]
    aims = sections.targets(document["gates"])
    biased = {metric: found for metric, found in levels.items() if metric in aims} or levels
    for count, (heading, panels) in enumerate(_panels(biased, document), start=1):
        shown = {arm: place for place, arm in enumerate(arms) if any(arm in panel.levels for panel in panels)}
        yield plots.against_epsilon(
            heading,
            panels,
            budgets,
            shown,
            name=f"epsilon-{count}",
            title=f"Level against epsilon: {heading}",
            description=f"{_of_budgets(budgets)} {_of_targets(panels)}",
        )


def _of_budgets(budgets: Sequence[tuple[str, Sequence[str]]]) -> str:
    told = "; ".join(f"{label.replace(chr(10), ' ')}: {', '.join(members)}" for label, members in budgets)
    return f"Arms by epsilon: {told}."


def _of_targets(panels: Sequence[plots.Panel]) -> str:
    told = [f"{panel.title or 'all'} {panel.target:g}" for panel in panels if panel.target is not None]
    return f"Targets: {', '.join(told)}." if told else ""


def _panels(
    levels: Mapping[str, Mapping[str, Mapping[str, Any]]], document: Mapping[str, Any]
) -> Iterator[tuple[str, list[plots.Panel]]]:
    """(metric, its groups), a few groups at a time."""
    aims = sections.targets(document["gates"])
    families: dict[str, list[plots.Panel]] = {}
    for metric, found in levels.items():
        intervals = {arm: plots.Interval.of(level) for arm, level in found.items()}
        kept = {arm: interval for arm, interval in intervals.items() if interval is not None}
        if kept:
            family, _, group = metric.partition("[")
            panel = plots.Panel(group.removesuffix("]"), aims.get(metric), kept)
            families.setdefault(family, []).append(panel)
    for family, panels in families.items():
        for start in range(0, len(panels), plots.COLUMNS):
            yield family, panels[start : start + plots.COLUMNS]


def _curves(arms: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Training loss of the arms that may show it, a line a seed."""
    series = [
        plots.Line(name, place, tuple(_points(row["curve"]) for row in arm.get("training") or () if row.get("curve")))
        for place, (name, arm) in enumerate(arms.items())
    ]
    told = [
        f"{line.label}: from {line.series[0][0][1]:.3g} to {line.series[0][-1][1]:.3g} (first seed)."
        for line in series
        if any(line.series)
    ]
    yield plots.lines(
        [line for line in series if any(line.series)],
        name="curves",
        title="Training loss over steps",
        description=" ".join(told),
        axis="training loss, nats a token",
    )


def _kept_back(arms: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Arms with a privacy statement: their losses are read off private records."""
    return [name for name, arm in arms.items() if arm.get("statement") and arm.get("training")]


def _diagnoses(
    arms: Mapping[str, Mapping[str, Any]],
) -> Iterator[tuple[str, list[Markup], Sequence[str], str, str]]:
    """(arm, its pictures, what they say, what of them is not for release, what was looked at)."""
    count = 0
    for arm, found in diagnoses.diagnosed(arms).items():
        pictures = []
        for one in found:
            count += 1
            series = [
                plots.Line(group, place, (_points(points),))
                for place, (group, points) in enumerate(one["groups"].items())
            ]
            told = [f"{line.label}: ends at {line.series[0][-1][1]:.3g}." for line in series if any(line.series)]
            drawn = plots.lines(
                series,
                name=f"diagnostics-{count}",
                title=f"{arm}: {diagnoses.title(one, arms[arm])}, by group over steps",
                description=" ".join(told),
                axis=diagnoses.axis(one),
            )
            if drawn:
                pictures.append(_markup(drawn))
        if pictures:
            one_arm = arms[arm]
            kept_back, note = diagnoses.kept_back(one_arm), one_arm.get("diagnostics_note", "")
            yield arm, pictures, diagnoses.findings(one_arm), kept_back, note


def _points(points: Iterable[Sequence[Any]]) -> tuple[tuple[float, float], ...]:
    pairs = ((float(step), float(value)) for step, value in points)
    return tuple(pair for pair in pairs if math.isfinite(pair[1]))


def _toml(values: Mapping[str, Any]) -> str:
    """Settings as a reader would write them into pyproject.toml."""
    return "\n".join(f"{name} = {json.dumps(value, ensure_ascii=False)}" for name, value in values.items())
