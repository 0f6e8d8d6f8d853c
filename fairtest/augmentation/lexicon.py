"""Word lists of an axis: read once from readable data files, and checked."""

from __future__ import annotations

import csv
import functools
import hashlib
import io
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import resources
from types import MappingProxyType

from fairtest.errors import AugmentationError

WAYS = ("both", "to_feminine", "to_masculine", "context")


@dataclass(frozen=True, slots=True)
class Term:
    """A word and what stands for it in the counterfactual.

    `reversible`: swapping the counterpart gives the word back (her and his: by their context).
    """

    word: str
    counterpart: str
    kind: str
    reversible: bool
    note: str = ""


@dataclass(frozen=True, slots=True)
class Phrase:
    """Words that are not swapped: "fixed" keeps the phrase as it is, "false" leaves the whole record alone."""

    text: str
    effect: str
    note: str


def read_terms(text: str, where: str) -> Mapping[str, Term]:
    """Terms by lower-case word, from CSV with the columns masculine, feminine, way, kind, note.

    `way` is "both" (either word gives the other), "to_feminine" or "to_masculine" (one direction; the way back
    gives another word), or "context" (which word it gives is read from the sentence).

    Raises:
        AugmentationError: a column is missing, a way is unknown, a word is empty, is its own counterpart, or is to
            be swapped by two rows.
    """
    terms: dict[str, Term] = {}
    lines: dict[str, int] = {}
    for line, row in _rows(text, ("masculine", "feminine", "way", "kind", "note"), where):
        masculine, feminine, way = row["masculine"], row["feminine"], row["way"]
        if way not in WAYS:
            raise AugmentationError(
                f"unknown way {way!r}", where=f"{where}, line {line}", fix=f"give one of {', '.join(WAYS)}"
            )
        if not masculine or not feminine or masculine == feminine:
            raise AugmentationError(
                f"{masculine!r} and {feminine!r} are no pair of words",
                where=f"{where}, line {line}",
                fix="give two different words, or remove the row",
            )
        # him -> her -> him: the context that chose the pronoun also chooses the way back.
        reversible = way in ("both", "context") or row["kind"] == "pronoun"
        pairs = []
        if way != "to_masculine":
            pairs.append((masculine, feminine))
        if way != "to_feminine":
            pairs.append((feminine, masculine))
        for word, counterpart in pairs:
            if word in terms:
                raise AugmentationError(
                    f"{word!r} is swapped by two rows: {terms[word].counterpart!r} (line {lines[word]}) "
                    f"and {counterpart!r} (line {line})",
                    where=where,
                    fix="keep one of them, or give the other row one direction (to_feminine, to_masculine)",
                )
            terms[word] = Term(word, counterpart, row["kind"], reversible, row["note"])
            lines[word] = line
    return MappingProxyType(terms)


def read_names(text: str, where: str) -> Mapping[str, str]:
    """First names by name, one to one in both directions, from CSV with the columns masculine, feminine.

    Raises:
        AugmentationError: a column is missing, or a name occurs twice.
    """
    partners: dict[str, str] = {}
    for line, row in _rows(text, ("masculine", "feminine"), where):
        for name, partner in ((row["masculine"], row["feminine"]), (row["feminine"], row["masculine"])):
            if name in partners:
                raise AugmentationError(
                    f"the name {name!r} occurs twice, so names would not swap one to one",
                    where=f"{where}, line {line}",
                    fix="keep one of its partners",
                )
            partners[name] = partner
    return MappingProxyType(partners)


def read_phrases(text: str, where: str) -> tuple[Phrase, ...]:
    """Phrases that are not swapped, from CSV with the columns phrase, effect, note.

    Raises:
        AugmentationError: a column is missing, or an effect is neither "fixed" nor "false".
    """
    phrases = []
    for line, row in _rows(text, ("phrase", "effect", "note"), where):
        if row["effect"] not in ("fixed", "false"):
            raise AugmentationError(
                f"unknown effect {row['effect']!r}", where=f"{where}, line {line}", fix="give fixed or false"
            )
        phrases.append(Phrase(row["phrase"], row["effect"], row["note"]))
    return tuple(phrases)


@functools.cache
def terms(axis: str = "gender") -> Mapping[str, Term]:
    """The axis' own terms by lower-case word."""
    return read_terms(_data(f"{axis}_terms.csv"), f"{axis}_terms.csv")


@functools.cache
def names(axis: str = "gender") -> Mapping[str, str]:
    """The axis' first names and their partners."""
    return read_names(_data(f"{axis}_names.csv"), f"{axis}_names.csv")


@functools.cache
def phrases(axis: str = "gender") -> tuple[Phrase, ...]:
    """The axis' phrases that are not swapped."""
    return read_phrases(_data(f"{axis}_contexts.csv"), f"{axis}_contexts.csv")


@functools.cache
def word_lists(axis: str = "gender") -> Mapping[str, frozenset[str]]:
    """The closed-class and governing words that decide ambiguous terms, by list name."""
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    document = tomllib.loads(_data(f"{axis}_words.toml"))
    return MappingProxyType({name: frozenset(words.split()) for name, words in document.items()})


@functools.cache
def lexicon_digest(axis: str = "gender") -> str:
    """SHA-256 of the axis' data files: changes whenever a word does."""
    files = (f"{axis}_terms.csv", f"{axis}_names.csv", f"{axis}_contexts.csv", f"{axis}_words.toml")
    return hashlib.sha256("\0".join(_data(name) for name in files).encode()).hexdigest()


def _data(name: str) -> str:
    return resources.files("fairtest.augmentation").joinpath("data").joinpath(name).read_text(encoding="utf-8")


def _rows(text: str, columns: tuple[str, ...], where: str) -> Iterable[tuple[int, dict[str, str]]]:
    reader = csv.DictReader(io.StringIO(text, newline=""))
    missing = [column for column in columns if column not in (reader.fieldnames or ())]
    if missing:
        raise AugmentationError(
            f"column {', '.join(missing)} is missing", where=where, fix=f"the first line names {', '.join(columns)}"
        )
    for row in reader:
        yield reader.line_num, {column: (row[column] or "").strip() for column in columns}
