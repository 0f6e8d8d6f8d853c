"""Which capitalised words are a person's first name, and not a place, a surname or the start of one."""

from __future__ import annotations

from fairtest.augmentation.context import END, QUOTE, Context
from fairtest.augmentation.lexicon import names, word_lists
from fairtest.augmentation.titles import name_follows, title_precedes

# Before a first name: King John, but Senator John.
_RULERS = (
    "king queen prince princess emperor empress tsar tsarina czar czarina sultan sultana infante infanta"
    " archduke archduchess duke duchess baron baroness"
)
# Capitalised words that go before a title and are no name: the First Lady, Crown Prince, the Danish Queen.
_MODIFIERS = (
    "first second crown vice deputy assistant acting former chief lead senior junior fellow american british english"
    " french spanish portuguese italian german austrian dutch belgian danish swedish norwegian finnish polish russian"
    " greek turkish persian indian chinese japanese korean thai african european irish scottish welsh"
)
_BEFORE_FIRST_NAMES = frozenset(_RULERS.split())
_NO_NAMES = frozenset(_MODIFIERS.split())


def is_first_name(word: str, context: Context) -> bool:
    """Whether `word`, in this place, is one of the lexicon's first names borne by a person.

    Not in John Street, John Hill University, St. John, Elton John, or Mr. John; but in Mr. John Hill and King John.
    """
    if word not in names():
        return False
    if _begins_a_place(context) or is_surname(context):
        return False
    before = context.previous(1) if context.previous() == END else context.previous()
    saintly = before in word_lists()["saintly"]
    return not (saintly and (context.previous() != END or before in ("st", "mt", "ft")))


def is_surname(context: Context) -> bool:
    """Whether a name in this place is a family's: after a first name (Elton John), or alone after a title (Mr. John).

    A person who is called so once in a text is meant by the same name elsewhere in it.
    """
    if title_precedes(context):
        return not name_follows(context)
    return follows_a_name(context) and context.previous() not in _BEFORE_FIRST_NAMES


def follows_a_name(context: Context) -> bool:
    """Whether the word before is capitalised and no function word, so that this one is a surname (Elton John)."""
    before = context.previous()
    if before == END and context.previous(1) == "unk":
        return True  # WikiText's <unk>: a rare word, most often a name
    if before in (END, QUOTE) or before in _NO_NAMES:
        return False
    return context.before_cased[-1][:1].isupper() and before not in word_lists()["openers"]


def _begins_a_place(context: Context) -> bool:
    """John Street, and John Hill University."""
    places = word_lists()["places"]
    for index, word in enumerate(context.after_cased[:2]):
        if not word[:1].isupper():
            return False
        if context.next(index) in places:
            return True
    return False
