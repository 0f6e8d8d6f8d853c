"""Variance of a mean over crossed seeds and clusters, and its degrees of freedom.

Seeds and clusters are crossed random effects: every seed is scored on every item, and items of one cluster (a target
term, a template, a document) are not independent. The variance of the mean is that between seeds, plus a
delete-one-cluster jackknife of the mean over seeds, less the seed-times-cluster part that both contain.

Items may belong to clusters of two crossed factors (an occupation and a sentence frame). The jackknife of either factor
holds what is between its own clusters and what is left between cells (pairs of clusters, one of each factor); the
jackknife over cells holds that rest. So the clusters' variance is A + B - cells, and never less than A or B (Cameron,
Gelbach, Miller 2011, section 2.2, with jackknives in the place of sandwiches). The cells' jackknife also holds a small
part of A and of B: with a and b clusters, A's variance comes out too small by one part in b and B's by one in a.
Degrees of freedom of A + B are Satterthwaite's.

The interval is Banerjee's (1961, JASA 56, 586-594): with a seeds' part S of n degrees of freedom, a rest R of m, and t
quantiles of either, its half-width is the root of t(n)^2 S + t(m)^2 R; here never below that of the clusters alone. The
chance F(x) that a normal estimate is within the root of x is concave in x, so that with true shares a and 1 - a of the
variance it covers at least a F(t(n)^2 S) + (1 - a) F(t(m)^2 R), in expectation the confidence, whatever the shares and
whatever the level. Satterthwaite's degrees of freedom give intervals 1 to 8% narrower and about right at 95%, but not
in the tails, where Holm's steps and the looks of adaptive seeds are: a variance between three seeds now and then comes
out close to zero, and then all that counts is the clusters' part with its many degrees of freedom. With 90 to 97% of
the variance between three seeds they erred 1.8 times as often as stated at 2.5% / 8, 4 times at 0.07%, 15 times at
0.01%; with a tenth of it seed times cluster, 1.2 times at 2.5% and 2.3 times at 2.5% / 8.

Simulated with normal parts, 2 to 8 seeds, 10 or 40 clusters and any mixture of seeds, clusters and their interaction,
no error between 2.5% and 0.01% on a side is exceeded by more than the simulation can tell. An error of 2.5% comes out
at 2.5% where either part dominates, at 1 to 2% where both count (three to eight seeds), and at 0.5 to 1% where there is
nothing but the interaction.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import stdtr, stdtridf, stdtrit

from fairtest.errors import ComparisonError

Values = npt.NDArray[np.float64]
Labels = Sequence[Any] | npt.NDArray[Any]
_SMALLEST = 1e-100  # p-values below are not told apart
_LOG_PRECISION = 1e-12  # of the logarithm of a p-value


@dataclass(frozen=True, slots=True)
class Contrast:
    """A linear contrast of means with the components of its variance, all in the unit of the values.

    `seed_sd`: standard deviation of the contrast between seeds, None with one seed. `cluster_se`: standard error of the
    mean over seeds from the clusters alone. `interaction_se`: the part of either that is seed times cluster.
    `cluster_df`: degrees of freedom of `cluster_se`, 0 with fewer than two clusters (of either factor).
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
        return max(sum(self._parts()), self.cluster_se**2)

    @property
    def df(self) -> float:
        """Degrees of freedom of the t interval that is as wide at 95%, 0 with fewer than two clusters."""
        return self.df_at(0.95)

    def df_at(self, confidence: float) -> float:
        """Degrees of freedom of the t interval of the same variance that is as wide at this confidence."""
        if self.cluster_df <= 0 or self.seed_sd is None:
            return self.cluster_df
        fewest, most = sorted((self.seeds - 1.0, self.cluster_df))
        if self.variance == 0.0:
            return fewest
        quantile = self.half_width(confidence) / math.sqrt(self.variance)
        return min(max(float(stdtridf(0.5 + confidence / 2.0, quantile)), fewest), most)

    def half_width(self, confidence: float) -> float:
        """Half the width of the two-sided interval."""
        variance = self.variance
        if variance in (0.0, math.inf):
            return variance
        return math.sqrt(self._square((1.0 - confidence) / 2.0))

    def p_above(self, threshold: float) -> float:
        """One-sided p-value of "the contrast is at most `threshold`": half the error of the interval that ends
        there.
        """
        variance, distance = self.variance, self.estimate - threshold
        if variance == 0.0:
            return 0.0 if distance > 0 else 1.0
        if variance == math.inf:
            return 1.0
        if distance == 0.0:
            return 0.5
        tail = self._tail(abs(distance))
        return tail if distance > 0 else 1.0 - tail

    def _tail(self, distance: float) -> float:
        """The error on one side at which the half-width is `distance`; it lies between those of either part's t."""
        ratio = -distance / math.sqrt(self.variance)
        dfs = {self.cluster_df} if self.seed_sd is None else {self.cluster_df, self.seeds - 1.0}
        low, high = sorted((float(stdtr(min(dfs), ratio)), float(stdtr(max(dfs), ratio))))
        if high < _SMALLEST or high - low <= 1e-12 * high:
            return high

        def beyond(log: float) -> float:
            return self._square(math.exp(log)) / distance**2 - 1.0

        left, right = math.log(max(low, _SMALLEST)), math.log(high)
        if beyond(left) <= 0.0 or beyond(right) >= 0.0:  # an end, but for rounding
            return low if beyond(left) <= 0.0 else high
        # Bisection, because scipy's root finders take longer to import than a gate takes to be judged.
        while right - left > _LOG_PRECISION * max(1.0, -left):
            middle = (left + right) / 2.0
            left, right = (left, middle) if beyond(middle) <= 0.0 else (middle, right)
        return math.exp((left + right) / 2.0)

    def _square(self, tail: float) -> float:
        """Square of the half-width with the error `tail` on a side; never below that of the clusters alone."""
        seeds, rest = self._parts()
        by_cluster = float(stdtrit(self.cluster_df, tail)) ** 2
        by_seed = float(stdtrit(self.seeds - 1, tail)) ** 2 if seeds > 0.0 else 0.0
        return max(seeds * by_seed + rest * by_cluster, self.cluster_se**2 * by_cluster)

    def _parts(self) -> tuple[float, float]:
        """The variance as that of the seeds, and what the clusters add to it."""
        if not self.seed_sd:
            return 0.0, self.cluster_se**2
        return self.seed_sd**2 / self.seeds, max(self.cluster_se**2 - self.interaction_se**2, 0.0)


