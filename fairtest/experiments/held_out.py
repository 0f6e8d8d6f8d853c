"""Held-out texts one after the other, with the unit and the group that each belongs to."""

from __future__ import annotations

from fairtest.corpora.units import Corpus

Columns = tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]


def flat(corpus: Corpus, group_field: str | None, unit_field: str | None = None) -> Columns:
    """(texts, units, groups) of a corpus, in its order; the group is "" where a record has none.

    With `unit_field`, a record that has this column belongs to the unit it names: for a corpus that was read without
    grouping. Units are what an interval is over. Where they have no names, those of equal texts are one: their losses
    are one number, and a text that stands there a hundred times is one piece of evidence.
    """
    texts, units, groups = [], [], []
    first: dict[tuple[str, ...], str] = {}
    for unit in corpus.units:
        own = unit.id if corpus.named else first.setdefault(tuple(record.text for record in unit.records), unit.id)
        for record in unit.records:
            texts.append(record.text)
            units.append(record.fields.get(unit_field, own) if unit_field else own)
            groups.append(record.fields.get(group_field, "") if group_field else "")
    return tuple(texts), tuple(units), tuple(groups)
