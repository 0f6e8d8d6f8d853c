"""Interval of how much two changes together differ from their sum, each change a difference of distances."""

from __future__ import annotations

from itertools import product

from fairtest.statistics.components import Labels, Values, design, paired_values
from fairtest.statistics.intervals import Interval, Rows, max_of_mins

_SIGNS = (1.0, -1.0)


def interaction_interval(
    sides: tuple[Values, Values, Values, Values],
    clusters: Labels | None,
    target: float | None,
    *,
    confidence: float = 0.95,
) -> Interval:
    """Interval of I = (D_both - D_first) - (D_second - D_neither), where D = |m - target| of a side's mean m; with
    `target=None`, D = m. `sides`: both, first, second, neither, each [seeds, items] over the same items, rows paired by
    seed.

    0: the two changes add up. As with an amplification, I = max_i min_j L_ij over signs i = (i1, i2) of the sides that
    count for it and j = (j1, j2) of those against it, with L_ij = i1 d_both + i2 d_neither - j1 d_first - j2 d_second
    and d = m - target. Each L_ij is linear and has a paired interval that misses on a side with probability alpha / 2;
    the bounds are the same max of mins. By the argument given there either error is a union over four contrasts (at
    most 2 alpha), and alpha / 2 where all four means are several standard errors from the target.

    Raises:
        ComparisonError: a value is not finite, shapes differ, or seeds cannot be paired.
    """
    longest = max(sides, key=len)
    both, first, second, neither = (paired_values(side, longest)[0] for side in sides)
    items = design(both.shape[1], None, clusters)
    rows: Rows
    if target is None:
        rows = ((items.contrast(both + neither - first - second),),)
    else:
        d_both, d_first, d_second, d_neither = (array - target for array in (both, first, second, neither))
        rows = tuple(
            tuple(items.contrast(i1 * d_both + i2 * d_neither - j1 * d_first - j2 * d_second) for j1, j2 in _pairs())
            for i1, i2 in _pairs()
        )
    return max_of_mins(rows, items, confidence)


def _pairs() -> list[tuple[float, float]]:
    return list(product(_SIGNS, _SIGNS))
