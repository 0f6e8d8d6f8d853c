from __future__ import annotations

import pytest

from fairtest.augmentation.disambiguation import CHOICES
from fairtest.augmentation.lexicon import lexicon_digest, names, phrases, read_names, read_phrases, read_terms, terms
from fairtest.errors import AugmentationError

HEADER = "masculine,feminine,way,kind,note\n"


def test_two_rows_for_one_word_are_refused_with_both_lines():
    with pytest.raises(AugmentationError) as caught:
        read_terms(HEADER + "king,queen,both,royalty,\nemperor,queen,to_masculine,royalty,\n", "mine.csv")
    assert str(caught.value) == (
        "'queen' is swapped by two rows: 'king' (line 2) and 'emperor' (line 3)\n"
        "  where: mine.csv\n"
        "  do:    keep one of them, or give the other row one direction (to_feminine, to_masculine)"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("masculine,feminine\nhe,she\n", "column way, kind, note is missing"),
        (HEADER + "he,she,sideways,pronoun,\n", "unknown way 'sideways'"),
        (HEADER + "he,,both,pronoun,\n", "'he' and '' are no pair of words"),
        (HEADER + "he,he,both,pronoun,\n", "'he' and 'he' are no pair of words"),
    ],
)
def test_a_faulty_row_is_named(text, message):
    with pytest.raises(AugmentationError, match=r"mine\.csv") as caught:
        read_terms(text, "mine.csv")
    assert caught.value.what == message


def test_a_name_with_two_partners_is_refused():
    with pytest.raises(AugmentationError, match="'Ann' occurs twice"):
        read_names("masculine,feminine\nJoe,Ann\nTim,Ann\n", "names.csv")


def test_an_unknown_effect_is_refused():
    with pytest.raises(AugmentationError, match="unknown effect 'maybe'"):
        read_phrases("phrase,effect,note\nqueen bee,maybe,\n", "phrases.csv")


def test_one_direction_gives_no_way_back():
    lexicon = read_terms(HEADER + "host,hostess,to_masculine,role,\n", "mine.csv")
    assert set(lexicon) == {"hostess"}
    assert not lexicon["hostess"].reversible


def test_reversible_terms_are_mutual():
    lexicon = terms()
    for term in lexicon.values():
        if term.reversible and term.word not in CHOICES and term.kind != "pronoun":
            assert lexicon[term.counterpart].counterpart == term.word


def test_every_word_with_a_choice_is_a_term():
    assert set(CHOICES) <= set(terms())


def test_names_are_one_to_one_and_no_terms():
    assert all(names()[partner] == name for name, partner in names().items())
    assert not {name.lower() for name in names()} & set(terms())


def test_words_of_a_pair_take_the_same_article():
    silent = {"heir", "heiress"}
    for term in terms().values():
        sounds = {word in silent or word[0] in "aeiou" for word in (term.word, term.counterpart)}
        if term.reversible:
            assert len(sounds) == 1, term


def test_phrases_are_listed_once_and_the_digest_is_stable():
    texts = [phrase.text for phrase in phrases()]
    assert len(texts) == len(set(texts))
    assert len(lexicon_digest()) == 64
    assert lexicon_digest() == lexicon_digest()
