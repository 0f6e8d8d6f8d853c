"""Her: him or his? His: her or hers? A linear model over the few words around, trained by `pronoun_training`.

The weights are text, data/gender_pronouns.tsv: `#` lines say what they were trained on and how well they did, `class`
lines put words that stand among the same neighbours into one class, and every other line is a feature with its weight
in hundredths, once for "her" and once for "his". What the rules say (see `disambiguation`) is a feature among others.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources

from fairtest.augmentation.context import END, Context
from fairtest.augmentation.lexicon import word_lists
from fairtest.errors import AugmentationError

FILE = "gender_pronouns.tsv"
# "A friend of his": with one of these two or three words before "of", it may stand alone.
INDEFINITE = {"a", "an", "that", "this", "these", "those", "some", "any", "no", "another", "every", "two", "three"}
# Lists of data/gender_words.toml whose verbs decide how a word after "her" is read, and the prepositions.
_GOVERNING = (
    "perception",
    "causative",
    "catching",
    "giving",
    "naming",
    "motion",
    "doing",
    "prepositions",
)


@dataclass(frozen=True, slots=True)
class Model:
    """Weights in hundredths of a nat, by feature; a sum above zero means his (of "her") or hers (of "his")."""

    bias: int
    weights: Mapping[str, int]

    def score(self, active: list[str]) -> int:
        """The log-odds of these features, in hundredths."""
        known = self.weights
        total = self.bias
        for feature in active:
            if feature in known:
                total += known[feature]
        return total


@dataclass(frozen=True, slots=True)
class Pronouns:
    """What the weights' file holds.

    Args:
        facts: what was measured when they were trained, by name.
        classes: the class of each frequent word.
        her: above zero means "his", below "him".
        his: above zero means "hers", below "her".
    """

    facts: Mapping[str, str]
    classes: Mapping[str, str]
    her: Model
    his: Model

    def knows(self, word: str) -> bool:
        """Whether the word after "her" has a class or a weight of its own."""
        return word in self.classes or f"n={word}" in self.her.weights


@functools.cache
def shipped() -> Pronouns:
    """The weights that come with the package, read once and only when first needed."""
    path = resources.files("fairtest.augmentation").joinpath("data").joinpath(FILE)
    return parse(path.read_text(encoding="utf-8"), FILE)


def parse(text: str, where: str) -> Pronouns:
    """Reads what `pronoun_training` wrote.

    Raises:
        AugmentationError: a line is none of a fact, a class or a weight.
    """
    facts: dict[str, str] = {}
    classes: dict[str, str] = {}
    weights: dict[str, dict[str, int]] = {"her": {}, "his": {}}
    for number, line in enumerate(text.splitlines(), 1):
        kind, *cells = line.split("\t")
        try:
            if kind in weights:
                feature, weight = cells
                weights[kind][feature] = int(weight)
            elif kind == "class":
                name, words = cells
                classes.update(dict.fromkeys(words.split(" "), name))
            elif kind.startswith("# ") and len(cells) == 1:
                facts[kind[2:]] = cells[0]
            else:
                raise ValueError  # noqa: TRY301 - one message for all three kinds of line
        except ValueError:
            raise AugmentationError(
                f"neither a fact, a class nor a weight: {line[:60]!r}",
                where=f"{where}, line {number}",
                fix="write the file anew with `python -m fairtest.augmentation.pronoun_training`",
            ) from None
    her, his = (Model(found.pop("bias", 0), found) for found in weights.values())
    return Pronouns(facts, classes, her, his)


def features(context: Context, decision: str, classes: Mapping[str, str]) -> list[str]:
    """What the model reads: neighbours p, q before and n, m after, their classes in capitals, and pairs of these.

    `decision` is what the rules say, with the rule's name.
    """
    before, after = context.before, context.after
    p = before[-1] if before else END
    q = before[-2] if len(before) > 1 else END
    n = after[0] if after else END
    m = after[1] if len(after) > 1 else END
    class_p = classes.get(p) or p[-2:]
    class_q = classes.get(q) or q[-2:]
    class_n = classes.get(n) or "-" + n[-2:]
    class_m = classes.get(m) or "-" + m[-2:]
    class_o = (classes.get(after[2]) or "-") if len(after) > 2 else END
    shape = _shape(n, context.after_cased[0]) if after else END
    pair = f"{class_n} {class_m}"
    active = [
        f"p={p}",
        f"q={q}",
        f"n={n}",
        f"m={m}",
        f"P={class_p}",
        f"Q={class_q}",
        f"N={class_n}",
        f"M={class_m}",
        f"s={shape}",
        f"pn={p} {n}",
        f"nm={n} {m}",
        f"pN={p} {class_n}",
        f"pM={p} {class_m}",
        f"Pn={class_p} {n}",
        f"PN={class_p} {class_n}",
        f"Ps={class_p} {shape}",
        f"nM={n} {class_m}",
        f"Nm={class_n} {m}",
        f"NM={pair}",
        f"sm={shape} {m}",
        f"sM={shape} {class_m}",
        f"PNM={class_p} {pair}",
        f"pNM={p} {pair}",
        f"r={decision}",
        f"rN={decision} {class_n}",
        f"rP={decision} {class_p}",
        f"rM={decision} {class_m}",
        f"rO={decision} {class_o}",
    ]
    if p == "of" and not INDEFINITE.isdisjoint(before[-4:-2]):
        active += ("of", f"oN={class_n}", f"oM={pair}", f"on={n}")
    for name in _governors().get(p, ()):
        active += (
            f"g={name}",
            f"gn={name} {n}",
            f"gN={name} {class_n}",
            f"gM={name} {class_m}",
            f"gs={name} {shape}",
            f"gNM={name} {pair}",
            f"ge={name} {n[-1:] == 's'} {class_m}",
        )
    return active


@functools.cache
def _governors() -> Mapping[str, tuple[str, ...]]:
    """The lists that hold a word, by word."""
    lists = word_lists()
    words = sorted(set().union(*(lists[name] for name in _GOVERNING)))
    return {word: tuple(name for name in _GOVERNING if word in lists[name]) for word in words}


def _shape(word: str, cased: str) -> str:
    """A mark or a digit as such; of a word whether it has a capital, and its ending."""
    first = cased[0]
    if not first.isalpha():
        return "0" if first.isdigit() else word
    ending = word[-3:] if len(word) > 4 else word[-2:] if len(word) > 3 else ""
    return ("A" if first.isupper() else "a") + ending
