"""`fairtest cda apply`: a corpus with its counterfactuals, one line a view."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from fairtest.augmentation import Coverage, CoverageCounter
from fairtest.commands.table import coverage_lines
from fairtest.commands.viewing import Viewed, requested, viewed
from fairtest.commands.writers import FORMATS, whole_or_absent, writer_of
from fairtest.errors import AugmentationError, CorpusError
from fairtest.specs import CDA

NOTHING_CHANGED = 1
ADDED = ("view", "reason", "record")


def apply(options: argparse.Namespace) -> int:
    """Writes the corpus and says on standard error what became of it; 1, and no file, where nothing was changed.

    Raises:
        FairtestError: the corpus, its texts, an axis or the place of the result are at fault.
    """
    out = Path(options.out).expanduser()
    suffix = _checked_suffix(out, options.corpus, force=options.force)
    cda = requested(options)
    counter = CoverageCounter()
    with whole_or_absent(out) as partial:
        with closing(writer_of(suffix, partial, options.corpus)) as writer:
            for record in viewed(options, cda):
                counter.add(record.found)
                for values in _lines(record, options.field):
                    writer.write(values, record.row.where)
            writer.finish()
        coverage = counter.coverage()
        if not coverage.changed and not options.allow_unchanged:
            partial.unlink()
    sys.stderr.writelines(f"{line}\n" for line in coverage_lines(coverage))
    if message := coverage.warning():
        sys.stderr.write(f"warning: {message}\n")
    if not coverage.changed and not options.allow_unchanged:
        sys.stderr.write(f"fairtest: {_nothing_changed(coverage, options.corpus, cda)}\n")
        return NOTHING_CHANGED
    sys.stderr.write(_summary(coverage, out, cda))
    return 0


def _lines(record: Viewed, field: str) -> Iterator[dict[str, Any]]:
    given = record.row.values
    taken = [name for name in (*ADDED, "text") if name in given and not name == field == "text"]
    if taken:
        raise CorpusError(
            f"the corpus has a column {taken[0]!r} of its own, and one of that name is to be written",
            where=record.row.where,
            fix="give it another name; if this corpus was written by `fairtest cda apply`, give the one it came from",
        )
    for view in record.found.views:
        # A blank or null text stays what it was.
        text = view.text if record.text else given[field]
        values = {("text" if name == field else name): (text if name == field else given[name]) for name in given}
        yield values | {"view": view.number, "reason": record.found.reason, "record": record.position}


def _checked_suffix(out: Path, corpus: str, *, force: bool) -> str:
    suffix = out.suffix.lower()
    if suffix not in FORMATS:
        raise CorpusError(
            f"unknown format {out.suffix!r} of the corpus to write",
            where=str(out),
            fix=f"known formats: {', '.join(FORMATS)}",
        )
    source = Path(corpus).expanduser()
    if out.exists() and source.exists() and out.samefile(source):
        raise CorpusError(
            "a corpus cannot be written over the one it is made from", where=str(out), fix="give another OUT"
        )
    if out.is_dir():
        raise CorpusError("there is a directory of this name", where=str(out), fix="give the name of a file")
    if out.exists() and not force:
        raise CorpusError("the file exists", where=str(out), fix="give another name, or replace it with --force")
    if not out.parent.is_dir():
        raise CorpusError(
            "there is no such directory to write to", where=str(out.parent), fix="make it, or give another OUT"
        )
    return suffix


def _nothing_changed(coverage: Coverage, corpus: str, cda: CDA) -> AugmentationError:
    told = "; ".join(f"{reason}: {count}" for reason, count in sorted(coverage.unchanged_by_reason.items()))
    return AugmentationError(
        f"counterfactual augmentation changed none of {coverage.records} records ({told}); nothing was written",
        where=f"{corpus}, axes {', '.join(cda.axes)}",
        fix="give a corpus that mentions people, or write it as it is with --allow-unchanged",
    )


def _summary(coverage: Coverage, out: Path, cda: CDA) -> str:
    wrote = f"wrote {coverage.views:,} views of {coverage.records:,} records to {out}\n"
    if cda.mode == "substitute":
        return wrote
    return (
        f"{wrote}The views of a record must stay one privacy unit: train with unit_field =\n"
        '"record", or with the column that names your users or documents; as records of\n'
        "their own, a claimed epsilon would not hold.\n"
    )
