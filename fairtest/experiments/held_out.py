"""Held-out texts one after the other, with the unit and the group that each belongs to."""

from __future__ import annotations

from fairtest.corpora.units import Corpus

Columns = tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]


def flat(corpus: Corpus, group_field: str | None, unit_field: str | None = None) -> Columns:
    """(texts, units, groups) of a corpus, in its order; the group is "" where a record has none.

    With `unit_field`, a record that has this column belongs to the unit it names: for a corpus that was read without
    grouping.
    """
    texts, units, groups = [], [], []
    for unit in corpus.units:
        for record in unit.records:
            texts.append(record.text)
            units.append(record.fields.get(unit_field, unit.id) if unit_field else unit.id)
            groups.append(record.fields.get(group_field, "") if group_field else "")
    return tuple(texts), tuple(units), tuple(groups)
