"""Counterfactual data augmentation: a record as it is, and as it would read of another group.

Word lists are in data/ and read by `lexicon` and `axis_files`; `scanner` finds their words in one pass, `occurrences`
decides which of them are to be swapped with the help of `disambiguation` (her: him or his), `titles`, `names` and
`word_class`; `swap` makes the counterfactuals of a text, `views` what a record is trained as, `coverage` augments a
corpus and counts.
"""

from __future__ import annotations

from fairtest.augmentation.coverage import (
    Augmented,
    Coverage,
    CoverageCounter,
    UnitViews,
    augment,
    mirrored_units,
    seen_texts,
)
from fairtest.augmentation.dataset import augment_dataset
from fairtest.augmentation.lexicon import lexicon_digest, load_axis
from fairtest.augmentation.swap import Change, Counterfactual, counterfactual, counterfactuals
from fairtest.augmentation.views import RecordViews, View, record_views

__all__ = [
    "Augmented",
    "Change",
    "Counterfactual",
    "Coverage",
    "CoverageCounter",
    "RecordViews",
    "UnitViews",
    "View",
    "augment",
    "augment_dataset",
    "counterfactual",
    "counterfactuals",
    "lexicon_digest",
    "load_axis",
    "mirrored_units",
    "record_views",
    "seen_texts",
]
