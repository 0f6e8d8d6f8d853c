"""`fairtest cda preview`: what counterfactual augmentation would do to a corpus."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import islice

from fairtest.augmentation import CoverageCounter, View, load_axis
from fairtest.commands.differences import changes_between, difference_lines, opening_lines, painted
from fairtest.commands.table import coverage_lines
from fairtest.commands.viewing import Viewed, requested, viewed
from fairtest.specs import CDA

_WIDEST, _NARROWEST = 120, 40
_LEFT_ALONE = 6
_LEFT_ALONE_A_REASON = 2


def preview(options: argparse.Namespace) -> int:
    """Shows differences while the corpus is read, then records that are left alone, then the table; exit status 0.

    Raises:
        FairtestError: the corpus, its texts or an axis are at fault.
    """
    cda = requested(options)
    screen = _Screen(cda, options.color)
    counter = CoverageCounter()
    shown = 0
    left_alone: list[Viewed] = []
    by_reason: Counter[str | None] = Counter()
    records = viewed(options, cda)
    for record in islice(records, options.sample):
        counter.add(record.found)
        reason = record.found.reason
        if reason is None and shown < options.limit:
            screen.show_differences(record, first=not shown)
            shown += 1
        by_reason[reason] += 1
        if reason is not None and by_reason[reason] <= _LEFT_ALONE_A_REASON and len(left_alone) < _LEFT_ALONE:
            left_alone.append(record)
    records.close()
    coverage = counter.coverage()
    if not coverage.changed:
        screen.write(["No record has a counterfactual.", ""])
    if left_alone and options.limit:
        screen.show_left_alone(left_alone)
    part = f" of the first {coverage.records:,} records (--sample)" if coverage.records == options.sample else ""
    screen.write([screen.head(f"Coverage{part}"), "", *coverage_lines(coverage)])
    if message := coverage.warning():
        sys.stdout.flush()
        sys.stderr.write(f"warning: {message}\n")
    return 0


class _Screen:
    """Standard output, its width, and whether it has colour."""

    def __init__(self, cda: CDA, color: str) -> None:
        self._color = _has_color(color)
        self._width = min(_WIDEST, max(_NARROWEST, shutil.get_terminal_size((80, 24)).columns))
        # With one axis of two groups there is nothing to tell the views of a record apart by.
        self._labelled = len(cda.axes) > 1 or len(load_axis(cda.axes[0]).groups) > 2

    def head(self, text: str) -> str:
        return painted(text, "head", color=self._color)

    def note(self, text: str) -> str:
        return painted(text, "note", color=self._color)

    def write(self, lines: Iterable[str]) -> None:
        """Writes lines, above a progress bar if there is one."""
        from tqdm import tqdm

        with tqdm.external_write_mode(file=sys.stdout):
            sys.stdout.writelines(f"{line}\n" for line in lines)

    def show_differences(self, record: Viewed, *, first: bool) -> None:
        views = [view for view in record.found.views if view.number]
        lines = [self.head("Differences"), ""] if first else []
        lines.append(self._title(record, "; ".join([_count(views), *record.found.flags])))
        for view in views:
            # Changes of several axes in one view have no places in the record's own text.
            changes = view.changes or changes_between(record.text, view.text)
            if self._labelled:
                lines.append(f"  {self.note(f'{view.axis}: {view.group}')}")
            body = difference_lines(record.text, changes, self._width - 2, color=self._color)
            lines += [f"  {line}" for line in body]
        self.write([*lines, ""])

    def show_left_alone(self, records: list[Viewed]) -> None:
        lines = [self.head("Left alone"), ""]
        for record in records:
            lines.append(self._title(record, record.found.reason or ""))
            lines += [f"  {line}" for line in opening_lines(record.text, self._width - 2, 2)]
        self.write([*lines, ""])

    def _title(self, record: Viewed, note: str) -> str:
        place = record.row.where.rpartition(", ")[2]
        place = f" ({place})" if place.startswith("line ") else ""
        return f"{self.head(f'record {record.position}{place}')}  {self.note(note)}"


def _count(views: Sequence[View]) -> str:
    if len(views) > 1:
        return f"{len(views)} counterfactuals"
    words = len(views[0].changes)
    return f"{words:,} word{'' if words == 1 else 's'} changed" if words else "changed"


def _has_color(choice: str) -> bool:
    if choice != "auto":
        return choice == "always"
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
