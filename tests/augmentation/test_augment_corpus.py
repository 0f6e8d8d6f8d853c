from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairtest.augmentation import UnitViews, augment, counterfactual, mirrored_units
from fairtest.corpora.units import Corpus, Record, Unit
from fairtest.errors import AugmentationError
from fairtest.specs import CDA


def corpus_of(*units: tuple[str, ...], name: str = "letters") -> Corpus:
    return Corpus(
        name,
        tuple(
            Unit(f"u{index}", tuple(Record(f"u{index}-{place}", text) for place, text in enumerate(texts)))
            for index, texts in enumerate(units)
        ),
    )


LETTERS = corpus_of(
    ("She paid.", "It rained.", "Her bill came."),
    ("It snowed.",),
    ("The pregnant woman slept.",),
    ("John kept his word.",),
)


def test_a_unit_keeps_its_records_first_and_gains_the_counterfactuals_it_has():
    augmented = augment(LETTERS, CDA())
    assert augmented.units == (
        UnitViews("u0", ("She paid.", "It rained.", "Her bill came.", "He paid.", "His bill came."), 3, (0, 2)),
        UnitViews("u1", ("It snowed.",)),
        UnitViews("u2", ("The pregnant woman slept.",)),
        UnitViews("u3", ("John kept his word.", "John kept her word."), 1, (0,)),
    )
    assert augmented.views_per_unit == 5


def test_coverage_counts_every_record_once():
    assert augment(LETTERS, CDA()).coverage.as_dict() == {
        "records": 6,
        "changed": 3,
        "unchanged_by_reason": {"no term": 2, "swap would be false": 1},
        "views": 9,
        "changes": 3,
        "kept_by_reason": {"swap would be false": 1},
        "flagged": 1,
        "flagged_by_reason": {"name and pronoun may disagree": 1},
    }


def test_without_cda_a_unit_has_its_records_alone():
    augmented = augment(LETTERS, None)
    assert [unit.views for unit in augmented.units] == [tuple(r.text for r in unit.records) for unit in LETTERS.units]
    assert augmented.views_per_unit == 3
    assert augmented.coverage.as_dict() == {
        "records": 6,
        "changed": 0,
        "unchanged_by_reason": {"no augmentation asked for": 6},
        "views": 6,
        "changes": 0,
        "kept_by_reason": {},
        "flagged": 0,
        "flagged_by_reason": {},
    }


def test_a_corpus_that_the_swap_does_not_reach_is_an_error():
    with pytest.raises(AugmentationError) as caught:
        augment(corpus_of(("It rained.",), ("A pregnant woman slept.",), name="weather"), CDA())
    assert str(caught.value) == (
        "counterfactual augmentation changed none of 2 records of corpus 'weather' "
        "(no term: 1; swap would be false: 1)\n"
        "  where: weather, axes gender\n"
        "  do:    give a corpus that mentions people, train an arm without cda, or set CDA(allow_unchanged=True)"
    )


def test_an_unreached_corpus_can_be_allowed():
    augmented = augment(corpus_of(("It rained.",)), CDA(allow_unchanged=True))
    assert augmented.units == (UnitViews("u0", ("It rained.",)),)
    assert augmented.coverage.changed == 0


def test_the_digest_follows_the_views():
    assert augment(LETTERS, CDA()).digest == augment(LETTERS, CDA(allow_unchanged=True)).digest
    assert augment(LETTERS, CDA()).digest != augment(LETTERS, CDA(names=True)).digest
    assert augment(LETTERS, CDA()).digest != augment(LETTERS, None).digest


def mirrored_by_definition(corpus: Corpus) -> int:
    def mirrors(unit: Unit) -> set[str]:
        return {text for record in unit.records if (text := counterfactual(record.text, CDA()).text) is not None}

    def texts(unit: Unit) -> set[str]:
        return {record.text for record in unit.records}

    def paired(one: Unit, other: Unit) -> bool:
        return bool(texts(one) & texts(other) or texts(one) & mirrors(other) or mirrors(one) & texts(other))

    return sum(any(paired(one, other) for other in corpus.units if other is not one) for one in corpus.units)


def test_a_corpus_with_its_counterfactuals_appended_is_mirrored_as_a_whole():
    originals = [f"She met {count} friends." for count in range(30)]
    copies = [f"He met {count} friends." for count in range(30)]
    assert mirrored_units(corpus_of(*((text,) for text in originals))) == 0
    assert mirrored_units(corpus_of(*((text,) for text in originals + copies))) == 60


def test_one_person_with_a_text_and_its_counterfactual_mirrors_nobody():
    assert mirrored_units(corpus_of(("She paid.", "He paid.", "He paid."), ("It rained.",))) == 0


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.lists(
            st.sampled_from(["She paid.", "He paid.", "It rained.", "Her bill came.", "His bill came.", "I saw her."]),
            min_size=1,
            max_size=3,
        ).map(tuple),
        min_size=1,
        max_size=6,
    )
)
def test_mirrored_units_are_those_of_the_definition(units):
    corpus = corpus_of(*units)
    assert mirrored_units(corpus) == mirrored_by_definition(corpus)
