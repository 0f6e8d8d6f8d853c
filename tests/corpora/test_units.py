from __future__ import annotations

import pytest

from fairtest.corpora.units import Corpus, Record, Unit, group_into_units
from fairtest.errors import CorpusError


def corpus_of(*texts_by_unit, name="c"):
    units = tuple(
        Unit(str(index), tuple(Record(f"{index}-{place}", text) for place, text in enumerate(texts)))
        for index, texts in enumerate(texts_by_unit)
    )
    return Corpus(name, units)


def test_the_digest_is_of_the_content_and_not_of_the_name():
    assert corpus_of(["a"], ["b"], name="x").digest == corpus_of(["a"], ["b"], name="y").digest
    assert corpus_of(["a"], ["b"]).digest != corpus_of(["b"], ["a"]).digest


def test_a_units_side_of_the_split_depends_on_its_id_alone():
    few = corpus_of(*[["text"]] * 200)
    many = corpus_of(*[["other"]] * 400)
    small, large = few.split(0.1), many.split(0.1)
    kept, aside = ({unit.id for unit in side.units} for side in large)
    assert {unit.id for unit in small[0].units} <= kept
    assert {unit.id for unit in small[1].units} <= aside
    assert not kept & aside
    assert 20 < len(aside) < 60


def test_a_corpus_too_small_to_hold_units_out_is_an_error():
    with pytest.raises(CorpusError, match="too small to hold units out"):
        corpus_of(["a"]).split(0.1)


def test_records_of_one_unit_are_gathered_in_order():
    records = [Record(str(i), text) for i, text in enumerate("abcd")]
    units = group_into_units(records, ["u", "v", "u", "w"])
    assert [(unit.id, [record.text for record in unit.records]) for unit in units] == [
        ("u", ["a", "c"]), ("v", ["b"]), ("w", ["d"])]  # fmt: skip


def test_an_id_that_occurs_twice_is_an_error():
    with pytest.raises(CorpusError, match="more than once"):
        Corpus("c", (Unit("a", ()), Unit("a", ())))
