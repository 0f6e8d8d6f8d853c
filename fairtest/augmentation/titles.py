"""Titles and forms of address, whose counterpart depends on whether a name follows."""

from __future__ import annotations

from fairtest.augmentation.context import END, Context
from fairtest.augmentation.lexicon import word_lists

_DIVINE_REALMS = ("all", "heaven", "hosts", "glory", "life", "lords", "creation")


def sir(context: Context) -> str:
    """Dame before a name (Sir Ian), madam elsewhere (Dear Sir)."""
    return "dame" if name_follows(context) else "madam"


def dame(context: Context) -> str | None:
    """Sir before a name; None (no counterpart) elsewhere."""
    return "sir" if name_follows(context) else None


def lady(context: Context) -> str:
    """Lord before a name, after my, and in a title (the Lady of Shalott); gentleman elsewhere (a Lady of fashion)."""
    if context.word.isupper() and context.previous() in word_lists("word_classes")["determiners"]:
        return "gentleman"  # THE LADY THANKED: all capitals tell no name
    title_of = context.word[0].isupper() and context.next() == "of" and context.previous() not in ("a", "any", "some")
    return "lord" if title_of or name_follows(context) or context.previous() == "my" else "gentleman"


def lord(context: Context) -> str | None:
    """Lady; None where the Lord is God, as he is not with a place (the Lord of Ashcombe)."""
    if context.previous() in ("my", "a", "your") or name_follows(context):
        return "lady"
    if context.next() == "of" and context.next(1) not in _DIVINE_REALMS:
        return "lady"
    divine = context.word[0].isupper() and context.previous() in ("the", "good", "oh", "our", "dear", "o", END)
    return None if divine else "lady"


def miss(context: Context) -> str | None:
    """Mr. before a name, sir where she is addressed (Yes, miss.); None for the verb."""
    if name_follows(context):
        return "mr."
    addressed = context.previous() == context.next() == END and len(context.before) > 1
    return "sir" if addressed else None


def name_follows(context: Context) -> bool:
    """Whether a capitalised word follows that is no function word, or after a capital a rare one (WikiText's <unk>)."""
    if not context.after_cased:
        return False
    if context.after[:2] == ("<", "unk"):
        return context.word[0].isupper()
    following = context.after_cased[0]
    return following[:1].isupper() and len(following) > 1 and following.lower() not in word_lists()["openers"]


def title_precedes(context: Context) -> bool:
    """Whether a title stands before the word, with or without its full stop (Mr. King)."""
    title = context.previous(1) if context.previous() == END else context.previous()
    return title in word_lists()["surname_titles"]
