"""Counterfactual data augmentation: a unit gets a second view of itself.

Word lists are in data/ and read by `lexicon`; `swap` makes the counterfactual of a text with the help of
`disambiguation` (her: him or his), `names` and `phrases`; `coverage` augments a corpus and counts.
"""

from __future__ import annotations

from fairtest.augmentation.coverage import Augmented, Coverage, UnitViews, augment, mirrored_units
from fairtest.augmentation.lexicon import lexicon_digest
from fairtest.augmentation.swap import Change, Counterfactual, counterfactual

__all__ = [
    "Augmented",
    "Change",
    "Counterfactual",
    "Coverage",
    "UnitViews",
    "augment",
    "counterfactual",
    "lexicon_digest",
    "mirrored_units",
]
