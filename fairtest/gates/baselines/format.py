"""The text of a baseline file: sorted JSON, a line a seed, so that a diff in a code review shows what moved."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

from fairtest.gates.baselines.checks import known_names
from fairtest.gates.baselines.entry import BaselineEntry, BaselineError, BaselineKey

SCHEMA = 1
Document = dict[str, Any]
# From a schema to the next one: a function of the whole document. Nothing older than schema 1 was ever written.
MIGRATIONS: dict[int, Callable[[Document], Document]] = {}
_CONFLICT = re.compile(r"^(<{7}|>{7}|\|{7})( |$)")
_FIELDS = ("entries", "model", "schema")
_RECORD = "record it again with pytest --fairtest-update-baseline, or take the committed file back"


def dump(model: str, entries: Mapping[str, Mapping[str, Any]]) -> str:
    """The file's text, sorted throughout. `entries`: plain data by the text of their keys."""
    body = ",\n".join(f"  {_json(key)}: {_entry(entries[key])}" for key in sorted(entries))
    shown = f"{{\n{body}\n }}" if entries else "{}"
    return f'{{\n "entries": {shown},\n "model": {_json(model)},\n "schema": {SCHEMA}\n}}\n'


def parse(text: str, path: Path) -> tuple[str, dict[BaselineKey, BaselineEntry]]:
    """(model, entries) of a file's text, migrated to the present schema.

    Raises:
        BaselineError: conflict markers, invalid JSON, a newer schema, or values that cannot be.
    """
    lines = text.split("\n")
    for number, line in enumerate(lines, start=1):
        if _CONFLICT.match(line):
            raise BaselineError(
                f"a merge conflict is not resolved in the baselines: {line[:40]}",
                where=f"{path}, line {number}",
                fix="keep one side of each conflict (entries stand alone), or take one whole file and run "
                "pytest --fairtest-update-baseline=new for what it lacks",
            )
    document = _migrated(_object(text, path), path)
    try:
        model, found = _parts(document)
    except ValueError as error:
        raise BaselineError(f"the baselines cannot be: {error}", where=str(path), fix=_RECORD) from error
    read = [_read(name, data, lines, path) for name, data in found.items()]
    return model, {entry.key: entry for entry in read}


def _parts(document: Document) -> tuple[str, Document]:
    known_names("the file", list(document), _FIELDS)
    model, found = document["model"], document["entries"]
    if not isinstance(model, str) or not model:
        raise ValueError(f"'model' is no name: {model!r}")
    if not isinstance(found, dict):
        raise ValueError("'entries' is no object")  # noqa: TRY004 - it is the file's value that is wrong
    return model, found


def _read(name: str, data: object, lines: list[str], path: Path) -> BaselineEntry:
    try:
        return BaselineEntry.from_dict(BaselineKey.parse(name), data)
    except ValueError as error:
        raise BaselineError(
            f"a baseline was edited into something it cannot be: {error}",
            where=f"{path}, line {_line_of(name, lines)}, baseline {name!r}",
            fix=_RECORD,
        ) from error


def _entry(data: Mapping[str, Any]) -> str:
    fields = []
    for name in sorted(data):
        value = data[name]
        if isinstance(value, list) and not all(isinstance(item, (int, float)) for item in value):
            rows = ",\n".join(f"    {_json(row)}" for row in value)
            fields.append(f"   {_json(name)}: [\n{rows}\n   ]")
        else:
            fields.append(f"   {_json(name)}: {_json(value)}")
    return "{\n" + ",\n".join(fields) + "\n  }"


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False)


class _RepeatedNameError(ValueError):
    """An object of the file has a name twice."""


def _object(text: str, path: Path) -> Document:
    lines = text.split("\n")

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, value in pairs:
            if name in found:
                raise _RepeatedNameError(name)
            found[name] = value
        return found

    def refuse(constant: str) -> NoReturn:
        raise BaselineError(
            f"a baseline has {constant}, which is no number",
            where=f"{path}, line {_line_of(constant, lines, quoted=False)}",
            fix=_RECORD,
        )

    try:
        document = json.loads(text, object_pairs_hook=unique, parse_constant=refuse)
    except _RepeatedNameError as error:
        name = str(error)
        raise BaselineError(
            f"{name!r} is in the baselines twice (a merge may have kept both)",
            where=f"{path}, line {_line_of(name, lines, last=True)}",
            fix="remove one of the two, or " + _RECORD,
        ) from error
    except json.JSONDecodeError as error:
        raise BaselineError(
            f"the baselines are not valid JSON: {error.msg}",
            where=f"{path}, line {error.lineno}, column {error.colno}",
            fix="correct it (a comma too many or too few after a merge?), or " + _RECORD,
        ) from error
    except ValueError as error:  # a number of thousands of digits
        raise BaselineError(f"the baselines cannot be read: {error}", where=str(path), fix=_RECORD) from error
    if not isinstance(document, dict):
        raise BaselineError("the baselines are no JSON object", where=str(path), fix=_RECORD)
    return document


def _migrated(document: Document, path: Path) -> Document:
    schema = document.get("schema")
    if isinstance(schema, bool) or not isinstance(schema, int):
        raise BaselineError(
            f"the baselines have no schema version, found {schema!r}", where=f"{path}, 'schema'", fix=_RECORD
        )
    if schema > SCHEMA:
        raise BaselineError(
            f"the baselines were written by a newer fairtest (schema {schema}, this one reads up to {SCHEMA})",
            where=str(path),
            fix="upgrade fairtest to the version that wrote them",
        )
    while schema < SCHEMA:
        if schema not in MIGRATIONS:
            raise BaselineError(
                f"the baselines have schema {schema}, which no version of fairtest wrote",
                where=f"{path}, 'schema'",
                fix=_RECORD,
            )
        document = MIGRATIONS[schema](document)
        schema += 1
        document["schema"] = schema
    return document


def _line_of(name: str, lines: list[str], *, quoted: bool = True, last: bool = False) -> int:
    """The first (or last) line that has this text, 1 where the file is written in some other way."""
    wanted = _json(name) if quoted else name
    found = [number for number, line in enumerate(lines, start=1) if wanted in line]
    return (found[-1] if last else found[0]) if found else 1
