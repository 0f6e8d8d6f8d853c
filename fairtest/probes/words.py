"""A user's own list of words: one word or phrase a line, or a column of a table."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from fairtest.errors import ProbeError

_COLUMNS = ("word", "lemma")
_TABLES = {".csv": ",", ".tsv": "\t"}


def read_words(path: Path) -> tuple[str, ...]:
    """The words in the order of the file, each once.

    A .csv or .tsv file has a column `word` or `lemma`; any other file has one word or phrase a line, and lines that
    begin with # are left out.

    Raises:
        ProbeError: no such file, no UTF-8, no such column, or no word.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise ProbeError("there is no such list of words", where=str(path), fix="check the path") from error
    except OSError as error:
        what = f"the list of words cannot be read: {error.strerror or error}"
        raise ProbeError(what, where=str(path), fix="check its permissions") from error
    except UnicodeDecodeError as error:
        what = f"the list of words is not UTF-8: {error.reason}"
        raise ProbeError(what, where=str(path), fix="save it as UTF-8") from error
    delimiter = _TABLES.get(path.suffix.lower())
    lines = text.splitlines() if delimiter is None else _column(text, delimiter, path)
    words = dict.fromkeys(line.strip() for line in lines if line.strip() and not line.startswith("#"))
    if not words:
        raise ProbeError("the list of words is empty", where=str(path), fix="give one word or phrase a line")
    return tuple(words)


def _column(text: str, delimiter: str, path: Path) -> list[str]:
    reader = csv.DictReader(io.StringIO(text), delimiter=delimiter)
    header = list(reader.fieldnames or ())
    name = next((name for name in _COLUMNS if name in header), None)
    if name is None:
        raise ProbeError(
            f"no column {' or '.join(map(repr, _COLUMNS))}; columns found: {', '.join(map(repr, header)) or 'none'}",
            where=f"{path}:1",
            fix="name the column of the words 'word', or give one word a line in a .txt file",
        )
    return [row[name] or "" for row in reader]
