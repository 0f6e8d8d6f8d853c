"""Which group a unit belongs to: by a column, by a function of the user, or by the words of an axis in its text."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from fairtest.corpora.units import Record, Unit
from fairtest.digests import digest_of
from fairtest.errors import CorpusError, SpecError

By = str | Callable[[Record], Any]

FEWEST_UNITS = 4
SEVERAL_GROUPS = "records of several groups"
NO_GROUP = "no group"
SEVERAL_WORDS, NO_WORD = "words of several groups", "no word of the axis"

_WORDS = re.compile(r"words\[(.+)\]")
# What a labelling function answers for a record that is to be left out, beside None: why.
_Label = tuple[str | None, str]


@dataclass(frozen=True)
class Grouping:
    """Units by group. `units` are those that were drawn, as many in every group; `counts` how many each group has in
    all, `left_out` how many units belong to none, by reason.
    """

    by: str
    units: dict[str, tuple[Unit, ...]]
    counts: dict[str, int]
    left_out: dict[str, int]

    @property
    def digest(self) -> str:
        """SHA-256 of the groups' names and the texts of their units, whatever told them apart."""
        return digest_of(
            {name: [[record.text for record in unit.records] for unit in units] for name, units in self.units.items()}
        )


def labels(units: Sequence[Unit], by: By) -> tuple[dict[str, str], dict[str, int]]:
    """(group by unit id, units left out by reason).

    `by` is a column's name; a function from a `Record` to a label, or None to leave it out; or "words[gender]", which
    takes texts with words of one group of that axis only ("masculine", "feminine"). A unit has the group that its
    records have, where those that have one agree.

    Raises:
        CorpusError: no record has the column, or nothing is told apart.
        AugmentationError: an unknown axis.
    """
    label = _labeller(units, by)
    found: dict[str, str] = {}
    left_out: Counter[str] = Counter()
    for unit in units:
        answers = [label(record) for record in unit.records]
        groups = sorted({group for group, _ in answers if group is not None})
        if len(groups) == 1:
            found[unit.id] = groups[0]
        elif groups:
            left_out[SEVERAL_GROUPS] += 1
        else:
            left_out[max(reason for _, reason in answers)] += 1
    return found, dict(sorted(left_out.items()))


def group_units(units: Sequence[Unit], by: By, *, units_per_group: int, seed: int = 0) -> Grouping:
    """Draws units of each group, as many in every group: `units_per_group`, or as many as the smallest group has.

    Which ones follows from a hash of seed and unit, whatever the units' order.

    Raises:
        CorpusError: as `labels`; a group has fewer than 4 units, or there is only one group.
        SpecError: `units_per_group` is below 4.
    """
    if not isinstance(units_per_group, int) or units_per_group < FEWEST_UNITS:
        raise SpecError(
            f"units_per_group must be a whole number of at least {FEWEST_UNITS}, got {units_per_group!r}",
            where="diagnose(units_per_group=)",
            fix="32 is usual",
        )
    found, left_out = labels(units, by)
    members: dict[str, list[Unit]] = {}
    for unit in units:
        if unit.id in found:
            members.setdefault(found[unit.id], []).append(unit)
    counts = {name: len(members[name]) for name in sorted(members)}
    told = described(by)
    if len(counts) < 2:
        shown = f"one group, {next(iter(counts))!r}" if counts else "no group"
        reasons = "".join(f"; {count} left out: {reason}" for reason, count in left_out.items())
        raise CorpusError(
            f"{told} gives {shown} among {len(units)} units{reasons}",
            where="diagnose(by=)",
            fix="groups are compared with each other: give what tells two or more apart",
        )
    small = [name for name, count in counts.items() if count < FEWEST_UNITS]
    if small:
        raise CorpusError(
            f"group {small[0]!r} has {counts[small[0]]} of {len(units)} units by {told}, and at least {FEWEST_UNITS}"
            " are needed",
            where="diagnose(by=)",
            fix="hold more units out (setting held_out), or give by=function that answers None for groups to leave out",
        )
    size = min(units_per_group, *counts.values())
    drawn = {name: tuple(sorted(members[name], key=lambda unit: _draw(seed, unit))[:size]) for name in counts}
    return Grouping(told, drawn, counts, left_out)


def described(by: By) -> str:
    """What tells groups apart, in words."""
    if callable(by):
        name = getattr(by, "__name__", type(by).__name__)
        return "a function" if name == "<lambda>" else f"function {name!r}"
    words = _WORDS.fullmatch(by)
    return f"words of axis {words.group(1)!r}" if words else f"column {by!r}"


def _draw(seed: int, unit: Unit) -> str:
    return digest_of(["diagnose", seed, unit.id, [record.text for record in unit.records]])


def _labeller(units: Sequence[Unit], by: By) -> Callable[[Record], _Label]:
    if callable(by):
        return lambda record: _answer(by(record))
    if not isinstance(by, str):
        raise SpecError(
            f"by must be a column, a function or 'words[AXIS]', got {by!r}",
            where="diagnose(by=)",
            fix='by="group", by="words[gender]" or by=lambda record: ...',
        )
    words = _WORDS.fullmatch(by)
    if words:
        return _by_words(words.group(1))
    columns = _columns(record for unit in units for record in unit.records)
    if by not in columns:
        known = ", ".join(sorted(columns)) or "none"
        raise CorpusError(
            f"no record has a column {by!r}",
            where="diagnose(by=)",
            fix=f"columns there are: {known}; without one, by='words[gender]' or by=function",
        )
    return lambda record: _answer(record.fields.get(by))


def _columns(records: Iterable[Record]) -> set[str]:
    return {name for record in records for name in record.fields}


def _answer(value: Any) -> _Label:
    text = "" if value is None else str(value).strip()
    return (text, "") if text else (None, NO_GROUP)


def _by_words(axis: str) -> Callable[[Record], _Label]:
    from fairtest.augmentation import load_axis
    from fairtest.augmentation.occurrences import find

    lexicon = load_axis(axis)

    def label(record: Record) -> _Label:
        groups = {one.term.group for one in find(record.text, lexicon, swap_names=False).occurrences}
        if len(groups) == 1:
            return lexicon.groups[groups.pop()], ""
        return None, SEVERAL_WORDS if groups else NO_WORD

    return label
