"""What tests measured, gathered on the controller; and tracebacks that end where the user's own line is."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from fairtest.settings import Settings

_OWN = ("fairtest", "pytest_fairtest")
_OF_PYTEST = ("_pytest", "pluggy", "pytest", "contextlib")


def shorten_traceback(call: pytest.CallInfo[None]) -> str:
    """Cuts an error of ours down to the user's line and the message; returns the bare message where no line of the
    user is left.
    """
    errors = sys.modules.get("fairtest.errors")
    if errors is None or call.excinfo is None or not isinstance(call.excinfo.value, errors.FairtestError):
        return ""
    value = call.excinfo.value
    value.__cause__ = None
    value.__suppress_context__ = True
    frames = []
    entry = value.__traceback__
    while entry is not None and _package(entry) not in _OWN:
        frames.append(entry)
        entry = entry.tb_next
    if all(_package(frame) in _OF_PYTEST for frame in frames):
        return f"{type(value).__name__}: {value}"
    shortened = None
    for frame in reversed(frames):
        shortened = TracebackType(shortened, frame.tb_frame, frame.tb_lasti, frame.tb_lineno)
    call.excinfo = pytest.ExceptionInfo.from_exception(value.with_traceback(shortened))
    return ""


def _package(entry: TracebackType) -> str:
    return str(entry.tb_frame.f_globals.get("__name__", "")).partition(".")[0]


@dataclass
class Collected:
    """Records of all tests, whichever process ran them."""

    began: float
    gates: list[Mapping[str, Any]] = field(default_factory=list)
    measurements: list[Mapping[str, Any]] = field(default_factory=list)
    explanations: list[Mapping[str, Any]] = field(default_factory=list)
    baselines: list[Mapping[str, Any]] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    arms: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    ledger: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    failed_otherwise: list[str] = field(default_factory=list)
    document: dict[str, Any] | None = None
    paths: list[Path] = field(default_factory=list)
    problem: str = ""

    @property
    def empty(self) -> bool:
        """Whether no test measured anything."""
        asked = self.gates or self.measurements or self.explanations or self.failed_otherwise
        return not (asked or any(arm.get("diagnostics") for arm in self.arms.values()))

    @property
    def weakened(self) -> list[Mapping[str, Any]]:
        """Gates whose verdict does not hold in the family of all gates."""
        from fairtest.gates.family import weakened

        return weakened([] if self.document is None else self.document["gates"])

    def add(self, record: Mapping[str, Any]) -> None:
        """Takes in the record of one test."""
        from fairtest.experiments.diagnosis_records import joined

        record = self._told_apart(record)
        self.gates += record["gates"]
        self.measurements += record["measurements"]
        self.explanations += record.get("explanations", [])
        self.baselines += record.get("baselines", [])
        self.failed_otherwise += record.get("failed_otherwise", [])
        self.problem = record.get("problem", "") or self.problem
        for name, arm in record["arms"].items():
            if arm or name not in self.arms:
                # One test may have diagnosed an arm that another only compared, or by other groups.
                own = {key: value for key, value in arm.items() if not key.startswith("diagnostics")}
                self.arms[name] = joined({**self.arms.get(name, {}), **own}, arm)
        for digest, run in record["ledger"].items():
            known = self.ledger.get(digest)
            if known is None or known["seconds"] is None:
                self.ledger[digest] = run

    def _told_apart(self, record: Mapping[str, Any]) -> Mapping[str, Any]:
        """The record with other names for arms that an earlier test gave the same name under other settings (a marker,
        another project): a report must not show one's epsilon beside the other's verdict.
        """
        test = str(record.get("test", ""))
        names = {}
        for name, arm in record["arms"].items():
            choices = [name, *(f"{name} ({place})" for place in (test.rpartition("::")[2], test) if place)]
            own = arm.get("run")
            free = (one for one in choices if own is None or self.arms.get(one, {}).get("run", own) == own)
            names[name] = next(free, choices[-1])
        if all(name == new for name, new in names.items()):
            return record
        sides = ("candidate", "reference", "arm")

        def renamed(row: Mapping[str, Any]) -> dict[str, Any]:
            new = {key: names.get(value, value) if key in sides else value for key, value in row.items()}
            if "levels" in row:
                new["levels"] = {names.get(name, name): level for name, level in row["levels"].items()}
            return new

        rows = {key: [renamed(row) for row in record.get(key, [])] for key in ("gates", "measurements", "explanations")}
        return {**record, **rows, "arms": {names[name]: arm for name, arm in record["arms"].items()}}

    def build(self, settings: Settings) -> dict[str, Any]:
        """The result document."""
        from fairtest.gates.family import with_family
        from fairtest.reports import build_document

        return build_document(
            gates=with_family(self.gates),
            measurements=self.measurements,
            arms=self.arms,
            ledger=self.ledger,
            failed_otherwise=self.failed_otherwise,
            explanations=self.explanations,
            settings=settings,
            seconds=time.monotonic() - self.began,
        )

    def write(self, settings: Settings, *, page: bool) -> None:
        """Writes report.json and report.md, and the summary of a GitHub job where there is one.

        `page`: report.html and metrics.txt (OpenMetrics) too; drawing takes a second that nobody else should wait for.
        """
        from fairtest.reports import dump, write_text
        from fairtest.reports.markdown import render
        from fairtest.reports.pull_request import append_summary

        self.document = self.build(settings)
        directory = Path(settings.report_dir)
        self.paths = [
            write_text(directory / "report.json", dump(self.document)),
            write_text(directory / "report.md", render(self.document)),
        ]
        append_summary(self.document)
        if page:
            from fairtest.reports import openmetrics
            from fairtest.reports.html import missing, write_html

            write_text(directory / "metrics.txt", openmetrics.render(self.document))
            if missing():
                self.lines.append(f'report.html needs {" and ".join(missing())}: pip install "fairtest[reports]"')
            else:
                self.paths.append(write_html(directory / "report.html", self.document))

    def rows(self, width: int) -> list[tuple[str, str]]:
        """(verdict, line) of the summary table."""
        from fairtest.reports.terminal import summary_rows

        gates = self.gates if self.document is None else self.document["gates"]
        return summary_rows(gates, width) if gates else []

    def footer(self, here: Path) -> list[str]:
        """Totals, and where the report is."""
        from fairtest.reports.terminal import explanation_notes, notes, totals

        lines = [self.problem] if self.problem else []
        if self.document is not None:
            lines += notes(self.document["gates"])
            lines += explanation_notes(self.document["explanations"])
            lines += self.lines
            lines.append(totals(self.document["summary"]))
        if self.document is not None and os.environ.get("GITHUB_ACTIONS") == "true":
            from fairtest.reports.pull_request import workflow_commands

            lines += workflow_commands(self.document)
        if self.paths:
            shown = [path.relative_to(here) if path.is_relative_to(here) else path for path in self.paths]
            lines.append("report: " + ", ".join(map(str, shown)))
        return lines
