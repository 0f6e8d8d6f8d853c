"""File formats to rows. A row knows where it stands, so that an error can say it."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from fairtest.errors import CorpusError

Records = Literal["line", "paragraph"]
UTF8_FIX = "save the file as UTF-8"
_LONGEST_FIELD = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Row:
    """One record as it was found: `where` for people, `values` by column."""

    where: str
    values: Mapping[str, Any]


def read_text(path: Path) -> str:
    """The text of a UTF-8 file, without a byte order mark.

    Raises:
        CorpusError: it cannot be read, or is not UTF-8 (the message has line and byte offset).
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CorpusError(
            f"cannot read the corpus: {error.strerror or error}", where=str(path), fix="check the file's permissions"
        ) from error
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        offset = error.start
        line = data.count(b"\n", 0, offset) + 1
        raise CorpusError(
            f"byte 0x{data[offset]:02x} is not valid UTF-8", where=f"{path}, line {line}, byte {offset}", fix=UTF8_FIX
        ) from error


def text_rows(path: Path, text_field: str, records: Records) -> Iterator[Row]:
    """One row per line that is not blank, or per paragraph (lines between blank lines, kept as lines)."""
    lines = read_text(path).replace("\r\n", "\n").replace("\r", "\n").split("\n")
    if records == "line":
        for number, line in enumerate(lines, start=1):
            if line.strip():
                yield Row(f"{path}, line {number}", {text_field: line})
        return
    start, block = 0, list[str]()
    for number, line in enumerate([*lines, ""], start=1):
        if line.strip():
            start = start or number
            block.append(line)
        elif block:
            yield Row(f"{path}, line {start}", {text_field: "\n".join(block)})
            start, block = 0, []


def json_lines_rows(path: Path) -> Iterator[Row]:
    """One row per line that is not blank; each is a JSON object. Only a line feed ends a line."""
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if line.strip():
            where = f"{path}, line {number}"
            yield Row(where, _object(_parsed(line, where), where))


def json_rows(path: Path) -> Iterator[Row]:
    """One row per object of a JSON list."""
    value = _parsed(read_text(path), str(path))
    if not isinstance(value, list):
        raise CorpusError(
            f"a JSON corpus must be a list of objects, got {_kind(value)}",
            where=str(path),
            fix='write [{"text": "..."}, ...], or one object a line in a .jsonl file',
        )
    for number, item in enumerate(value, start=1):
        where = f"{path}, record {number}"
        yield Row(where, _object(item, where))


def csv_rows(path: Path, delimiter: str) -> Iterator[Row]:
    """One row per record of a delimited file with a header line; fields quoted as RFC 4180 says."""
    text = read_text(path)
    before = csv.field_size_limit(_LONGEST_FIELD)
    try:
        yield from _delimited(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True), path)
    finally:
        csv.field_size_limit(before)


def _delimited(reader: Any, path: Path) -> Iterator[Row]:
    header: list[str] | None = None
    end = 0
    while True:
        where = f"{path}, line {end + 1}"
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise CorpusError(
                f"malformed record: {error}", where=where, fix='quote a field with "...", and double a quote inside it'
            ) from error
        end = reader.line_num
        if not cells:
            continue
        if header is None:
            header = cells
            twice = sorted({name for name in header if header.count(name) > 1})
            if twice:
                raise CorpusError(
                    f"column {twice[0]!r} occurs more than once", where=where, fix="give every column its own name"
                )
            continue
        if len(cells) != len(header):
            raise CorpusError(
                f"the record has {len(cells)} fields, the header has {len(header)}",
                where=where,
                fix="quote fields that hold the delimiter or a line break",
            )
        yield Row(where, dict(zip(header, cells, strict=True)))


def parquet_rows(path: Path) -> Iterator[Row]:
    """One row per record of a Parquet file."""
    import pyarrow as pa
    from pyarrow import parquet

    try:
        table = parquet.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise CorpusError(
            f"not a readable Parquet file: {_first_line(error)}", where=str(path), fix="write the file again"
        ) from error
    for number, values in enumerate(table.to_pylist(), start=1):
        yield Row(f"{path}, record {number}", values)


def object_rows(items: Iterable[Any], label: str, text_field: str) -> Iterator[Row]:
    """One row per string or mapping of an in-memory collection."""
    for number, item in enumerate(items, start=1):
        where = f"{label}, record {number}"
        yield Row(where, {text_field: item} if isinstance(item, str) else _object(item, where))


def file_rows(path: Path, text_field: str, records: Records) -> Iterator[Row]:
    """The rows of a file, by its suffix.

    Raises:
        CorpusError: the suffix is unknown, or the content is not what the suffix says.
    """
    readers: dict[str, Callable[[], Iterator[Row]]] = {
        ".txt": lambda: text_rows(path, text_field, records),
        ".jsonl": lambda: json_lines_rows(path),
        ".ndjson": lambda: json_lines_rows(path),
        ".json": lambda: json_rows(path),
        ".csv": lambda: csv_rows(path, ","),
        ".tsv": lambda: csv_rows(path, "\t"),
        ".parquet": lambda: parquet_rows(path),
    }
    suffix = path.suffix.lower()
    if suffix not in readers:
        raise CorpusError(
            f"unknown corpus format {path.suffix!r}",
            where=str(path),
            fix=f"known formats: {', '.join(readers)}, a directory of datasets.save_to_disk, hf:owner/name",
        )
    return readers[suffix]()


def _parsed(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        line = f", line {error.lineno}" if "\n" in text.strip() else ""
        raise CorpusError(
            f"invalid JSON: {error.msg} at column {error.colno}", where=f"{where}{line}", fix="correct the JSON"
        ) from error
    except (ValueError, RecursionError) as error:
        raise CorpusError(f"invalid JSON: {_first_line(error)}", where=where, fix="correct the JSON") from error


def _object(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise CorpusError(
            f"a record must be an object with named fields, got {_kind(value)}",
            where=where,
            fix='write {"text": "..."}',
        )
    return value


def _kind(value: Any) -> str:
    return "null" if value is None else f"{type(value).__name__} {str(value)[:40]!r}"


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
