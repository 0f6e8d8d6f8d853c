"""Titles and forms of address, whose counterpart depends on whether a name follows."""

from __future__ import annotations

from fairtest.augmentation.context import END, Context
from fairtest.augmentation.lexicon import word_lists


def sir(context: Context) -> str:
    """Dame before a name (Sir Ian), madam elsewhere (Dear Sir)."""
    return "dame" if name_follows(context) else "madam"


def dame(context: Context) -> str | None:
    """Sir before a name; None (no counterpart) elsewhere."""
    return "sir" if name_follows(context) else None


def lady(context: Context) -> str:
    """Lord before a name and after my, gentleman elsewhere."""
    return "lord" if name_follows(context) or context.previous() == "my" else "gentleman"


def lord(context: Context) -> str | None:
    """Lady; None where the Lord is God."""
    if context.previous() in ("my", "a", "your") or name_follows(context):
        return "lady"
    divine = context.word[0].isupper() and context.previous() in ("the", "good", "oh", "our", "dear", "o", END)
    return None if divine else "lady"


def miss(context: Context) -> str | None:
    """Mr. before a name; None for the verb."""
    return "mr." if name_follows(context) else None


def name_follows(context: Context) -> bool:
    """Whether a capitalised word follows that is no function word."""
    if not context.after_cased:
        return False
    following = context.after_cased[0]
    return following[:1].isupper() and len(following) > 1 and following.lower() not in word_lists()["openers"]


def title_precedes(context: Context) -> bool:
    """Whether a title stands before the word, with or without its full stop (Mr. King)."""
    title = context.previous(1) if context.previous() == END else context.previous()
    return title in word_lists()["surname_titles"]
