"""Which word an ambiguous term becomes: her -> him or his, his -> her or hers, and titles.

Rules read the few words around the term against the lists of data/gender_words.toml, in order, and the first that has
an opinion speaks. Where it is certain, that is the answer; elsewhere the model of `pronouns` decides, and the rule's
word is one of the things that it weighs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from fairtest.augmentation import pronouns, titles
from fairtest.augmentation.context import END, QUOTE, Context
from fairtest.augmentation.lexicon import word_lists

HIM, HIS = "him", "his"
HER, HERS = "her", "hers"
# Rules that are right as often as the model where both speak: they decide alone.
_CERTAIN = {"partner", "end", "phrase", "let", "own verb", "complement", "gift", "name", "motion", "adorned noun"}
_JOINERS = ("or", "and", "/", "&")
_OPEN = (END, QUOTE, "(", "his", "her")
# A noun or an object's complement: her back, her home, ...
_PLACES = ("back", "home", "inside", "outside", "upstairs", "downstairs", "past", "half")
_NOUN_AFTER_PREPOSITION = (*_PLACES, "best", "well", "first", "last", "better", "right")


_NEAR_TIE = -100  # hundredths of a nat


def her(context: Context, model: pronouns.Pronouns | None = None) -> str:
    """Returns "him" where "her" is an object (I met her), "his" where it is a possessive (her keys)."""
    rule, decision = her_by_rule(context)
    if rule in _CERTAIN:
        return decision
    model = model or pronouns.shipped()
    score = model.her.score(pronouns.features(context, f"{rule} {decision}", model.classes))
    # A word that neither rules nor weights know is most often a noun (returned her scanner): what leans little is his.
    unknown = rule == "none" and not model.knows(context.next())
    return HIS if score > (_NEAR_TIE if unknown else 0) else HIM


def his(context: Context, model: pronouns.Pronouns | None = None) -> str:
    """Returns "hers" where "his" stands alone (the bike is his), "her" where it goes with a noun (his car)."""
    rule, decision = his_by_rule(context)
    if rule in _CERTAIN:
        return decision
    model = model or pronouns.shipped()
    score = model.his.score(pronouns.features(context, f"{rule} {decision}", model.classes))
    return HERS if score > 0 else HER


def her_by_rule(context: Context) -> tuple[str, str]:
    """The rule that speaks first of "her", and what it says: him or his."""
    for name, rule in _HER_RULES.items():
        decision = rule(context)
        if decision:
            return name, decision
    return "none", HIS


def his_by_rule(context: Context) -> tuple[str, str]:
    """The rule that speaks first of "his", and what it says: her or hers."""
    following, second = context.next(), context.next(1)
    if following == END:
        return "end", HERS
    if following in _JOINERS:
        if second == "hers":
            return "partner", HERS
        alone = following != "/" and second not in ("her", "my", "your", "our", "their", "its")
        return "partner", HERS if alone else HER
    if context.previous() in _JOINERS and context.previous(1) in ("hers", "mine", "yours", "ours"):
        return "partner", HERS
    if following in ("not", "never") and second.endswith("ing"):
        return "own", HER
    return _by_next_word(context)


def _by_next_word(context: Context) -> tuple[str, str]:
    """A friend of his yesterday; the choice was his to make."""
    lists, following = word_lists(), context.next()
    of_several = context.previous() == "of" and not pronouns.INDEFINITE.isdisjoint(context.before[-4:-2])
    if of_several and following in lists["object_before"] - lists["possessive_before"]:
        return "partner", HERS
    return ("next", HERS) if following in lists["alone_before"] else ("none", HER)


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


def _by_partner(context: Context) -> str | None:
    """His or her choice; him or her; her and his."""
    if context.previous() in _JOINERS:
        if context.previous(1) == "his" and context.next() != END:
            return HIS
        if context.previous(1) == "him" and context.previous() != "and":
            return HIM
    if context.next() in _JOINERS and context.next(1) in (HIM, HIS):
        return context.next(1)
    return None


def _by_end(context: Context) -> str | None:
    """I met her."""
    return HIM if context.next() in (END, "(") else None


def _by_other(context: Context) -> str | None:
    """My and her house, her and my house."""
    possessives = ("my", "your", "their", "our")
    if context.previous() in _JOINERS and context.previous(1) in possessives:
        return HIS
    return HIS if context.next() in _JOINERS and context.next(1) in possessives else None


def _by_mark(context: Context) -> str | None:
    """They called her "Ann", but her "friend", her 's, her well-being, her <unk>."""
    following = context.next()
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


