"""Where a text has words of an axis, which of them are to be swapped, and why the others are kept."""

from __future__ import annotations

import bisect
import re
from collections import Counter
from dataclasses import dataclass, field

from fairtest.augmentation.casing import EXACT, UPPER, writing_of
from fairtest.augmentation.context import END, Context, context_of
from fairtest.augmentation.disambiguation import CHOICES
from fairtest.augmentation.languages import in_another_language
from fairtest.augmentation.lexicon import FALSE, Lexicon, Term, word_lists
from fairtest.augmentation.names import follows_a_name, is_first_name, is_surname
from fairtest.augmentation.scanner import Entry, lowered, scanner
from fairtest.augmentation.titles import name_follows, title_precedes
from fairtest.augmentation.word_class import begins_a_name, is_adjective

WOULD_BE_FALSE = "swap would be false"
IN_PHRASE = "in a fixed phrase"
IN_ADDRESS = "in an address"
IN_COMPOUND = "in a compound"
IN_NAME = "in a name"
OTHER_SENSE = "another sense"
ODD_CAPITALS = "unusual capitals"
OTHER_LANGUAGE = "another language"

_HYPHENS = "-\u2010\u2011"
_SPLIT_HYPHEN = " @-@ "  # WikiText
_NAMING_KINDS = ("royalty", "people", "role", "compound")
# The Wright Brothers are a name, whoever they are.
_FIRMS = ("brothers", "sisters", "sons", "daughters", "bros")
# Web and mail addresses, paths, handles and hashtags are names, not words.
_ADDRESS = re.compile(r"https?://\S+|\bwww\.\S+|(?<!\w)[@#]\w+")
_PATH = re.compile(r"(?<![\w<./])/(?:[\w.-]+/)+[\w.-]*")
_MAIL = re.compile(r"(?<=[\w.+-])@[\w-]{1,64}\.[\w.-]{1,64}")
_LOCAL_PART = re.compile(r"[\w.+-]{1,64}$")
_BLANK_LINE = re.compile(r"\n[^\S\n]*\n")


@dataclass(frozen=True, slots=True)
class Occurrence:
    """text[start:end] is `term`, written as `writing` says; `chosen` stands for it where the sentence decided that."""

    start: int
    end: int
    term: Term
    writing: str
    chosen: str | None = None


@dataclass(slots=True)
class Found:
    """All that a text has of an axis: words to swap, and words to keep by reason.

    `names`: a first name is among the words that are not swapped.
    """

    occurrences: list[Occurrence] = field(default_factory=list)
    kept: Counter[str] = field(default_factory=Counter)
    names: bool = False


def find(text: str, lexicon: Lexicon, *, swap_names: bool) -> Found:
    """The words of the axis in a text, each decided from its sentence.

    A paragraph that says what a swap would make false (a pregnancy) is left whole, so that it stays consistent with
    itself; paragraphs are what stands between blank lines.
    """
    search = _Search(text, lexicon, swap_names=swap_names)
    scan = scanner(lexicon)
    entries = scan.entries
    for match in scan.pattern.finditer(search.low):
        search.visit(match.start(), match.end(), entries.get(match.group()) or scan.entry(match.group()))
    if search.found.occurrences and in_another_language(search.low):
        search.leave_all(OTHER_LANGUAGE)
    search.leave_surnames()
    search.leave_false_paragraphs()
    return search.found


