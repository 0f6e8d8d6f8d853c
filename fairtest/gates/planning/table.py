"""The plan as lines of a terminal: a table, what its numbers rest on, totals."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence

from fairtest.gates.messages import number, signed_number
from fairtest.gates.planning.planned_gate import (
    MEASURED,
    PRIVACY,
    RATIO,
    PlannedGate,
    PlannedRun,
    detectable,
    family_size,
    needs,
)

_HEADER = ("allowed", "items", "clusters", "seeds", "MDE", "Holm", "to train", "time")
_NONE = "-"
_UNKNOWN = "?"
_MINUTE, _HOUR = 60.0, 3600.0


def plan_lines(gates: Sequence[PlannedGate], width: int, *, workers: int = 1) -> list[str]:
    """The whole plan in at most `width` columns, where a name of a metric does not need more. `workers`: runs of an arm
    that train side by side.
    """
    shown = [gate for gate in gates if gate.gate != MEASURED]
    tests = family_size(shown)
    notes = _Notes()
    rows = [(name_of(gate), _cells(gate, tests, workers)) for gate in shown]
    widths = [
        max(len(cells[column]) for cells in (_HEADER, *(row[1] for row in rows))) for column in range(len(_HEADER))
    ]
    room = width - sum(widths) - 2 * len(widths)
    lead = max((len(name) for name, _ in rows), default=0)
    beside = lead <= room
    lines = [f"{'gate':<{lead if beside else 4}}{_joined(_HEADER, widths)}".rstrip()] if shown else []
    for gate, (name, cells) in zip(shown, rows, strict=True):
        if beside:
            lines.append(f"{name:<{lead}}{_joined(cells, widths)}")
        else:
            lines += [name, f"    {_joined(cells, widths)}"]
        need = needs(gate, tests=tests)
        mark = notes.mark(gate.basis) if gate.spread is not None else ""
        lines += _wrapped(f"{need}{mark}", width, "    ")
    lines.append("")
    for text in (*_explained(shown, tests), *notes.texts, *_times(gates, workers)):
        lines += _wrapped(text, width, "")
    lines += _wrapped(totals(gates, workers), width, "")
    return lines


def totals(gates: Sequence[PlannedGate], workers: int) -> str:
    """One line: gates, distinct runs, how many are there, minutes."""
    runs = distinct(gates)
    missing = [run for run in runs if not run.stored]
    first = [run for run in missing if not run.later]
    measured = sum(gate.gate == MEASURED for gate in gates)
    parts = [_count(len(gates) - measured, "gate") + (f" and {_count(measured, 'measurement')}" if measured else "")]
    parts.append(f"{_count(len(runs), 'distinct run')}: {len(runs) - len(missing)} in the store, {len(first)} to train")
    if len(missing) > len(first):
        parts[-1] += f", and up to {len(missing) - len(first)} more while gates are undecided"
    if missing:
        seconds = wall_seconds(first, workers)
        spent = "nobody knows how long" if seconds is None else f"about {duration(seconds)} of training"
        most = wall_seconds(missing, workers)
        if len(missing) > len(first) and most is not None:
            spent += f", at most {duration(most)}"
        parts.append(spent + (f" with {workers} workers" if workers > 1 else ""))
    return "; ".join(parts)


def distinct(gates: Iterable[PlannedGate]) -> list[PlannedRun]:
    """The runs of all gates, each once; needed at a first look where any gate needs it there."""
    runs: dict[str, PlannedRun] = {}
    for gate in gates:
        for run in gate.runs:
            known = runs.get(run.digest)
            if known is None or (known.later and not run.later) or (known.seconds is None and run.seconds is not None):
                runs[run.digest] = run
    return list(runs.values())


def wall_seconds(runs: Sequence[PlannedRun], workers: int) -> float | None:
    """How long runs train: the seeds of an arm side by side, arms one after another; None where nobody knows."""
    arms: dict[str, list[float]] = {}
    for run in runs:
        if run.stored:
            continue
        if run.seconds is None:
            return None
        arms.setdefault(run.arm, []).append(run.seconds)
    return math.fsum(math.ceil(len(found) / workers) * max(found) for found in arms.values())


def duration(seconds: float) -> str:
    """For a person: 8 s, 3.5 min, 40 min, 2.5 h."""
    if seconds < 2 * _MINUTE:
        return f"{seconds:.0f} s"
    if seconds < 2 * _HOUR:
        minutes = seconds / _MINUTE
        return f"{minutes:.0f} min" if minutes >= 10 else f"{minutes:.1f} min"
    return f"{seconds / _HOUR:.1f} h"


def name_of(gate: PlannedGate) -> str:
    """What is measured of which arms."""
    if gate.gate == PRIVACY:
        return f"{gate.candidate}: epsilon"
    against = f" against {gate.reference}" if gate.reference else ""
    if gate.gate == "no_regression":
        against = " against its stored baseline"
    what = "perplexity ratio" if gate.unit == RATIO else f"{gate.metric}, {gate.unit}"
    doing = {"bias_within": " is near the target", "mitigated": " mitigates"}.get(gate.gate, "")
    return f"{gate.candidate}{doing}{against}: {what}"


class _Notes:
    """What numbers rest on, each said once and lettered."""

    def __init__(self) -> None:
        self._letters: dict[str, str] = {}

    def mark(self, basis: str) -> str:
        place = len(self._letters)
        letter = self._letters.setdefault(basis, chr(ord("a") + place) if place < 26 else str(place))
        return f" [{letter}]"

    @property
    def texts(self) -> list[str]:
        return [f"[{letter}] {basis}" for basis, letter in self._letters.items()]


def _cells(gate: PlannedGate, tests: int, workers: int) -> tuple[str, ...]:
    signed = gate.gate not in (PRIVACY, "bias_within") and gate.unit != RATIO
    first = [run for run in gate.runs if not run.stored and not run.later]
    later = [run for run in gate.runs if not run.stored and run.later]
    train, took = str(len(first)), _time(first, workers)
    if later:
        train += f" (+{len(later)})"
        took += f" (+{_time(later, workers)})"
    return (
        (signed_number if signed else number)(gate.allowed),
        str(gate.items) if gate.items else _NONE,
        " x ".join(map(str, gate.factors)) or _NONE,
        "-".join(dict.fromkeys(map(str, (gate.looks[0], gate.looks[-1])))) if gate.looks else _NONE,
        _effect(detectable(gate)),
        _effect(detectable(gate, tests=tests)),
        train,
        took,
    )


def _effect(value: float | None) -> str:
    if value is None:
        return _NONE
    return number(value) if math.isfinite(value) else "never"


def _time(runs: Sequence[PlannedRun], workers: int) -> str:
    seconds = wall_seconds(runs, workers)
    return _UNKNOWN if seconds is None else duration(seconds)


def _explained(gates: Sequence[PlannedGate], tests: int) -> list[str]:
    if not any(gate.spread is not None for gate in gates):
        return []
    text = (
        "MDE: minimum detectable effect, the change beyond what is allowed that is found (FAIL) with 80% probability, "
        "both sides clear of the metric's target; where nothing changed, a gate that allows as much passes with 80%."
    )
    if any(gate.unit == RATIO and gate.spread is not None for gate in gates):
        text += " Of a ratio, what is above 1."
    lines = [f"{text} Holm: the same with the verdicts of all {tests} gates together." if tests > 1 else text]
    several = {gate.looks for gate in gates if len(gate.looks) > 1}
    lines += [
        f"seeds = auto: looked at with {', '.join(map(str, plan))} seeds; MDE is that of the last look"
        for plan in sorted(several)
    ]
    if any(gate.looks == (1,) and gate.spread is not None for gate in gates):
        lines.append("one seed: the numbers are about that checkpoint only and not about training")
    return lines


def _times(gates: Sequence[PlannedGate], workers: int) -> list[str]:
    sources: Mapping[str, None] = dict.fromkeys(run.timed for run in distinct(gates) if run.timed)
    if not sources:
        return []
    text = f"time: training alone, without scoring; {', '.join(sources)}"
    return [text + (f"; {workers} workers, as if they did not slow one another down" if workers > 1 else "")]


def _joined(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "".join(f"  {cell:>{width}}" for cell, width in zip(cells, widths, strict=True))


def _wrapped(text: str, width: int, indent: str) -> list[str]:
    return textwrap.wrap(
        text, max(width, 40), initial_indent=indent, subsequent_indent=indent + "  ", break_long_words=False,
        break_on_hyphens=False,
    )  # fmt: skip


def _count(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
