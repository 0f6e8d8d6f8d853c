"""A share of the units is augmented: which ones follows from the unit alone, and less is a part of more."""

from __future__ import annotations

import dataclasses
import random

import datasets
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairtest.augmentation import augment, augment_dataset
from fairtest.augmentation.fraction import NOT_CHOSEN, chosen
from fairtest.corpora.units import Corpus, Record, Unit
from fairtest.errors import AugmentationError
from fairtest.specs import CDA

datasets.disable_progress_bars()


def corpus_of(texts, *, named=True, name="visits"):
    return Corpus(
        name, tuple(Unit(f"u{index}", (Record(f"r{index}", text),)) for index, text in enumerate(texts)), named=named
    )


TEXTS = [f"She met {count} friends." if count % 4 else f"It rained for {count} days." for count in range(400)]
VISITS = corpus_of(TEXTS)


def augmented_ids(corpus, cda):
    return {unit.id for unit in augment(corpus, cda).units if len(unit.views) > unit.records}


@settings(max_examples=80, deadline=None)
@given(
    st.floats(0.001, 1), st.floats(0.001, 1), st.integers(-5, 5), st.lists(st.text(min_size=1), min_size=1, max_size=30)
)
def test_a_smaller_share_is_a_part_of_a_larger_one(one, other, seed, names):
    small, large = sorted((one, other))
    for name in names:
        if chosen(CDA(fraction=small, seed=seed), ["text"], name):
            assert chosen(CDA(fraction=large, seed=seed), ["text"], name)
        if chosen(CDA(fraction=small, seed=seed), [name]):
            assert chosen(CDA(fraction=large, seed=seed), [name])
        assert chosen(CDA(fraction=1, seed=seed), ["text"], name)


@pytest.mark.parametrize("fraction", [0.1, 0.5, 0.9])
def test_about_the_share_that_was_asked_for_is_augmented(fraction):
    found = augment(VISITS, CDA(fraction=fraction))
    left = found.coverage.unchanged_by_reason[NOT_CHOSEN]
    assert abs(left / 400 - (1 - fraction)) < 0.07
    assert found.coverage.records == found.coverage.changed + sum(found.coverage.unchanged_by_reason.values()) == 400
    assert found.coverage.views == 400 + found.coverage.changed
    whole = augmented_ids(VISITS, CDA())
    assert augmented_ids(VISITS, CDA(fraction=fraction)) < whole


def test_units_that_are_not_chosen_keep_the_records_they_have():
    corpus = Corpus("c", tuple(Unit(f"u{n}", (Record("a", "She paid."), Record("b", "It rained."))) for n in range(40)))
    found = augment(corpus, CDA(fraction=0.5))
    kinds = {unit.views for unit in found.units}
    assert kinds == {("She paid.", "It rained."), ("She paid.", "It rained.", "He paid.")}
    assert all(unit.records == 2 for unit in found.units)
    plain = {unit.id: unit for unit in augment(corpus, None).units}
    assert all(unit == plain[unit.id] for unit in found.units if len(unit.views) == 2)


@pytest.mark.parametrize("mode", ["two_sided", "substitute", "naive_copies"])
@pytest.mark.parametrize("named", [True, False])
def test_the_choice_is_the_same_in_any_order_and_company(named, mode):
    cda = CDA(fraction=0.3, seed=4, mode=mode)
    base = corpus_of(TEXTS, named=named)
    shuffled = list(base.units)
    random.Random(1).shuffle(shuffled)
    few = dataclasses.replace(base, units=tuple(shuffled[:150]))
    found = {unit.id: unit for unit in augment(base, cda).units}
    assert {unit.id: unit for unit in augment(few, cda).units}.items() <= found.items()


def test_units_without_names_are_chosen_by_their_texts():
    named_by_place = corpus_of(TEXTS, named=False)
    moved = corpus_of(["Rain.", *TEXTS], named=False)

    def texts(corpus):
        return {unit.views for unit in augment(corpus, CDA(fraction=0.4)).units if len(unit.views) > 1}

    assert texts(named_by_place) == texts(moved)


def test_another_seed_chooses_others():
    assert augmented_ids(VISITS, CDA(fraction=0.5)) != augmented_ids(VISITS, CDA(fraction=0.5, seed=1))


@pytest.mark.parametrize("mode", ["two_sided", "substitute"])
def test_all_of_the_units_is_what_was_there_before_there_was_a_fraction(mode):
    whole, given_whole = CDA(mode=mode), CDA(mode=mode, fraction=1)
    assert whole.as_dict() == given_whole.as_dict()
    assert augment(VISITS, whole) == augment(VISITS, given_whole)
    assert NOT_CHOSEN not in augment(VISITS, given_whole).coverage.unchanged_by_reason


def test_a_share_in_which_nothing_can_be_swapped_is_an_error_that_names_the_share():
    with pytest.raises(AugmentationError, match=r"raise CDA\(fraction=\), give a corpus"):
        augment(corpus_of(["She paid.", "It rained."]), CDA(fraction=1e-9))
    allowed = augment(corpus_of(["She paid."]), CDA(fraction=1e-9, allow_unchanged=True))
    assert allowed.coverage.unchanged_by_reason == {NOT_CHOSEN: 1}
    assert allowed.coverage.warning() is None


def test_a_data_set_is_augmented_in_the_same_share_as_a_corpus_without_names():
    cda = CDA(fraction=0.4)
    rows = augment_dataset(datasets.Dataset.from_dict({"text": TEXTS}), cda)
    found = augment(corpus_of(TEXTS, named=False), cda)
    assert sorted(rows["text"]) == sorted(text for unit in found.units for text in unit.views)
    assert rows["reason"].count(NOT_CHOSEN) == found.coverage.unchanged_by_reason[NOT_CHOSEN]


def test_copies_are_units_behind_the_units_they_are_of():
    corpus = Corpus(
        "c",
        (
            Unit("a", (Record("1", "She paid."), Record("2", "Her bill came."))),
            Unit("b", (Record("3", "It rained."),)),
            Unit("c#copy1", (Record("4", "The king left."),)),
        ),
    )
    found = augment(corpus, CDA(mode="naive_copies"))
    assert [(unit.id, unit.views) for unit in found.units] == [
        ("a", ("She paid.", "Her bill came.")),
        ("b", ("It rained.",)),
        ("c#copy1", ("The king left.",)),
        ("a##copy1", ("He paid.",)),
        ("a##copy2", ("His bill came.",)),
        ("c#copy1##copy1", ("The queen left.",)),
    ]
    assert [unit.replaced for unit in found.units[3:]] == [("She paid.",), ("Her bill came.",), ("The king left.",)]
    assert (found.copies, found.most_copies, found.views_per_unit) == (3, 2, 2)
    assert found.coverage == augment(corpus, CDA()).coverage
    assert len({unit.id for unit in found.units}) == 6


def test_views_are_no_copies():
    found = augment(VISITS, CDA())
    assert (found.copies, found.most_copies) == (0, 0)
