"""Augmenting a corpus: each unit with its views, and how much of the corpus the swap reached."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fairtest.augmentation.swap import counterfactual
from fairtest.corpora.units import Corpus
from fairtest.errors import AugmentationError
from fairtest.specs import CDA, digest_of

NOT_ASKED_FOR = "no augmentation asked for"


@dataclass(frozen=True, slots=True)
class UnitViews:
    """A privacy unit's texts: its `records` records first, then the counterfactuals of those that have one.

    `sources` has the position of each counterfactual's record; empty: all are of the first.
    """

    id: str
    views: tuple[str, ...]
    records: int = 1
    sources: tuple[int, ...] = ()

    @property
    def shares(self) -> tuple[float, ...]:
        """What each view counts in the unit: every record the same, and so the views of a record; they add up to 1."""
        added = self.sources or (0,) * (len(self.views) - self.records)
        owners = (*range(self.records), *added)
        return tuple(1 / (self.records * owners.count(owner)) for owner in owners)


@dataclass(frozen=True)
class Coverage:
    """What a swap did to a corpus. `changed` plus the sum of `unchanged_by_reason` is `records`.

    Args:
        records: records of the corpus.
        changed: records with a counterfactual.
        unchanged_by_reason: records without one, by reason.
        changes: words changed, over all records.
        flagged: records with a counterfactual that carries a doubt.
    """

    records: int
    changed: int
    unchanged_by_reason: Mapping[str, int]
    changes: int
    flagged: int

    def as_dict(self) -> dict[str, Any]:
        """Plain data for a report."""
        return {
            "records": self.records,
            "changed": self.changed,
            "unchanged_by_reason": dict(sorted(self.unchanged_by_reason.items())),
            "changes": self.changes,
            "flagged": self.flagged,
        }


@dataclass(frozen=True)
class Augmented:
    """A corpus' units with their views, in the corpus' order."""

    units: tuple[UnitViews, ...]
    coverage: Coverage

    @property
    def views_per_unit(self) -> int:
        """The largest number of views any unit has."""
        return max(len(unit.views) for unit in self.units)

    @property
    def digest(self) -> str:
        """SHA-256 of what is trained on: unit ids and all views, whatever word lists made them."""
        return digest_of([[unit.id, list(unit.views)] for unit in self.units])


def augment(corpus: Corpus, cda: CDA | None) -> Augmented:
    """Gives each unit the counterfactuals of its records as further views; with cda=None just the records.

    Raises:
        AugmentationError: nothing in the corpus could be swapped, and cda does not allow that.
    """
    units: list[UnitViews] = []
    reasons: Counter[str] = Counter()
    records = changes = flagged = 0
    for unit in corpus.units:
        originals = tuple(record.text for record in unit.records)
        records += len(originals)
        if cda is None:
            units.append(UnitViews(unit.id, originals, len(originals)))
            continue
        swapped: list[str] = []
        sources: list[int] = []
        for position, text in enumerate(originals):
            result = counterfactual(text, cda)
            if result.text is None:
                reasons[result.reason or ""] += 1
                continue
            swapped.append(result.text)
            sources.append(position)
            changes += len(result.changes)
            flagged += bool(result.flags)
        units.append(UnitViews(unit.id, (*originals, *swapped), len(originals), tuple(sources)))
    if cda is None:
        reasons[NOT_ASKED_FOR] = records
    coverage = Coverage(records, records - sum(reasons.values()), dict(reasons), changes, flagged)
    if cda is not None and coverage.changed == 0 and not cda.allow_unchanged:
        told = "; ".join(f"{reason}: {count}" for reason, count in sorted(reasons.items()))
        raise AugmentationError(
            f"counterfactual augmentation changed none of {records} records of corpus {corpus.name!r} ({told})",
            where=f"{corpus.name}, axes {', '.join(cda.axes)}",
            fix="give a corpus that mentions people, train an arm without cda, or set CDA(allow_unchanged=True)",
        )
    return Augmented(tuple(units), coverage)


def mirrored_units(corpus: Corpus, cda: CDA | None = None) -> int:
    """How many units belong to a pair in which one unit holds a text of the other, or the counterfactual of one.

    Such units may come from one person, as in a corpus that counterfactual copies were appended to. `cda` says what to
    swap, by default gender.
    """
    cda = CDA() if cda is None else cda
    texts = [{record.text for record in unit.records} for unit in corpus.units]
    swapped = [{found for text in own if (found := counterfactual(text, cda).text) is not None} for own in texts]
    holders = Counter(text for own in texts for text in own)
    mirrors = Counter(text for own in swapped for text in own)
    count = 0
    for own, others in zip(texts, swapped, strict=True):
        # What is left of a text's holders once the unit itself is taken away.
        held = any(holders[text] > 1 or mirrors[text] > (text in others) for text in own)
        count += held or any(holders[text] > (text in own) for text in others)
    return count
