"""Augmenting a corpus: each unit with its views, and how much of the corpus the swap reached."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fairtest.augmentation.fraction import NOT_CHOSEN, chosen
from fairtest.augmentation.lexicon import axis_name
from fairtest.augmentation.swap import NO_TERM, counterfactuals
from fairtest.augmentation.views import EMPTY, RecordViews, View, record_views
from fairtest.corpora.units import Corpus, Unit
from fairtest.digests import digest_of
from fairtest.errors import AugmentationError, AugmentationWarning, warn_user
from fairtest.specs import AUGMENTATION_AXES, CDA

NOT_ASKED_FOR = "no augmentation asked for"
FEW = 0.01  # a corpus with a smaller share of records that hold a term is warned about


@dataclass(frozen=True, slots=True)
class UnitViews:
    """A privacy unit's texts: its `records` records first, then the counterfactuals of those that have one.

    `sources` has the position of each counterfactual's record; empty: all are of the first. `replaced` has, of a record
    that a counterfactual stands for, its own text, and None for the others; empty: all stand for themselves.
    """

    id: str
    views: tuple[str, ...]
    records: int = 1
    sources: tuple[int, ...] = ()
    replaced: tuple[str | None, ...] = ()

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
        changed: records with a counterfactual among their views.
        unchanged_by_reason: records without one, by reason.
        views: texts in all, the records themselves among them unless another one stands for them.
        changes: words changed, over all views.
        kept_by_reason: words of the axes that were left as they are, by reason.
        flagged: records with a counterfactual that carries a doubt; `flagged_by_reason` by doubt, some under several.
    """

    records: int
    changed: int
    unchanged_by_reason: Mapping[str, int]
    changes: int
    flagged: int
    views: int = 0
    kept_by_reason: Mapping[str, int] = field(default_factory=dict)
    flagged_by_reason: Mapping[str, int] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Plain data for a report."""
        return {
            "records": self.records,
            "changed": self.changed,
            "unchanged_by_reason": dict(sorted(self.unchanged_by_reason.items())),
            "views": self.views,
            "changes": self.changes,
            "kept_by_reason": dict(sorted(self.kept_by_reason.items())),
            "flagged": self.flagged,
            "flagged_by_reason": dict(sorted(self.flagged_by_reason.items())),
        }

    def rows(self) -> list[tuple[str, int, str]]:
        """(what, how many, share of what) for a table."""
        rows = [("records", self.records, "")]
        rows.append(("  with a counterfactual", self.changed, _share(self.changed, self.records)))
        for reason, count in _by_count(self.unchanged_by_reason):
            rows.append((f"  left: {reason}", count, _share(count, self.records)))
        kept = sum(self.kept_by_reason.values())
        rows.append(("views", self.views, ""))
        rows.append(("words changed", self.changes, ""))
        rows.append(("words left as they are", kept, ""))
        rows += [(f"  {reason}", count, _share(count, kept)) for reason, count in _by_count(self.kept_by_reason)]
        rows.append(("records with a doubt", self.flagged, _share(self.flagged, self.records)))
        rows += [(f"  {flag}", count, _share(count, self.records)) for flag, count in _by_count(self.flagged_by_reason)]
        return rows

    def warning(self) -> str | None:
        """What to tell a user whose corpus hardly speaks of the axes; None where it does."""
        read = self.records - self.unchanged_by_reason.get(NOT_CHOSEN, 0)
        spoken = read - self.unchanged_by_reason.get(NO_TERM, 0) - self.unchanged_by_reason.get(EMPTY, 0)
        if read == 0 or NOT_ASKED_FOR in self.unchanged_by_reason or spoken >= FEW * read:
            return None
        return (
            f"{spoken} of {read} records hold a word of the axes, fewer than {FEW:.0%}: counterfactual "
            "augmentation will hardly change what is learned. The word lists are English; for other languages or "
            "other words give lists of your own as an axis (a .toml or .csv file)"
        )


class CoverageCounter:
    """Adds up a corpus' coverage, record by record."""

    def __init__(self) -> None:
        self._records = self._changed = self._views = self._changes = self._flagged = 0
        self._reasons: Counter[str] = Counter()
        self._kept: Counter[str] = Counter()
        self._flags: Counter[str] = Counter()

    def add(self, views: RecordViews) -> None:
        """Counts one record."""
        self._records += 1
        self._views += len(views.views)
        self._kept.update(views.kept)
        if views.reason is not None:
            self._reasons[views.reason] += 1
            return
        self._changed += 1
        self._changes += sum(view.words_changed for view in views.views)
        self._flagged += bool(views.flags)
        self._flags.update(views.flags)

    def coverage(self) -> Coverage:
        """What was counted so far."""
        return Coverage(
            self._records,
            self._changed,
            dict(self._reasons),
            self._changes,
            self._flagged,
            self._views,
            dict(self._kept),
            dict(self._flags),
        )


@dataclass(frozen=True)
class Augmented:
    """A corpus' units with their views, in the corpus' order.

    Under "naive_copies" the last `copies` of the units are counterfactuals of units before them, and one unit has at
    most `most_copies`.
    """

    units: tuple[UnitViews, ...]
    coverage: Coverage
    copies: int = 0
    most_copies: int = 0

    @property
    def views_per_unit(self) -> int:
        """The largest number of views any unit has."""
        return max(len(unit.views) for unit in self.units)

    @property
    def digest(self) -> str:
        """SHA-256 of what is trained on: unit ids and all views, whatever word lists made them."""
        return digest_of([[unit.id, list(unit.views)] for unit in self.units])


