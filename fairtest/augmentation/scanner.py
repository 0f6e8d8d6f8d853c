"""Finding an axis' words in a text in one pass: a regular expression of all of them, and what each one means.

Texts are scanned in lower case. The expression is a trie (b(?:oy|rother)), so that a place where no word begins costs
a step or two, however many words there are.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from fairtest.augmentation.lexicon import Lexicon, Phrase, Term

# Letters, digits, combining accents, soft hyphens and joiners go on with a word.
_NOT_AFTER = "(?<![^\\W_])(?<![\u0300-\u036f\u00ad\u200c\u200d\u2060])"
_NOT_BEFORE = "(?![^\\W_])(?![\u0300-\u036f\u00ad\u200c\u200d\u2060])"
# Words of several parts do not go on either (he is white-haired).
_NO_HYPHEN = r"(?![-\u2010\u2011]\w)"
_SPACE = r"\s+"
_FIRST_WORD = re.compile(r"[^\W_]+")


@dataclass(frozen=True, slots=True)
class Entry:
    """What may begin with one word: terms of this word alone, longer terms, phrases, a first name.

    Phrases of one effect are one pattern, with how many characters of it stand before the first word ("(s)he").
    """

    terms: tuple[Term, ...] = ()
    longer: tuple[tuple[re.Pattern[str], tuple[Term, ...]], ...] = ()
    phrases: tuple[tuple[re.Pattern[str], str, int], ...] = ()
    name: bool = False


@dataclass(frozen=True, slots=True)
class Scanner:
    """All that an axis looks for. `prefixes` are the beginnings of words that a phrase leaves open ("testic*")."""

    pattern: re.Pattern[str]
    entries: Mapping[str, Entry]
    prefixes: tuple[str, ...]

    def entry(self, word: str) -> Entry:
        """What begins with a word that the pattern found."""
        found = self.entries.get(word)
        if found is None:
            prefix = next(prefix for prefix in self.prefixes if word.startswith(prefix[:-1]))
            return self.entries[prefix]
        return found


@functools.lru_cache(maxsize=16)
def _scanner_of(digest: str, axis: str) -> list[Scanner]:  # noqa: ARG001 - the arguments are the key
    return []


def scanner(lexicon: Lexicon) -> Scanner:
    """The scanner of an axis; made once for the same word lists."""
    made = _scanner_of(lexicon.digest, lexicon.axis)
    if not made:
        made.append(_compiled(lexicon))
    return made[0]


def lowered(text: str) -> str:
    """The text in lower case, character by character, so that positions are the text's own."""
    low = text.lower()
    if len(low) == len(text):
        return low
    return "".join(one if len(one := character.lower()) == 1 else character for character in text)


def _compiled(lexicon: Lexicon) -> Scanner:
    own: dict[str, tuple[Term, ...]] = {}
    longer: dict[str, list[tuple[str, tuple[Term, ...]]]] = {}
    phrases: dict[str, list[Phrase]] = {}
    for key, terms in lexicon.terms.items():
        first = _first_word(key)
        if first == key:
            own[key] = terms
        else:
            longer.setdefault(first, []).append((key, terms))
    for phrase in lexicon.phrases:
        phrases.setdefault(_first_word(phrase.text.lower()), []).append(phrase)
    names = {name.lower() for name in lexicon.names}
    words = {*own, *longer, *phrases, *names}
    prefixes = tuple(sorted((word for word in words if word.endswith("*")), key=len, reverse=True))
    entries = {}
    for word in words:
        # A word that an open beginning holds as well ("testicles" and "testic*").
        open_ones = [prefix for prefix in prefixes if prefix != word and word.startswith(prefix[:-1])]
        all_phrases = [phrase for key in (word, *open_ones) for phrase in phrases.get(key, [])]
        longest_first = sorted(longer.get(word, []), key=lambda item: -len(item[0]))
        entries[word] = Entry(
            own.get(word, ()),
            tuple((re.compile(_phrase_pattern(key) + _NOT_BEFORE + _NO_HYPHEN), terms) for key, terms in longest_first),
            tuple(_grouped(all_phrases)),
            word in names,
        )
    ends = {
        word: "" if entry.terms or entry.longer or entry.name or word.endswith("*") else _rests(phrases[word])
        for word, entry in entries.items()
    }
    pattern = re.compile(f"{_NOT_AFTER}{_trie(ends)}{_NOT_BEFORE}")
    return Scanner(pattern, entries, prefixes)


