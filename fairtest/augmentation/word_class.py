"""Whether a word that can be both is a noun (he is a Christian) or an adjective (a Christian family) here."""

from __future__ import annotations

from fairtest.augmentation.context import END, QUOTE, Context
from fairtest.augmentation.lexicon import word_lists


def is_adjective(context: Context) -> bool:
    """Adjective where a noun follows, or where it stands alone without a determiner (she is Muslim)."""
    lists = word_lists("word_classes")
    following = context.next()
    if following == "'s":
        return False
    if following not in (END, QUOTE, "(", "/", "&", "<") and following not in lists["after_nouns"]:
        return True
    # "a devout Muslim": the determiner may stand one or two places before.
    for place in range(3):
        word = context.previous(place)
        if word in lists["determiners"]:
            return False
        if word == END or (place == 0 and word in lists["after_nouns"]):
            return True
    return True