def augment(corpus: Corpus, cda: CDA | None) -> Augmented:
    """Gives each unit the counterfactuals of its records as further views, or puts drawn ones in the records' places;
    with cda=None just the records. With "naive_copies" the counterfactuals come after all units, as units of their own:
    whoever is behind a unit is there several times, and batches cannot be those of other arms.

    Raises:
        AugmentationError: nothing in the corpus could be swapped, and cda does not allow that.
    """
    if cda is None:
        units = [UnitViews(unit.id, texts, len(texts)) for unit, texts in _texts(corpus)]
        count = corpus.record_count
        return Augmented(tuple(units), Coverage(count, 0, {NOT_ASKED_FOR: count}, 0, 0, count))
    counter = CoverageCounter()
    units = [_unit_views(unit, cda, counter, named=corpus.named) for unit in corpus.units]
    coverage = counter.coverage()
    if not cda.allow_unchanged:
        require_changed(coverage, corpus.name, cda)
        if message := coverage.warning():
            warn_user(f"corpus {corpus.name!r}: {message}", AugmentationWarning)
    if cda.mode == "naive_copies":
        return _with_copies(units, coverage)
    return Augmented(tuple(units), coverage)


def require_changed(coverage: Coverage, name: str, cda: CDA) -> None:
    """Raises:
    AugmentationError: nothing was swapped.
    """
    if coverage.changed:
        return
    told = "; ".join(f"{reason}: {count}" for reason, count in sorted(coverage.unchanged_by_reason.items()))
    larger = "raise CDA(fraction=), " if NOT_CHOSEN in coverage.unchanged_by_reason else ""
    raise AugmentationError(
        f"counterfactual augmentation changed none of {coverage.records} records of corpus {name!r} ({told})",
        where=f"{name}, axes {', '.join(map(axis_name, cda.axes))}",
        fix=f"{larger}give a corpus that mentions people, train an arm without cda, or set CDA(allow_unchanged=True)",
    )


def mirrored_units(corpus: Corpus, cda: CDA | None = None) -> int:
    """How many units belong to a pair in which one unit holds a text of the other, or a counterfactual of one.

    Such units may come from one person, as in a corpus that counterfactual copies were appended to. `cda` says what to
    swap, by default every built-in axis.
    """
    cda = CDA(axes=AUGMENTATION_AXES) if cda is None else cda
    texts = [{record.text for record in unit.records} for unit in corpus.units]
    swapped = [_swapped(own, cda) for own in texts]
    holders = Counter(text for own in texts for text in own)
    mirrors = Counter(text for own in swapped for text in own)
    count = 0
    for own, others in zip(texts, swapped, strict=True):
        # What is left of a text's holders once the unit itself is taken away.
        held = any(holders[text] > 1 or mirrors[text] > (text in others) for text in own)
        count += held or any(holders[text] > (text in own) for text in others)
    return count


def seen_texts(held_out: Corpus, training: Corpus, cda: CDA | None = None) -> int:
    """How many held-out texts stand in a training unit too, word for word or with other groups in them.

    Their losses are those of texts that were trained on. Of records without names the same text is on one side
    (`Corpus.split`); a counterfactual, or another person's same text, may be on the other.
    """
    cda = CDA(axes=AUGMENTATION_AXES) if cda is None else cda
    trained = {record.text for unit in training.units for record in unit.records}
    texts = [record.text for unit in held_out.units for record in unit.records]
    return sum(text in trained or not trained.isdisjoint(_swapped({text}, cda)) for text in texts)


def _swapped(texts: set[str], cda: CDA) -> set[str]:
    return {one.text for text in texts for one in counterfactuals(text, cda) if one.text is not None}


def _unit_views(unit: Unit, cda: CDA, counter: CoverageCounter, *, named: bool) -> UnitViews:
    texts = tuple(record.text for record in unit.records)
    if not chosen(cda, texts, unit.id if named else None):
        for text in texts:
            counter.add(RecordViews((View(0, text),), NOT_CHOSEN))
        return UnitViews(unit.id, texts, len(texts))
    originals: list[str] = []
    swapped: list[str] = []
    sources: list[int] = []
    replaced: list[str | None] = []
    for position, record in enumerate(unit.records):
        found = record_views(record.text, cda, record.fields)
        counter.add(found)
        first, *others = found.views
        originals.append(first.text)
        replaced.append(record.text if first.number else None)
        swapped += [view.text for view in others]
        sources += [position] * len(others)
    stood_for = tuple(replaced) if any(replaced) else ()
    return UnitViews(unit.id, (*originals, *swapped), len(originals), tuple(sources), stood_for)


def _with_copies(units: Sequence[UnitViews], coverage: Coverage) -> Augmented:
    """The units without their counterfactuals, and behind them each counterfactual as a unit of its own."""
    mark = "#copy"
    while any(mark in unit.id for unit in units):  # ids stay different, also of a corpus whose ids look like that
        mark = f"#{mark}"
    originals = [UnitViews(unit.id, unit.views[: unit.records], unit.records) for unit in units]
    copies = [
        # A copy stands for its record, so that one which is cut off before the swapped word is found out.
        UnitViews(f"{unit.id}{mark}{number}", (text,), replaced=(unit.views[source],))
        for unit in units
        for number, (text, source) in enumerate(zip(unit.views[unit.records :], unit.sources, strict=True), 1)
    ]
    most = max(len(unit.views) - unit.records for unit in units)
    return Augmented((*originals, *copies), coverage, len(copies), most)


def _texts(corpus: Corpus) -> Iterator[tuple[Unit, tuple[str, ...]]]:
    for unit in corpus.units:
        yield unit, tuple(record.text for record in unit.records)


def _by_count(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def _share(count: int, total: int) -> str:
    return f"{count / total:.1%}" if total else ""
