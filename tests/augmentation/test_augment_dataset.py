from __future__ import annotations

import datasets
import pytest

from fairtest.augmentation import augment_dataset, record_views
from fairtest.corpora.readers import read_corpus
from fairtest.errors import AugmentationError, CorpusError
from fairtest.specs import CDA

datasets.disable_progress_bars()
ROWS = {
    "review": ["She paid.", "It rained.", "", None, "The king left."],
    "label": [1, 0, 1, 0, 1],
    "tags": [["a"], [], ["b", "c"], [], ["d"]],
}


@pytest.fixture
def rows():
    return datasets.Dataset.from_dict(ROWS)


def test_one_row_a_view_with_all_other_columns_as_they_were(rows):
    found = augment_dataset(rows, CDA(), text_field="review")
    assert found["review"][:3] == ["She paid.", "He paid.", "It rained."]
    assert found["view"] == [0, 1, 0, 0, 0, 0, 1]
    assert found["record"] == [0, 0, 1, 2, 3, 4, 4]
    assert found["reason"] == [None, None, "no term", "empty text", "empty text", None, None]
    assert found["label"] == [1, 1, 0, 1, 0, 1, 1]
    assert found["tags"] == [["a"], ["a"], [], ["b", "c"], [], ["d"], ["d"]]


def test_processes_give_what_one_process_gives():
    rows = datasets.Dataset.from_dict({"text": [f"She paid {n}." if n % 3 else f"Rain {n}." for n in range(500)]})
    for cda in (CDA(), CDA(mode="substitute")):
        one, two = augment_dataset(rows, cda), augment_dataset(rows, cda, num_proc=2)
        assert one.to_dict() == two.to_dict()


def test_the_views_of_a_record_are_read_back_as_one_unit_with_it():
    rows = datasets.Dataset.from_dict({"text": ["She paid.", "It rained.", "The king left."]})
    for options in ({"unit_field": "record", "unit": "document"}, {}):
        corpus = read_corpus(augment_dataset(rows, CDA()), **options)
        assert [[record.text for record in unit.records] for unit in corpus.units] == [
            [view.text for view in record_views(text, CDA()).views] for text in rows["text"]
        ]


def test_no_split_parts_a_record_from_its_counterfactual():
    rows = datasets.Dataset.from_dict({"text": [f"She paid {number} coins." for number in range(60)]})
    kept, aside = read_corpus(augment_dataset(rows, CDA())).split(0.3)
    for side in (kept, aside):
        assert all(len(unit.records) == 2 for unit in side.units)
    assert len(kept) + len(aside) == 60


def test_a_wrong_column_a_taken_one_and_a_corpus_without_people_are_errors(rows):
    with pytest.raises(CorpusError, match="there is no column 'text'"):
        augment_dataset(rows, CDA())
    with pytest.raises(CorpusError, match="already has a column 'view'"):
        augment_dataset(rows.add_column("view", [0] * 5), CDA(), text_field="review")
    with pytest.raises(AugmentationError, match="changed none of 1 records"):
        augment_dataset(datasets.Dataset.from_dict({"text": ["It rained."]}), CDA())
