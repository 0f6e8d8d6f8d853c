"""Any source of text records to a `Corpus` of privacy units."""

from __future__ import annotations

import difflib
import json
import math
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from numbers import Real
from pathlib import Path
from typing import Any

from fairtest.corpora.formats import Meter, Records, Row, file_rows, object_rows
from fairtest.corpora.hub import PREFIX, load_hub_dataset, load_saved_dataset
from fairtest.corpora.units import Corpus, Record, group_into_units
from fairtest.errors import CorpusError, PrivacyWarning, warn_user
from fairtest.specs import UNITS

# The columns that counterfactual augmentation adds to a corpus.
AUGMENTED = {"view", "reason", "record"}


def read_corpus(
    source: object,
    *,
    text_field: str = "text",
    unit_field: str | None = None,
    unit: str | None = None,
    name: str | None = None,
    records: Records = "line",
    drop_empty: bool = False,
) -> Corpus:
    """Reads records and groups them into privacy units.

    Args:
        source: a path (.txt, .jsonl, .ndjson, .json, .csv, .tsv, .parquet, or a directory written by
            `datasets.save_to_disk`), "hf:owner/name[/configuration][:split]", a `datasets.Dataset`, or a list of
            strings or mappings.
        text_field: the column with the text; a text file has no columns.
        unit_field: the column whose value names the privacy unit: records with the same value are one unit. None: every
            record is a unit, with its position in the source ("0", "1", ...) as its id; in a corpus that `fairtest cda
            apply` wrote, the views of a record are one unit.
        unit: what a unit is called, "record", "document" or "user". None: by the column's name, or "record".
        name: name of the corpus; the file's name by default.
        records: of a text file: "line" (one record per line that is not blank) or "paragraph".
        drop_empty: leave out records whose text is empty, blank or null, instead of an error.

    A record's id is its `id` column where every record has one and no two are equal, else its position. All columns
    but the text are kept as `fields`, as text; empty ones and nulls are left out.

    Raises:
        CorpusError: there is no such source, it is malformed or has no records, a record has no text or no unit, or a
            unit is written in two ways.
    """
    _require_unit_name(unit, unit_field)
    if unit_field is not None and unit_field == text_field:
        raise CorpusError(
            f"text_field and unit_field are both {text_field!r}",
            where="unit_field",
            fix="name the column with a person's or document's identifier",
        )
    label, rows = stream_rows(source, text_field=text_field, records=records)
    found: list[tuple[int, Row, str]] = []
    total = 0
    for position, row in enumerate(rows):
        total += 1
        text = row_text(row, text_field, drop_empty=drop_empty)
        if text is not None:
            found.append((position, row, text))
    if not found:
        reason = "every record is empty" if total else "the corpus has no records"
        raise CorpusError(reason, where=label, fix="give a source with at least one text")
    ids = _record_ids([row for _, row, _ in found], [position for position, _, _ in found])
    texts = [
        Record(record_id, text, row_fields(row, text_field))
        for record_id, (_, row, text) in zip(ids, found, strict=True)
    ]
    if unit_field is None and all(row.values.keys() >= AUGMENTED for _, row, _ in found):
        # Views of one record, as `fairtest cda apply` writes them: no split may part them, no claim count them apart.
        unit_ids = [_unit(row, "record") for _, row, _ in found]
    elif unit_field is None:
        unit_ids = [str(position) for position, _, _ in found]
    else:
        unit_ids = [_unit(row, unit_field) for _, row, _ in found]
        _require_one_spelling(unit_ids, f"{label}, field {unit_field!r}")
    units = group_into_units(texts, unit_ids)
    return Corpus(name or Path(label).name, units, unit or unit_field or "record", named=unit_field is not None)


def _require_unit_name(unit: str | None, unit_field: str | None) -> None:
    if unit is not None and unit not in UNITS:
        raise CorpusError(
            f"unit must be one of {', '.join(UNITS)}, got {unit!r}", where="read_corpus(unit=)", fix="give one"
        )
    if unit == "user" and unit_field is None:
        raise CorpusError(
            "the privacy unit is a user, and no column names the user of a record",
            where="read_corpus(unit=, unit_field=)",
            fix="set unit_field to the column with the user's identifier",
        )
    if unit == "record" and unit_field is not None:
        raise CorpusError(
            f"the privacy unit is a record, and unit_field={unit_field!r} groups records into larger ones",
            where="read_corpus(unit=, unit_field=)",
            fix="leave unit_field out, or call the unit user or document",
        )


def stream_rows(
    source: object, *, text_field: str = "text", records: Records = "line", meter: Meter | None = None
) -> tuple[str, Iterator[Row]]:
    """The name of a source (as for `read_corpus`) and its rows, read one by one while they are asked for; `meter`
    follows. Their texts are not looked at yet: `row_text` does.

    Raises:
        CorpusError: there is no such source; while rows are asked for: it is malformed.
    """
    if records not in ("line", "paragraph"):
        raise CorpusError(
            f"records must be 'line' or 'paragraph', got {records!r}", where="read_corpus(records=)", fix="give one"
        )
    if isinstance(source, str) and source.startswith(PREFIX):
        return source, _dataset_rows(load_hub_dataset(source), source, text_field, meter)
    if isinstance(source, (str, Path)):
        path = Path(source).expanduser()
        if path.is_dir():
            return str(path), _dataset_rows(load_saved_dataset(path), str(path), text_field, meter)
        if not path.exists():
            near = difflib.get_close_matches(path.name, _names(path.parent), n=1)
            raise CorpusError(
                f"there is no corpus at {str(source)!r}",
                where=str(path.absolute()),
                fix=f"did you mean {str(path.with_name(near[0]))!r}?" if near else "check the path",
            )
        return str(path), file_rows(path, text_field, records, meter)
    if hasattr(source, "column_names") and isinstance(source, Iterable):
        return "dataset", _dataset_rows(source, "dataset", text_field, meter)
    if isinstance(source, (list, tuple)):
        return "records", object_rows(source, "records", text_field, meter)
    raise CorpusError(
        f"a corpus cannot be read from {type(source).__name__}",
        where="corpus",
        fix="give a path, hf:owner/name, a datasets.Dataset, or a list of strings or mappings",
    )