def _first_word(key: str) -> str:
    match = _FIRST_WORD.search(key)
    word, end = (match.group(), match.end()) if match else (key, len(key))
    return f"{word}*" if key[end : end + 1] == "*" else word


def _lead(text: str) -> int:
    match = _FIRST_WORD.search(text)
    return match.start() if match else 0


def _rests(phrases: list[Phrase]) -> str:
    """What has to follow a word that only begins phrases: many begin with a common one (the First Lady, gave birth)."""
    rests = [_phrase_pattern(phrase.text.lower()[_lead(phrase.text) :]) for phrase in phrases]
    rests = [rest[_FIRST_WORD.match(rest).end() :] for rest in rests]  # type: ignore[union-attr]
    if "" in rests:
        return ""
    spaced = [rest[len(_SPACE) :] for rest in rests if rest.startswith(_SPACE)]
    others = [rest for rest in rests if not rest.startswith(_SPACE)]
    if spaced:
        others.append(f"{_SPACE}(?:{'|'.join(spaced)})")
    return f"(?={'|'.join(others)})"


def _grouped(phrases: list[Phrase]) -> Iterator[tuple[re.Pattern[str], str, int]]:
    groups: dict[tuple[str, int], list[str]] = {}
    for phrase in sorted(phrases, key=lambda one: -len(one.text)):
        pattern = _phrase_pattern(phrase.text)
        # A phrase written in lower case is found in any case, a proper noun only as it is written.
        cased = f"(?i:{pattern})" if phrase.text == phrase.text.lower() else pattern
        groups.setdefault((phrase.effect, _lead(phrase.text)), []).append(cased)
    for (effect, lead), patterns in groups.items():
        yield re.compile(rf"(?:{'|'.join(patterns)})(?!\w)"), effect, lead


def _phrase_pattern(text: str) -> str:
    """Any white space between words, and WikiText's " @-@ " and " 's" for hyphens and apostrophes."""
    pieces = []
    for piece in re.split(r"(\s+|-|'|\*)", text):
        if piece.isspace():
            pieces.append(_SPACE)
        elif piece == "-":
            pieces.append(r"(?:[-\u2010\u2011]|\s@-@\s)")
        elif piece == "'":
            pieces.append(r"\s?['\u2019]\s?")
        elif piece == "*":
            pieces.append(r"\w*")
        else:
            pieces.append(re.escape(piece))
    return "".join(pieces)


def _trie(ends: Mapping[str, str]) -> str:
    """One expression for all the words, each with what its place has to fulfil ("": nothing)."""
    root: dict[str, Any] = {}
    for word, end in ends.items():
        node = root
        for character in word:
            node = node.setdefault(character, {})
        node[""] = end
    return _alternatives(root)


def _alternatives(node: Mapping[str, Any]) -> str:
    if "*" in node:
        return r"\w*"
    single = [character for character, below in sorted(node.items()) if character and below == {"": ""}]
    parts = [
        re.escape(character) + _alternatives(below)
        for character, below in sorted(node.items())
        if character and below != {"": ""}
    ]
    if single:
        escaped = "".join(map(re.escape, single))
        parts.append(escaped if len(single) == 1 else f"[{escaped}]")
    end = node.get("")
    if end:
        parts.append(end)
    if not parts:
        return ""
    joined = parts[0] if len(parts) == 1 else f"(?:{'|'.join(parts)})"
    return f"(?:{joined})?" if end == "" else joined
