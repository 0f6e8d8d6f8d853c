"""Whether a word that can be both is a noun (he is a Christian) or an adjective (a Christian family) here."""

from __future__ import annotations

from collections.abc import Mapping

from fairtest.augmentation.context import END, QUOTE, Context
from fairtest.augmentation.lexicon import word_lists

_IS = ("'s", "'re", "'m")  # who's Muslim


def is_adjective(context: Context) -> bool:
    """Adjective where a noun follows, or where it stands alone without a determiner (she is Muslim)."""
    lists = word_lists("word_classes")
    following = context.next()
    if following == "'s" or _verb_follows(context, lists):
        return False
    if following not in (END, QUOTE, "(", "/", "&", "<") and following not in lists["after_nouns"]:
        return True
    # "a devout Muslim": the determiner may stand one or two places before.
    for place in range(3):
        word = context.previous(place)
        if word in lists["determiners"]:
            return False
        if word == END or (place == 0 and (word in lists["after_nouns"] or word.endswith(_IS))):
            return True
    return True


def begins_a_name(context: Context, people: frozenset[str]) -> bool:
    """Whether a capitalised word goes on with another one (Christian Novak, the Black Herald), none for people or of a
    nation.
    """
    word, following = context.word, context.after_cased[:1]
    if not word[0].isupper() or not following or not following[0][0].isupper() or following[0].isupper():
        return False
    plain = context.next().removesuffix("'s").removesuffix("'")
    lists = word_lists("word_classes")
    return plain not in people and plain not in lists["no_names"] and plain not in lists["after_nouns"]


def _verb_follows(context: Context, lists: Mapping[str, frozenset[str]]) -> bool:
    """Every Christian walks; a Muslim killed a wasp; a Christian living in Rome."""
    if context.previous() not in lists["singular"]:
        return False
    following, second = context.next(), context.next(1)
    if following.endswith("s") and not following.endswith(("ss", "us", "is")) and len(following) > 3:
        return following not in lists["nouns_in_s"]
    ends = second in (END, QUOTE) or second in lists["after_nouns"] or second in lists["determiners"]
    return ends and (following in lists["doing"] or (following.endswith("ed") and len(following) > 4))
