from __future__ import annotations

import re

import pytest

from fairtest.augmentation import counterfactual
from fairtest.augmentation.languages import in_another_language
from fairtest.augmentation.occurrences import OTHER_LANGUAGE
from fairtest.specs import CDA


@pytest.mark.parametrize(
    "text", ["Komm doch her zu mir.", "Il a vendu son v\u00e9lo et son piano.", "Jeg er her.", "Hij zag zijn man niet."]
)
def test_a_word_of_another_language_is_kept_and_counted(text):
    result = counterfactual(text, CDA())
    assert (result.text, result.reason) == (None, OTHER_LANGUAGE)


@pytest.mark.parametrize(
    "text",
    ["She left.", "Mrs. de la Cruz smiled.", "Her van.", "\u201cAu revoir, mon fils et ma fille\u201d, she said."],
)
def test_english_with_a_few_words_of_another_language_is_english(text):
    assert counterfactual(text, CDA()).text is not None


def test_novels_are_english_but_for_their_mottoes(data_dir):
    for path in sorted((data_dir / "gutenberg-novels").glob("*.txt")):
        paragraphs = [p for p in re.split(r"\n\s*\n", path.read_text(encoding="utf-8")) if len(p.split()) > 20]
        other = [paragraph for paragraph in paragraphs if in_another_language(paragraph.lower())]
        assert len(other) <= 5, other  # Middlemarch has mottoes in French, Italian and Spanish