@dataclass(frozen=True, slots=True)
class Factor:
    """One way of clustering items: the number of each item's cluster (`index`), each cluster's share of the weights
    (`sizes`).
    """

    index: npt.NDArray[np.intp]
    sizes: Values

    @property
    def df(self) -> float:
        """Degrees of freedom; Kish's effective number, as clusters of unequal size say less than their count."""
        return max(1.0 / float(np.sum(self.sizes**2)) - 1.0, 1.0)

    def variances(self, pulls: Values) -> tuple[float, float]:
        """(variance of the mean over seeds, the part of it that is seed times cluster), from each item's pull on each
        seed's mean [seeds, items].
        """
        seeds, clusters = len(pulls), len(self.sizes)
        sums = np.stack([np.bincount(self.index, weights=row) for row in pulls])
        moves = sums / (1.0 - self.sizes)  # by how much leaving out a cluster moves each seed's mean [seeds, clusters]
        average = moves.mean(axis=0)
        jackknife = (clusters - 1) / clusters
        interaction = jackknife * float(np.sum((moves - average) ** 2)) / (seeds * (seeds - 1)) if seeds > 1 else 0.0
        return jackknife * float(np.sum(average**2)), interaction


@dataclass(frozen=True, slots=True)
class Design:
    """Items that count: which (`kept`), their weights (`shares`, summing to one), one or two `factors` of clusters, and
    with two factors their `cells`.
    """

    kept: npt.NDArray[np.bool_]
    shares: Values
    factors: tuple[Factor, ...]
    cells: Factor | None = None

    @property
    def items(self) -> int:
        """Number of items that count."""
        return len(self.shares)

    @property
    def clusters(self) -> tuple[int, ...]:
        """Number of clusters by factor."""
        return tuple(len(factor.sizes) for factor in self.factors)

    def contrast(self, values: Values) -> Contrast:
        """The weighted mean over items and seeds of `values` [seeds, all items], with its variance components.

        With two factors, let the effects be seeds S, clusters A and B, and their products, with variances of the mean
        over s seeds, a and b clusters: V_S = var(S) / s, V_A = var(A) / a, V_AB = var(AB) / ab, V_SA = var(SA) / sa and
        so on. The variance of the mean is the sum of all seven.
        Seeds' part: V_S + V_SA + V_SB + V_SAB, because every seed has the same items.
        Clusters' part, A + B - cells of the mean over seeds: V_A + V_B + V_AB + V_SA + V_SB + V_SAB.
        Both contain V_SA + V_SB + V_SAB. The interaction with A's clusters alone is V_SA + V_SAB, with B's
        V_SB + V_SAB, with cells V_SAB (all but parts of 1/a and 1/b), so that what both contain is the sum of the first
        two less the third. An estimate below zero is taken as zero.
        """
        values = values[:, self.kept]
        seeds = len(values)
        per_seed = values @ self.shares
        seed_sd = float(np.std(per_seed, ddof=1)) if seeds > 1 else None
        if any(factor.sizes.max() > 1.0 - 1e-12 for factor in self.factors):
            return Contrast(float(per_seed.mean()), seeds, seed_sd, 0.0, 0.0, 0.0)
        pulls = (values - per_seed[:, None]) * self.shares
        first = self.factors[0]
        variance, interaction = first.variances(pulls)
        df = first.df
        if self.cells is not None:
            second = self.factors[1]
            (other, other_interaction), (cell, cell_interaction) = second.variances(pulls), self.cells.variances(pulls)
            df = _satterthwaite(variance, df, other, second.df)
            variance = max(variance + other - cell, variance, other)
            interaction = max(interaction + other_interaction - cell_interaction, 0.0)
        return Contrast(
            estimate=float(per_seed.mean()),
            seeds=seeds,
            seed_sd=seed_sd,
            cluster_se=math.sqrt(variance),
            interaction_se=math.sqrt(interaction),
            cluster_df=df,
        )


