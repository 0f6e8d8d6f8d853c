"""Reads a report.json that somebody else may have made, and makes its texts safe to show."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fairtest.errors import StoreError
from fairtest.reports.document import SCHEMA

_NEEDED = {"schema", "made_at", "gates", "summary", "measurements", "arms", "settings", "environment"}
_OF_A_GATE = {
    "gate", "metric", "unit", "protocol", "candidate", "reference", "verdict", "reason", "allowed", "confidence",
    "change", "levels", "target", "seeds", "items", "clusters", "finding", "advice", "guards", "worst", "blocked",
}  # fmt: skip
_OF_A_MEASUREMENT = {"arm", "metric", "value", "low", "high", "seeds"}
_OF_AN_EXPLANATION = {"metric", "unit", "candidate", "reference", "total", "parts", "sentences", "confidence"}
_OF_A_PART = {"name", "kind", "of", "against", "value", "low", "high", "share", "says"}
# Marks that turn the direction of what follows, and would show a name as another one.
_TURNING = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_UNSHOWABLE = "\ufffd"


def read_document(path: Path) -> dict[str, Any]:
    """The result document of a report.json, or of the directory that holds one.

    Raises:
        StoreError: no such file, not JSON, no report of fairtest, or one of a newer fairtest.
    """
    if path.is_dir():
        path /= "report.json"
    where = str(path)
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise StoreError(
            f"a report cannot be read: {error.strerror or error}",
            where=where,
            fix="give the report.json that pytest --fairtest-report=DIR wrote",
        ) from error
    except (ValueError, RecursionError) as error:
        raise StoreError(
            f"a report is not JSON: {error}", where=where, fix="run the gates again, which writes it anew"
        ) from error
    schema = document.get("schema") if isinstance(document, dict) else None
    if isinstance(schema, int) and schema > SCHEMA:
        raise StoreError(
            f"this report has schema {schema}, and this fairtest knows up to {SCHEMA}",
            where=where,
            fix="render it with the fairtest that made it: pip install --upgrade fairtest",
        )
    if not _is_report(document):
        raise StoreError("this is no report of fairtest", where=where, fix="give a report.json")
    return dict(document)


def showable(value: Any) -> Any:
    """The same plain data, in its texts a replacement mark for what no page can show: control characters, halves of
    characters, and marks that turn the direction of writing.
    """
    if isinstance(value, str):
        return "".join(_shown(character) for character in value)
    if isinstance(value, Mapping):
        return {showable(key): showable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [showable(item) for item in value]
    return value


def _shown(character: str) -> str:
    if character.isascii() and character.isprintable():
        return character
    if character in "\n\t\r":
        return " "
    hidden = unicodedata.category(character) in {"Cc", "Cs", "Zl", "Zp"} or character in _TURNING
    # XML, and so an SVG, cannot hold the last two code points of a plane.
    return _UNSHOWABLE if hidden or ord(character) & 0xFFFE == 0xFFFE else character


def _is_report(document: Any) -> bool:
    if not isinstance(document, dict) or not set(document) >= _NEEDED:
        return False
    rows = {"gates": _OF_A_GATE, "measurements": _OF_A_MEASUREMENT}
    explanations = document.get("explanations", [])  # a report made before there were any has none
    lists = all(_are_rows(document[name], needed) for name, needed in rows.items())
    return (
        lists
        and _are_rows(explanations, _OF_AN_EXPLANATION)
        and all(_are_rows([one["total"]], _OF_A_PART) and _are_rows(one["parts"], _OF_A_PART) for one in explanations)
        and all(isinstance(document[name], dict) for name in ("summary", "arms", "settings", "environment"))
    )


def _are_rows(found: Any, needed: set[str]) -> bool:
    return isinstance(found, list) and all(isinstance(row, dict) and set(row) >= needed for row in found)
