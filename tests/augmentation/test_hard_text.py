"""Text that is no ordinary prose: it is swapped where it can be, left whole where it cannot, and never an accident."""

from __future__ import annotations

import pytest

from fairtest.augmentation import counterfactual, counterfactuals
from fairtest.specs import AUGMENTATION_AXES, CDA

ALL = CDA(axes=AUGMENTATION_AXES)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("one\r\ntwo\rShe left.\n\x0b\x0c\x85", "one\r\ntwo\rHe left.\n\x0b\x0c\x85"),
        ("\x00\x01She\x02 left.\x00", "\x00\x01He\x02 left.\x00"),
        ("\ud800 she \udfff", "\ud800 he \udfff"),
        ("\ufeffShe left.", "\ufeffHe left."),
        ("\u0130stanbul: she met him.", "\u0130stanbul: he met her."),
        ("She wore a \U0001f451.", "He wore a \U0001f451."),
        ("a\u00a0woman\u2003left", "a\u00a0man\u2003left"),
        ("_Her_ hat, *her* coat, _to her mother_", "_His_ hat, *his* coat, _to his father_"),
        ("<b>She</b> left.", "<b>He</b> left."),
        ("FIANC\u00c9E", "FIANC\u00c9"),
    ],
)
def test_everything_but_the_words_is_kept_character_by_character(text, expected):
    assert counterfactual(text, CDA()).text == expected


@pytest.mark.parametrize(
    "text",
    [
        "Elle a perdu ses cl\u00e9s.",
        "\u5979\u4e22\u4e86\u94a5\u5319\u3002",
        "\u041e\u043d\u0430 \u0443\u0448\u043b\u0430.",
        "\u0647\u064a \u0647\u0646\u0627",
        "\x89PNG\r\n\x1a\n\x00\x00",
    ],
)
def test_other_languages_and_junk_have_no_counterfactual(text):
    assert all((one.text, one.changes) == (None, ()) for one in counterfactuals(text, ALL))


def test_a_line_of_a_megabyte_is_swapped_whole():
    text = "He said that she was here. " * 40_000
    assert counterfactual(text, CDA()).text == "She said that he was here. " * 40_000


@pytest.mark.parametrize("unit", ["@", "a@", "her-", "_", "'", "ma'", "he ", "African ", "a ", ".x@"])
def test_repetition_costs_no_more_than_its_length(unit):
    # Patterns that go back over the text would take minutes here.
    text = unit * 60_000
    assert [one.text for one in counterfactuals(text, ALL)] == [
        "she " * 60_000 if unit == "he " and one.axis == "gender" else None for one in counterfactuals("he a", ALL)
    ]
