"""The indefinite article before a swapped word: a hero, but an heiress."""

from __future__ import annotations

import re

_ARTICLE = re.compile(r"(?<![\w'\u2019.-])([Aa][Nn]?)(\s+[\"'\u201c\u2018(]?)$")
_REACH = 8  # characters: an article, white space and an opening mark
# Beginnings that are not spoken as they are written.
_SILENT_H = ("heir", "honest", "honor", "honour", "hour")
_CONSONANTS = ("eu", "ew", "uni", "use", "usu", "uto", "ubi", "ura", "one", "once", "oui")
_VOWEL_UNI = ("unin", "unim", "unid")


def vowel_begins(word: str) -> bool:
    """Whether "an" stands before a word: by its first letters, with the usual exceptions."""
    low = word.lower()
    if low.startswith("h"):
        return low.startswith(_SILENT_H)
    if low.startswith(_CONSONANTS):
        return low.startswith(_VOWEL_UNI)
    return low.startswith(tuple("aeiou"))


def article_before(text: str, start: int, before: str, after: str) -> tuple[int, int, str] | None:
    """(start, end, new article) where the article before text[start:] fits `before` and not `after`, else None."""
    spoken = vowel_begins(before)
    if spoken == vowel_begins(after):
        return None
    match = _ARTICLE.search(text, max(0, start - _REACH), start)
    if match is None or (len(match.group(1)) == 2) != spoken:
        return None
    article = match.group(1)
    if spoken:
        return match.start(1), match.end(1), article[0]
    ending = "N" if article.isupper() and before.isupper() and len(before) > 1 else "n"
    return match.start(1), match.end(1), article + ending
