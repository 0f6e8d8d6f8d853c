from __future__ import annotations

import pytest

from fairtest.augmentation import Change, counterfactual
from fairtest.augmentation.swap import FIXED_PHRASE, NAME_DISAGREES, NO_TERM, NOT_REVERSIBLE, WOULD_BE_FALSE
from fairtest.specs import CDA

PLAIN = CDA()
NAMES = CDA(names=True)

BOTH_WAYS = [
    ("She forgot her umbrella.", "He forgot his umbrella."),
    ("They asked her on Friday.", "They asked him on Friday."),
    ("The blame is hers.", "The blame is his."),
    ("A cousin of hers who sings is here.", "A cousin of his who sings is here."),
    ("She parked her van beside his.", "He parked his van beside hers."),
    ("We heard her speak.", "We heard him speak."),
    ("Let her finish the soup.", "Let him finish the soup."),
    ("It made her angry.", "It made him angry."),
    ("Hand it to her now.", "Hand it to him now."),
    ("He told her that it rained.", "She told him that it rained."),
    ("They called her Your Honour.", "They called him Your Honour."),
    ("Nobody saw her later.", "Nobody saw him later."),
    ("Her later work is dull.", "His later work is dull."),
    ("Her friendly dog bit her badly.", "His friendly dog bit him badly."),
    ("I visit her every week.", "I visit him every week."),
    ("They sent her home in her own car.", "They sent him home in his own car."),
    ("WHERE IS HER HAT?", "WHERE IS HIS HAT?"),
    ("SHE SAID SHE'D SEEN HIM.", "HE SAID HE'D SEEN HER."),
    ("She's sure he'll win.", "He's sure she'll win."),
    ("\u201cHe\u2019s gone,\u201d she\u2019d say.", "\u201cShe\u2019s gone,\u201d he\u2019d say."),
    ("The man's hat, the boys' room", "The woman's hat, the girls' room"),
    ("He hurt himself.", "She hurt herself."),
    ("Mr. Novak and Ms. Okoro", "Ms. Novak and Mr. Okoro"),
    ("Dear Madam,", "Dear Sir,"),
    ("Dame Okoro met Lord Novak.", "Sir Okoro met Lady Novak."),
    ("Two firemen helped the spokeswoman.", "Two firewomen helped the spokesman."),
    ("My stepmother's brother-in-law", "My stepfather's sister-in-law"),
    ("The duchess and her sons", "The duke and his daughters"),
    ("Her great-grandmother was a waitress.", "His great-grandfather was a waiter."),
    ("her or his turn", "his or her turn"),
    ("He or she may bring his or her coat.", "She or he may bring her or his coat."),
    ("Ask him/her.", "Ask her/him."),
    ("The nephew thanked the aunt.", "The niece thanked the uncle."),
    ("she @-@ a <unk> woman , her 's", "he @-@ a <unk> man , his 's"),
    (" = = Her early life = = \n", " = = His early life = = \n"),
    ("tabs\tand   spaces \r\n\r\nHe left. ", "tabs\tand   spaces \r\n\r\nShe left. "),
]


@pytest.mark.parametrize(("text", "expected"), BOTH_WAYS + [(b, a) for a, b in BOTH_WAYS])
def test_a_sentence_becomes_its_counterpart_in_both_directions(text, expected):
    assert counterfactual(text, PLAIN).text == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Mrs. Novak left.", "Mr. Novak left."),
        ("Miss Okoro will miss the bus.", "Mr. Okoro will miss the bus."),
        ("Yes, ma\u2019am.", "Yes, sir."),
        ("The hostess smiled.", "The host smiled."),
    ],
)
def test_a_word_without_a_way_back_is_swapped_and_flagged(text, expected):
    result = counterfactual(text, PLAIN)
    assert (result.text, result.flags) == (expected, (NOT_REVERSIBLE,))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The actress' shoes", "The actor's shoes"),
        ("The gentlemen's hats", "The ladies' hats"),
        ("The ladies' hats", "The gentlemen's hats"),
        ("The princess's crown", "The prince's crown"),
    ],
)
def test_the_possessive_ending_fits_the_new_word(text, expected):
    assert counterfactual(text, PLAIN).text == expected


@pytest.mark.parametrize(
    "text",
    [
        "Sherman, Hester, Theresa's anthem, Bosnian, other mothballs",
        "he_llo, she2, hersh, mot\u00adher, he\u0301",
        "Thomas went to Manila.",
        "",
        "   \n",
    ],
)
def test_text_without_a_term_has_no_counterfactual(text):
    result = counterfactual(text, PLAIN)
    assert (result.text, result.reason, result.changes) == (None, NO_TERM, ())


@pytest.mark.parametrize(
    "text",
    ["A she-wolf howled.", "a man-made lake", "Stephen King", "write to her@example.org or @him", "(s)he", "Dr. King"],
)
def test_words_in_fixed_phrases_are_kept(text):
    result = counterfactual(text, PLAIN)
    assert (result.text, result.reason) == (None, FIXED_PHRASE)


def test_a_fixed_phrase_is_kept_beside_a_swapped_word():
    assert counterfactual("The queen read Stephen King.", PLAIN).text == "The king read Stephen King."
    assert counterfactual("Oh Lord, my lord is late.", PLAIN).text == "Oh Lord, my lady is late."


@pytest.mark.parametrize(
    "text",
    [
        "She is pregnant again.",
        "His prostate was removed.",
        "The woman gave birth at dawn.",
        "Her miscarriages were never mentioned.",
        "PREGNANT WOMEN FIRST",
    ],
)
def test_a_record_that_the_swap_would_make_false_is_left_alone(text):
    result = counterfactual(text, PLAIN)
    assert (result.text, result.reason) == (None, WOULD_BE_FALSE)


def test_a_kept_name_is_flagged_when_its_pronoun_changes():
    result = counterfactual("Thomas sold his boat.", PLAIN)
    assert (result.text, result.flags) == ("Thomas sold her boat.", (NAME_DISAGREES,))
    assert counterfactual("The cook sold his boat.", PLAIN).flags == ()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Thomas met Jessica; Thomas waved.", "Jessica met Thomas; Jessica waved."),
        ("Mr. Thomas Hill and Mr. Thomas", "Ms. Jessica Hill and Ms. Thomas"),
        ("She toured St. Thomas with Dylan Thomas.", "He toured St. Thomas with Megan Thomas."),
        ("He lives in Thomas Street.", "She lives in Thomas Street."),
        ("Yesterday Jessica's mother called.", "Yesterday Thomas's father called."),
    ],
)
def test_first_names_swap_one_to_one_but_surnames_and_places_stay(text, expected):
    result = counterfactual(text, NAMES)
    assert result.text == expected
    assert NAME_DISAGREES not in result.flags


def test_changes_say_where_and_what():
    text = "So she waved: the girl."
    assert counterfactual(text, PLAIN).changes == (Change(3, 6, "she", "he"), Change(18, 22, "girl", "boy"))
