"""What every benchmark prints with: a table of fixed width, and the machine it ran on."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from pathlib import Path


def print_cells(cells: Sequence[tuple[str, ...]], header: Sequence[str]) -> None:
    """Rows of text under lines of `header`; the first row names the columns, the first column the case: a blank line
    stands between cases. The last column, a note, is not padded.
    """
    print("\n".join(header))
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for index, line in enumerate(cells):
        if index and line[0] != cells[index - 1][0]:
            print()
        texts = [
            cell.ljust(w) if i < 2 else cell.rjust(w) for i, (cell, w) in enumerate(zip(line, widths, strict=True))
        ]
        print("  ".join([*texts[:-1], line[-1]]).rstrip())


def number(value: float | None, form: str) -> str:
    """A value as text, "-" where there is none."""
    return "-" if value is None else format(value, form)


def processor() -> str:
    """The processor's name, or what kind it is."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.machine()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())
