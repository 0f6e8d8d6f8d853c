"""The crossed percentile bootstrap over seeds and clusters, the usual alternative to the t intervals: for comparison.

Seeds and clusters (of either factor) are drawn again with replacement, independently of each other, and every item of a
drawn cluster comes along for every drawn seed (Owen 2007, "The pigeonhole bootstrap", Annals of Applied Statistics 1).
scipy.stats.bootstrap draws one axis, or several samples of their own values, but not the rows and columns of one table;
with one seed and every item a cluster both are the same.

No verdict rests on it.
"""

from __future__ import annotations

import numpy as np

from fairtest.errors import ComparisonError
from fairtest.statistics.components import Design, Labels, Values, checked_values, design, paired_values

_BLOCK = 2**21  # numbers in memory at a time


def bootstrap_interval(
    candidate: Values,
    reference: Values | None,
    clusters: Labels | None,
    target: float | None,
    *,
    confidence: float = 0.95,
    resamples: int = 2000,
    rng_seed: int = 0,
) -> tuple[float, float]:
    """Percentile interval (low, high) of |m_c - target| - |m_r - target|, or of m_c - m_r with `target=None`; without a
    reference, of one side alone. Arrays [seeds, items], paired by seed and item.

    Its intervals are too narrow with few seeds. Coverage of a nominal 95%, simulated (3000 repetitions, 40 clusters):
    with all variance between seeds 74, 84 and 89% at 3, 5 and 10 seeds; with half of it 89, 91 and 93%; with a tenth
    93, 93 and 94%. The t intervals of fairtest.statistics.intervals hold 94 to 96% in each.

    Raises:
        ComparisonError: a value is not finite, shapes differ, seeds cannot be paired, or there are too few resamples.
    """
    if not 0.0 < confidence < 1.0 or resamples < 100:
        raise ComparisonError(
            f"confidence {confidence!r} with {resamples} resamples",
            where="confidence=, resamples=",
            fix="confidence lies between 0 and 1, and percentiles need at least 100 resamples",
        )
    if reference is None:
        sides: tuple[Values, ...] = (checked_values(candidate, "candidate"),)
    else:
        sides = paired_values(candidate, reference)
    items = design(sides[0].shape[1], None, clusters)
    means = _resampled(sides, items, resamples, np.random.default_rng(rng_seed))
    away = means if target is None else np.abs(means - target)
    drawn = away[0] if len(sides) == 1 else away[0] - away[1]
    low, high = np.quantile(drawn, [(1.0 - confidence) / 2.0, (1.0 + confidence) / 2.0])
    return float(low), float(high)


def _resampled(sides: tuple[Values, ...], items: Design, resamples: int, rng: np.random.Generator) -> Values:
    """Means [sides, resamples]; all sides are drawn alike. Cells add up what their items hold, so that a draw costs a
    number per cell.
    """
    cell = items.factors[0] if items.cells is None else items.cells
    counts = np.bincount(cell.index).astype(float)
    sums = np.stack([[np.bincount(cell.index, weights=row) for row in side] for side in sides])
    of_cell = np.empty((len(items.factors), len(counts)), dtype=np.intp)
    for row, factor in zip(of_cell, items.factors, strict=True):
        row[cell.index] = factor.index
    seeds = sums.shape[1]
    means = []
    done = 0
    while done < resamples:
        block = min(resamples - done, max(1, _BLOCK // len(counts)))
        rows = _times(seeds, block, rng)
        times = np.ones((block, len(counts)))
        for factor, row in zip(items.factors, of_cell, strict=True):
            times *= _times(len(factor.sizes), block, rng)[:, row]
        total = times @ counts * seeds
        drawn = total > 0.0  # with two factors that meet in few cells, a draw may hold no item
        means.append(np.stack([np.sum((rows @ side) * times, axis=1)[drawn] / total[drawn] for side in sums]))
        done += block
    return np.concatenate(means, axis=1)


def _times(number: int, draws: int, rng: np.random.Generator) -> Values:
    """How often each of `number` comes up in as many draws with replacement [draws, number]."""
    picked = rng.integers(0, number, (draws, number)) + number * np.arange(draws)[:, None]
    return np.bincount(picked.ravel(), minlength=draws * number).reshape(draws, number).astype(float)
