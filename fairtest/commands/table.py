"""The coverage of a corpus as lines of a terminal."""

from __future__ import annotations

from fairtest.augmentation import Coverage


def coverage_lines(coverage: Coverage) -> list[str]:
    """One line for each row: what was counted, how many, and which share that is."""
    rows = [(label, f"{count:,}", share) for label, count, share in coverage.rows()]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    return [
        f"  {label:<{widths[0]}}  {count:>{widths[1]}}  {share:>{widths[2]}}".rstrip() for label, count, share in rows
    ]
