"""File formats to rows, one at a time: a corpus may be larger than memory (a JSON list alone is read as a whole). A row
knows where it stands, so that an error can say it.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from fairtest.errors import CorpusError

Records = Literal["line", "paragraph"]
UTF8_FIX = "save the file as UTF-8"
_LONGEST_FIELD = 2**31 - 1
_BATCH = 256  # rows of a Parquet file that are in memory at a time
_BUFFER = 2**16


@dataclass(frozen=True, slots=True)
class Row:
    """One record as it was found: `where` for people, `values` by column."""

    where: str
    values: Mapping[str, Any]


@dataclass(slots=True)
class Meter:
    """How far a source has been read, in bytes or in records; without a total, nobody knows how much there is."""

    done: int = 0
    total: int | None = None
    unit: Literal["bytes", "records"] = "bytes"

    def restart(self, total: int | None) -> None:
        """Counts records from now on."""
        self.done, self.total, self.unit = 0, total, "records"


class _CheckedBytes(io.RawIOBase):
    """The bytes of a file, checked to be UTF-8 as they pass: a decoder behind it could not say where it stopped."""

    def __init__(self, path: Path, meter: Meter) -> None:
        self._path, self._meter = path, meter
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._read = self._line_feeds = 0
        try:
            self._file = path.open("rb", buffering=0)
        except OSError as error:
            raise _unreadable(path, error) from error
        meter.total = path.stat().st_size or None  # a pipe has no size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            count = self._file.readinto(buffer) or 0
        except OSError as error:
            raise _unreadable(self._path, error) from error
        data = bytes(memoryview(buffer)[:count])
        pending = len(self._decoder.getstate()[0])
        try:
            self._decoder.decode(data, final=not count)
        except UnicodeDecodeError as error:
            place = error.start - pending
            line = self._line_feeds + data.count(b"\n", 0, max(place, 0)) + 1
            raise CorpusError(
                f"byte 0x{error.object[error.start]:02x} is not valid UTF-8",
                where=f"{self._path}, line {line}, byte {self._read + place}",
                fix=UTF8_FIX,
            ) from error
        self._read += count
        self._line_feeds += data.count(b"\n")
        self._meter.done = self._read
        return count

    def close(self) -> None:
        if hasattr(self, "_file"):
            self._file.close()
        super().close()


def open_text(path: Path, newline: str | None, meter: Meter | None = None) -> io.TextIOWrapper:
    """A UTF-8 file without its byte order mark; `newline` as for `open`.

    Raises:
        CorpusError: now or while it is read: it cannot be read, or is not UTF-8 (the message has line and byte offset).
    """
    checked = _CheckedBytes(path, Meter() if meter is None else meter)
    return io.TextIOWrapper(io.BufferedReader(checked), encoding="utf-8-sig", newline=newline)


def text_rows(path: Path, text_field: str, records: Records, meter: Meter | None = None) -> Iterator[Row]:
    """One row per line that is not blank, or per paragraph (lines between blank lines, kept as lines)."""
    start, block = 0, list[str]()
    with open_text(path, None, meter) as lines:
        for number, ended in enumerate(lines, start=1):
            line = ended.removesuffix("\n")
            if not line.strip():
                if block:
                    yield Row(f"{path}, line {start}", {text_field: "\n".join(block)})
                start, block = 0, []
            elif records == "line":
                yield Row(f"{path}, line {number}", {text_field: line})
            else:
                start = start or number
                block.append(line)
    if block:
        yield Row(f"{path}, line {start}", {text_field: "\n".join(block)})


def json_lines_rows(path: Path, meter: Meter | None = None) -> Iterator[Row]:
    """One row per line that is not blank; each is a JSON object. Only a line feed ends a line."""
    with open_text(path, "\n", meter) as lines:
        for number, ended in enumerate(lines, start=1):
            line = ended.removesuffix("\n")
            if line.strip():
                where = f"{path}, line {number}"
                yield Row(where, _object(_parsed(line, where), where))


def json_rows(path: Path, meter: Meter | None = None) -> Iterator[Row]:
    """One row per object of a JSON list."""
    with open_text(path, "", meter) as file:
        value = _parsed(file.read(), str(path))
    if not isinstance(value, list):
        raise CorpusError(
            f"a JSON corpus must be a list of objects, got {_kind(value)}",
            where=str(path),
            fix='write [{"text": "..."}, ...], or one object a line in a .jsonl file',
        )
    yield from object_rows(value, str(path), "", meter, strings=False)


def csv_rows(path: Path, delimiter: str, meter: Meter | None = None) -> Iterator[Row]:
    """One row per record of a delimited file with a header line; fields quoted as RFC 4180 says."""
    with open_text(path, "", meter) as lines:
        yield from _delimited(csv.reader(lines, delimiter=delimiter, strict=True), path)


def _delimited(reader: Any, path: Path) -> Iterator[Row]:
    header: list[str] | None = None
    end = 0
    while True:
        where = f"{path}, line {end + 1}"
        before = csv.field_size_limit(_LONGEST_FIELD)  # of the whole process, so it is set for the moment alone
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise CorpusError(
                f"malformed record: {error}", where=where, fix='quote a field with "...", and double a quote inside it'
            ) from error
        finally:
            csv.field_size_limit(before)
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


def parquet_rows(path: Path, meter: Meter | None = None) -> Iterator[Row]:
    """One row per record of a Parquet file."""
    import pyarrow as pa
    from pyarrow import parquet

    number = 0
    try:
        # Without these, a whole row group is in memory at once, which may be the whole file.
        with parquet.ParquetFile(path, buffer_size=_BUFFER, pre_buffer=False) as file:
            meter = Meter() if meter is None else meter
            meter.restart(file.metadata.num_rows)
            for batch in file.iter_batches(batch_size=_BATCH):
                for values in batch.to_pylist():
                    number += 1
                    meter.done = number
                    yield Row(f"{path}, record {number}", values)
    except (pa.ArrowException, OSError) as error:
        raise CorpusError(
            f"not a readable Parquet file: {_first_line(error)}", where=str(path), fix="write the file again"
        ) from error


def object_rows(
    items: Iterable[Any], label: str, text_field: str, meter: Meter | None = None, *, strings: bool = True
) -> Iterator[Row]:
    """One row per mapping, or string, of a collection."""
    meter = Meter() if meter is None else meter
    meter.restart(len(items) if isinstance(items, Sized) else None)
    for number, item in enumerate(items, start=1):
        where = f"{label}, record {number}"
        meter.done = number
        yield Row(where, {text_field: item} if strings and isinstance(item, str) else _object(item, where))


def file_rows(path: Path, text_field: str, records: Records, meter: Meter | None = None) -> Iterator[Row]:
    """The rows of a file, by its suffix.

    Raises:
        CorpusError: the suffix is unknown, or the content is not what the suffix says.
    """
    readers: dict[str, Callable[[], Iterator[Row]]] = {
        ".txt": lambda: text_rows(path, text_field, records, meter),
        ".jsonl": lambda: json_lines_rows(path, meter),
        ".ndjson": lambda: json_lines_rows(path, meter),
        ".json": lambda: json_rows(path, meter),
        ".csv": lambda: csv_rows(path, ",", meter),
        ".tsv": lambda: csv_rows(path, "\t", meter),
        ".parquet": lambda: parquet_rows(path, meter),
    }
    suffix = path.suffix.lower()
    if suffix not in readers:
        raise CorpusError(
            f"unknown corpus format {path.suffix!r}",
            where=str(path),
            fix=f"known formats: {', '.join(readers)}, a directory of datasets.save_to_disk, hf:owner/name",
        )
    return readers[suffix]()


def _unreadable(path: Path, error: OSError) -> CorpusError:
    return CorpusError(
        f"cannot read the corpus: {error.strerror or error}", where=str(path), fix="check the file's permissions"
    )


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
