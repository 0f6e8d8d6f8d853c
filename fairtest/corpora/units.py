"""Records, and the privacy units they belong to."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from fairtest.digests import digest_of
from fairtest.errors import CorpusError


@dataclass(frozen=True, slots=True)
class Record:
    """One text of a corpus. `fields` are the record's other columns as text, never trained on."""

    id: str
    text: str
    fields: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Unit:
    """What two neighbouring corpora differ by: one or more records of one person, document or row.

    `left_out` is how many further records it has that a cap keeps out.
    """

    id: str
    records: tuple[Record, ...]
    left_out: int = 0


@dataclass(frozen=True)
class Corpus:
    """Units in a fixed order, each unit id once.

    `named` says that ids are names of people or documents, and not positions in a file.

    Raises:
        CorpusError: no unit, or an id that occurs twice.
    """

    name: str
    units: tuple[Unit, ...]
    unit_name: str = "record"
    named: bool = True

    def __post_init__(self) -> None:
        if not self.units:
            raise CorpusError(f"corpus {self.name!r} has no records", where=self.name, fix="give a corpus with text")
        if len({unit.id for unit in self.units}) != len(self.units):
            raise CorpusError(
                f"corpus {self.name!r} has a unit id more than once", where=self.name, fix="merge the records of a unit"
            )

    def __len__(self) -> int:
        return len(self.units)

    @property
    def record_count(self) -> int:
        """Records of all units."""
        return sum(len(unit.records) for unit in self.units)

    @property
    def records_left_out(self) -> int:
        """Records of these units that a cap keeps out."""
        return sum(unit.left_out for unit in self.units)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of ids, texts, fields and the unit; the same for the same content under any name or path."""
        return digest_of(
            [
                self.unit_name,
                [[unit.id, [[r.id, r.text, dict(r.fields)] for r in unit.records]] for unit in self.units],
            ]
        )

    def split(self, held_out: float) -> tuple[Corpus, Corpus]:
        """(training units, held-out units): a unit's side follows from a hash of its name alone, or of its text where
        units have no names, so it is the same in every arm, seed and process, and no unit's coming or going moves
        another one. Records of equal text are on one side. `held_out` is the expected share, in (0, 1).

        Raises:
            CorpusError: one of the sides would be empty.
        """
        kept: list[Unit] = []
        aside: list[Unit] = []
        for unit in self.units:
            own = unit.id if self.named else digest_of([record.text for record in unit.records])
            draw = int.from_bytes(hashlib.sha256(f"held-out:{own}".encode()).digest()[:8], "big") / 2**64
            (aside if draw < held_out else kept).append(unit)
        if len(self.units) == 1 and self.record_count > 1:
            raise CorpusError(
                f"all {self.record_count} records of corpus {self.name!r} belong to one {self.unit_name}, so none can"
                " be held out",
                where=f"{self.name}, {self.unit_name} {self.units[0].id!r}",
                fix="set unit_field to a column whose values tell the privacy units apart",
            )
        if not kept or not aside:
            raise CorpusError(
                f"corpus {self.name!r} is too small to hold units out: {len(kept)} to train on, {len(aside)} held out",
                where=f"{self.name}, held_out={held_out}",
                fix="give more records (a few hundred at least) or another held_out share",
            )
        return (
            dataclasses.replace(self, name=f"{self.name}[train]", units=tuple(kept)),
            dataclasses.replace(self, name=f"{self.name}[held-out]", units=tuple(aside)),
        )

    def capped(self, max_records: int | None) -> Corpus:
        """The same units with at most `max_records` records each, in their order; None: all of them.

        A hash of a record's text and fields decides. So the choice is the same in any order, process and seed, records
        of a smaller cap are among those of a larger one, and no unit has a say in what is chosen of another, as it
        would have through positions in a file: neighbouring corpora still differ by one unit.

        Raises:
            CorpusError: `max_records` is below 1.
        """
        if max_records is None:
            return self
        if max_records < 1:
            raise CorpusError(
                f"at most {max_records} records of a unit leave nothing to train on",
                where=f"{self.name}, max_records_per_unit",
                fix="give at least 1",
            )
        return dataclasses.replace(self, units=tuple(_capped(unit, max_records) for unit in self.units))


def _capped(unit: Unit, max_records: int) -> Unit:
    if len(unit.records) <= max_records:
        return unit
    draws = [digest_of(["cap", record.text, dict(record.fields)]) for record in unit.records]
    chosen = sorted(sorted(range(len(draws)), key=lambda index: draws[index])[:max_records])
    return Unit(
        unit.id, tuple(unit.records[index] for index in chosen), unit.left_out + len(unit.records) - max_records
    )


def group_into_units(records: Iterable[Record], unit_ids: Iterable[str]) -> tuple[Unit, ...]:
    """Gathers records of the same unit id, in order of first appearance."""
    grouped: dict[str, list[Record]] = {}
    for record, unit_id in zip(records, unit_ids, strict=True):
        grouped.setdefault(unit_id, []).append(record)
    return tuple(Unit(unit_id, tuple(members)) for unit_id, members in grouped.items())
