from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from fairtest.augmentation import counterfactual
from fairtest.augmentation.lexicon import load_axis
from fairtest.specs import CDA

PLAIN = CDA()
NAMES = CDA(names=True)

NOUNS = sorted(
    term.word
    for (term,) in load_axis("gender").terms.values()
    if all(term.reversible)
    and " " not in term.word
    # Adjectives have no place in the frames: "her kingly called him" is no English, and has no way back.
    # The ladies's is none either.
    and not term.word.endswith(("ly", "ish", "al", "less", "ine", "ed", "ing", "ladies"))
    and term.kind in ("kinship", "people", "royalty", "role", "compound")
)
CASES = st.sampled_from([str.lower, str.upper, str.capitalize])
GAPS = st.sampled_from([" ", "  ", " \t", "\n"])
FRAMES = st.sampled_from(
    [
        "the {0} thanked the {1}",
        "her {0} called him",
        "he lost his keys near the {0}'s {1}",
        "I told her that the {0} left",
        "they saw him leave with the {0} , {1} , and <unk>",
        "she met her before noon",
        "it was his , not hers ; the {0} knew",
        "she @-@ the {0} of his 's",
        "he'll say himself",
        "let her sleep",
        "ask the {0}, or her or his {1}",
    ]
)
SENTENCES = st.builds(
    lambda frame, first, second, case, gap: case(frame.format(first, second)).replace(" ", gap),
    FRAMES,
    st.sampled_from(NOUNS),
    st.sampled_from(NOUNS),
    CASES,
    GAPS,
)


@settings(deadline=None)
@given(st.lists(SENTENCES, min_size=1, max_size=3).map(". ".join))
def test_swapping_twice_gives_the_text_back(text):
    once = counterfactual(text, PLAIN)
    assert once.text is not None
    assert once.text != text
    assert counterfactual(once.text, PLAIN).text == text


ANY_TEXT = st.one_of(
    st.text(),
    st.text(alphabet=st.characters(categories=None, exclude_categories=())),
    st.lists(
        st.sampled_from(
            [
                *"'\u2019\"-/()@#. \n",
                "her",
                "his",
                "Hers",
                "SHE",
                "he",
                "Mr",
                "Sir",
                "John",
                "St",
                "man",
                "ladies",
                "s",
                "King",
            ]
        )
    ).map("".join),
    st.lists(st.one_of(st.sampled_from(["her", "his", "him", "Lady", "Anna", "actress'"]), st.text(max_size=3))).map(
        " ".join
    ),
)


@settings(deadline=None)
@given(ANY_TEXT, st.sampled_from([PLAIN, NAMES]))
def test_text_outside_the_changes_is_untouched(text, cda):
    result = counterfactual(text, cda)
    assert result == counterfactual(text, cda)
    if result.text is None:
        assert result.reason
        assert result.changes == ()
        return
    rebuilt, position = "", 0
    for change in result.changes:
        assert position <= change.start < change.end
        assert text[change.start : change.end] == change.before
        rebuilt += text[position : change.start] + change.after
        position = change.end
    assert rebuilt + text[position:] == result.text


@settings(deadline=None)
@given(SENTENCES, st.text(alphabet="xyz .,\n", max_size=20))
def test_other_words_around_a_sentence_do_not_change_how_many_terms_it_has(text, noise):
    alone = counterfactual(text, PLAIN)
    assert len(counterfactual(f"{noise}. {text}. {noise}", PLAIN).changes) == len(alone.changes)
