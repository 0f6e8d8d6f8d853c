"""A report as OpenMetrics text, which GitLab compares between branches and Prometheus stores."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from fairtest.reports.reading import showable

Labels = Mapping[str, object]
_VERDICTS = {"PASS": 1.0, "UNDECIDED": 0.0, "FAIL": -1.0}
_HELP = {
    "fairtest_gates": "Gates by verdict.",
    "fairtest_gate_verdict": "1: the gate holds. 0: not decided. -1: it does not hold.",
    "fairtest_gate_change": "What a gate measured, in the unit of its metric.",
    "fairtest_gate_change_low": "Lower end of the interval of what a gate measured.",
    "fairtest_gate_change_high": "Upper end of the interval of what a gate measured.",
    "fairtest_gate_allowed": "The most that a gate allows.",
    "fairtest_level": "Level of a metric on an arm.",
    "fairtest_epsilon": "Epsilon of an arm, at its delta and for its privacy unit.",
}


def render(document: Mapping[str, Any]) -> str:
    """The text, with its closing mark. A claim that is made several times with different results has `claim`."""
    document = showable(document)
    families: dict[str, dict[tuple[tuple[str, str], ...], float]] = {name: {} for name in _HELP}

    def add(family: str, value: object, labels: Labels) -> None:
        samples = families[family]
        key = tuple((name, str(label)) for name, label in labels.items() if label != "")
        found, number = _number(value), 1
        while repr(samples.get(key, found)) != repr(found):  # NaN is NaN
            number += 1
            key = (*(pair for pair in key if pair[0] != "claim"), ("claim", str(number)))
        samples[key] = found

    for verdict in _VERDICTS:
        add("fairtest_gates", document["summary"].get(verdict, 0), {"verdict": verdict})
    for gate in document["gates"]:
        labels = {name: gate[name] for name in ("gate", "metric", "candidate", "reference")}
        add("fairtest_gate_verdict", _VERDICTS[gate["verdict"]], labels)
        add("fairtest_gate_allowed", gate["allowed"], labels)
        for suffix, end in (("", "value"), ("_low", "low"), ("_high", "high")):
            if gate["change"] is not None:
                add(f"fairtest_gate_change{suffix}", gate["change"][end], labels)
    for row in document["measurements"]:
        add("fairtest_level", row["value"], {"metric": row["metric"], "arm": row["arm"]})
    for name, arm in document["arms"].items():
        stated = arm.get("statement")
        if stated:
            epsilon = "inf" if stated["epsilon"] is None else stated["epsilon"]
            add("fairtest_epsilon", epsilon, {"arm": name, "delta": f"{stated['delta']:g}", "unit": stated["unit"]})
    return "\n".join([*_lines(families), "# EOF"]) + "\n"


def _lines(families: Mapping[str, Mapping[tuple[tuple[str, str], ...], float]]) -> Iterable[str]:
    for family, samples in families.items():
        if samples:
            yield f"# TYPE {family} gauge"
            yield f"# HELP {family} {_escaped(_HELP[family])}"
            for labels, value in samples.items():
                shown = ",".join(f'{name}="{_escaped(label)}"' for name, label in labels)
                yield f"{family}{{{shown}}} {_shown(value)}"


def _number(value: object) -> float:
    return float(str(value))


def _shown(value: float) -> str:
    return {"inf": "+Inf", "-inf": "-Inf", "nan": "NaN"}.get(str(value), repr(value))


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
