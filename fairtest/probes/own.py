"""A user's own probes: a CSV, TSV or JSONL file with one item a row.

Columns, in any order; others are ignored:

- `sent_more` and `sent_less`, or `stereotype` and `anti_stereotype`, and perhaps `unrelated`: the sentences
- `context`, perhaps: a sentence with the word BLANK in it once; the columns above then hold what BLANK stands for
- `axis`, `category` or `bias_type`: what a metric asks for in brackets; without such a column all items have axis "all"
- `cluster` or `target`: items that are not independent of each other have the same one; without such a column, items
  share a cluster where they share a sentence or a context
- `template`: a second cluster, crossed with the first; `id`: a name of the item, else the number of its row from 1

A column that is there is filled in every row. CSV is quoted as usual, TSV not at all, and JSONL has one object a line;
all of them are UTF-8. The set is named as the file was named, so that a metric of it can be asked for by that name.
"""

from __future__ import annotations

import csv
import difflib
import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fairtest.errors import ProbeError
from fairtest.probes.linked import first_linked
from fairtest.probes.probe import ANTI_STEREOTYPE, STEREOTYPE, UNRELATED, Probe, ProbeSet

SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson")
NO_AXIS = "all"
_TEXTS = {
    STEREOTYPE: ("stereotype", "sent_more"),
    ANTI_STEREOTYPE: ("anti_stereotype", "anti-stereotype", "sent_less"),
    UNRELATED: ("unrelated",),
}
_OTHERS = {
    "context": ("context",),
    "axis": ("axis", "category", "bias_type"),
    "cluster": ("cluster", "target"),
    "template": ("template",),
    "id": ("id",),
}
_KNOWN = tuple(name for names in (*_TEXTS.values(), *_OTHERS.values()) for name in names)
_BLANK = re.compile(r"\bBLANK\b")
_FIX = "give the columns sent_more, sent_less, category or context, stereotype, anti_stereotype, unrelated"
_Row = tuple[int, Mapping[str, str]]  # number of the line, cells by column


def is_probe_file(name: str) -> bool:
    """Whether a probe set of that name is a file."""
    return name.lower().endswith(SUFFIXES)


def read_own_probes(path: Path, *, name: str | None = None) -> ProbeSet:
    """The probes of a user's file; `name` is the name of the set, else the path as given.

    Raises:
        ProbeError: no such file, a file of another kind or of prompts, a missing or unknown column, an empty cell, a
            context without BLANK, two equal sentences in one item, or two items with one id. The message names file and
            line.
    """
    header, rows = _read(path)
    _require_no_prompts(header, path)
    columns = _columns(header, f"{path}:1")
    if not rows:
        raise ProbeError("the file has no items, only a header", where=str(path), fix="give one item a line")
    items = [_item(columns, cells, f"{path}:{line}") for line, cells in rows]
    ids = [item.id or str(number) for number, item in enumerate(items, start=1)]
    _unlike(ids, [line for line, _ in rows], path)
    firsts = first_linked([(*item.texts.values(), *filter(None, [item.context])) for item in items])
    probes = tuple(
        Probe(probe_id, item.axis, item.cluster or ids[first], item.texts, item.template)
        for probe_id, item, first in zip(ids, items, firsts, strict=True)
    )
    return ProbeSet(name or str(path), "file", "own", str(path), probes, "as its owner allows")


@dataclass(frozen=True)
class _Item:
    id: str
    axis: str
    cluster: str
    template: str
    context: str
    texts: Mapping[str, str]


def _item(columns: Mapping[str, str], cells: Mapping[str, str], where: str) -> _Item:
    found: dict[str, str] = {}
    for part, column in columns.items():
        found[part] = cells.get(column, "").strip()
        if not found[part]:
            raise ProbeError(f"{column!r} is empty", where=where, fix="fill it, or leave the column out in every row")
    texts = {role: found[role] for role in _TEXTS if role in found}
    if context := found.get("context", ""):
        texts = {role: _filled(context, text, columns[role], where) for role, text in texts.items()}
    roles = list(texts)
    for index, role in enumerate(roles):
        for other in roles[:index]:
            if texts[role] == texts[other]:
                raise ProbeError(
                    f"{columns[other]!r} and {columns[role]!r} are the same text: {texts[role][:60]!r}",
                    where=where,
                    fix="give texts that differ; equal ones always tie",
                )
    return _Item(
        id=found.get("id", ""),
        axis=found.get("axis", NO_AXIS),
        cluster=found.get("cluster", ""),
        template=found.get("template", ""),
        context=context,
        texts=texts,
    )


def _filled(context: str, text: str, column: str, where: str) -> str:
    blanks = len(_BLANK.findall(context))
    if blanks != 1:
        raise ProbeError(
            f"'context' has the word BLANK {blanks} times: {context[:60]!r}",
            where=where,
            fix="write BLANK once, where the other columns' words go",
        )
    before, after = _BLANK.split(context)
    said = before + after
    if any(map(str.isalnum, said)) and text.lower().startswith(before.lower()) and text.lower().endswith(after.lower()):
        raise ProbeError(
            f"{column!r} is a whole sentence, and 'context' is there too: {text[:60]!r}",
            where=where,
            fix="leave the column context out, or give only what BLANK stands for",
        )
    return f"{before}{text}{after}"


