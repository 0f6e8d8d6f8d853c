"""How a word is written, compared with the word lists, and the counterpart written in the same way."""

from __future__ import annotations

import re

EXACT, UPPER, CAPITAL, LOWER = "exact", "upper", "capital", "lower"

_SENTENCE_START = re.compile(r"(?:^|[.!?:\n])[\s\"'\u201c\u2018(\[_*]*$")
_REACH = 12  # characters


def writing_of(word: str, listed: str) -> str | None:
    """As it is listed; all in capitals; with a capital in front; without the capitals it is listed with; or None.

    Marks and white space may differ from the list's (WikiText's lady @-@ in @-@ waiting).
    """
    if word == listed:
        return EXACT
    if len(word) > 1 and word.isupper():
        return UPPER
    letters, wanted = _letters(word), _letters(listed)
    if letters == wanted:
        return EXACT
    if letters[1:] == wanted[1:] and letters[0].isupper():
        return CAPITAL
    return LOWER if letters == wanted.lower() else None


def written_as(counterpart: str, writing: str, text: str, start: int) -> tuple[str, bool]:
    """(the counterpart as `writing` says, whether the way back gives the same writing) for the word at text[start:]."""
    if writing == UPPER:
        return counterpart.upper(), True
    if writing == LOWER:
        return counterpart.lower(), counterpart != counterpart.lower()
    begins = counterpart[0].upper() + counterpart[1:]
    if writing == CAPITAL:
        return begins, begins != counterpart or starts_a_sentence(text, start)
    if text[start].isupper() and counterpart[0].islower() and starts_a_sentence(text, start):
        return begins, True
    return counterpart, True


def starts_a_sentence(text: str, start: int) -> bool:
    """Whether text[start:] begins the text, a line or a sentence, as far as marks tell."""
    return _SENTENCE_START.search(text, max(0, start - _REACH), start) is not None


def _letters(word: str) -> str:
    if word.isalpha():
        return word
    return "".join(character for character in word if character.isalnum())
