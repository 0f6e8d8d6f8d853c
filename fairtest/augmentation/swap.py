"""The counterfactual of one text: every term of the axis swapped in one pass, and nothing else touched."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from fairtest.augmentation.context import Context, context_of
from fairtest.augmentation.disambiguation import CHOICES
from fairtest.augmentation.lexicon import Term, names, terms
from fairtest.augmentation.names import follows_a_name, is_first_name
from fairtest.augmentation.phrases import false_if_swapped, fixed_spans
from fairtest.augmentation.titles import name_follows, title_precedes
from fairtest.specs import CDA

NO_TERM = "no term"
WOULD_BE_FALSE = "swap would be false"
FIXED_PHRASE = "only fixed phrases"

NAME_DISAGREES = "name and pronoun may disagree"
NOT_REVERSIBLE = "swap is not reversible"

# Letters that stand alone: no letter, digit, combining accent, soft hyphen or joiner on either side.
_PART = r"\w\u0300-\u036f\u00ad\u200c\u200d\u2060"
_WORD = re.compile(rf"(?<![{_PART}])(?:[Mm][Aa]['\u2019][Aa][Mm]|[^\W\d_]+)(?![{_PART}])")
_HYPHENS = "-\u2010\u2011"


@dataclass(frozen=True, slots=True)
class Change:
    """text[start:end] was `before` and is `after` in the counterfactual."""

    start: int
    end: int
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Counterfactual:
    """The swapped text with its changes in order, or None with the reason; flags are doubts to report."""

    text: str | None
    changes: tuple[Change, ...] = ()
    reason: str | None = None
    flags: tuple[str, ...] = ()


def counterfactual(text: str, cda: CDA) -> Counterfactual:
    """The text with every term of the axes swapped, everything else byte for byte as it was.

    There is none where no term occurs, where all terms stand in fixed phrases, and where the text says anywhere what
    a swap would make false (a pregnancy): such a text is left whole, so that it stays consistent with itself.
    """
    changes: list[Change] = []
    flags: list[str] = []
    kept = False
    for axis in cda.axes:
        found = list(_candidates(text, axis, swap_names=cda.names))
        if not found:
            continue
        if any(isinstance(term, Term) for _, term in found) and false_if_swapped(text, axis):
            return Counterfactual(None, reason=WOULD_BE_FALSE)
        fixed = fixed_spans(text, axis)
        passed = reach = 0
        for match, term in found:
            start, end = match.span()
            while passed < len(fixed) and fixed[passed][0] < end:
                reach = max(reach, fixed[passed][1])
                passed += 1
            change = None if start < reach else _change(text, match, term)
            if change is None:
                kept = True
                continue
            changes.append(change)
            if isinstance(term, Term) and not term.reversible:
                flags.append(NOT_REVERSIBLE)
        if changes and not cda.names and _names_a_person(text, axis):
            flags.append(NAME_DISAGREES)
    if not changes:
        return Counterfactual(None, reason=FIXED_PHRASE if kept else NO_TERM)
    return Counterfactual(_apply(text, changes), tuple(changes), None, tuple(sorted(set(flags))))


def _candidates(text: str, axis: str, *, swap_names: bool) -> Iterator[tuple[re.Match[str], Term | str]]:
    """Words of the lexicon with their term, or with the partner of a first name."""
    lexicon, partners = terms(axis), names(axis)
    for match in _WORD.finditer(text):
        word = match.group()
        term = lexicon.get(word.lower().replace("\u2019", "'"))
        if term is not None:
            yield match, term
        elif swap_names and word in partners and is_first_name(word, context_of(text, *match.span())):
            yield match, partners[word]


def _change(text: str, match: re.Match[str], term: Term | str) -> Change | None:
    """The change at one word; None where the word is to be kept."""
    start, end = match.span()
    word = match.group()
    if isinstance(term, str):
        return Change(start, end, word, term)
    if _case(word) is None or _in_a_compound(text, start, end, term):
        return None
    context: Context | None = None
    counterpart: str | None = term.counterpart
    if term.word in CHOICES:
        context = context_of(text, start, end)
        counterpart = CHOICES[term.word](context)
    if counterpart is None:
        return None
    if term.kind in ("royalty", "people", "role", "compound") and word[0].isupper() and not word.isupper():
        context = context or context_of(text, start, end)
        if follows_a_name(context) or (title_precedes(context) and not name_follows(context)):
            return None
    return _with_possessive(text, start, end, _in_case(counterpart, word))


def _in_a_compound(text: str, start: int, end: int, term: Term) -> bool:
    """A pronoun joined by a hyphen (she-wolf, his-and-hers), or man as the first part (man-made)."""
    joined_left = start > 1 and text[start - 1] in _HYPHENS and text[start - 2].isalnum()
    joined_right = end + 1 < len(text) and text[end] in _HYPHENS and text[end + 1].isalnum()
    if term.kind == "pronoun":
        return joined_left or joined_right
    return term.word == "man" and (joined_right or text.startswith(" @-@ ", end))


def _with_possessive(text: str, start: int, end: int, after: str) -> Change:
    """Adds the possessive ending where it differs: the actress' -> the actor's, the gentlemen's -> the ladies'."""
    word = text[start:end]
    mark = text[end : end + 1]
    if mark in ("'", "\u2019") and mark:
        rest = text[end + 1 : end + 2]
        lower = word.lower()
        if rest in ("s", "S") and not text[end + 2 : end + 3].isalnum() and after.lower().endswith("ies"):
            return Change(start, end + 2, text[start : end + 2], after + mark)
        followed = rest == " " and text[end + 2 : end + 3].isalpha()
        opened = any(quote in text[max(0, start - 200) : start] for quote in ("'", "\u2018"))
        if lower.endswith("s") and not after.lower().endswith("s") and followed and not opened:
            ending = "S" if word.isupper() else "s"
            return Change(start, end + 1, text[start : end + 1], f"{after}{mark}{ending}")
    return Change(start, end, word, after)


def _case(word: str) -> str | None:
    if word.islower():
        return "lower"
    if word.isupper():
        return "upper"
    return "title" if word[0].isupper() and word[1:].islower() else None


def _in_case(word: str, model: str) -> str:
    case = _case(model)
    if case == "upper":
        return word.upper()
    return word[0].upper() + word[1:] if case == "title" else word


def _names_a_person(text: str, axis: str) -> bool:
    known = names(axis)
    return any(
        match.group() in known and is_first_name(match.group(), context_of(text, *match.span()))
        for match in _WORD.finditer(text)
    )


def _apply(text: str, changes: list[Change]) -> str:
    changes.sort(key=lambda change: change.start)
    pieces: list[str] = []
    position = 0
    for change in changes:
        pieces += (text[position : change.start], change.after)
        position = change.end
    pieces.append(text[position:])
    return "".join(pieces)
