from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairtest.corpora.windows import windows
from fairtest.errors import CorpusError

prose = st.lists(
    st.sampled_from(["She", "left.", "Mr.", "Darcy", "why?”", "no!", "\n", "\n\n", "and", "(so", "it", "was.)"]),
    max_size=60,
).map(" ".join)


def test_windows_end_with_sentences_and_join_broken_lines():
    text = "It was a dark\nnight. She went\nout. He\n  stayed at home."
    assert windows(text, 8) == ["It was a dark night. She went out.", "He stayed at home."]


def test_titles_and_initials_end_no_sentence():
    assert windows("Mr. Darcy met J. Smith. He bowed to Mrs. Bennet.", 6) == [
        "Mr. Darcy met J. Smith.",
        "He bowed to Mrs. Bennet.",
    ]


def test_a_closing_quote_belongs_to_its_sentence():
    assert windows("“Will you come?” He asked. “No.”", 3) == ["“Will you come?”", "He asked. “No.”"]


def test_a_paragraph_ends_a_sentence():
    assert windows("CHAPTER I\n\nIt is known by all", 5) == ["CHAPTER I", "It is known by all"]


def test_a_sentence_that_is_too_long_is_cut():
    assert windows("one two three four five six seven. Eight.", 3) == [
        "one two three",
        "four five six",
        "seven. Eight.",
    ]


def test_nothing_gives_no_window():
    assert windows(" \n\n ", 5) == []


def test_a_window_of_no_words_is_an_error():
    with pytest.raises(CorpusError, match="window of 0 words"):
        windows("text", 0)


@settings(deadline=None)
@given(prose | st.text(), st.integers(1, 12))
def test_windows_hold_every_word_once_in_order_and_stay_within_the_limit(text, words):
    cut = windows(text, words)
    assert " ".join(cut).split() == text.split()
    assert all(1 <= len(window.split()) <= words for window in cut)
    assert all(window == " ".join(window.split()) for window in cut)


@settings(deadline=None)
@given(prose, st.integers(1, 12))
def test_windows_do_not_depend_on_where_lines_break(text, words):
    assert windows(text.replace(" \n ", " \r\n "), words) == windows(text, words)
    flat = re.sub(r"\n(\s*\n)+", " ", text)  # without blank lines, which end a sentence
    assert windows(flat.replace("\n", " "), words) == windows(flat, words)


def test_a_novel_becomes_windows_of_whole_sentences(data_dir):
    path = data_dir / "gutenberg-novels" / "pride_and_prejudice.txt"
    if not path.is_file():
        pytest.skip(f"{path} is absent")
    text = path.read_text(encoding="utf-8-sig")
    cut = windows(text, 60)
    lengths = [len(window.split()) for window in cut]
    assert max(lengths) <= 60
    assert sum(lengths) == len(text.split())
    ends = sum(window.rstrip("\"'”)]_").endswith((".", "!", "?")) for window in cut)
    assert ends / len(cut) > 0.8
