"""Rows into a file, one by one, and a file that is there whole or not at all."""

from __future__ import annotations

import contextlib
import csv
import datetime as dt
import decimal
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any, Protocol

from fairtest.errors import CorpusError

_BATCH_ROWS, _BATCH_CHARACTERS = 1_000, 8_000_000


class Writer(Protocol):
    """Takes rows one by one; `where` is the place of the row they come from, for messages."""

    def write(self, values: Mapping[str, Any], where: str) -> None:
        """Takes one row."""

    def finish(self) -> None:
        """Writes what is left."""

    def close(self) -> None:
        """Closes the file, finished or not."""


@contextlib.contextmanager
def whole_or_absent(path: Path) -> Iterator[Path]:
    """A path beside `path` to write to. It becomes `path` at the end, unless the block raises or removes it: then
    nothing is left.

    Raises:
        CorpusError: it cannot be written.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield partial
        if partial.exists():
            partial.replace(path)
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            raise
        raise CorpusError(
            f"the corpus cannot be written: {error.strerror or error}",
            where=str(path),
            fix="choose a writable directory with enough space",
        ) from error
    finally:
        with contextlib.suppress(OSError):
            partial.unlink()


def writer_of(suffix: str, path: Path, source: str) -> Writer:
    """The writer for a suffix of `FORMATS`. `source` is what the rows come from: a Parquet file's types are kept."""
    if suffix == ".parquet":
        return _ParquetRows(path, source)
    return _Delimited(path, FORMATS[suffix]) if FORMATS[suffix] else _JsonLines(path)


# The suffixes that can be written, with the delimiter of those that have one.
FORMATS = {".jsonl": "", ".ndjson": "", ".csv": ",", ".tsv": "\t", ".parquet": ""}


class _JsonLines:
    def __init__(self, path: Path) -> None:
        self._file: IO[str] = path.open("w", encoding="utf-8", newline="\n")

    def write(self, values: Mapping[str, Any], where: str) -> None:
        self._file.write(_json(values, where) + "\n")

    def finish(self) -> None:
        self._file.flush()

    def close(self) -> None:
        self._file.close()


class _Delimited:
    """The columns are those of the first row."""

    def __init__(self, path: Path, delimiter: str) -> None:
        self._file: IO[str] = path.open("w", encoding="utf-8", newline="")
        self._writer = csv.writer(self._file, delimiter=delimiter)
        self._columns: list[str] | None = None

    def write(self, values: Mapping[str, Any], where: str) -> None:
        if self._columns is None:
            self._columns = list(values)
            self._writer.writerow(self._columns)
        _require_known(values, self._columns, where)
        self._writer.writerow([_cell(values.get(column), where) for column in self._columns])

    def finish(self) -> None:
        self._file.flush()

    def close(self) -> None:
        self._file.close()


class _ParquetRows:
    """The columns and their types are those of a Parquet source, or follow from the first rows."""

    def __init__(self, path: Path, source: str) -> None:
        self._path, self._source = path, source
        self._rows: list[dict[str, Any]] = []
        self._first = self._last = ""
        self._characters = 0
        self._schema: Any = None
        self._writer: Any = None

    def write(self, values: Mapping[str, Any], where: str) -> None:
        self._first = self._first or where
        self._last = where
        self._rows.append(dict(values))
        self._characters += len(values["text"] or "")
        if self._schema is not None:
            _require_known(values, self._schema.names, where)
        if len(self._rows) >= _BATCH_ROWS or self._characters >= _BATCH_CHARACTERS:
            self._flush()

    def finish(self) -> None:
        if self._rows:
            self._flush()

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()

    def _flush(self) -> None:
        import pyarrow as pa
        from pyarrow import parquet

        try:
            if self._writer is None:
                self._schema = _schema(self._rows, self._source)
                self._writer = parquet.ParquetWriter(self._path, self._schema)
            self._writer.write_table(pa.Table.from_pylist(self._rows, schema=self._schema))
        except (pa.ArrowException, TypeError, OverflowError) as error:
            raise CorpusError(
                f"a Parquet column has one type, and the records do not agree on it: {str(error).splitlines()[0]}",
                where=f"{self._first} to {self._last}",
                fix="write a .jsonl file, which takes any record",
            ) from error
        self._rows, self._first, self._characters = [], "", 0


def _schema(rows: list[dict[str, Any]], source: str) -> Any:
    import pyarrow as pa
    from pyarrow import parquet

    own = {"text": pa.string(), "view": pa.int64(), "reason": pa.string(), "record": pa.int64()}
    given: dict[str, Any] = {}
    if source.lower().endswith(".parquet"):
        schema = parquet.read_schema(Path(source).expanduser())
        given = dict(zip(schema.names, schema.types, strict=True))
    fields = []
    for name in dict.fromkeys(name for row in rows for name in row):
        kind = own.get(name) or given.get(name) or pa.array([row.get(name) for row in rows]).type
        fields.append((name, pa.string() if pa.types.is_null(kind) else kind))
    return pa.schema(fields)


def _require_known(values: Mapping[str, Any], columns: list[str], where: str) -> None:
    unknown = [name for name in values if name not in columns]
    if unknown:
        raise CorpusError(
            f"column {unknown[0]!r} was in no record before this one, and a table's columns are fixed by then",
            where=where,
            fix="write a .jsonl file, which takes any record",
        )


def _cell(value: Any, where: str) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else _json(value, where)


def _json(value: Any, where: str) -> str:
    def plain(other: Any) -> Any:
        if isinstance(other, (dt.date, dt.time)):
            return other.isoformat()
        if isinstance(other, decimal.Decimal):
            return str(other)
        if hasattr(other, "tolist"):  # arrays and scalars of numpy
            return other.tolist()
        raise CorpusError(
            f"a value of type {type(other).__name__} cannot be written as text",
            where=where,
            fix="remove the column, or write a .parquet file",
        )

    return json.dumps(value, ensure_ascii=False, default=plain)
