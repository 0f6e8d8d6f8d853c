"""Statistics that are no plain mean of items, told item by item (the delta method).

A metric's estimate is the mean of its item values, and intervals and gates work with these alone, cluster by cluster
and paired between models. A weighted mean R = sum w v / sum w becomes such a mean by its linearisation

    u = R + n w (v - R) / sum w       for each of n items

whose mean is R itself, and whose sums over clusters vary as those of a ratio estimator do: the variance is right to
first order though sum w differs between models. All items have a value, so two models have the same ones and can be
compared; an item of weight 0 has the value R, which moves nothing. A value u is an item's part in R and no score of its
own: it may lie outside the range of v.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence


def weighted_items(values: Sequence[float], weights: Sequence[float]) -> tuple[float, ...]:
    """The u of every item; weights are not negative, and one is above 0."""
    total = math.fsum(weights)
    ratio = math.fsum(weight * value for weight, value in zip(weights, values, strict=True)) / total
    scale = len(values) / total
    return tuple(ratio + scale * weight * (value - ratio) for weight, value in zip(weights, values, strict=True))


def cluster_mean_items(values: Sequence[float], clusters: Sequence[str]) -> tuple[float, ...]:
    """The u of the mean over clusters of the means in each: every cluster counts the same, with however many items."""
    sizes = Counter(clusters)
    return weighted_items(values, [1.0 / sizes[cluster] for cluster in clusters])
