"""A study's table: arms in a row each, metrics in a column each, and utility beside every row."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fairtest.errors import MetricError, StoreError
from fairtest.gates.explain import would_show
from fairtest.gates.family import weakened
from fairtest.gates.messages import number, signed_number
from fairtest.gates.result import Estimate
from fairtest.metrics import parse_metric
from fairtest.reports.explanations import of_document
from fairtest.reports.markdown import escape, table
from fairtest.reports.sections import PERPLEXITY, levels_by_metric, targets
from fairtest.reports.terminal import estimate_text

# Gates whose change is how much further from the target the candidate is than the reference.
_OF_DISTANCE = frozenset({"no_amplification", "mitigated", "utility"})
_NONE = "-"
Names = Mapping[str, str] | Sequence[str]


@dataclass(frozen=True)
class Change:
    """An amplification of one arm against another; `gate`: the one that judged it, if one did."""

    estimate: Estimate
    confidence: float
    gate: Mapping[str, Any] | None = None


def study_table(document: Mapping[str, Any], *, metrics: Names, rows: Names, reference: str, title: str) -> str:
    """Levels of every arm, then its change against `reference`, as Markdown.

    A change is that of the distance from the metric's target, with its interval, from a gate or an explanation of the
    document; behind it the ratio of the two distances, where neither level's interval holds the target, and the gate's
    verdict. The last row has the change that this data would have shown with 80% probability, in every row.

    Args:
        document: the result document.
        metrics: metric to heading, or metrics alone.
        rows: arm to label, or arms alone, in the order of the table.
        reference: an arm, one of the rows or not.
        title: a heading.

    Raises:
        StoreError: an arm or a metric is not in the document.
    """
    study = _Study(document, _labels(metrics), _labels(rows), reference)
    study.check()
    against = escape(study.rows.get(reference, reference))
    lines = [f"## {escape(title)}", "", "Levels with their intervals.", ""]
    lines += [*table(study.header("arm", "seeds"), study.level_rows()), ""]
    lines += [f"Change against {against}: of the distance from the target (further is positive), the ratio of the"]
    lines += ["distances where neither interval holds the target, and the verdict where a gate judged it.", ""]
    lines += [*table(study.header("arm"), study.change_rows()), "", *study.notes()]
    return "\n".join(lines).rstrip() + "\n"


def change_of(document: Mapping[str, Any], metric: str, arm: str, reference: str) -> Change | None:
    """The measured amplification of `arm` against `reference`, whichever gate or explanation has it."""
    for gate in document["gates"]:
        if gate["metric"] == metric and gate["gate"] in _OF_DISTANCE and gate["change"] is not None:
            sides = (gate["candidate"], gate["reference"])
            if sides == (arm, reference):
                return Change(_estimate(gate["change"]), float(gate["confidence"]), gate)
    for one in of_document(document):
        for part in filter(None, (one["total"], one.get("whole"), one.get("start"), *one["parts"])):
            if one["metric"] == metric and (part["of"], part["against"]) == (arm, reference):
                return Change(_estimate(part), float(one["confidence"]))
    for gate in document["gates"]:
        if gate["metric"] == metric and gate["gate"] in _OF_DISTANCE and gate["change"] is not None:
            sides = (gate["candidate"], gate["reference"])
            if sides == (reference, arm):  # the same the other way round, which no gate judged
                turned = _estimate(gate["change"])
                return Change(Estimate(-turned.value, -turned.high, -turned.low), float(gate["confidence"]))
    return None


@dataclass(frozen=True)
class _Study:
    document: Mapping[str, Any]
    metrics: Mapping[str, str]
    rows: Mapping[str, str]
    reference: str

    def check(self) -> None:
        """All that is asked for is there."""
        levels = self.levels
        measured = {arm for found in levels.values() for arm in found}
        for kind, asked, known in (
            ("arm", [*self.rows, self.reference], measured),
            ("metric", list(self.metrics), set(levels)),
        ):
            missing = [name for name in asked if name not in known]
            if missing:
                raise StoreError(
                    f"the report has no {kind} {', '.join(missing)}",
                    where="study_table(...)",
                    fix=f"measure it with fairness.measure; there are: {', '.join(sorted(known)) or 'none'}",
                )

    @property
    def levels(self) -> dict[str, dict[str, Mapping[str, Any]]]:
        """Metric -> arm -> level: those of the measurements, of the gates, and of the explanations."""
        found = levels_by_metric(self.document)
        for one in of_document(self.document):
            for arm, level in one.get("levels", {}).items():
                found.setdefault(str(one["metric"]), {}).setdefault(str(arm), level)
        return found

    def header(self, *first: str) -> list[str]:
        """Of either table."""
        shown = []
        for metric, heading in self.metrics.items():
            target = self._target(metric)
            shown.append(escape(heading) + ("" if target is None else f" (target {target:g})"))
        return [*first, *shown, PERPLEXITY]

    def level_rows(self) -> Iterator[list[str]]:
        """A row an arm: its levels."""
        levels = self.levels
        seeds = {str(row["arm"]): row["seeds"] for row in self.document["measurements"]}
        for arm, label in self.rows.items():
            cells = [estimate_text(levels.get(metric, {}).get(arm)) for metric in (*self.metrics, PERPLEXITY)]
            yield [label, str(seeds.get(arm, _NONE)), *cells]

    def change_rows(self) -> Iterator[list[str]]:
        """A row an arm: its changes; and what would have been seen."""
        for arm, label in self.rows.items():
            if arm == self.reference:
                yield [label, *["reference"] * (len(self.metrics) + 1)]
            else:
                yield [label, *(self._change(metric, arm) for metric in self.metrics), self._utility(arm)]
        yield ["this data would have shown", *(self._shown(metric) for metric in self.metrics), _NONE]

    def notes(self) -> list[str]:
        """What the changes come to, in a sentence each."""
        found = [change.estimate for metric in self.metrics for change in self._changes(metric)]
        lines = []
        if found:
            changes = "one change" if len(found) == 1 else f"{len(found)} changes"
            above, below = sum(one.low > 0 for one in found), sum(one.high < 0 for one in found)
            lines.append(
                f"Of {changes} {above} {_lie(above)} above zero with the whole interval, {below} "
                f"{_lie(below)} below it, and {len(found) - above - below} hold zero, which is no evidence that "
                "nothing changes. Each interval stands for itself."
            )
        if weakened(self._judged()):
            lines.append("\\* does not hold in the family of all gates of the report (Holm).")
        return [text for line in lines for text in (line, "")]

    def _judged(self) -> list[Mapping[str, Any]]:
        """The gates whose verdicts the table has."""
        shown = {*self.metrics, PERPLEXITY}
        return [
            gate for gate in self.document["gates"] if gate["metric"] in shown and str(gate["candidate"]) in self.rows
        ]

    def _changes(self, metric: str) -> list[Change]:
        found = [change_of(self.document, metric, arm, self.reference) for arm in self.rows if arm != self.reference]
        return [change for change in found if change is not None]

    def _change(self, metric: str, arm: str) -> str:
        change = change_of(self.document, metric, arm, self.reference)
        parts = []
        if change is not None:
            parts.append(change.estimate.text(sign=True))
            parts.append(self._ratio(metric, arm))
            parts.append("" if change.gate is None else _verdict(change.gate))
        for gate in self.document["gates"]:
            told = gate["gate"] in {"mitigated", "bias_within"} and (change is None or gate is not change.gate)
            if told and (gate["metric"], gate["candidate"]) == (metric, arm):
                against = f" against {gate['reference']}" if gate["reference"] else ""
                parts.append(f"{gate['gate'].replace('_', ' ')}{against}: {_verdict(gate)}")
        return "; ".join(filter(None, parts)) or _NONE

    def _ratio(self, metric: str, arm: str) -> str:
        """How many times as far from the target; "" where either may be at it."""
        levels = self.levels[metric]
        sides = [_distance(levels.get(name), self._target(metric)) for name in (arm, self.reference)]
        return "" if sides[0] is None or sides[1] is None else f"x {sides[0] / sides[1]:.2f}"

    def _target(self, metric: str) -> float | None:
        """Of the document, or of fairtest's own definition."""
        told = targets(self.document["gates"])
        for one in of_document(self.document):
            if one.get("target") is not None:
                told.setdefault(str(one["metric"]), float(one["target"]))
        if metric in told:
            return told[metric]
        try:
            return parse_metric(metric).metric.target
        except MetricError:
            return None

    def _utility(self, arm: str) -> str:
        """Perplexity as a ratio to the reference's."""
        for gate in self.document["gates"]:
            if gate["metric"] == PERPLEXITY and (gate["candidate"], gate["reference"]) == (arm, self.reference):
                return f"x {estimate_text(gate['change'])}; {_verdict(gate)}"
        levels = self.levels.get(PERPLEXITY, {})
        if arm not in levels or self.reference not in levels:
            return _NONE
        return f"x {float(levels[arm]['value']) / float(levels[self.reference]['value']):.2f}"

    def _shown(self, metric: str) -> str:
        """The change that every row's interval would have been beyond."""
        sizes = [would_show(change.estimate, change.confidence) for change in self._changes(metric)]
        if not sizes:
            return _NONE
        return signed_number(max(sizes)) if math.isfinite(max(sizes)) else "none"


def _labels(names: Names) -> dict[str, str]:
    return dict(names) if isinstance(names, Mapping) else {name: name for name in names}


def _estimate(data: Mapping[str, Any]) -> Estimate:
    return Estimate(*(float(data[name]) for name in ("value", "low", "high")))


def _distance(level: Mapping[str, Any] | None, target: float | None) -> float | None:
    """From the target (from 0 without one); None where the interval holds it."""
    if level is None:
        return None
    value, low, high = (float(level[name]) - (target or 0.0) for name in ("value", "low", "high"))
    return abs(value) if low > 0 or (high < 0 and target is not None) else None


def _verdict(gate: Mapping[str, Any]) -> str:
    """With a star where it does not hold in the family, and with what is allowed."""
    allowed = float(gate["allowed"])
    most = number(allowed) if gate["metric"] == PERPLEXITY or gate["gate"] == "bias_within" else signed_number(allowed)
    return f"{gate['verdict']}{'*' * bool(weakened([gate]))} (at most {most})"


def _lie(count: int) -> str:
    return "lies" if count == 1 else "lie"
