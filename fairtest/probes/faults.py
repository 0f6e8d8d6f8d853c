"""Known faults of a probe set, by name: which items have them, and the set without those items.

Published sets were written by many people and hold slips that a score feels: a pair that is there twice counts twice,
and a full stop in one sentence of a pair only is a token that the other does not pay for. Nothing is left out
unasked, because published figures are over all items.

WinoBias, Winogender, BBQ and BOLD have faults of their own (`FAULTS` of their modules); any other set is looked at as
pairs.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace

from fairtest.errors import ProbeError
from fairtest.probes import bbq, bold, winobias, winogender
from fairtest.probes.probe import ANTI_STEREOTYPE, STEREOTYPE, Probe, ProbeSet

_CLOSING = tuple(".!?,;:\"')\u2019\u201d")


def _several_edited_spans(probe: Probe) -> bool:
    """The two sentences differ in more than one place, so that it is not clear what a difference in score is due to.

    Places are runs of words, split at white space, that `difflib.SequenceMatcher` does not match.
    """
    ours, other = (text.split() for text in _pair(probe))
    matcher = difflib.SequenceMatcher(None, ours, other, autojunk=False)
    return sum(kind != "equal" for kind, *_ in matcher.get_opcodes()) > 1


def _same_words(probe: Probe) -> bool:
    """The two sentences differ in case, punctuation or white space only, so there is nothing to compare."""
    ours, other = ("".join(filter(str.isalnum, text)).casefold() for text in _pair(probe))
    return ours == other


def _final_character(probe: Probe) -> bool:
    """The two sentences end in different characters: in another word without a full stop, or with and without one."""
    return len({text[-1:] for text in _pair(probe)}) > 1


def _final_punctuation(probe: Probe) -> bool:
    """The two sentences end in different punctuation, or one of them in none: an unpaid token of one of them."""
    return len({text[-1:] if text.endswith(_CLOSING) else "" for text in _pair(probe)}) > 1


def _spacing(probe: Probe) -> bool:
    """A text has white space that is no single space between words, which is a token of its own to most models."""
    return any(text != " ".join(text.split()) for text in probe.texts.values())


_OF_ONE: Mapping[str, Callable[[Probe], bool]] = {
    "several_edited_spans": _several_edited_spans,
    "same_words": _same_words,
    "final_character": _final_character,
    "final_punctuation": _final_punctuation,
    "spacing": _spacing,
}
FAULTS = ("duplicate", *_OF_ONE)
_Finder = Callable[[ProbeSet], Mapping[str, tuple[str, ...]]]


def fault_names(probe_set: ProbeSet) -> tuple[str, ...]:
    """Names of the faults that are looked for in such a set; () where none are known, as of a user's own prompts."""
    if probe_set.name in _OWN:
        return tuple(_OWN[probe_set.name][0])
    return FAULTS if {STEREOTYPE, ANTI_STEREOTYPE} <= set(probe_set.roles) else ()


def faults_of(probe_set: ProbeSet) -> Mapping[str, tuple[str, ...]]:
    """For every fault the ids of the items that have it, in the set's order; () where there are none.

    Of pairs:

    - duplicate: the pair of sentences is that of an earlier item, in either order (the earlier one has no fault)
    - several_edited_spans: the two sentences differ in more than one run of words
    - same_words: the two sentences differ in case, punctuation or white space only
    - final_character: the two sentences end in different characters
    - final_punctuation: of these, the ones where it is about punctuation
    - spacing: a text begins or ends with white space, or has two in a row, or a line break

    Two sentences that differ in several words with one meaning (he ... his) have several edited spans and are none the
    worse for it; whether a fault matters is for the one who measures to say.

    Raises:
        ProbeError: no faults are known of such a set.
    """
    if not fault_names(probe_set):
        raise ProbeError(
            f"no faults are known of probe set {probe_set.name!r}",
            where=probe_set.source,
            fix=f"they are known of pairs and of {', '.join(_OWN)}; roles it has: {', '.join(probe_set.roles)}",
        )
    if probe_set.name in _OWN:
        return _OWN[probe_set.name][1](probe_set)
    found = {name: tuple(probe.id for probe in probe_set.probes if has_it(probe)) for name, has_it in _OF_ONE.items()}
    return {"duplicate": _duplicates(probe_set), **found}


def without_faults(probe_set: ProbeSet, names: Collection[str]) -> ProbeSet:
    """The items that have none of the named faults; the version of the set says which were left out.

    Raises:
        ProbeError: an unknown fault, or no item is left.
    """
    wanted = [names] if isinstance(names, str) else sorted(set(names))
    if not wanted:
        return probe_set
    found = faults_of(probe_set)
    for name in wanted:
        if name not in found:
            near = difflib.get_close_matches(str(name), found, n=1)
            meant = f"did you mean {near[0]!r}? " if near else ""
            raise ProbeError(
                f"unknown fault {name!r} of probe set {probe_set.name!r}",
                where="faults",
                fix=f"{meant}known faults: {', '.join(found)}",
            )
    out = {probe_id for name in wanted for probe_id in found[name]}
    kept = tuple(probe for probe in probe_set.probes if probe.id not in out)
    if not kept:
        raise ProbeError(
            f"every one of the {len(probe_set)} items of probe set {probe_set.name!r} has one of the faults"
            f" {', '.join(wanted)}",
            where=probe_set.source,
            fix="leave out fewer faults",
        )
    return replace(probe_set, version=f"{probe_set.version} without {', '.join(wanted)}", probes=kept)


def _pair(probe: Probe) -> tuple[str, str]:
    return probe.texts[STEREOTYPE], probe.texts[ANTI_STEREOTYPE]


def _duplicates(probe_set: ProbeSet) -> tuple[str, ...]:
    seen: set[frozenset[str]] = set()
    twice: list[str] = []
    for probe in probe_set.probes:
        pair = frozenset(_pair(probe))
        if pair in seen:
            twice.append(probe.id)
        seen.add(pair)
    return tuple(twice)


def _written_in(names: Collection[str]) -> _Finder:
    """Faults that the reader of a set wrote into the field `faults` of each item."""

    def find(probe_set: ProbeSet) -> Mapping[str, tuple[str, ...]]:
        of_item = [(probe.id, probe.fields.get("faults", "").split(",")) for probe in probe_set.probes]
        return {name: tuple(probe_id for probe_id, faults in of_item if name in faults) for name in names}

    return find


_OWN: Mapping[str, tuple[Collection[str], _Finder]] = {
    "winobias": (winobias.FAULTS, _written_in(winobias.FAULTS)),
    "winogender": (winogender.FAULTS, _written_in(winogender.FAULTS)),
    "bbq": (bbq.FAULTS, bbq.find_faults),
    "bold": (bold.FAULTS, bold.find_faults),
}
