"""Long texts cut into records."""

from __future__ import annotations

import re

from fairtest.errors import CorpusError

_END = re.compile(r"[.!?…]+[\"'”’)\]]*$")  # noqa: RUF001 - novels have curly quotes
_ABBREVIATION = re.compile(r"^\W*(?:Mrs?|Ms|Messrs|Dr|St|Prof|Rev|Capt|Col|Gen|Lieut|Sr|Jr|vs|[A-HJ-Z])\.$")


def windows(text: str, words: int) -> list[str]:
    """Consecutive windows that together hold every word of the text once, each of at most `words` words.

    A word is what stands between white space. A window ends with a sentence, and holds as many whole sentences as fit;
    a sentence longer than `words` is cut. Line breaks, which novels have inside of sentences, become single spaces.

    Raises:
        CorpusError: `words` is below 1.
    """
    if words < 1:
        raise CorpusError(f"a window of {words} words holds nothing", where="windows(words=)", fix="give at least 1")
    packed: list[list[str]] = []
    for sentence in _sentences(text):
        if packed and len(packed[-1]) + len(sentence) <= words:
            packed[-1].extend(sentence)
        else:
            packed.extend(sentence[start : start + words] for start in range(0, len(sentence), words))
    return [" ".join(window) for window in packed]


def _sentences(text: str) -> list[list[str]]:
    """Sentences as lists of words. A paragraph (a blank line after it) ends a sentence as well."""
    sentences: list[list[str]] = []
    for paragraph in re.split(r"\n\s*\n", text.replace("\r\n", "\n").replace("\r", "\n")):
        open_sentence: list[str] = []
        for word in paragraph.split():
            open_sentence.append(word)
            if _END.search(word) and not _ABBREVIATION.match(word):
                sentences.append(open_sentence)
                open_sentence = []
        if open_sentence:
            sentences.append(open_sentence)
    return sentences
