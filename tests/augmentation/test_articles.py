from __future__ import annotations

import pytest

from fairtest.augmentation import counterfactual
from fairtest.augmentation.articles import article_before, vowel_begins
from fairtest.specs import CDA


@pytest.mark.parametrize(
    ("word", "vowel"),
    [
        ("actor", True), ("heir", True), ("hero", False), ("European", False), ("unicorn", False), ("uncle", True),
        ("one", False), ("user", False), ("unimportant", True), ("hour", True), ("Hindu", False), ("Asian", True),
        ("", False),
    ],
)  # fmt: skip
def test_the_sound_a_word_begins_with(word, vowel):
    assert vowel_begins(word) is vowel


@pytest.mark.parametrize(
    ("text", "start", "before", "after", "expected"),
    [
        ("an uncle", 3, "uncle", "niece", (0, 2, "a")),
        ("A niece", 2, "niece", "uncle", (0, 1, "An")),
        ("A NIECE", 2, "NIECE", "UNCLE", (0, 1, "AN")),
        ('an "uncle"', 4, "uncle", "niece", (0, 2, "a")),
        ("a uncle", 2, "uncle", "niece", None),
        ("the uncle", 4, "uncle", "niece", None),
        ("banana uncle", 7, "uncle", "niece", None),
        ("an aunt", 3, "aunt", "uncle", None),
        ("Plan an\nuncle", 8, "uncle", "niece", (5, 7, "a")),
        ("rock'n a niece", 9, "niece", "uncle", (7, 8, "an")),
    ],
)
def test_an_article_that_fits_the_old_word_is_made_to_fit_the_new_one(text, start, before, after, expected):
    assert article_before(text, start, before, after) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [("He is a hero.", "She is a heroine."), ("She met an heiress.", "He met an heir."), ("an actress", "an actor")],
)
def test_articles_of_gender(text, expected):
    assert counterfactual(text, CDA()).text == expected