def _by_let(context: Context) -> str | None:
    """Let her go, but let her hair down."""
    lists = word_lists()
    if context.previous() not in lists["let"]:
        return None
    return HIS if context.next() in lists["let_nouns"] else HIM


def _by_gift(context: Context) -> str | None:
    """Gave her money, wished her much luck, paid her 20 dollars, did her good: she receives it."""
    lists = word_lists()
    previous, following = context.previous(), context.next()
    if previous in lists["giving"]:
        adorned = context.next(1) in lists["given_things"] and _clause_ends(context, 2)
        return HIM if adorned or following in lists["given_things"] or following[0].isdigit() else None
    return HIM if previous in lists["doing"] and following in lists["done_things"] else None


def _by_name(context: Context) -> str | None:
    """They called her Ann, but called her Majesty."""
    if context.previous() not in word_lists()["naming"] or not context.after_cased[0][:1].isupper():
        return None
    return HIS if context.next() in ("majesty", "ladyship", "highness") else HIM


def _by_motion(context: Context) -> str | None:
    """Drove her home, called her back."""
    return HIM if context.previous() in word_lists()["motion"] and context.next() in _PLACES else None


def _by_adorned_noun(context: Context) -> str | None:
    """Her carefully written report, but they called her mentally ill."""
    following, second = context.next(), context.next(1)
    if context.previous() in word_lists()["catching"] or not following.endswith("ly") or len(following) <= 4:
        return None
    return HIS if second.endswith(("ed", "en", "wn")) and not _clause_ends(context, 2) else None


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


def _by_own_verb(context: Context) -> str | None:
    """She is the subject of a verb of her own: saw her leave, helped her carry it, caught her reading the letter."""
    lists = word_lists()
    previous, following, second = context.previous(), context.next(), context.next(1)
    if previous in lists["perception"] or previous in lists["causative"]:
        if following in lists["bare_verbs"] or (second in lists["verb_objects"] and not following.endswith("s")):
            return HIM
        if following in lists["verb_or_noun"] and second != "of" and _clause_ends(context, 1):
            return HIM
    caught = previous in lists["perception"] or previous in lists["catching"]
    with_object = second in lists["verb_objects"] or second in ("a", "an", "the")
    return HIM if caught and with_object and following.endswith("ing") and len(following) > 4 else None


def _by_participle(context: Context) -> str | None:
    """Heard her singing, caught her reading it, had her waiting there."""
    lists = word_lists()
    previous, following = context.previous(), context.next()
    if not following.endswith("ing") or len(following) <= 4:
        return None
    governed = previous in lists["perception"] or previous in lists["catching"] or previous in ("have", "has", "had")
    return HIM if governed and _no_noun(context.next(1)) else None


def _by_complement(context: Context) -> str | None:
    """A quality is given to her: made her angry, kept her informed, thought her very able, found her useful."""
    lists = word_lists()
    previous, following, second = context.previous(), context.next(), context.next(1)
    if previous not in lists["catching"] and previous not in lists["causative"]:
        return None
    ends = _clause_ends(context, 1)
    if following in lists["predicate_adjectives"]:
        return HIM if ends or second in lists["object_if_clause_ends"] or second.endswith("ly") else None
    if following in lists["degrees"]:
        return HIM if _clause_ends(context, 2) else None
    participle = following.endswith("ed") and len(following) > 4
    quality = participle or following.isdigit() or following.endswith(tuple(lists["adjective_endings"]))
    return HIM if ends and quality else None


# In the order in which they are asked.
_HER_RULES: Mapping[str, Callable[[Context], str | None]] = {
    "partner": _by_partner,
    "end": _by_end,
    "other": _by_other,
    "mark": _by_mark,
    "own": _by_own,
    "phrase": _by_new_phrase,
    "let": _by_let,
    "own verb": _by_own_verb,
    "participle": _by_participle,
    "complement": _by_complement,
    "gift": _by_gift,
    "name": _by_name,
    "motion": _by_motion,
    "adorned noun": _by_adorned_noun,
    "adverb": _by_adverb,
}


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
