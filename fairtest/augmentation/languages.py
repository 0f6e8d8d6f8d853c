"""Whether a text is in another language than the word lists, so that German her is not taken for hers."""

from __future__ import annotations

import functools
import re

from fairtest.augmentation.lexicon import word_lists

_ENOUGH = 2
_WORD = re.compile(r"[^\W\d_]+")


def in_another_language(low: str) -> bool:
    """Whether a lower-case text has two common words of other languages or more, and none of English. A short text
    that has neither is taken to be English.
    """
    if _pattern().search(low) is not None:
        return False
    other = word_lists("languages")["other"]
    return sum(word in other for word in _WORD.findall(low)) >= _ENOUGH


@functools.cache
def _pattern() -> re.Pattern[str]:
    return re.compile(rf"\b(?:{'|'.join(sorted(word_lists('languages')['english']))})\b")
