"""The records of a corpus with their views, one at a time, and how far the reading is."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Generator, Iterator
from dataclasses import dataclass

from fairtest.augmentation import RecordViews, View, load_axis, record_views
from fairtest.augmentation.fraction import NOT_CHOSEN, chosen
from fairtest.corpora.formats import Meter, Row
from fairtest.corpora.readers import row_fields, row_text, stream_rows
from fairtest.errors import CorpusError, SpecError
from fairtest.specs import CDA


@dataclass(frozen=True, slots=True)
class Viewed:
    """A record with its position in the corpus and its text, "" where it is null."""

    position: int
    row: Row
    text: str
    found: RecordViews


def requested(options: argparse.Namespace) -> CDA:
    """What the options ask for. Word lists are read now, so that a fault in them is found before the corpus is read.

    Raises:
        SpecError, AugmentationError: an axis is unknown, or its file is malformed.
    """
    try:
        cda = CDA(
            axes=tuple(options.axis or ("gender",)),
            mode=options.mode,
            names=options.names,
            counterfactuals=options.counterfactuals,
            fraction=options.fraction,
            seed=options.seed,
            allow_unchanged=True,  # the command says it in its own words
        )
    except SpecError as error:
        raise SpecError(error.what, where=error.where.replace("CDA(axes=)", "--axis"), fix=error.fix) from error
    for axis in cda.axes:
        load_axis(axis)
    return cda


def viewed(options: argparse.Namespace, cda: CDA) -> Generator[Viewed, None, None]:
    """The records of the corpus, with a bar on standard error where that is a terminal.

    Raises:
        CorpusError: the corpus cannot be read, has no records, or one of them has no text.
    """
    meter = Meter()
    label, rows = stream_rows(options.corpus, text_field=options.field, records=options.records, meter=meter)
    position = -1
    for position, row in enumerate(_followed(rows, meter)):
        text = _text(row, options.field)
        if chosen(cda, [text]):
            found = record_views(text, cda, row_fields(row, options.field))
        else:
            found = RecordViews((View(0, text),), NOT_CHOSEN)
        yield Viewed(position, row, text, found)
    if position < 0:
        raise CorpusError("the corpus has no records", where=label, fix="give a source with at least one text")


def _text(row: Row, field: str) -> str:
    try:
        return row_text(row, field, drop_empty=True) or ""  # a blank record is no reason to stop
    except CorpusError as error:
        fix = error.fix.replace("set text_field", "set --field")
        raise CorpusError(error.what, where=error.where, fix=fix) from error


def _followed(rows: Iterator[Row], meter: Meter) -> Iterator[Row]:
    from tqdm import tqdm

    bar = None
    try:
        for row in rows:
            if bar is None:  # the meter knows its unit once the first row was read
                bar = tqdm(
                    total=meter.total,
                    unit="B" if meter.unit == "bytes" else " records",
                    unit_scale=True,
                    disable=None,  # unless standard error is a terminal
                    leave=False,
                    dynamic_ncols=True,
                    file=sys.stderr,
                )
            bar.update(meter.done - bar.n)
            yield row
    finally:
        if bar is not None:
            bar.close()
