"""Phrases that a swap would make false or that are no words about people."""

from __future__ import annotations

import functools
import re

from fairtest.augmentation.lexicon import phrases

# Web and mail addresses, handles and hashtags are names, not words.
_ADDRESS = re.compile(r"https?://\S+|\bwww\.\S+|(?<!\w)[@#]\w+|\b[\w.+-]{1,64}@[\w-]{1,64}\.[\w.-]{1,64}")


def false_if_swapped(text: str, axis: str) -> bool:
    """Whether the text says something that holds for one side of the axis alone (a pregnancy)."""
    return _pattern(axis, "false").search(text) is not None


def fixed_spans(text: str, axis: str) -> list[tuple[int, int]]:
    """(start, end) of the stretches of a text that are kept as they are, in order."""
    spans = [match.span() for match in _pattern(axis, "fixed").finditer(text)]
    if "@" in text or "#" in text or "www." in text or "://" in text:
        spans += [match.span() for match in _ADDRESS.finditer(text)]
    return sorted(spans)


@functools.cache
def _pattern(axis: str, effect: str) -> re.Pattern[str]:
    chosen = [phrase.text for phrase in phrases(axis) if phrase.effect == effect]
    return re.compile(r"(?<!\w)(?:" + "|".join(_phrase_pattern(text) for text in chosen) + r")(?!\w)")


def _phrase_pattern(text: str) -> str:
    pieces = []
    for piece in re.split(r"(\s+|-|'|\*)", text):
        if piece.isspace():
            pieces.append(r"\s+")
        elif piece == "-":
            pieces.append(r"(?:-|\s@-@\s)")
        elif piece == "'":
            pieces.append(r"\s?['\u2019]\s?")
        elif piece == "*":
            pieces.append(r"\w*")
        else:
            pieces.append(re.escape(piece))
    pattern = "".join(pieces)
    # A phrase written in lower case is found in any case, a proper noun only as it is written.
    return f"(?i:{pattern})" if text == text.lower() else f"(?:{pattern})"
