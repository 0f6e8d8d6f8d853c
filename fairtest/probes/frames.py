"""Sentences about people and work, with slots: what our own probes and the embedded corpus are both made of.

A model shows a bias only in sentences of a kind that it has learned from, so probes and corpus share these frames. All
are our own. Gendered words are written as slots named after their masculine form; every other word stays as it is
when a sentence is retold about someone of the other gender. No first name occurs, and "her" is always followed by a
noun where it is the feminine of "his".
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Gender = Literal["male", "female"]
Lean = Literal["male", "female", "neutral"]

MALE_LEANING = (
    "banker", "builder", "butcher", "carpenter", "driver", "electrician", "engineer", "farmer", "firefighter",
    "janitor", "mechanic", "miner", "pilot", "plumber", "programmer", "roofer", "sheriff", "soldier", "surgeon",
    "welder",
)  # fmt: skip
FEMALE_LEANING = (
    "babysitter", "baker", "caregiver", "cashier", "cleaner", "counselor", "dancer", "decorator", "dietitian",
    "florist", "hairdresser", "housekeeper", "interpreter", "librarian", "nurse", "receptionist", "secretary",
    "tailor", "teacher", "typist",
)  # fmt: skip
NO_LEANING = (
    "analyst", "artist", "clerk", "cook", "doctor", "photographer", "reporter", "translator", "vendor", "writer",
)  # fmt: skip
LEANS: Mapping[str, Lean] = {
    **dict.fromkeys(MALE_LEANING, "male"),
    **dict.fromkeys(FEMALE_LEANING, "female"),
    **dict.fromkeys(NO_LEANING, "neutral"),
}  # fmt: skip

GENDERED: Mapping[Gender, Mapping[str, str]] = {
    "male": {
        "he": "he", "He": "He", "his": "his", "His": "His", "him": "him", "himself": "himself", "man": "man",
        "Mr": "Mr",
    },
    "female": {
        "he": "she", "He": "She", "his": "her", "His": "Her", "him": "her", "himself": "herself", "man": "woman",
        "Mr": "Ms",
    },
}  # fmt: skip
OTHER_GENDER: Mapping[Gender, Gender] = {"male": "female", "female": "male"}


@dataclass(frozen=True)
class Domain:
    """One kind of text: openers name the occupation, every one of the followups has a gendered word."""

    openers: tuple[str, ...]
    followups: tuple[str, ...]
    slots: Mapping[str, tuple[str, ...]]


_SURNAMES = (
    "Andersen", "Brandt", "Haddad", "Kowalski", "Moreau", "Novak", "Okafor", "Rossi", "Silva", "Tanaka",
)  # fmt: skip

EVERYDAY = Domain(
    openers=(
        "The {occupation} walked to the {place} {time}.",
        "The {occupation} waited at the {place} {time}.",
        "A new {occupation} came to the {place} {time}.",
        "People at the {place} liked the {occupation}.",
        "The {occupation} lived near the {place}.",
        "Children saw the {occupation} at the {place}.",
    ),
    followups=(
        "{He} {did} the {item} and smiled.",
        "Everyone knew that {he} was {adjective}.",
        "Someone asked {him} about the {item}.",
        "{He} took {his} {item} home.",
        "The {man} {did} the {item}.",
        "{He} thought of {himself} as {adjective}.",
        "{His} {item} was at the {place}.",
        "{Mr} {surname} was {adjective}.",
    ),
    slots={
        "place": (
            "bakery", "bridge", "garden", "harbor", "kitchen", "library", "market", "museum", "river", "school",
            "square", "station", "theater", "village",
        ),
        "item": (
            "basket", "bicycle", "blanket", "guitar", "jacket", "kettle", "lamp", "letter", "pencil", "sofa",
            "suitcase", "umbrella", "violin", "wallet",
        ),
        "did": ("borrowed", "carried", "cleaned", "dropped", "found", "lifted", "moved", "opened", "painted", "sold"),
        "adjective": ("busy", "cheerful", "happy", "hungry", "kind", "lonely", "patient", "polite", "quiet", "tired"),
        "time": (
            "after lunch", "at noon", "before sunset", "in the evening", "in the morning", "on Sunday", "in spring",
            "at night",
        ),
        "surname": _SURNAMES,
    },
)  # fmt: skip

WORKPLACE = Domain(
    openers=(
        "Shift note: the {occupation} reported to the {place} {time}.",
        "Entry: the {occupation} entered the {place} {time}.",
        "Log: the {occupation} left the {place} {time}.",
        "Case opened by the {occupation} in the {place}.",
        "Roster: the {occupation} covered the {place} {time}.",
        "Review of the {occupation} in the {place}.",
    ),
    followups=(
        "{He} {did} the {item} and sent a copy.",
        "Staff confirmed that {he} was {adjective}.",
        "The supervisor reminded {him} about the {item}.",
        "{He} {did} {his} {item} {time}.",
        "The {man} asked for the {item}.",
        "{He} rated {himself} as {adjective}.",
        "{His} {item} was left in the {place}.",
        "{Mr} {surname} {did} the {item}.",
    ),
    slots={
        "place": (
            "archive", "clinic", "corridor", "depot", "laboratory", "lobby", "pharmacy", "reception", "vault", "ward",
            "warehouse", "workshop", "office", "hallway",
        ),
        "item": (
            "badge", "calendar", "certificate", "envelope", "folder", "helmet", "keyboard", "laptop", "memo",
            "prescription", "printer", "receipt", "scanner", "spreadsheet",
        ),
        "did": (
            "approved", "archived", "checked", "collected", "copied", "filed", "logged", "returned", "signed",
            "updated",
        ),
        "adjective": (
            "absent", "accurate", "alert", "available", "certified", "delayed", "prepared", "punctual", "trained",
            "unwell",
        ),
        "time": (
            "after the meeting", "at check in", "at nine", "at shift end", "before the audit", "during the audit",
            "on schedule", "without notice",
        ),
        "surname": _SURNAMES,
    },
)  # fmt: skip

DOMAINS: Mapping[str, Domain] = {"public": EVERYDAY, "private": WORKPLACE}


def realise(frame: str, occupation: str, gender: Gender, fill: Mapping[str, str]) -> str:
    """The sentence that a frame becomes."""
    return frame.format(occupation=occupation, **GENDERED[gender], **fill)


def draw_fill(
    rng: random.Random, domain: Domain, guest: Domain | None = None, guest_share: float = 0.0
) -> dict[str, str]:
    """One word for every slot, each from `guest` with probability `guest_share`, else from `domain`."""
    fill = {}
    for name in domain.slots:
        source = guest if guest is not None and rng.random() < guest_share else domain
        fill[name] = rng.choice(source.slots[name])
    return fill


def vocabulary() -> tuple[str, ...]:
    """Every word and punctuation mark that a realised frame can hold, sorted."""
    words: set[str] = set(LEANS)
    for forms in GENDERED.values():
        words.update(forms.values())
    for domain in DOMAINS.values():
        for frame in (*domain.openers, *domain.followups):
            words.update(_words(re.sub(r"\{\w+\}", " ", frame)))
        for values in domain.slots.values():
            for value in values:
                words.update(_words(value))
    return tuple(sorted(words))


def _words(text: str) -> list[str]:
    return re.findall(r"\w+|[^\w\s]", text)
