"""What would decide: more seeds or more probes; and p-values for families of gates."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.special import bdtr

from fairtest.errors import ComparisonError
from fairtest.statistics.components import Contrast
from fairtest.statistics.intervals import Interval

MAX_SEEDS = 100
MAX_FACTOR = 1e6


def seeds_to_decide(interval: Interval, distance: float, *, confidence: float = 0.95) -> int | None:
    """The smallest number of seeds, at most 100, with which the expected half-width falls below `distance`, the gap
    between estimate and threshold on the interval's scale; all else as measured.

    None: no such number (the clusters alone are already too wide), or there was one seed, which says nothing of more.
    """
    contrast = interval.deciding
    if contrast.seed_sd is None:
        return None
    distance = _on_the_contrasts_scale(interval, distance)
    for seeds in range(2, MAX_SEEDS + 1):
        if with_seeds(contrast, seeds).half_width(confidence) < distance:
            return seeds
    return None


def items_factor_to_decide(interval: Interval, distance: float, *, confidence: float = 0.95) -> float | None:
    """How many times as many clusters (with their items) bring the expected half-width below `distance`; 1.0 where it
    is there already, None where the seeds alone are too wide or there are fewer than two clusters.
    """
    contrast = interval.deciding
    distance = _on_the_contrasts_scale(interval, distance)

    def enough(factor: float) -> bool:
        return with_clusters(contrast, factor).half_width(confidence) < distance

    if contrast.cluster_df <= 0 or not enough(MAX_FACTOR):
        return None
    low, high = 1.0, 1.0
    while not enough(high):
        low, high = high, 2.0 * high
    while high - low > 1e-3 * high:
        middle = (low + high) / 2.0
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def one_sided_p(interval: Interval, threshold: float, *, alternative: Literal["greater", "less"] = "greater") -> float:
    """p-value of the gate's claim: "greater" is evidence that the value is above `threshold`, "less" that it is below.

    It is the interval turned round: below alpha / 2 exactly when the bound of the interval with confidence 1 - alpha is
    beyond the threshold. Close to the kink of an amplification its error is bounded by twice its level.
    """
    at = threshold if interval.scale == "linear" else (math.log(threshold) if threshold > 0 else -math.inf)
    if alternative == "greater":
        return min(max(contrast.p_above(at) for contrast in row) for row in interval.contrasts)
    return max(min((-contrast).p_above(-at) for contrast in row) for row in interval.contrasts)


def mcnemar_exact(candidate: npt.ArrayLike, reference: npt.ArrayLike) -> float:
    """Two-sided exact McNemar test of two paired preferences (one seed, independent items).

    Each side has one value per item; an item counts where the two differ, for the side that is higher. 1.0 where none
    differs. Source: McNemar 1947, with the binomial distribution in place of chi squared.

    Raises:
        ComparisonError: the sides differ in length, or a value is not finite.
    """
    ours, theirs = np.asarray(candidate, dtype=float), np.asarray(reference, dtype=float)
    if ours.ndim != 1 or ours.shape != theirs.shape or not np.isfinite(np.concatenate([ours, theirs])).all():
        raise ComparisonError(
            f"McNemar's test needs two finite values per item, got shapes {ours.shape} and {theirs.shape}",
            where="candidate and reference",
            fix="give one value per item and side, in the same order",
        )
    more, fewer = int(np.sum(ours > theirs)), int(np.sum(ours < theirs))
    # With probability 1/2 both tails are alike, so the two-sided p is twice the smaller one.
    return min(1.0, 2.0 * float(bdtr(min(more, fewer), more + fewer, 0.5)))


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted for testing all of them (Holm 1979), in the order given; each holds the family-wise error."""
    adjusted = [1.0] * len(p_values)
    largest = 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = largest
    return adjusted


def with_seeds(contrast: Contrast, seeds: int) -> Contrast:
    """The contrast with another number of seeds, all else as it was."""
    interaction = contrast.interaction_se**2
    per_seed = interaction * contrast.seeds / seeds
    clusters = math.sqrt(max(contrast.cluster_se**2 - interaction, 0.0) + per_seed)
    if contrast.seed_sd is None or seeds < 2:  # of one seed, nothing tells what is drawn with it
        return replace(contrast, seeds=seeds, seed_sd=None, cluster_se=clusters, interaction_se=0.0)
    return replace(contrast, seeds=seeds, cluster_se=clusters, interaction_se=math.sqrt(per_seed))


def with_clusters(contrast: Contrast, factor: float) -> Contrast:
    """The contrast with `factor` times as many clusters, all else as it was."""
    if factor == 1.0:
        return contrast
    interaction, seed_sd = contrast.interaction_se**2, contrast.seed_sd
    if seed_sd is not None:
        shared = max(seed_sd**2 / contrast.seeds - interaction, 0.0)
        seed_sd = math.sqrt(contrast.seeds * (shared + interaction / factor))
    return replace(
        contrast,
        seed_sd=seed_sd,
        cluster_se=contrast.cluster_se / math.sqrt(factor),
        interaction_se=contrast.interaction_se / math.sqrt(factor),
        cluster_df=(contrast.cluster_df + 1.0) * factor - 1.0,
    )


def _on_the_contrasts_scale(interval: Interval, distance: float) -> float:
    if not math.isfinite(distance) or distance < 0:
        raise ComparisonError(
            f"the distance to the threshold is {distance}", where="distance", fix="give |estimate - threshold|"
        )
    return distance if interval.scale == "linear" else distance / interval.estimate
