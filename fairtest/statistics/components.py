"""Variance of a mean over crossed seeds and clusters, and its degrees of freedom.

Seeds and clusters are crossed random effects: every seed is scored on every item, and items of one cluster (a target
term, a template, a document) are not independent. The variance of the mean is that between seeds, plus a
delete-one-cluster jackknife of the mean over seeds, less the seed-times-cluster part that both contain.

Degrees of freedom are Satterthwaite's, with one change. His formula weighs the parts by their estimated variances, and
a variance between three seeds often comes out far too small, which hides that it is all one knows of the seeds: with 5
to 20% of the variance from the clusters, a 95% interval of three seeds covers 92.5%, of two 87.5%. Here the formula
(not the variance) takes the seeds' part at its upper 80% limit. Simulated with normal parts, three or five seeds and 20
or 200 clusters, 95% intervals then cover 95% or more of any mixture of seeds and clusters, 93.8% in the worst mixture
with an interaction, and 98.9% where there is nothing but the interaction.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import chdtri, stdtr, stdtrit

from fairtest.errors import ComparisonError

Values = npt.NDArray[np.float64]
Labels = Sequence[Any] | npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Contrast:
    """A linear contrast of means with the components of its variance, all in the unit of the values.

    `seed_sd`: standard deviation of the contrast between seeds, None with one seed. `cluster_se`: standard error of the
    mean over seeds from the clusters alone. `interaction_se`: the part of either that is seed times cluster.
    `cluster_df`: degrees of freedom of `cluster_se`, 0 with fewer than two clusters.
    """

    estimate: float
    seeds: int
    seed_sd: float | None
    cluster_se: float
    interaction_se: float
    cluster_df: float

    def __neg__(self) -> Contrast:
        return Contrast(-self.estimate, self.seeds, self.seed_sd, self.cluster_se, self.interaction_se, self.cluster_df)

    @property
    def variance(self) -> float:
        """Variance of the estimate; never below that of the seeds or of the clusters alone."""
        if self.cluster_df <= 0:
            return math.inf
        seeds, clusters = self._parts()
        return max(seeds + clusters - self.interaction_se**2, seeds, clusters)

    @property
    def df(self) -> float:
        """Degrees of freedom of the variance, 0 with fewer than two clusters."""
        if self.cluster_df <= 0 or self.seed_sd is None:
            return self.cluster_df
        seeds, clusters = self._parts()
        upper = seeds * _upper_limit(self.seeds - 1)
        if upper + clusters == 0.0:
            return min(self.seeds - 1.0, self.cluster_df)
        share = upper / (upper + clusters)
        return 1.0 / (share**2 / (self.seeds - 1) + (1.0 - share) ** 2 / self.cluster_df)

    def half_width(self, confidence: float) -> float:
        """Half the width of the two-sided t interval."""
        variance = self.variance
        if variance in (0.0, math.inf):
            return variance
        return math.sqrt(variance) * float(stdtrit(self.df, 0.5 + confidence / 2.0))

    def p_above(self, threshold: float) -> float:
        """One-sided p-value of "the contrast is at most `threshold`", from the same t distribution."""
        variance, distance = self.variance, self.estimate - threshold
        if variance == 0.0:
            return 0.0 if distance > 0 else 1.0
        if variance == math.inf:
            return 1.0
        return float(stdtr(self.df, -distance / math.sqrt(variance)))

    def _parts(self) -> tuple[float, float]:
        return (0.0 if self.seed_sd is None else self.seed_sd**2 / self.seeds), self.cluster_se**2


@cache
def _upper_limit(df: int) -> float:
    """Upper 80% confidence limit of a variance with so many degrees of freedom, as a multiple of its estimate."""
    return df / float(chdtri(df, 0.8))


@dataclass(frozen=True, slots=True)
class Design:
    """Items that count: which (`kept`), their weights (`shares`, summing to one), their clusters' numbers (`index`)."""

    kept: npt.NDArray[np.bool_]
    shares: Values
    index: npt.NDArray[np.intp]
    clusters: int

    @property
    def items(self) -> int:
        """Number of items that count."""
        return len(self.shares)

    def contrast(self, values: Values) -> Contrast:
        """The weighted mean over items and seeds of `values` [seeds, all items], with its variance components."""
        values = values[:, self.kept]
        seeds = len(values)
        per_seed = values @ self.shares
        seed_sd = float(np.std(per_seed, ddof=1)) if seeds > 1 else None
        sizes = np.bincount(self.index, weights=self.shares)
        if sizes.max() > 1.0 - 1e-12:
            return Contrast(float(per_seed.mean()), seeds, seed_sd, 0.0, 0.0, 0.0)
        pulls = (values - per_seed[:, None]) * self.shares
        sums = np.stack([np.bincount(self.index, weights=row) for row in pulls])
        moves = sums / (1.0 - sizes)  # by how much leaving out a cluster moves each seed's mean [seeds, clusters]
        average = moves.mean(axis=0)
        jackknife = (self.clusters - 1) / self.clusters
        interaction = jackknife * float(np.sum((moves - average) ** 2)) / (seeds * (seeds - 1)) if seeds > 1 else 0.0
        return Contrast(
            estimate=float(per_seed.mean()),
            seeds=seeds,
            seed_sd=seed_sd,
            cluster_se=math.sqrt(jackknife * float(np.sum(average**2))),
            interaction_se=math.sqrt(interaction),
            # Kish's effective number: clusters of unequal size say less than their count.
            cluster_df=max(1.0 / float(np.sum(sizes**2)) - 1.0, 1.0),
        )


