"""Readers of an axis' word lists: TOML or CSV to terms and phrases, checked for contradictions.

A row has one word a group. In TOML:

    groups = ["young", "old"]

    [[terms]]
    words = ["teenager", "pensioner"]
    kind = "noun"           # optional
    way = "both"            # optional: "to_old" swaps only into that group, "from_old" only out of it
    with = "person"         # optional: only where a word of [lists].person follows within two words

    [[phrases]]
    text = "Young Street"
    effect = "fixed"        # or "false": a swap of the paragraph that says this would say something false

    [lists]
    person = "man woman people"

In CSV the columns way, kind, with and note are optional, and every other column is a group.
"""

from __future__ import annotations

import csv
import difflib
import io
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from fairtest.augmentation.lexicon import FALSE, FIXED, Phrase, Term, parse_toml
from fairtest.errors import AugmentationError

Terms = Mapping[str, tuple[Term, ...]]

_OPTIONAL = ("way", "kind", "with", "note")
# A word may be both of these in one group (a Christian, a Christian man); the sentence decides.
_WORD_CLASSES = {"noun", "adjective"}
# Rows whose ways back depend on the sentence: he him, his her.
_BY_CONTEXT = "pronoun"


@dataclass(frozen=True, slots=True)
class _Row:
    where: str
    words: tuple[str, ...]
    way: str
    kind: str
    note: str
    with_words: frozenset[str] = frozenset()


def read_csv(text: str, where: str) -> tuple[tuple[str, ...], Terms]:
    """(groups, terms) of a CSV file with a header.

    Raises:
        AugmentationError: fewer than two groups, or a row that is malformed or contradicts another one.
    """
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        lines = [(reader.line_num, cells) for cells in reader if any(cell.strip() for cell in cells)]
    except csv.Error as error:
        raise AugmentationError(
            f"malformed row: {error}", where=f"{where}, line {reader.line_num}", fix='quote a cell with "..."'
        ) from error
    header = [cell.strip() for cell in lines[0][1]] if lines else []
    groups = _checked_groups([name for name in header if name not in _OPTIONAL], f"{where}, line 1")
    rows = []
    for line, cells in lines[1:]:
        place = f"{where}, line {line}"
        if len(cells) != len(header):
            raise AugmentationError(
                f"the row has {len(cells)} cells, the header has {len(header)}",
                where=place,
                fix="give one word a group, and quote a cell that holds a comma",
            )
        row = {name: cell.strip() for name, cell in zip(header, cells, strict=True)}
        if row.get("with"):
            raise AugmentationError(
                "a CSV file has no list of words that `with` could name",
                where=place,
                fix="write the axis as TOML with a [lists] table",
            )
        words = tuple(row[name] for name in groups)
        rows.append(_Row(place, words, row.get("way", ""), row.get("kind", ""), row.get("note", "")))
    return groups, _terms(rows, groups, where)


def read_toml(content: str, where: str) -> tuple[tuple[str, ...], Terms, tuple[Phrase, ...]]:
    """(groups, terms, phrases) of a TOML file.

    Raises:
        AugmentationError: it is no TOML, has unknown keys, or a row is malformed or contradicts another one.
    """
    document = parse_toml(content, where)
    _known(document, ("groups", "terms", "phrases", "lists"), where)
    names = document.get("groups")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise AugmentationError(
            "the axis names no groups", where=f"{where}, groups", fix='write groups = ["young", "old"]'
        )
    groups = _checked_groups(names, f"{where}, groups")
    lists = {name: _words_of(value, f"{where}, lists.{name}") for name, value in _table(document, "lists", where)}
    rows = [
        _toml_row(item, groups, lists, f"{where}, term {number}")
        for number, item in enumerate(_tables(document, "terms", where), start=1)
    ]
    phrases = []
    for number, item in enumerate(_tables(document, "phrases", where), start=1):
        place = f"{where}, phrase {number}"
        _known(item, ("text", "effect", "note"), place)
        text, effect, note = (_string(item, key, place) for key in ("text", "effect", "note"))
        phrases.append(_phrase(text, effect, note, place))
    return groups, _terms(rows, groups, where), tuple(phrases)


def read_phrases(text: str, where: str) -> tuple[Phrase, ...]:
    """Phrases that are not swapped, from CSV with the columns phrase, effect, note.

    Raises:
        AugmentationError: a column is missing, or an effect is neither "fixed" nor "false".
    """
    return tuple(
        _phrase(row["phrase"], row["effect"], row["note"], f"{where}, line {line}")
        for line, row in _csv_rows(text, ("phrase", "effect", "note"), where)
    )


