"""Rows of the calibration table: how often what was said was wrong, with exact binomial intervals."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path

from _table import print_cells, processor
from scipy.stats import binomtest


@dataclass
class Rate:
    """`hits` in `of` repetitions."""

    hits: int = 0
    of: int = 0

    def count(self, hit: object) -> None:
        self.hits += bool(hit)
        self.of += 1

    @property
    def share(self) -> float:
        return self.hits / self.of

    def interval(self) -> tuple[float, float]:
        """95%, Clopper and Pearson's."""
        found = binomtest(self.hits, self.of).proportion_ci(method="exact")
        return float(found.low), float(found.high)

    def text(self, *, independent: bool = True) -> str:
        """In percent, with its interval if repetitions are independent; "-" where nothing was counted."""
        if not self.of:
            return "-"
        if not independent:
            return f"{100 * self.share:.1f}"
        low, high = self.interval()
        return f"{100 * self.share:.1f} ({100 * low:.1f}-{100 * high:.1f})"


@dataclass
class Row:
    """One method in one case. `unchanged`: FAIL although both arms are alike; `false_fail`, `false_pass`: FAIL and PASS
    where the true change is exactly what is allowed, so that either is an error; `covered`: the interval holds the true
    change; `power`: FAIL where the change is beyond the allowed one by the stated minimum detectable effect.
    `independent`: repetitions share nothing.
    """

    case: str
    method: str
    seeds: str
    unchanged: Rate = field(default_factory=Rate)
    false_fail: Rate = field(default_factory=Rate)
    false_pass: Rate = field(default_factory=Rate)
    covered: Rate = field(default_factory=Rate)
    power: Rate = field(default_factory=Rate)
    note: str = ""
    independent: bool = True

    RATES = ("unchanged", "false_fail", "false_pass", "covered", "power")


HEADER = (
    "case",
    "method",
    "seeds",
    "n",
    "unchanged: FAIL",
    "boundary: FAIL",
    "boundary: PASS",
    "coverage",
    "power",
    "",
)


def print_table(rows: Sequence[Row], header: Sequence[str]) -> None:
    """Fixed-width text on standard output; rates in percent."""
    print_cells([HEADER, *map(_cells, rows)], header)


def _cells(row: Row) -> tuple[str, ...]:
    rates = [getattr(row, name) for name in Row.RATES]
    count = max(rate.of for rate in rates)
    return (
        row.case,
        row.method,
        row.seeds,
        str(count),
        *(rate.text(independent=row.independent) for rate in rates),
        row.note,
    )


def machine() -> str:
    """What the figures were made with; they depend on no speed."""
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("numpy", "scipy"))
    return f"{processor()}, {os.cpu_count()} cores, Python {platform.python_version()}, {versions}"


def write_json(rows: Sequence[Row], path: Path) -> None:
    """A list of rows; each rate as {hits, of}."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n", encoding="utf-8")
    partial.replace(path)