def _require_no_prompts(header: Sequence[str], path: Path) -> None:
    if {"prompt", "group"} <= set(header) and not {name for names in _TEXTS.values() for name in names} & set(header):
        raise ProbeError(
            f"{path.name!r} is a set of prompts: a model is measured by what it writes after them",
            where=f"{path}:1",
            fix=f"say what scores it: fairtest score MODEL {path} --scorer vader, or --scorer hf:MODEL:LABEL",
        )


def _columns(header: Sequence[str], where: str) -> dict[str, str]:
    """The column of each part of an item that the file has."""
    twice = [name for index, name in enumerate(header) if name in _KNOWN and name in header[:index]]
    if twice:
        raise ProbeError(f"column {twice[0]!r} is there twice", where=where, fix="leave one of them out")
    columns: dict[str, str] = {}
    for part, names in (_TEXTS | _OTHERS).items():
        there = [name for name in names if name in header]
        if len(there) > 1:
            raise ProbeError(
                f"columns {there[0]!r} and {there[1]!r} mean the same", where=where, fix="leave one of them out"
            )
        if there:
            columns[part] = there[0]
        near = [name for name in header if not there and difflib.get_close_matches(name, names, n=1, cutoff=0.85)]
        if near and near[0] not in _KNOWN:
            raise ProbeError(
                f"unknown column {near[0]!r}", where=where, fix=f"did you mean {' or '.join(map(repr, names))}?"
            )
    for role in (STEREOTYPE, ANTI_STEREOTYPE):
        if role not in columns:
            raise ProbeError(
                f"no column {' or '.join(map(repr, _TEXTS[role]))}; columns found: "
                f"{', '.join(map(repr, header)) or 'none'}",
                where=where,
                fix=_FIX,
            )
    return columns


def _unlike(ids: Sequence[str], lines: Sequence[int], path: Path) -> None:
    seen: dict[str, int] = {}
    for probe_id, line in zip(ids, lines, strict=True):
        if probe_id in seen:
            raise ProbeError(
                f"id {probe_id!r} is there twice, in lines {seen[probe_id]} and {line}",
                where=f"{path}:{line}",
                fix="give every item an id of its own, or leave the column id out",
            )
        seen[probe_id] = line


def _read(path: Path) -> tuple[list[str], list[_Row]]:
    """(column names, rows) of the file."""
    if not is_probe_file(path.name):
        raise ProbeError(
            f"{path.name!r} is no probe file", where=str(path), fix=f"give a file that ends in {', '.join(SUFFIXES)}"
        )
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise ProbeError("there is no such probe file", where=str(path), fix="check the path") from error
    except OSError as error:
        what = f"the probe file cannot be read: {error.strerror or error}"
        raise ProbeError(what, where=str(path), fix="check its permissions") from error
    except UnicodeDecodeError as error:
        what = f"the probe file is not UTF-8: {error.reason}"
        raise ProbeError(what, where=str(path), fix="save it as UTF-8") from error
    if not text.strip():
        raise ProbeError("the probe file is empty", where=str(path), fix=_FIX)
    return _table(text, path) if path.suffix.lower() in (".csv", ".tsv") else _json_lines(text, path)


def _table(text: str, path: Path) -> tuple[list[str], list[_Row]]:
    tabs = path.suffix.lower() == ".tsv"
    reader = csv.reader(
        io.StringIO(text),
        delimiter="\t" if tabs else ",",
        quoting=csv.QUOTE_NONE if tabs else csv.QUOTE_MINIMAL,
        strict=True,
    )
    rows: list[_Row] = []
    try:
        header = [name.strip() for name in next(reader)]
        for cells in reader:
            if len(cells) > len(header):
                raise ProbeError(
                    f"{len(cells)} cells in a row, and {len(header)} columns",
                    where=f"{path}:{reader.line_num}",
                    fix="check its tabs" if tabs else "put a text that has a comma in it into double quotes",
                )
            if any(map(str.strip, cells)):
                rows.append((reader.line_num, dict(zip(header, cells, strict=False))))
    except csv.Error as error:
        where = f"{path}:{reader.line_num}"
        raise ProbeError(f"the probe file is not CSV: {error}", where=where, fix="check its quotes") from error
    return header, rows


def _json_lines(text: str, path: Path) -> tuple[list[str], list[_Row]]:
    rows: list[_Row] = []
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            rows.append((number, _json_row(line, f"{path}:{number}")))
    return list(dict.fromkeys(name for _, cells in rows for name in cells)), rows


def _json_row(line: str, where: str) -> dict[str, str]:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        what = f"the line is not a JSON object: {error.msg}"
        raise ProbeError(what, where=where, fix="give one JSON object a line") from error
    if not isinstance(row, dict):
        raise ProbeError(f"the line is a JSON {type(row).__name__}, not an object", where=where, fix=_FIX)
    cells = {}
    for name, value in row.items():
        text = isinstance(value, str) or (name == "id" and type(value) is int)
        if name in _KNOWN and value is not None and not text:
            raise ProbeError(f"{name!r} is {str(value)[:40]}, not a text", where=where, fix="give a text in quotes")
        cells[name] = str(value) if text else ""
    return cells
