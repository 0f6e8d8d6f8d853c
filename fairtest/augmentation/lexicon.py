"""Word lists of an axis, as plain data: which word stands for which, and what is never swapped."""

from __future__ import annotations

import functools
import hashlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from types import MappingProxyType
from typing import Any

from fairtest.digests import digest_of
from fairtest.errors import AugmentationError
from fairtest.specs import AUGMENTATION_AXES, AXIS_FILES

FIXED, FALSE = "fixed", "false"
# To be raised when the same word lists give other counterfactuals than before: stored runs are then not found again.
AUGMENTATION_VERSION = 2


@dataclass(frozen=True, slots=True)
class Term:
    """A word of one group, and what stands for it in each group.

    `counterparts` has a word a group, the term's own among them, and "" where a group has none. `reversible` says of
    each group whether swapping the counterpart gives the word back (her and his: by their context). `with_words`:
    swapped only where one of these follows within two words.
    """

    word: str
    group: int
    counterparts: tuple[str, ...]
    kind: str = ""
    reversible: tuple[bool, ...] = ()
    with_words: frozenset[str] = frozenset()
    note: str = ""

    @property
    def counterpart(self) -> str:
        """What stands for the word in the next group: of two groups, the other one."""
        return self.counterparts[(self.group + 1) % len(self.counterparts)]


@dataclass(frozen=True, slots=True)
class Phrase:
    """Words that are not swapped: "fixed" keeps the phrase, "false" leaves the paragraph alone that says them."""

    text: str
    effect: str
    note: str = ""


@dataclass(frozen=True)
class Lexicon:
    """All word lists of one axis.

    Args:
        axis: its name.
        groups: two or more; a counterfactual of shift s puts group (g + s) mod k in the place of group g.
        terms: by lower-case word (or words with single spaces); two of them where a word is noun and adjective.
        names: first names and their partners, one to one in both directions; of gender only.
        phrases: what is not swapped.
        digest: SHA-256 of the files: changes whenever a word does.
        by_rules: ambiguous words are decided by `disambiguation`, and names and titles are told apart; gender only.
    """

    axis: str
    groups: tuple[str, ...]
    terms: Mapping[str, tuple[Term, ...]]
    phrases: tuple[Phrase, ...] = ()
    names: Mapping[str, str] = field(default_factory=dict)
    digest: str = ""
    by_rules: bool = False


def axis_name(axis: str) -> str:
    """What an axis is called: a built-in's own name, or that of its file."""
    return axis if axis in AUGMENTATION_AXES else Path(axis).stem


def load_axis(axis: str) -> Lexicon:
    """The word lists of a built-in axis ("gender", "religion", "race") or of a user's .toml or .csv file.

    Raises:
        AugmentationError: there is no such axis or file, or its lists contradict themselves.
    """
    if axis in AUGMENTATION_AXES:
        return _built_in(axis)
    path = Path(axis).expanduser()
    if path.suffix.lower() not in AXIS_FILES:
        raise AugmentationError(
            f"unknown axis {axis!r}",
            where="CDA(axes=)",
            fix=f"known axes: {', '.join(AUGMENTATION_AXES)}, or a file of your own that ends in .toml or .csv",
        )
    try:
        found = path.stat()
        return _read_file(str(path), found.st_mtime_ns, found.st_size)
    except OSError as error:
        raise AugmentationError(
            f"the word lists of axis {axis!r} cannot be read: {error.strerror or error}",
            where=str(path.absolute()),
            fix=f"check the path; built-in axes: {', '.join(AUGMENTATION_AXES)}",
        ) from error


def lexicon_digest(axis: str = "gender") -> str:
    """SHA-256 of the axis' word lists and of the way they are used: changes whenever a counterfactual may."""
    files = _built_in_digest(axis) if axis in AUGMENTATION_AXES else load_axis(axis).digest
    return digest_of([AUGMENTATION_VERSION, files])


@functools.cache
def names() -> Mapping[str, str]:
    """First names by name, one to one in both directions."""
    from fairtest.augmentation.axis_files import read_names

    return read_names(_data("gender_names.csv"), "gender_names.csv")


@functools.cache
def word_lists(name: str = "gender_words") -> Mapping[str, frozenset[str]]:
    """The closed-class and governing words that decide ambiguous terms, by list name."""
    document = parse_toml(_data(f"{name}.toml"), f"{name}.toml")
    return MappingProxyType({key: frozenset(str(words).split()) for key, words in document.items()})


def parse_toml(text: str, where: str) -> dict[str, Any]:
    """A TOML document.

    Raises:
        AugmentationError: it is none.
    """
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        document: dict[str, Any] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise AugmentationError(f"invalid TOML: {error}", where=where, fix="correct the file") from error
    return document


@functools.cache
def _built_in(axis: str) -> Lexicon:
    from fairtest.augmentation import axis_files

    if axis != "gender":
        return _of_file(f"{axis}.toml", _data(f"{axis}.toml").encode())
    terms, contexts = "gender_terms.csv", "gender_contexts.csv"
    groups, found = axis_files.read_csv(_data(terms), terms)
    phrases = axis_files.read_phrases(_data(contexts), contexts)
    return Lexicon(axis, groups, found, phrases, names(), _built_in_digest(axis), by_rules=True)


@functools.cache
def _built_in_digest(axis: str) -> str:
    """Of the files as they are: a run that is in the store is found without making sense of any word."""
    files = [f"{axis}.toml"]
    if axis == "gender":
        folder = resources.files("fairtest.augmentation").joinpath("data")
        files = sorted(file.name for file in folder.iterdir() if file.name.startswith("gender_"))
    return hashlib.sha256("\0".join(_data(name) for name in files).encode()).hexdigest()


@functools.lru_cache(maxsize=16)
def _read_file(path: str, modified: int, size: int) -> Lexicon:  # noqa: ARG001 - a file that changes is read again
    return _of_file(path, Path(path).read_bytes())


def _of_file(where: str, data: bytes) -> Lexicon:
    from fairtest.augmentation import axis_files

    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise AugmentationError(
            f"byte 0x{data[error.start]:02x} is not valid UTF-8",
            where=f"{where}, byte {error.start}",
            fix="save the file as UTF-8",
        ) from error
    phrases: tuple[Phrase, ...] = ()
    if where.lower().endswith(".csv"):
        groups, terms = axis_files.read_csv(text, where)
    else:
        groups, terms, phrases = axis_files.read_toml(text, where)
    return Lexicon(Path(where).stem, groups, terms, phrases, digest=hashlib.sha256(data).hexdigest())


def _data(name: str) -> str:
    return resources.files("fairtest.augmentation").joinpath("data").joinpath(name).read_text(encoding="utf-8")
