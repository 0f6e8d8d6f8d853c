"""Which capitalised words are a person's first name, and not a place, a surname or the start of one."""

from __future__ import annotations

from fairtest.augmentation.context import END, QUOTE, Context
from fairtest.augmentation.lexicon import names, word_lists
from fairtest.augmentation.titles import name_follows, title_precedes


def is_first_name(word: str, context: Context) -> bool:
    """Whether `word`, in this place, is one of the lexicon's first names borne by a person.

    Not in John Street, St. John, Elton John, or Mr. John; but in Mr. John Hill.
    """
    if word not in names():
        return False
    lists = word_lists()
    if context.next() in lists["places"] and context.after_cased[0][:1].isupper():
        return False
    if title_precedes(context):
        return name_follows(context)
    before = context.previous(1) if context.previous() == END else context.previous()
    if before in lists["saintly"] and (context.previous() != END or before in ("st", "mt", "ft")):
        return False
    return not follows_a_name(context)


def follows_a_name(context: Context) -> bool:
    """Whether the word before is capitalised and no function word, so that this one is a surname (Elton John)."""
    before = context.previous()
    if before in (END, QUOTE):
        return False
    return context.before_cased[-1][:1].isupper() and before not in word_lists()["openers"]
