from __future__ import annotations

import pytest

from fairtest.augmentation.axis_files import read_csv, read_names, read_phrases, read_toml
from fairtest.augmentation.disambiguation import CHOICES
from fairtest.augmentation.lexicon import lexicon_digest, load_axis, names
from fairtest.errors import AugmentationError

HEADER = "masculine,feminine,way,kind,note\n"


GENDER = load_axis("gender")


def test_two_rows_for_one_word_are_refused_with_both_lines():
    with pytest.raises(AugmentationError) as caught:
        read_csv(HEADER + "king,queen,both,royalty,\nemperor,queen,to_masculine,royalty,\n", "mine.csv")
    assert str(caught.value) == (
        "'queen' is swapped by two rows: 'king' (mine.csv, line 2) and 'emperor' (mine.csv, line 3)\n"
        "  where: mine.csv, line 3\n"
        "  do:    keep one of them, give the other row one direction (to_GROUP, from_GROUP), or call one row noun and "
        "the other adjective"
    )


def test_a_word_in_two_groups_would_go_round_in_a_circle():
    with pytest.raises(AugmentationError) as caught:
        read_csv("young,old\nboy,man\nman,grandfather\n", "ages.csv")
    assert str(caught.value) == (
        "'man' is a word of group 'old' (ages.csv, line 2) and of group 'young' (ages.csv, line 3):"
        " swapping would go round in a circle\n"
        "  where: ages.csv\n"
        "  do:    keep the word in one group, or leave a group's cell empty"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("masculine,way\nhe,both\n", "an axis has at least two groups, each with a name of its own, got masculine"),
        (HEADER + "he,she,sideways,pronoun,\n", "unknown way 'sideways'"),
        (HEADER + "he,,both,pronoun,\n", "'he' and '' are no row of different words"),
        (HEADER + "he,he,both,pronoun,\n", "'he' and 'he' are no row of different words"),
        (HEADER + "he,she,both\n", "the row has 3 cells, the header has 5"),
        (HEADER + 'he,"she\n', "malformed row: unexpected end of data"),
        (HEADER, "the axis has no words"),
        ("", "an axis has at least two groups, each with a name of its own, got none"),
    ],
)
def test_a_faulty_row_of_csv_is_named(text, message):
    with pytest.raises(AugmentationError, match=r"mine\.csv") as caught:
        read_csv(text, "mine.csv")
    assert caught.value.what == message


TOML = 'groups = ["young", "old"]\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("groups =", "invalid TOML: Invalid value (at end of document)"),
        ("", "the axis names no groups"),
        (TOML + '[[terms]]\nwords = ["boy"]\n', "words must be 2 strings, one a group (young, old), got ['boy']"),
        (TOML + '[[terms]]\nwords = ["a", "b"]\nwit = "x"\n', "unknown key 'wit'"),
        (TOML + '[[terms]]\nwords = ["a", "b"]\nwith = "x"\n', "`with` names the list 'x', which is not there"),
        (TOML + '[[phrases]]\ntext = "x y"\neffect = "maybe"\n', "unknown effect 'maybe'"),
        (TOML + '[[phrases]]\ntext = "--"\neffect = "fixed"\n', "a phrase without a word: '--'"),
        (TOML + "terms = 3\n", "terms must be tables"),
        (TOML + "lists = 3\n", "lists must be a table"),
        (TOML + "[lists]\nperson = 3\n", "a list must be words in one string"),
    ],
)
def test_a_faulty_axis_of_toml_is_named(text, message):
    with pytest.raises(AugmentationError, match=r"mine\.toml") as caught:
        read_toml(text, "mine.toml")
    assert caught.value.what == message


def test_an_unknown_key_is_answered_with_the_nearest_one():
    with pytest.raises(AugmentationError, match="did you mean 'with'"):
        read_toml(TOML + '[[terms]]\nwords = ["a", "b"]\nwit = "x"\n', "mine.toml")


def test_an_axis_file_that_is_not_there_or_no_text_is_an_error(tmp_path):
    with pytest.raises(AugmentationError, match="cannot be read: No such file or directory"):
        load_axis(str(tmp_path / "age.toml"))
    (tmp_path / "age.csv").write_bytes(b"young,old\n\xff\xfe,x\n")
    with pytest.raises(AugmentationError, match="byte 0xff is not valid UTF-8"):
        load_axis(str(tmp_path / "age.csv"))


def test_a_name_with_two_partners_is_refused():
    with pytest.raises(AugmentationError, match="'Ann' occurs twice"):
        read_names("masculine,feminine\nJoe,Ann\nTim,Ann\n", "names.csv")


def test_an_unknown_effect_is_refused():
    with pytest.raises(AugmentationError, match="unknown effect 'maybe'"):
        read_phrases("phrase,effect,note\nqueen bee,maybe,\n", "phrases.csv")


def test_one_direction_gives_no_way_back():
    _, lexicon = read_csv(HEADER + "host,hostess,to_masculine,role,\n", "mine.csv")
    assert set(lexicon) == {"hostess"}
    assert lexicon["hostess"][0].reversible == (False, True)


def test_reversible_terms_are_mutual():
    for (term,) in GENDER.terms.values():
        if term.reversible[1 - term.group] and term.word not in CHOICES and term.kind != "pronoun":
            (back,) = GENDER.terms[term.counterpart.lower()]
            assert back.counterpart == term.word


def test_every_word_with_a_choice_is_a_term():
    assert set(CHOICES) <= set(GENDER.terms)


def test_names_are_one_to_one_and_no_terms():
    assert all(names()[partner] == name for name, partner in names().items())
    assert not {name.lower() for name in names()} & set(GENDER.terms)


def test_phrases_are_listed_once_and_the_digest_is_stable():
    texts = [phrase.text for phrase in GENDER.phrases]
    assert len(texts) == len(set(texts))
    assert len(lexicon_digest()) == 64
    assert lexicon_digest() == lexicon_digest()