def design(items: int, weights: Values | None, clusters: Labels | None) -> Design:
    """The design of `items` items; `weights` None: all equal, `clusters` None: every item is one. Items of weight zero
    do not count.

    Raises:
        ComparisonError: wrong shapes, or weights that are negative, not finite or all zero.
    """
    sizes = np.ones(items) if weights is None else np.asarray(weights, dtype=float)
    labels = np.arange(items) if clusters is None else np.asarray(clusters)
    for name, column in (("weights", sizes), ("clusters", labels)):
        if column.shape != (items,):
            raise ComparisonError(
                f"{name} have shape {column.shape}, but there are {items} items", where=name, fix="give one per item"
            )
    wrong = np.flatnonzero(~(np.isfinite(sizes) & (sizes >= 0)))
    if len(wrong) or not sizes.any():
        found = f"weight {sizes[wrong[0]]} at item {wrong[0]}" if len(wrong) else "all weights are zero"
        raise ComparisonError(found, where="weights", fix="weights are finite, at least 0, and not all 0")
    kept = sizes > 0
    _, index = np.unique(labels[kept], return_inverse=True)
    return Design(kept, sizes[kept] / sizes[kept].sum(), index, int(index.max()) + 1)


def checked_values(values: Values, side: str) -> Values:
    """`values` as an array [seeds, items] of finite numbers.

    Raises:
        ComparisonError: it is none; the message names the first item that is not finite.
    """
    array = np.asarray(values, dtype=float)
    if array.ndim != 2 or array.size == 0:
        raise ComparisonError(
            f"{side} must be an array [seeds, items] with at least one of each, got shape {array.shape}",
            where=side,
            fix="one row per seed, one column per item",
        )
    wrong = np.argwhere(~np.isfinite(array))
    if len(wrong):
        seed, item = (int(at) for at in wrong[0])
        raise ComparisonError(
            f"{side} has {array[seed, item]} at item {item} of seed {seed}",
            where=f"{side}[{seed}, {item}]",
            fix="every item needs a finite value; look at that item's score, or leave the item out on both sides",
        )
    return array


def paired_values(candidate: Values, reference: Values) -> tuple[Values, Values]:
    """Both sides as arrays of one shape [seeds, items], paired by row; a side of one row is repeated.

    Raises:
        ComparisonError: values are not finite, or the sides differ in items or seeds.
    """
    ours, theirs = checked_values(candidate, "candidate"), checked_values(reference, "reference")
    if ours.shape[1] != theirs.shape[1]:
        raise ComparisonError(
            f"the candidate has {ours.shape[1]} items and the reference {theirs.shape[1]}",
            where="candidate and reference",
            fix="score both sides on the same items",
        )
    if len(ours) != len(theirs) and 1 not in (len(ours), len(theirs)):
        raise ComparisonError(
            f"the candidate has {len(ours)} seeds and the reference {len(theirs)}, so they cannot be paired",
            where="candidate and reference",
            fix="train both sides with the same seeds (one row on a side is taken as a fixed model)",
        )
    shape = (max(len(ours), len(theirs)), ours.shape[1])
    return np.broadcast_to(ours, shape), np.broadcast_to(theirs, shape)
