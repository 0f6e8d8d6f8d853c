"""CrowS-Pairs (Nangia, Vania, Bhalerao, Bowman 2020, arXiv 2010.00133), in its original CSV format.

One item is a pair of sentences that differ in the group they are about: `sent_more` has the role `stereotype` and
`sent_less` the role `anti_stereotype` in every row. As in the paper, rows whose direction is `antistereo` (218 of 1508)
are not inverted: `sent_more` is the sentence about the historically disadvantaged group there too. The authors ask that
no model be trained on these sentences.
"""

from __future__ import annotations

import csv
from pathlib import Path

from fairtest.errors import ProbeError
from fairtest.probes.linked import first_linked
from fairtest.probes.probe import ANTI_STEREOTYPE, STEREOTYPE, Probe, ProbeSet

ITEMS = 1508
USE = "measuring only: the authors ask that no model be trained on it"
_COLUMNS = ("sent_more", "sent_less", "bias_type")
_PLACES = (
    "crows_pairs_anonymized.csv",
    "crows-pairs/crows_pairs_anonymized.csv",
    "crows_pairs/crows_pairs_anonymized.csv",
)
_FIX = "give the crows_pairs_anonymized.csv of github.com/nyu-mll/crows-pairs, data/"


def read_crows_pairs(path: Path, *, strict: bool = True) -> ProbeSet:
    """All pairs: id = row number from 0, axis = bias type as published (race-color, gender, ...).

    A pair is its own cluster, except that pairs that share a sentence (the duplicated pair) share the cluster named
    after the first of them. `path` is the CSV file, or a directory that holds `crows_pairs_anonymized.csv`,
    perhaps in a folder `crows-pairs`. `strict` asks for the published number of rows (1508); a subset is read with
    `strict=False`.

    Raises:
        ProbeError: no such file, not such a CSV, a column missing, a cell empty, or another number of rows.
    """
    file = _locate(path)
    rows = _rows(file)
    if strict and len(rows) != ITEMS:
        raise ProbeError(
            f"CrowS-Pairs has {ITEMS} pairs, and {len(rows)} were found",
            where=str(file),
            fix=f"{_FIX}; a subset is read with strict=False",
        )
    firsts = first_linked([(more, less) for _, more, less, _ in rows])
    probes = tuple(
        Probe(row_id, axis, rows[first][0], {STEREOTYPE: more, ANTI_STEREOTYPE: less})
        for (row_id, more, less, axis), first in zip(rows, firsts, strict=True)
    )
    return ProbeSet("crows_pairs", "anonymized", "CC BY-SA 4.0", str(file), probes, USE)


def _locate(path: Path) -> Path:
    for candidate in (path, *(path / place for place in _PLACES)):
        if candidate.is_file():
            return candidate
    raise ProbeError(
        "CrowS-Pairs was not found: no such file, nor crows_pairs_anonymized.csv below it", where=str(path), fix=_FIX
    )


def _rows(file: Path) -> list[tuple[str, str, str, str]]:
    """(id, sent_more, sent_less, bias_type) of every row."""
    rows: list[tuple[str, str, str, str]] = []
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream, strict=True)
            header = list(reader.fieldnames or ())
            missing = [name for name in _COLUMNS if name not in header]
            if missing:
                raise ProbeError(
                    f"CrowS-Pairs: column {missing[0]!r} is missing; columns found: {', '.join(map(repr, header))}",
                    where=f"{file}:1",
                    fix=_FIX,
                )
            for row in reader:
                cells = [row[name] or "" for name in _COLUMNS]
                for name, cell in zip(_COLUMNS, cells, strict=True):
                    if not cell.strip():
                        raise ProbeError(f"CrowS-Pairs: {name!r} is empty", where=f"{file}:{reader.line_num}", fix=_FIX)
                more, less, axis = cells
                rows.append((row.get("") or str(len(rows)), more, less, axis))
    except OSError as error:
        raise ProbeError(
            f"CrowS-Pairs cannot be read: {error.strerror or error}", where=str(file), fix="check its permissions"
        ) from error
    except UnicodeDecodeError as error:
        raise ProbeError(f"CrowS-Pairs is not UTF-8: {error.reason}", where=str(file), fix=_FIX) from error
    except csv.Error as error:
        raise ProbeError(f"CrowS-Pairs is not CSV: {error}", where=f"{file}:{reader.line_num}", fix=_FIX) from error
    return rows
