"""Rows of the scoring benchmark: how they are filled, printed and written."""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path

from _table import number, print_cells, processor

LARGEST_ERROR = 1e-3


@dataclass
class Row:
    """One line of the table; None where there is nothing to say.

    `ratio` is the time over fairtest's, `error` the largest difference in log-likelihood (nats) of a text from the loop
    that scores one text at a time, `decisions` the pairs whose likelier text is the other one, `of_limit` the share of
    the time that no program can beat.
    """

    case: str
    method: str
    seconds: float | None = None
    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    peak_mib: float | None = None
    error: float | None = None
    decisions: int | None = None
    of_limit: float | None = None
    note: str = ""

    @property
    def wrong(self) -> bool:
        """Whether the method computed something else than the loop."""
        return bool(self.decisions) or (self.error is not None and not self.error < LARGEST_ERROR)


def fill_times(row: Row, pairs: Sequence[tuple[float, float]]) -> None:
    """Median seconds; median, smallest and largest ratio of a method to fairtest right before or after it."""
    ratios = [second / first for first, second in pairs]
    row.seconds = statistics.median(second for _, second in pairs)
    row.ratio, row.low, row.high = statistics.median(ratios), min(ratios), max(ratios)


def compare(row: Row, found: Sequence[float], expected: Sequence[float]) -> None:
    """Fills `error` and `decisions`; texts come two by two."""
    differences = [abs(one - other) for one, other in zip(found, expected, strict=True)]
    row.error = max(differences)
    decided, right = (
        [more > less for more, less in zip(scores[::2], scores[1::2], strict=True)] for scores in (found, expected)
    )
    row.decisions = sum(one != other for one, other in zip(decided, right, strict=True))


def machine(threads: int) -> str:
    """The facts that figures depend on."""
    names = ("torch", "transformers", "tokenizers", "lm-eval", "minicons")
    versions = [f"{name} {version}" for name in names if (version := _version(name))]
    cores = f"{os.cpu_count()} cores, {threads} threads"
    return ", ".join((processor(), cores, f"Python {platform.python_version()}", *versions))


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def print_table(rows: Sequence[Row], header: Sequence[str]) -> None:
    """Fixed-width text on standard output, a blank line between cases."""
    names = ("case", "method", "s", "ratio", "(min-max)", "peak MiB", "largest error", "decisions", "of limit", "")
    print_cells([names, *map(_cells, rows)], header)


def _cells(row: Row) -> tuple[str, ...]:
    return (
        row.case,
        row.method,
        number(row.seconds, ".2f"),
        number(row.ratio, ".2f"),
        "" if row.low is None or row.high is None else f"({row.low:.2f}-{row.high:.2f})",
        number(row.peak_mib, ".0f"),
        number(row.error, ".0e"),
        "-" if row.decisions is None else "equal" if row.decisions == 0 else f"{row.decisions} differ",
        number(row.of_limit, ".0%"),
        row.note,
    )


def write_json(rows: Sequence[Row], path: Path) -> None:
    """A list of the rows; null where nothing was measured."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n", encoding="utf-8")
    partial.replace(path)