def _satterthwaite(first: float, first_df: float, second: float, second_df: float) -> float:
    """Degrees of freedom of the sum of two estimated variances (Satterthwaite 1946)."""
    total = first + second
    if total == 0.0:
        return min(first_df, second_df)
    return 1.0 / ((first / total) ** 2 / first_df + (second / total) ** 2 / second_df)


def design(items: int, weights: Values | None, clusters: Labels | None) -> Design:
    """The design of `items` items; `weights` None: all equal. `clusters`: labels [items] or, of one or two crossed
    factors, [factors, items]; None: every item is one. Items of weight zero do not count.

    Raises:
        ComparisonError: wrong shapes, or weights that are negative, not finite or all zero.
    """
    sizes = np.ones(items) if weights is None else np.asarray(weights, dtype=float)
    labels = np.arange(items) if clusters is None else np.asarray(clusters)
    if sizes.shape != (items,):
        raise ComparisonError(
            f"weights have shape {sizes.shape}, but there are {items} items", where="weights", fix="give one per item"
        )
    if labels.shape not in ((items,), (1, items), (2, items)):
        raise ComparisonError(
            f"clusters have shape {labels.shape}, but there are {items} items",
            where="clusters",
            fix="give one label per item, or two crossed labels per item as [2, items]",
        )
    wrong = np.flatnonzero(~(np.isfinite(sizes) & (sizes >= 0)))
    if len(wrong) or not sizes.any():
        found = f"weight {sizes[wrong[0]]} at item {wrong[0]}" if len(wrong) else "all weights are zero"
        raise ComparisonError(found, where="weights", fix="weights are finite, at least 0, and not all 0")
    kept = sizes > 0
    shares = sizes[kept] / sizes[kept].sum()
    factors = tuple(_factor(row[kept], shares) for row in np.atleast_2d(labels))
    if len(factors) == 1:
        return Design(kept, shares, factors)
    first, second = factors
    return Design(kept, shares, factors, _factor(first.index * len(second.sizes) + second.index, shares))


def _factor(labels: npt.NDArray[Any], shares: Values) -> Factor:
    _, index = np.unique(labels, return_inverse=True)
    sizes: Values = np.bincount(index, weights=shares).astype(float, copy=False)
    return Factor(index, sizes)


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
