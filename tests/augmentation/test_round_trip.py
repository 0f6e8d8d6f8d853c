"""Swapping real text twice: what comes back, and that nothing but words of the lexicon and their articles changes."""

from __future__ import annotations

import re

import pytest

from fairtest.augmentation import counterfactual
from fairtest.augmentation.axis_files import key_of
from fairtest.augmentation.lexicon import load_axis
from fairtest.augmentation.swap import NOT_REVERSIBLE
from fairtest.specs import CDA

# Their way back is read from the sentence: her was him or his, his was her or hers.
BY_CONTEXT = {"her", "his", "him", "hers"}
SENTENCE_ENDS = re.compile(r"(?<=[.!?])\s+")


@pytest.fixture(scope="module")
def sentences(data_dir):
    paths = sorted([*(data_dir / "gutenberg-novels").glob("*.txt"), *(data_dir / "wikitext-2").glob("*.txt")])
    texts = [re.split(r"\n\s*\n", path.read_text(encoding="utf-8")) for path in paths]
    return [sentence for text in texts for paragraph in text for sentence in SENTENCE_ENDS.split(paragraph)]


@pytest.fixture(scope="module")
def swapped(sentences):
    found = [(sentence, counterfactual(sentence, CDA())) for sentence in sentences]
    return [(sentence, one) for sentence, one in found if one.text is not None]


def test_sentences_of_reversible_words_come_back(swapped):
    counts = {True: [0, 0], False: [0, 0]}
    for sentence, one in swapped:
        if NOT_REVERSIBLE in one.flags:
            continue
        by_context = any(change.before.lower() in BY_CONTEXT for change in one.changes)
        counts[by_context][0] += 1
        counts[by_context][1] += counterfactual(one.text, CDA()).text == sentence
    (certain, certain_back), (read, read_back) = counts[False], counts[True]
    assert certain > 10_000
    assert certain_back / certain >= 0.999
    assert read > 12_000
    assert read_back / read >= 0.99


def test_no_token_outside_the_lexicon_changes(swapped):
    words = set(load_axis("gender").terms)
    for _, one in swapped:
        for change in one.changes:
            word = re.sub(r"['\u2019]s?$", "", change.before, flags=re.IGNORECASE)
            assert {key_of(word), key_of(change.before)} & words or word.lower() in {"a", "an"}, change