def read_names(text: str, where: str) -> Mapping[str, str]:
    """First names by name, one to one in both directions, from CSV with the columns masculine, feminine.

    Raises:
        AugmentationError: a column is missing, or a name occurs twice.
    """
    partners: dict[str, str] = {}
    for line, row in _csv_rows(text, ("masculine", "feminine"), where):
        for name, partner in ((row["masculine"], row["feminine"]), (row["feminine"], row["masculine"])):
            if name in partners:
                raise AugmentationError(
                    f"the name {name!r} occurs twice, so names would not swap one to one",
                    where=f"{where}, line {line}",
                    fix="keep one of its partners",
                )
            partners[name] = partner
    return MappingProxyType(partners)


def key_of(word: str) -> str:
    """How a word is looked up: lower case, straight apostrophes, single spaces and plain hyphens."""
    return " ".join(word.lower().replace("\u2019", "'").replace(" @-@ ", "-").split())


def _terms(rows: Iterable[_Row], groups: tuple[str, ...], where: str) -> Terms:
    found: dict[str, list[tuple[Term, str]]] = {}
    columns: dict[str, tuple[int, str]] = {}
    elsewhere: dict[str, list[tuple[int, str]]] = {}
    for row in rows:
        counterparts = _counterparts(row, groups)
        for group, word in enumerate(row.words):
            if not word:
                continue
            elsewhere.setdefault(key_of(word), []).append((group, row.where))
            if not _is_swapped(row.way, groups[group]):
                continue
            term = Term(word, group, counterparts[group], row.kind, (), row.with_words, row.note)
            _require_one_row([item for item in found.get(key_of(word), []) if item[0].group == group], term, row.where)
            found.setdefault(key_of(word), []).append((term, row.where))
            columns.setdefault(key_of(word), (group, row.where))
    for key, (group, place) in columns.items():
        for other, other_place in elsewhere[key]:
            if other != group:
                raise AugmentationError(
                    f"{key!r} is a word of group {groups[group]!r} ({place}) and of group {groups[other]!r}"
                    f" ({other_place}): swapping would go round in a circle",
                    where=where,
                    fix="keep the word in one group, or leave a group's cell empty",
                )
    if not found:
        raise AugmentationError("the axis has no words", where=where, fix="give rows of one word a group")
    return MappingProxyType({key: tuple(_with_ways_back(term, found) for term, _ in own) for key, own in found.items()})


def _counterparts(row: _Row, groups: tuple[str, ...]) -> list[tuple[str, ...]]:
    """What stands for the row's word of each group in each group."""
    filled = [word for word in row.words if word]
    if len(filled) < 2 or len({key_of(word) for word in filled}) < len(filled):
        raise AugmentationError(
            f"{' and '.join(map(repr, row.words))} are no row of different words",
            where=row.where,
            fix="give a different word for at least two groups, or remove the row",
        )
    direction, _, name = row.way.partition("_")
    if row.way not in ("", "both", "context") and (direction not in ("to", "from") or name not in groups):
        ways = ["both", *(f"to_{group}" for group in groups), *(f"from_{group}" for group in groups)]
        raise AugmentationError(f"unknown way {row.way!r}", where=row.where, fix=f"give one of {', '.join(ways)}")
    if direction == "to":
        target = groups.index(name)
        return [
            tuple(word if place in (group, target) else "" for place, word in enumerate(row.words))
            for group in range(len(groups))
        ]
    return [row.words] * len(groups)


def _is_swapped(way: str, group: str) -> bool:
    direction, _, name = way.partition("_")
    if direction == "to":
        return group != name
    return group == name if direction == "from" else True


def _require_one_row(others: list[tuple[Term, str]], term: Term, place: str) -> None:
    kinds = {term.kind, *(other.kind for other, _ in others)}
    if others and not (len(others) == 1 and kinds == _WORD_CLASSES):
        other, other_place = others[0]
        raise AugmentationError(
            f"{term.word!r} is swapped by two rows: {_told(other)} ({other_place}) and {_told(term)} ({place})",
            where=place,
            fix="keep one of them, give the other row one direction (to_GROUP, from_GROUP), or call one row noun and "
            "the other adjective",
        )


