"""The counterfactuals of one text: every word of an axis swapped in one pass, and nothing else touched."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from fairtest.augmentation.articles import article_before
from fairtest.augmentation.casing import written_as
from fairtest.augmentation.lexicon import Lexicon, axis_name, load_axis
from fairtest.augmentation.occurrences import OTHER_LANGUAGE, WOULD_BE_FALSE, Found, find
from fairtest.specs import CDA

NO_TERM = "no term"
FIXED_PHRASE = "only words that are kept"
NO_COUNTERPART = "no counterpart in the other group"

NAME_DISAGREES = "name and pronoun may disagree"
NOT_REVERSIBLE = "swap is not reversible"

_SEPARATORS = re.compile(r"\s@-@\s|\s?['\u2019]|\s+|[-\u2010\u2011]")


@dataclass(frozen=True, slots=True)
class Change:
    """text[start:end] was `before` and is `after` in the counterfactual."""

    start: int
    end: int
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Counterfactual:
    """The swapped text with its changes in order, or None with the reason.

    Args:
        flags: doubts to report.
        axis: what was swapped.
        groups: which groups the text names, each with the group in its place.
        kept: words of the axis that stay as they are, by reason.
    """

    text: str | None
    changes: tuple[Change, ...] = ()
    reason: str | None = None
    flags: tuple[str, ...] = ()
    axis: str = "gender"
    groups: tuple[tuple[str, str], ...] = ()
    kept: Mapping[str, int] = field(default_factory=dict)


def counterfactual(text: str, cda: CDA) -> Counterfactual:
    """The first counterfactual that there is; where there is none, the first with its reason.

    There is none where no term occurs, where all are kept, and where a swap would make a paragraph say something false.
    """
    found = counterfactuals(text, cda)
    return next((one for one in found if one.text is not None), found[0])


def counterfactuals(text: str, cda: CDA) -> tuple[Counterfactual, ...]:
    """One for each axis and other group, everything but the axis' words byte for byte as it was.

    Of k groups there are k - 1 shifts: in that of s, group g + s mod k takes the place of group g. So a text that
    names one group is turned into each of the others, and groups that a text tells apart stay apart.
    """
    found: list[Counterfactual] = []
    for axis in cda.axes:
        found += axis_counterfactuals(text, load_axis(axis), axis_name(axis), swap_names=cda.names)
    return tuple(found)


def axis_counterfactuals(text: str, lexicon: Lexicon, axis: str, *, swap_names: bool) -> list[Counterfactual]:
    """The counterfactuals of one axis, by shift from 1 to k - 1."""
    found = find(text, lexicon, swap_names=swap_names)
    if not found.occurrences:
        return [_none(_reason(found.kept), axis, found.kept)] * (len(lexicon.groups) - 1)
    return [_shifted(text, found, lexicon, axis, shift) for shift in range(1, len(lexicon.groups))]


def _shifted(text: str, found: Found, lexicon: Lexicon, axis: str, shift: int) -> Counterfactual:
    count = len(lexicon.groups)
    changes: list[Change] = []
    flags: set[str] = set()
    sources: dict[int, None] = {}
    for occurrence in found.occurrences:
        term = occurrence.term
        target = (term.group + shift) % count
        counterpart = occurrence.chosen or term.counterparts[target]
        if not counterpart:
            return _none(NO_COUNTERPART, axis, found.kept)
        sources[term.group] = None
        after, returns = written_as(counterpart, occurrence.writing, text, occurrence.start)
        if not (returns and term.reversible[target]):
            flags.add(NOT_REVERSIBLE)
        if not after.isalnum():
            after = _with_separators(after, text[occurrence.start : occurrence.end])
        article = article_before(text, occurrence.start, text[occurrence.start : occurrence.end], after)
        if article is not None:
            start, end, new = article
            changes.append(Change(start, end, text[start:end], new))
        changes.append(_with_possessive(text, occurrence.start, occurrence.end, after))
    if found.names:
        flags.add(NAME_DISAGREES)
    groups = tuple((lexicon.groups[group], lexicon.groups[(group + shift) % count]) for group in sorted(sources))
    return Counterfactual(
        _apply(text, changes), tuple(changes), None, tuple(sorted(flags)), axis, groups, dict(found.kept)
    )


def _none(reason: str, axis: str, kept: Counter[str]) -> Counterfactual:
    return Counterfactual(None, reason=reason, axis=axis, kept=dict(kept))


def _reason(kept: Counter[str]) -> str:
    for reason in (OTHER_LANGUAGE, WOULD_BE_FALSE):
        if kept[reason]:
            return reason
    return FIXED_PHRASE if kept else NO_TERM


def _with_separators(after: str, word: str) -> str:
    """Several words keep what stood between those they replace, such as WikiText's lady @-@ in @-@ waiting."""
    separators = _SEPARATORS.findall(word)
    parts = _SEPARATORS.split(after)
    if not separators or len(parts) != len(separators) + 1:
        return after
    return "".join(f"{part}{separator}" for part, separator in zip(parts, [*separators, ""], strict=True))


def _has_s_ending(text: str, end: int) -> bool:
    return text[end + 1 : end + 2] in ("s", "S") and not text[end + 2 : end + 3].isalnum()


def _with_possessive(text: str, start: int, end: int, after: str) -> Change:
    """Adds the possessive ending where it differs: the actress' -> the actor's, the gentlemen's -> the ladies'."""
    word = text[start:end]
    mark = text[end : end + 1]
    if mark in ("'", "\u2019") and mark:
        rest = text[end + 1 : end + 2]
        lower = word.lower()
        if _has_s_ending(text, end) and after.lower().endswith("ies") and not lower.endswith("s"):
            return Change(start, end + 2, text[start : end + 2], after + mark)
        followed = rest == " " and text[end + 2 : end + 3].isalpha()
        opened = any(quote in text[max(0, start - 200) : start] for quote in ("'", "\u2018"))
        if lower.endswith("s") and not after.lower().endswith("s") and followed and not opened:
            ending = "S" if word.isupper() else "s"
            return Change(start, end + 1, text[start : end + 1], f"{after}{mark}{ending}")
    return Change(start, end, word, after)


def _apply(text: str, changes: list[Change]) -> str:
    pieces: list[str] = []
    position = 0
    for change in changes:
        pieces += (text[position : change.start], change.after)
        position = change.end
    pieces.append(text[position:])
    return "".join(pieces)
