"""What a record is trained as: its own text and its counterfactuals, or one that is drawn."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from fairtest.augmentation.lexicon import axis_name, load_axis
from fairtest.augmentation.swap import Change, Counterfactual, axis_counterfactuals
from fairtest.digests import digest_of
from fairtest.specs import CDA

DRAWN_TO_STAY = "drawn to stay as it is"
EMPTY = "empty text"


@dataclass(frozen=True, slots=True)
class View:
    """One text of a record. Number 0 is the record itself, 1.. are counterfactuals: of which axis, turned into what.

    `changes` have places in the record's text; where several axes were swapped one after the other there are none, and
    `words_changed` counts them.
    """

    number: int
    text: str
    changes: tuple[Change, ...] = ()
    axis: str | None = None
    group: str | None = None
    words_changed: int = 0


@dataclass(frozen=True, slots=True)
class RecordViews:
    """A record's views in order.

    Args:
        views: at least one. Under "two_sided" the first is the record itself; under "substitute" there is one.
        reason: why there is no counterfactual among them; None where there is one.
        flags: doubts about the counterfactuals.
        kept: words of the axes that stay as they are in every view, by reason.
    """

    views: tuple[View, ...]
    reason: str | None = None
    flags: tuple[str, ...] = ()
    kept: Mapping[str, int] = field(default_factory=dict)


def record_views(text: str, cda: CDA, fields: Mapping[str, str] | None = None) -> RecordViews:
    """The views of one record. What is drawn follows from `cda.seed`, the text and its fields alone, so that it is the
    same in any order, process and arm.
    """
    if not text.strip():
        return RecordViews((View(0, text),), EMPTY)
    if cda.mode == "substitute":
        return _substituted(text, cda, fields or {})
    views = [View(0, text)]
    flags: set[str] = set()
    kept: Counter[str] = Counter()
    reasons: list[str] = []
    for axis in cda.axes:
        found = _counterfactuals(text, axis, cda)
        kept.update(found[0].kept)
        made = [one for one in found if one.text is not None]
        if not made:
            reasons.append(found[0].reason or "")
        elif cda.counterfactuals == "one" and len(made) > 1:
            made = [made[_draw(axis, cda, text, fields or {}) % len(made)]]
        for one in made:
            views.append(View(len(views), one.text or "", one.changes, one.axis, _group_of(one), len(one.changes)))
            flags.update(one.flags)
    reason = _strongest(reasons) if len(views) == 1 else None
    return RecordViews(tuple(views), reason, tuple(sorted(flags)), dict(kept))


def _substituted(text: str, cda: CDA, fields: Mapping[str, str]) -> RecordViews:
    """Draws a group for each axis, its own among them; the axes are swapped one after the other."""
    current = text
    changes: tuple[Change, ...] = ()
    words_changed = 0
    axes: list[str] = []
    groups: list[str] = []
    flags: set[str] = set()
    kept: Counter[str] = Counter()
    reasons: list[str] = []
    for axis in cda.axes:
        found = _counterfactuals(current, axis, cda)
        kept.update(found[0].kept)
        if all(one.text is None for one in found):
            reasons.append(found[0].reason or "")
            continue
        shift = _draw(axis, cda, text, fields) % (len(found) + 1)
        chosen = found[shift - 1] if shift else None
        if chosen is None or chosen.text is None:
            reasons.append(DRAWN_TO_STAY if chosen is None else chosen.reason or "")
            continue
        # Changes have places in the record's own text as long as one axis alone has changed it.
        changes = chosen.changes if current == text else ()
        words_changed += len(chosen.changes)
        current = chosen.text
        axes.append(chosen.axis)
        groups.append(_group_of(chosen))
        flags.update(chosen.flags)
    if not axes:
        return RecordViews((View(0, text),), _strongest(reasons), (), dict(kept))
    view = View(1, current, changes, ", ".join(axes), ", ".join(groups), words_changed)
    return RecordViews((view,), None, tuple(sorted(flags)), dict(kept))


def _counterfactuals(text: str, axis: str, cda: CDA) -> Sequence[Counterfactual]:
    return axis_counterfactuals(text, load_axis(axis), axis_name(axis), swap_names=cda.names)


def _draw(axis: str, cda: CDA, text: str, fields: Mapping[str, str]) -> int:
    drawn = digest_of(["cda", cda.seed, axis_name(axis), text, dict(fields)])
    return int.from_bytes(hashlib.sha256(drawn.encode()).digest()[:8], "big")


def _group_of(one: Counterfactual) -> str:
    """The group that took another one's place; of several, each with the one it replaced."""
    if len(one.groups) == 1:
        return one.groups[0][1]
    return ", ".join(f"{before} to {after}" for before, after in one.groups)


def _strongest(reasons: Sequence[str]) -> str:
    """Of the axes' reasons the one that says most: a word was there, and was not to be swapped."""
    from fairtest.augmentation.swap import NO_TERM

    told = [reason for reason in reasons if reason != NO_TERM]
    return told[0] if told else NO_TERM