class _Search:
    """One pass over a text. What begins before the end of the last phrase or term belongs to that."""

    def __init__(self, text: str, lexicon: Lexicon, *, swap_names: bool) -> None:
        self.found = Found()
        self.low = lowered(text)
        self._text, self._lexicon, self._swap_names = text, lexicon, swap_names
        self._reach = self._term_end = 0
        self._addresses: list[tuple[int, int]] | None = None
        self._false_at: list[int] = []
        self._surnames: set[str] = set()

    def visit(self, start: int, end: int, entry: Entry) -> None:
        """What a word of the scanner is in this place."""
        if entry.phrases:
            self._read_phrases(start, entry)
        terms = entry.terms
        for pattern, longer in entry.longer:
            further = pattern.match(self.low, start)
            if further is not None:
                terms, end = longer, further.end()
                break
        if _in_an_identifier(self._text, start, end):
            return
        if not terms:
            if entry.name and start >= max(self._reach, self._term_end) and (self._swap_names or not self.found.names):
                self._take_name(start, end)
            return
        if start < self._term_end:
            return
        if start < self._reach:
            self._keep(start, end, terms[0], IN_PHRASE)
            return
        self._term_end = end
        reason = self._why_kept(start, end, terms[0]) or self._take(start, end, terms)
        if reason is not None:
            self._keep(start, end, terms[0], reason)

    def _keep(self, start: int, end: int, term: Term, reason: str) -> None:
        self.found.kept[reason] += 1
        if reason in (IN_NAME, IN_PHRASE) and term.kind in _NAMING_KINDS and self._text[start].isupper():
            self._surnames.add(self._text[start:end])

    def leave_all(self, reason: str) -> None:
        """Takes out every word."""
        self.found.kept[reason] += len(self.found.occurrences)
        self.found.occurrences.clear()

    def leave_false_paragraphs(self) -> None:
        """Takes out what stands in a paragraph that a swap would make false."""
        occurrences = self.found.occurrences
        if not self._false_at or not occurrences:
            return
        breaks = [match.start() for match in _BLANK_LINE.finditer(self._text)]
        false = {bisect.bisect(breaks, position) for position in self._false_at}
        left = [one for one in occurrences if bisect.bisect(breaks, one.start) not in false]
        if len(left) < len(occurrences):
            self.found.kept[WOULD_BE_FALSE] += len(occurrences) - len(left)
            occurrences[:] = left

    def _read_phrases(self, start: int, entry: Entry) -> None:
        for pattern, effect, lead in entry.phrases:
            match = pattern.match(self._text, start - lead) if start >= lead else None
            if match is None:
                continue
            if effect == FALSE:
                self._false_at.append(start)
            else:
                self._reach = max(self._reach, match.end())

    def _why_kept(self, start: int, end: int, term: Term) -> str | None:
        if self._addresses is None:
            self._addresses = _addresses(self._text)
        if self._addresses and any(begin <= start < stop for begin, stop in self._addresses):
            return IN_ADDRESS
        return IN_COMPOUND if _in_a_compound(self._text, start, end, term) else None

    def _take(self, start: int, end: int, terms: tuple[Term, ...]) -> str | None:
        """Adds the occurrence, or says why the word is kept."""
        term = terms[0]
        word = self._text[start:end]
        writing = writing_of(word, term.word)
        if writing is None:
            return ODD_CAPITALS
        chosen: str | None = None
        reason: str | None = None
        if self._lexicon.by_rules:
            chosen, reason = self._by_rules(start, end, term)
        elif len(terms) > 1 or term.with_words or (word[0].isupper() and writing != UPPER):
            term, reason = _by_neighbours(terms, context_of(self._text, start, end))
        if reason is None:
            self.found.occurrences.append(Occurrence(start, end, term, writing, chosen))
        return reason

    def _by_rules(self, start: int, end: int, term: Term) -> tuple[str | None, str | None]:
        """(what an ambiguous word becomes, why the word is kept)."""
        chosen: str | None = None
        if term.word in CHOICES:
            chosen = CHOICES[term.word](context_of(self._text, start, end))
            if chosen is None:
                return None, OTHER_SENSE
        word = self._text[start:end]
        if (term.kind in _NAMING_KINDS or term.word in _FIRMS) and word[0].isupper() and not word.isupper():
            context = context_of(self._text, start, end)
            if follows_a_name(context) or (title_precedes(context) and not name_follows(context)):
                return None, IN_NAME
        return chosen, None

    def _take_name(self, start: int, end: int) -> None:
        word = self._text[start:end]
        listed = word.capitalize() if word.isupper() and len(word) > 1 else word
        partner = self._lexicon.names.get(listed)
        if partner is None:
            return
        context = context_of(self._text, start, end)
        if self._swap_names and is_surname(context):
            self._surnames.add(word)
        if not is_first_name(listed, context):
            return
        if self._swap_names:
            term = Term(listed, 0, (listed, partner), "name", (True, True))
            writing = EXACT if word == listed else UPPER
            self.found.occurrences.append(Occurrence(start, end, term, writing, partner))
        else:
            self.found.names = True

    def leave_surnames(self) -> None:
        """Takes out what is a family's name elsewhere in the text: Elton John, later John; Stephen King, later King."""
        if not self._surnames:
            return
        left: list[Occurrence] = []
        for one in self.found.occurrences:
            if not self._is_a_family(one):
                left.append(one)
            elif one.term.kind != "name":
                self.found.kept[IN_NAME] += 1
        self.found.occurrences[:] = left

    def _is_a_family(self, one: Occurrence) -> bool:
        if self._text[one.start : one.end] not in self._surnames:
            return False
        context = context_of(self._text, one.start, one.end)
        if one.term.kind == "name":
            return not name_follows(context)
        return context.previous() not in word_lists("word_classes")["determiners"]


def _by_neighbours(terms: tuple[Term, ...], context: Context) -> tuple[Term, str | None]:
    """(noun or adjective, why the word is kept) of an axis that has no rules of its own."""
    term = terms[0]
    if len(terms) > 1:
        wanted = "adjective" if is_adjective(context) else "noun"
        term = next(one for one in terms if one.kind == wanted)
    if begins_a_name(context, term.with_words):
        return term, IN_NAME
    return term, OTHER_SENSE if term.with_words and not _goes_with(context, term.with_words) else None


def _goes_with(context: Context, words: frozenset[str]) -> bool:
    """Whether one of the words is the next token, or the one after the next in the same clause."""
    following = context.next()
    if following in {END, "'s"}:
        return False
    return any(word.removesuffix("'s").removesuffix("'") in words for word in (following, context.next(1)))


def _in_an_identifier(text: str, start: int, end: int) -> bool:
    """_Her_ in italics is a word; her_name is none."""
    return (text[start - 1 : start] == "_" and text[max(0, start - 2) : start - 1].isalnum()) or (
        text[end : end + 1] == "_" and text[end + 1 : end + 2].isalnum()
    )


def _in_a_compound(text: str, start: int, end: int, term: Term) -> bool:
    """A pronoun joined by a hyphen (she-wolf), or man as the first part (man-made)."""
    before, after = text[start - 1 : start], text[end : end + 1]
    joined_right = after != "" and after in _HYPHENS and text[end + 1 : end + 2].isalnum()
    if term.kind == "pronoun":
        joined_left = before != "" and before in _HYPHENS and start > 1 and text[start - 2].isalnum()
        return joined_left or joined_right
    return term.word == "man" and (joined_right or text.startswith(_SPLIT_HYPHEN, end))


def _addresses(text: str) -> list[tuple[int, int]]:
    spans: list[tuple[int, int]] = []
    if "@" in text or "#" in text or "www." in text or "://" in text:
        spans += [match.span() for match in _ADDRESS.finditer(text)]
    if text.count("/") > 1:
        spans += [match.span() for match in _PATH.finditer(text)]
    if "@" in text:
        for match in _MAIL.finditer(text):
            local = _LOCAL_PART.search(text[max(0, match.start() - 64) : match.start()])
            spans.append((match.start() - (len(local.group()) if local else 0), match.end()))
    return spans
