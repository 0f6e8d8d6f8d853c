"""A dataset of the hub as rows whose messages name where a value stands."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fairtest.errors import ProbeError


@dataclass(frozen=True, slots=True)
class Part:
    """One dataset of those that a probe set is made of: a configuration ("" for none) and a split."""

    configuration: str
    split: str

    def __str__(self) -> str:
        return f"{self.configuration}:{self.split}" if self.configuration else self.split


@dataclass(frozen=True)
class Table:
    """The rows of one part; `part` is None where a folder holds all parts in one dataset."""

    title: str
    part: Part | None
    dataset: Any
    where: str
    fix: str

    def __len__(self) -> int:
        return len(self.dataset)

    def error(self, what: str, where: str = "") -> ProbeError:
        """An error about this table, or about the row at `where`."""
        return ProbeError(f"{self.title}: {what}", where=where or self.where, fix=self.fix)

    def require_columns(self, wanted: Sequence[str]) -> None:
        """Checks that the columns are there.

        Raises:
            ProbeError: the first that is not.
        """
        columns = list(self.dataset.column_names)
        missing = [column for column in wanted if column not in columns]
        if missing:
            raise self.error(f"column {missing[0]!r} is missing; columns found: {', '.join(map(repr, columns))}")

    def require_items(self, wanted: int, of_what: str = "items") -> None:
        """Checks the number of rows.

        Raises:
            ProbeError: another number.
        """
        if len(self) != wanted:
            raise ProbeError(
                f"{self.title} has {wanted} {of_what}, and {len(self)} were found",
                where=self.where,
                fix=f"{self.fix}; a subset is read with strict=False",
            )

    def rows(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """("source, row N", row) of every row."""
        for index, row in enumerate(self.dataset):
            yield f"{self.where}, row {index}", row

    def text(self, row: Mapping[str, Any], column: str, where: str) -> str:
        """The text in a column.

        Raises:
            ProbeError: it is none.
        """
        value = row.get(column)
        if not isinstance(value, str) or not value.strip():
            found = "is empty" if value in (None, "") else f"is {value!r}"[:80]
            raise self.error(f"{column!r} {found}, and should be a text", where)
        return value

    def texts(self, row: Mapping[str, Any], column: str, where: str) -> list[str]:
        """The list of texts in a column; texts may be empty.

        Raises:
            ProbeError: it is none.
        """
        value = row.get(column)
        if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
            raise self.error(f"{column!r} {f'is {value!r}'[:80]}, and should be a list of texts", where)
        return value

    def label(self, value: Any, feature: Any, column: str, where: str) -> str:
        """The name of a class that is stored as its number, or as its name."""
        names = _class_names(feature)
        if names is not None and type(value) is int and 0 <= value < len(names):
            value = names[value]
        return self.text({column: value}, column, where)


@dataclass(frozen=True)
class Tables:
    """All tables of a probe set.

    Args:
        source: where they are from, in one word.
        folder: the directory they were read from, None for the hub itself.
        strict: the published number of items is asked for.
    """

    tables: Sequence[Table]
    source: str
    folder: Path | None
    strict: bool

    def by_part(self) -> Mapping[Part, Table]:
        """The tables of which it is known what part they are."""
        return {table.part: table for table in self.tables if table.part is not None}


def _class_names(feature: Any) -> list[str] | None:
    """Names of the classes of a column, or of the items of a column of lists."""
    while getattr(feature, "names", None) is None:
        feature = getattr(feature, "feature", None)
        if feature is None:
            return None
    return list(feature.names)
