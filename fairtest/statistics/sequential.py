"""Adaptive seeds: looking at a gate more than once without a higher error rate.

A gate that trains more seeds while it is undecided looks at its data several times, and each look could err. The error
that the whole may have is split over the looks in advance, each look's share being the share of all seeds that are new
at it: error is spent linearly in the information, which is one of the spending functions of Lan and DeMets (1983,
Biometrika 70, 659-663).

Their boundaries, and Slud and Wei's (1982), are then computed from the joint distribution of the looks. Here the looks
are added up by Bonferroni's inequality instead. An exact boundary needs the correlation of the looks, which hangs on
how much of the variance is between seeds and how much between clusters, both estimated; and with three to eight seeds
the statistic is a t with few, estimated degrees of freedom, not the normal process that those boundaries are for. The
union bound needs neither. It costs some power, since the looks are positively correlated and err together: the error
rate is at most what is stated, and in truth below it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

from fairtest.errors import ComparisonError

GROWTH = 1.6


@dataclass(frozen=True, slots=True)
class Look:
    """One look of a plan: with how many `seeds` in all, and which `share` of the allowed error it may use up.

    `number` counts from 1, `of` is the number of looks.
    """

    seeds: int
    share: float
    number: int = 1
    of: int = 1

    def confidence(self, confidence: float) -> float:
        """Two-sided confidence of this look's interval, so that all looks together hold `confidence`."""
        return 1.0 - self.share * (1.0 - confidence)

    def text(self) -> str:
        """For a report: "look 2 of 3 (5 seeds, 25% of the allowed error)"."""
        return f"look {self.number} of {self.of} ({self.seeds} seeds, {self.share:.0%} of the allowed error)"


def looks(first: int, most: int) -> tuple[Look, ...]:
    """The looks of a gate that starts with `first` seeds and may have `most`, each with about 1.6 times as many seeds
    as the one before, and the last with `most`: 3, 5, 8. Shares sum to 1.

    The plan is fixed before training. Stopping at a look because the verdict is there, and going on because it is not,
    are both covered; adding seeds beyond `most` afterwards is not.

    Raises:
        ComparisonError: not 2 <= first <= most.
    """
    if not 2 <= first <= most:
        raise ComparisonError(
            f"seeds from {first} to {most} make no plan",
            where="seeds, max_seeds",
            fix="start with at least two seeds, and allow at least as many as you start with",
        )
    counts = [first]
    while counts[-1] < most:
        counts.append(min(most, max(counts[-1] + 1, math.floor(counts[-1] * GROWTH + 0.5))))
    new = [first, *(after - before for before, after in pairwise(counts))]
    return tuple(
        Look(seeds, more / most, number, len(counts))
        for number, (seeds, more) in enumerate(zip(counts, new, strict=True), start=1)
    )


def overall_p(p: float, look: Look) -> float:
    """p-value that counts the other looks: min(1, p / share). Valid at whichever look the gate stopped, so it can be
    handed to `holm`.

    With a true null hypothesis P(p_k / share_k <= a at any look k) <= sum of a share_k = a.
    """
    return min(1.0, p / look.share)
