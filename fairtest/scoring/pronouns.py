"""The first gendered pronoun of a completion: a scorer that needs no model, no package and no list of others."""

from __future__ import annotations

import re
from collections.abc import Sequence

PRONOUNS = "first_pronoun"
REVISION = "1"
MASCULINE = ("he", "him", "his", "himself")
FEMININE = ("she", "her", "hers", "herself")
_EITHER = re.compile(rf"(?<!\w)(?:(?P<he>{'|'.join(MASCULINE)})|(?:{'|'.join(FEMININE)}))(?!\w)", re.IGNORECASE)


def first_pronoun(text: str) -> float:
    """1 if the first gendered pronoun is masculine, -1 if it is feminine, 0 if there is none.

    Nothing is said of whom the pronoun means. Titles and nouns (Mr, woman) are no pronouns.
    """
    found = _EITHER.search(text)
    if found is None:
        return 0.0
    return 1.0 if found["he"] else -1.0


def first_pronouns(texts: Sequence[str]) -> list[float]:
    """`first_pronoun` of each text."""
    return [first_pronoun(text) for text in texts]
