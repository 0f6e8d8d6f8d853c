"""Text and tables for a terminal: no line is wider than the terminal, nor than is good to read."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Sequence

from fairtest.augmentation import Coverage

_WIDEST = 120


def terminal_width() -> int:
    """Columns to fill: those of the terminal, 80 where there is none, at most 120."""
    return min(shutil.get_terminal_size((80, 24)).columns, _WIDEST)


def wrapped(text: str) -> list[str]:
    """The text in lines, the second and later ones indented."""
    return textwrap.wrap(text, terminal_width(), subsequent_indent="  ", break_on_hyphens=False)


def table_lines(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Aligned rows, the first column to the left and numbers to the right.

    Where they are wider than the terminal, rows `name[part]` stand below a line with their name.
    """
    widths = _widths(header, rows)
    if sum(widths) + 2 * (len(widths) - 1) <= terminal_width():
        return [_placed(row, widths) for row in (header, *rows)]
    parts = [(row[0].partition("["), row[1:]) for row in rows]
    below = [(f"  {bracket}{part}" if bracket else "  all", *cells) for (_, bracket, part), cells in parts]
    widths = _widths(header, below)
    lines = [_placed(header, widths)]
    name = ""
    for ((own, _, _), _), row in zip(parts, below, strict=True):
        if own != name:
            lines.append(own)
            name = own
        lines.append(_placed(row, widths))
    return lines


def coverage_lines(coverage: Coverage) -> list[str]:
    """One line for each row: what was counted, how many, and which share that is."""
    rows = [(label, f"{count:,}", share) for label, count, share in coverage.rows()]
    widths = _widths(rows[0], rows)
    return [f"  {_placed(row, widths)}".rstrip() for row in rows]


def _widths(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[int]:
    return [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]


def _placed(row: Sequence[str], widths: Sequence[int]) -> str:
    first, *others = (
        f"{cell:>{width}}" if place else f"{cell:<{width}}"
        for place, (cell, width) in enumerate(zip(row, widths, strict=True))
    )
    return "  ".join((first, *others)).rstrip()
