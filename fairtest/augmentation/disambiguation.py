"""Which word an ambiguous term becomes: her -> him or his, his -> her or hers, and titles.

Rules read the few words around the term against the lists of data/gender_words.toml. The rules for "her" are tried
in order and the first that has an opinion decides.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from fairtest.augmentation import titles
from fairtest.augmentation.context import END, QUOTE, Context
from fairtest.augmentation.lexicon import word_lists

HIM, HIS = "him", "his"
_JOINERS = ("or", "and", "/", "&")
_OPEN = (END, QUOTE, "(", "his", "her")
# A noun or an object's complement: her back, her home, ...
_PLACES = ("back", "home", "inside", "outside", "upstairs", "downstairs", "past", "half")
_NOUN_AFTER_PREPOSITION = (*_PLACES, "best", "well", "first", "last", "better", "right")


def her(context: Context) -> str:
    """Returns "him" where "her" is an object (I met her), "his" where it is a possessive (her keys)."""
    for rule in _HER_RULES:
        decision = rule(context)
        if decision:
            return decision
    return HIS


def his(context: Context) -> str:
    """Returns "hers" where "his" stands alone (the bike is his), "her" where it goes with a noun (his car)."""
    following, second = context.next(), context.next(1)
    if following in _JOINERS:
        if second == "hers":
            return "hers"
        return "her" if following == "/" or second in ("her", "my", "your", "our", "their", "its") else "hers"
    if context.previous() in _JOINERS and context.previous(1) in ("hers", "mine", "yours", "ours"):
        return "hers"
    if following in ("not", "never") and second.endswith("ing"):
        return "her"
    return "hers" if following == END or following in word_lists()["alone_before"] else "her"


# The choice for each ambiguous word; None leaves the word as it is.
CHOICES: Mapping[str, Callable[[Context], str | None]] = {
    "her": her,
    "his": his,
    "sir": titles.sir,
    "dame": titles.dame,
    "lady": titles.lady,
    "lord": titles.lord,
    "miss": titles.miss,
}


def _coordinated(context: Context) -> str | None:
    """His or her choice; him or her; her and my house."""
    possessives = ("his", "my", "your", "their", "our")
    if context.previous() in _JOINERS:
        if context.previous(1) in possessives and context.next() != END:
            return HIS
        if context.previous(1) == "him" and context.previous() != "and":
            return HIM
    if context.next() in _JOINERS:
        if context.next(1) in possessives:
            return HIS
        if context.next(1) == "him":
            return HIM
    return None


def _by_mark(context: Context) -> str | None:
    """I met her. She called her "Ann", her "friend", her 's, her well-being, her <unk>."""
    following = context.next()
    if following in (END, "("):
        return HIM
    if following == "<":
        return HIS if context.next(1) == "unk" else HIM
    if following == QUOTE:
        return HIM if context.previous() in word_lists()["naming"] else HIS
    return HIS if following == "'s" or "-" in following else None


def _by_own(context: Context) -> str | None:
    """Her own, her never having, against her will."""
    following, second = context.next(), context.next(1)
    if following in word_lists()["possessive_before"]:
        return HIS
    if following in ("not", "never") and second.endswith("ing"):
        return HIS
    if following in ("might", "will") and (context.previous() == "all" or _after_preposition(context)):
        return HIS
    return None


def _by_new_phrase(context: Context) -> str | None:
    """I told her that, met her in, made her one of; I see her every day, but her every word."""
    following, second = context.next(), context.next(1)
    if following in word_lists()["object_before"] or (following == "one" and second == "of"):
        return HIM
    if following in ("every", "all", "one", "last", "next", "most") and second in word_lists()["times"]:
        return HIM
    return HIS if following == "every" else None


def _by_government(context: Context) -> str | None:
    """The verb before and the word after make her an object: saw her leave, made her angry, gave her money."""
    lists = word_lists()
    previous, following = context.previous(), context.next()
    if previous in lists["let"]:
        return HIS if following in lists["let_nouns"] else HIM
    if (
        _with_own_verb(context)
        or _with_complement(context)
        or (previous in lists["doing"] and following in lists["done_things"])
        or (previous in lists["giving"] and (following in lists["given_things"] or following[0].isdigit()))
        or (previous in lists["naming"] and _is_given_name(context))
        or (previous in lists["motion"] and following in _PLACES)
    ):
        return HIM
    return None


def _by_adverb(context: Context) -> str | None:
    """I met her later, but her later life; told her quietly, but her quietly spoken words."""
    lists = word_lists()
    following, second = context.next(), context.next(1)
    if following == "right" and second in ("away", "now", "there", "here"):
        return HIM
    if following in lists["object_if_clause_ends"]:
        if following in _NOUN_AFTER_PREPOSITION and _after_preposition(context):
            return HIS
        return HIM if _clause_ends(context, 1) else HIS
    if following.endswith("ly") and len(following) > 4 and following not in lists["ly_words"]:
        return HIM if _clause_ends(context, 1) else HIS
    return None


_HER_RULES = (_coordinated, _by_mark, _by_own, _by_new_phrase, _by_government, _by_adverb)


def _with_own_verb(context: Context) -> bool:
    """She is the subject of a verb of her own: saw her leave, helped her carry it, heard her singing."""
    lists = word_lists()
    previous, following, second = context.previous(), context.next(), context.next(1)
    perceived = previous in lists["perception"]
    if perceived or previous in lists["causative"]:
        if following in lists["bare_verbs"] or (second in lists["verb_objects"] and not following.endswith("s")):
            return True
        if following in lists["verb_or_noun"]:
            return second != "of" and _clause_ends(context, 1)
    if perceived or previous in lists["catching"] or previous in ("have", "has", "had"):
        return following.endswith("ing") and len(following) > 4 and _no_noun(second)
    return False


def _with_complement(context: Context) -> bool:
    """A quality is given to her: made her angry, kept her informed, thought her very able, found her useful."""
    lists = word_lists()
    previous, following, second = context.previous(), context.next(), context.next(1)
    if previous not in lists["catching"] and previous not in lists["causative"]:
        return False
    ends = _clause_ends(context, 1)
    if following in lists["predicate_adjectives"]:
        return ends or second in lists["object_if_clause_ends"] or second.endswith("ly")
    if following in lists["degrees"]:
        return _clause_ends(context, 2)
    participle = following.endswith("ed") and len(following) > 4
    return ends and (participle or following.isdigit() or following.endswith(tuple(lists["adjective_endings"])))


def _is_given_name(context: Context) -> bool:
    return context.after_cased[0][:1].isupper() and context.next() not in ("majesty", "ladyship", "highness")


def _after_preposition(context: Context) -> bool:
    return context.previous() in word_lists()["prepositions"]


def _clause_ends(context: Context, index: int) -> bool:
    """Whether the clause ends there or a new phrase begins, so that no noun of "her" can follow."""
    lists = word_lists()
    word = context.next(index)
    if word in _OPEN or word == "every" or word in lists["object_before"]:
        return True
    return index < 3 and word in lists["object_if_clause_ends"] and _clause_ends(context, index + 1)


def _no_noun(word: str) -> bool:
    """Whether a word is probably no noun or adjective: a mark, a closed-class word or an adverb."""
    lists = word_lists()
    return word in _OPEN or word.endswith("ly") or word in lists["object_before"] | lists["object_if_clause_ends"]
