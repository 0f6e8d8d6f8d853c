"""Preferences of which few moved: what a change of a stated size would have shown.

A preference of an item is 0, 50 or 100, so that two models which mostly agree differ in a handful of items. The
variance of their difference is then estimated from that handful, and comes out smallest where chance left most of the
moves out: an interval around one move of a hundred items seems to exclude five. Of a hundred items of which each moves
with a probability of 5%, in one direction, one or two move in 11% of cases, and their interval is below 5 points.

A change of a mean by `shift` takes items that move: with moves of size s (100 points where every seed moves alike, a
third of that where each of three seeds moves items of its own), at least shift / s of them. So the variance of an
item's difference is at least s shift - shift^2 if the change is that large, and the test of "it is" uses no smaller
one: a score test, as Wilson's interval is one of a share.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.special import stdtr

from fairtest.statistics.components import Values


def p_of_rare_moves(differences: Values, estimate: float, allowed: float, df: float) -> float:
    """One-sided p-value of "the change is `allowed` or more", from the variance that such a change has at least.

    `differences` are those of the items between two sides, [seeds, items], `estimate` is the change in the direction
    that is judged, `df` what its variance is estimated with. 0.0 where nothing is to be said: nothing moved, or a
    change of 0 is asked about, which takes no moves.
    """
    moved = differences.mean(axis=0)
    total = float(np.abs(moved).sum())
    if total == 0.0 or allowed == 0.0:
        return 0.0
    size, shift = float(np.square(moved).sum()) / total, abs(allowed)
    variance = (size * shift - shift**2) / len(moved)
    if variance <= 0.0:  # a change larger than all moves together could make
        return 0.0
    return float(stdtr(max(df, 1.0), (estimate - allowed) / math.sqrt(variance)))
