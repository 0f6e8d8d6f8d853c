"""From a file with a column of authors to the units that are trained on: a person stays one unit."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from fairtest.augmentation import augment
from fairtest.corpora.readers import read_corpus
from fairtest.errors import CorpusError, PrivacyWarning
from fairtest.specs import CDA
from fairtest.training.blocks import blocks_of

# Authors as tables give them: numbers, the same numbers as floats or text, and names.
AUTHORS = [7, 7.0, "7", "ann", 12, 0, "ann", 12.5, "0", 7, -3, "ann"]


def rows():
    return [
        {"id": f"r{number}", "text": f"She wrote line {number} of the report.", "author": author}
        for number, author in enumerate(AUTHORS)
    ]


@pytest.fixture
def write(tmp_path):
    def file(records):
        path = tmp_path / "reports.jsonl"
        path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
        return path

    return file


def test_records_of_a_person_are_one_unit_however_the_number_is_written(write):
    corpus = read_corpus(write(rows()), unit_field="author", unit="user")
    assert corpus.unit_name == "user"
    assert {unit.id: len(unit.records) for unit in corpus.units} == {
        "7": 4, "ann": 3, "12": 1, "0": 2, "12.5": 1, "-3": 1}  # fmt: skip
    assert corpus.record_count == len(AUTHORS)


@pytest.mark.parametrize("author", [None, "", "  ", float("nan"), True, [7], {"name": "ann"}])
def test_a_record_whose_author_is_missing_is_named_by_line_and_never_a_unit_of_its_own(write, author):
    records = rows()
    records[4]["author"] = author
    with pytest.raises(CorpusError) as caught:
        read_corpus(write(records), unit_field="author", unit="user")
    assert "reports.jsonl, line 5, field 'author'" in caught.value.where
    assert "privacy unit" in caught.value.what


@pytest.mark.parametrize("again", ["ann ", " ann", "ann\t", "\uff41nn"])
def test_a_person_who_is_written_in_two_ways_is_not_silently_two_units(write, again):
    records = rows()
    records[4]["author"] = again
    with pytest.raises(CorpusError, match="one person would be counted as two") as caught:
        read_corpus(write(records), unit_field="author", unit="user")
    assert "'ann'" in caught.value.what
    assert "reports.jsonl, field 'author'" in caught.value.where


def test_names_that_differ_in_case_are_two_units_and_warned_of(write):
    records = rows()
    records[4]["author"] = "Ann"
    with pytest.warns(PrivacyWarning, match="'ann' and 'Ann' differ in upper and lower case alone"):
        corpus = read_corpus(write(records), unit_field="author", unit="user")
    assert {"ann", "Ann"} <= {unit.id for unit in corpus.units}


def test_a_record_without_the_column_is_named_with_the_columns_it_has(write):
    records = rows()
    del records[4]["author"]
    with pytest.raises(CorpusError, match=r"no column 'author'; columns here: 'id', 'text'[\s\S]*line 5[\s\S]*unit_fi"):
        read_corpus(write(records), unit_field="author", unit="user")


def test_a_person_is_trained_on_or_held_out_as_a_whole(write):
    records = [{"text": f"text {number}", "author": number % 40} for number in range(400)]
    kept, aside = read_corpus(write(records), unit_field="author", unit="user").split(0.25)
    assert len(kept) + len(aside) == 40
    assert {len(unit.records) for unit in (*kept.units, *aside.units)} == {10}
    assert not {unit.id for unit in kept.units} & {unit.id for unit in aside.units}


def test_what_is_kept_under_a_cap_is_the_same_for_a_file_in_another_order(write):
    kept = read_corpus(write(rows()), unit_field="author", unit="user").capped(2)
    again = read_corpus(write(rows()[::-1]), unit_field="author", unit="user").capped(2)
    assert {record.id for unit in kept.units for record in unit.records} == {
        record.id for unit in again.units for record in unit.records
    }
    assert (kept.record_count, kept.records_left_out) == (9, 3)
    assert {unit.id: unit.left_out for unit in kept.units if unit.left_out} == {"7": 2, "ann": 1}


def test_a_counterfactual_and_all_blocks_of_all_records_stay_in_the_unit_of_their_person(write):
    corpus = read_corpus(write(rows()), unit_field="author", unit="user").capped(3)
    units = augment(corpus, CDA()).units
    assert [unit.id for unit in units] == [unit.id for unit in corpus.units]
    owners: Counter[str] = Counter()
    for unit, source in zip(units, corpus.units, strict=True):
        assert len(unit.views) == 2 * len(source.records)
        for view in unit.views:
            ids = [-1, *view.encode()]
            blocks = blocks_of(ids, 16, "blocks")
            assert len(blocks) > 1
            assert bytes(token for block in blocks for token in block[1:]).decode() == view
            owners[unit.id] += 1
    assert set(owners) == {unit.id for unit in corpus.units}
    assert owners["7"] == 6