def _told(term: Term) -> str:
    return " / ".join(repr(word) for group, word in enumerate(term.counterparts) if word and group != term.group)


def _with_ways_back(term: Term, found: Mapping[str, list[tuple[Term, str]]]) -> Term:
    back = []
    for counterpart in term.counterparts:
        own = [other for other, _ in found.get(key_of(counterpart), []) if other.kind == term.kind]
        same = any(key_of(other.counterparts[term.group]) == key_of(term.word) for other in own)
        back.append(same or (term.kind == _BY_CONTEXT and bool(counterpart)))
    return replace(term, reversible=tuple(back))


def _toml_row(
    item: Mapping[str, Any], groups: tuple[str, ...], lists: Mapping[str, frozenset[str]], place: str
) -> _Row:
    _known(item, ("words", *_OPTIONAL), place)
    words = item.get("words")
    if not isinstance(words, list) or len(words) != len(groups) or not all(isinstance(word, str) for word in words):
        raise AugmentationError(
            f"words must be {len(groups)} strings, one a group ({', '.join(groups)}), got {words!r}",
            where=place,
            fix='write "" for a group that has no such word',
        )
    wanted = _string(item, "with", place)
    if wanted and wanted not in lists:
        raise AugmentationError(
            f"`with` names the list {wanted!r}, which is not there",
            where=place,
            fix=f'write [lists] with {wanted} = "..."; lists there: {", ".join(lists) or "none"}',
        )
    way, kind, note = (_string(item, key, place) for key in ("way", "kind", "note"))
    stripped = tuple(word.strip() for word in words)
    return _Row(place, stripped, way, kind, note, lists[wanted] if wanted else frozenset())


def _phrase(text: str, effect: str, note: str, place: str) -> Phrase:
    if effect not in (FIXED, FALSE):
        raise AugmentationError(f"unknown effect {effect!r}", where=place, fix="give fixed or false")
    if not any(character.isalnum() for character in text):
        raise AugmentationError(f"a phrase without a word: {text!r}", where=place, fix="write its words")
    return Phrase(text, effect, note)


def _checked_groups(names: list[str], place: str) -> tuple[str, ...]:
    if len(names) < 2 or len(set(names)) < len(names) or not all(names):
        raise AugmentationError(
            f"an axis has at least two groups, each with a name of its own, got {', '.join(names) or 'none'}",
            where=place,
            fix="name the groups, for example young and old",
        )
    return tuple(names)


def _known(table: Mapping[str, Any], keys: tuple[str, ...], place: str) -> None:
    for key in table:
        if key not in keys:
            near = difflib.get_close_matches(key, keys, n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise AugmentationError(f"unknown key {key!r}", where=place, fix=f"{hint}known keys: {', '.join(keys)}")


def _string(table: Mapping[str, Any], key: str, place: str) -> str:
    value = table.get(key, "")
    if not isinstance(value, str):
        raise AugmentationError(f"{key} must be a string, got {value!r}", where=place, fix="write it in quotes")
    return value.strip()


def _tables(document: Mapping[str, Any], key: str, where: str) -> list[Mapping[str, Any]]:
    value = document.get(key, [])
    if not isinstance(value, list) or not all(isinstance(item, Mapping) for item in value):
        raise AugmentationError(f"{key} must be tables", where=f"{where}, {key}", fix=f"write [[{key}]] before each")
    return value


def _table(document: Mapping[str, Any], key: str, where: str) -> Iterable[tuple[str, Any]]:
    value = document.get(key, {})
    if not isinstance(value, Mapping):
        raise AugmentationError(f"{key} must be a table", where=f"{where}, {key}", fix=f"write [{key}]")
    return value.items()


def _words_of(value: Any, place: str) -> frozenset[str]:
    if not isinstance(value, str):
        raise AugmentationError(
            "a list must be words in one string", where=place, fix='write name = "man woman people"'
        )
    return frozenset(value.lower().split())


def _csv_rows(text: str, columns: tuple[str, ...], where: str) -> Iterator[tuple[int, dict[str, str]]]:
    reader = csv.DictReader(io.StringIO(text, newline=""))
    missing = [column for column in columns if column not in (reader.fieldnames or ())]
    if missing:
        raise AugmentationError(
            f"column {', '.join(missing)} is missing", where=where, fix=f"the first line names {', '.join(columns)}"
        )
    for row in reader:
        yield reader.line_num, {column: (row[column] or "").strip() for column in columns}