def _dataset_rows(dataset: Any, label: str, text_field: str, meter: Meter | None) -> Iterator[Row]:
    if isinstance(dataset, Mapping):
        splits = ", ".join(map(str, dataset))
        raise CorpusError(f"the dataset has several splits: {splits}", where=label, fix="give one of them")
    return object_rows(dataset, label, text_field, meter)


def _names(directory: Path) -> list[str]:
    try:
        return [child.name for child in directory.iterdir()]
    except OSError:  # no such directory either: then there is nothing to suggest
        return []


def _column(row: Row, field: str, setting: str) -> Any:
    if field not in row.values:
        columns = ", ".join(map(repr, row.values)) or "none"
        raise CorpusError(
            f"there is no column {field!r}; columns here: {columns}",
            where=row.where,
            fix=f"set {setting} to one of them",
        )
    return row.values[field]


def row_text(row: Row, text_field: str, *, drop_empty: bool = False) -> str | None:
    """The row's text; None where it is empty, blank or null and such rows are to be dropped.

    Raises:
        CorpusError: there is no such column, or it holds no text.
    """
    value = _column(row, text_field, "text_field")
    where = f"{row.where}, field {text_field!r}"
    if value is None or (isinstance(value, str) and not value.strip()):
        if drop_empty:
            return None
        raise CorpusError(
            "the text is null" if value is None else "the text is empty",
            where=where,
            fix="remove the record, or leave such records out with read_corpus(..., drop_empty=True)",
        )
    if not isinstance(value, str):
        raise CorpusError(
            f"the text must be a string, got {type(value).__name__} {str(value)[:40]!r}",
            where=where,
            fix="set text_field to the column with the text, or write the text as a string",
        )
    return _encodable(value, where)


def _encodable(value: str, where: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise CorpusError(
            f"character {error.start} is half of a surrogate pair, which is no text",
            where=where,
            fix="write the whole character, or remove it",
        ) from error
    return value


def _unit(row: Row, unit_field: str) -> str:
    value = _column(row, unit_field, "unit_field")
    where = f"{row.where}, field {unit_field!r}"
    if value is None or (isinstance(value, str) and not value.strip()):
        raise CorpusError(
            "the record has no privacy unit", where=where, fix="name the person or document it belongs to, or remove it"
        )
    identifies = isinstance(value, str) or (isinstance(value, Real) and math.isfinite(value))
    if isinstance(value, bool) or not identifies:
        raise CorpusError(
            f"a privacy unit must be a string or a number, got {type(value).__name__} {str(value)[:40]!r}",
            where=where,
            fix="set unit_field to a column of identifiers",
        )
    return _encodable(_as_text(value), where)


def _require_one_spelling(unit_ids: Iterable[str], where: str) -> None:
    """No two units are one, written with other white space or in another form of Unicode: a person would be clipped,
    sampled and held out as two. Letters of another case may well tell two apart, and are warned of.

    Raises:
        CorpusError: two are.
    """
    seen: dict[str, str] = {}
    folded: dict[str, str] = {}
    for unit_id in dict.fromkeys(unit_ids):
        plain = unicodedata.normalize("NFKC", " ".join(unit_id.split()))
        if seen.setdefault(plain, unit_id) != unit_id:
            raise CorpusError(
                f"privacy units {seen[plain]!r} and {unit_id!r} read the same and are not: one person would be counted"
                " as two",
                where=where,
                fix="write each identifier in one way: no white space around it, one form of Unicode (NFC)",
            )
        folded.setdefault(plain.casefold(), unit_id)
    if len(folded) < len(seen):
        first, other = next((folded[p.casefold()], one) for p, one in seen.items() if folded[p.casefold()] != one)
        warn_user(
            f"{where}: privacy units {first!r} and {other!r} differ in upper and lower case alone; if they are one"
            " person, epsilon is not that person's: write the identifier in one way",
            PrivacyWarning,
        )


def _record_ids(rows: list[Row], positions: list[int]) -> list[str]:
    given = [row.values.get("id") for row in rows]
    if all(isinstance(value, (str, int)) and not isinstance(value, bool) and value != "" for value in given):
        ids = [str(value) for value in given]
        if len(set(ids)) == len(ids):
            return ids
    return [str(position) for position in positions]


def row_fields(row: Row, text_field: str) -> dict[str, str]:
    """The row's other columns as text, without empty ones and nulls: the `fields` of its `Record`.

    Raises:
        CorpusError: one of them holds half of a surrogate pair.
    """
    others = {key: _as_text(value) for key, value in row.values.items() if key != text_field and value is not None}
    return {key: _encodable(text, f"{row.where}, field {key!r}") for key, text in others.items() if text}


def _as_text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, float) and math.isfinite(value) and value.is_integer():
        return str(int(value))  # 7.0 and 7 name one unit: tables make floats of whole numbers where some are missing
    if isinstance(value, (bool, dict, list)):
        return json.dumps(value, ensure_ascii=False, default=str)
    return str(value)
