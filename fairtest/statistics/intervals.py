"""Intervals over seeds and clusters of items, paired where both sides share them.

Values are arrays [seeds, items]. Every linear contrast gets a t interval (fairtest.statistics.components says how),
because with three to five seeds a percentile bootstrap is far too narrow.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from operator import attrgetter
from typing import Literal

import numpy as np

from fairtest.errors import ComparisonError
from fairtest.statistics.components import Contrast, Design, Labels, Values, checked_values, design, paired_values

Rows = tuple[tuple[Contrast, ...], ...]


@dataclass(frozen=True)
class Interval:
    """An estimate with its confidence interval and what it rests on.

    `seeds`, `items`, `clusters` are counts, `factors` the number of clusters by factor (`clusters` is the smallest);
    `seed_sd` (None with one seed: such an interval is about that checkpoint only), `cluster_se` and `df` are those of
    the contrast that gives the estimate, on the estimate's scale.
    `contrasts`: estimate and bounds are each the maximum over rows of the minimum within a row, and exp of that where
    `scale` is "log".
    """

    estimate: float
    low: float
    high: float
    seeds: int
    items: int
    clusters: int
    factors: tuple[int, ...]
    seed_sd: float | None
    cluster_se: float
    df: float
    contrasts: Rows = field(repr=False)
    scale: Literal["linear", "log"] = "linear"

    @property
    def degenerate(self) -> bool:
        """Whether it has no width: nothing varied between seeds and clusters, so nothing says how sure it is.

        So it is with the same weights on both sides, and with a preference that flipped on no item. Neither is
        evidence.
        """
        return self.high - self.low <= 1e-9 * max(1.0, abs(self.estimate))

    @property
    def deciding(self) -> Contrast:
        """The contrast that gives the estimate."""
        return _deciding(self.contrasts)

    def width_of_change(self, confidence: float) -> float:
        """Width of the first contrast's interval, that of the plain difference or deviation, on the contrasts' scale.

        Near the target the interval may owe all its width to the other contrasts, to which side of the target the
        sides are on, while nothing differs between them.
        """
        return 2.0 * self.contrasts[0][0].half_width(confidence)


def mean_interval(values: Values, clusters: Labels | None, *, confidence: float = 0.95) -> Interval:
    """Interval of the mean over items of `values` [seeds, items], with one cluster label per item, or two crossed ones
    as [2, items] (an occupation and a sentence frame).

    The estimand is the mean over items (a cluster of more items counts for more) over new seeds and new clusters. With
    one seed the clusters alone are left; fewer than two clusters give an infinite interval.

    Raises:
        ComparisonError: a value is not finite, or shapes differ.
    """
    return weighted_mean_interval(values, None, clusters, confidence=confidence)


def weighted_mean_interval(
    values: Values, weights: Values | None, clusters: Labels | None = None, *, confidence: float = 0.95
) -> Interval:
    """Interval of sum(weights x values) / sum(weights), `values` [seeds, items], `weights` [items] (None: all equal).

    A ratio estimator: numerator and denominator are both sums over sampled clusters. `clusters=None` takes every item
    as a cluster. Items of weight zero are left out.

    Raises:
        ComparisonError: a value is not finite, a weight is negative, or shapes differ.
    """
    checked = checked_values(values, "values")
    items = design(checked.shape[1], weights, clusters)
    return max_of_mins(((items.contrast(checked),),), items, confidence)


def amplification_interval(
    candidate: Values, reference: Values, clusters: Labels | None, target: float | None, *, confidence: float = 0.95
) -> Interval:
    """Interval of A = |m_c - target| - |m_r - target|, how much further from the target the candidate's mean is.

    `candidate` and `reference` are [seeds, items] over the same items; rows are paired by seed. A side with one row (a
    pretrained model) is a constant without seed variance. `target=None`: A = m_c - m_r (higher is worse).

    Let a = m_c - target, b = m_r - target, and L_ij = i a - j b for signs i, j. Then A = max_i min_j L_ij. Each L_ij is
    linear and has a paired interval [low_ij, high_ij] that misses on either side with probability alpha / 2; the
    interval of A is [max_i min_j low_ij, max_i min_j high_ij].

    Its errors are bounded. Let i*, j* be the signs of the true a and b, so that A = min_j L_i*j = max_i L_ij*.
    Too low: high < A implies min_j high_i*j < A, so that some j has high_i*j < A <= L_i*j.
    Too high: low > A implies that some i has min_j low_ij > A, so that low_ij* > A >= L_ij*.
    Each is a union of two events of probability alpha / 2: at most alpha on a side, wherever the means are.
    Away from the kink the contrasts with a wrong sign are out of the question: L_i*j is 2|b| above A for the wrong j,
    and L_ij* is 2|a| below it for the wrong i. With |a| and |b| of several standard errors only the interval of L_i*j*
    can miss, with probability alpha / 2 on a side.

    Raises:
        ComparisonError: a value is not finite, shapes differ, or seeds cannot be paired.
    """
    ours, theirs = paired_values(candidate, reference)
    items = design(ours.shape[1], None, clusters)
    difference = items.contrast(ours - theirs)
    if target is None:
        return max_of_mins(((difference,),), items, confidence)
    _finite(target)
    total = items.contrast((ours - target) + (theirs - target))
    return max_of_mins(((difference, total), (-total, -difference)), items, confidence)


def reduction_interval(
    amplified: Values, cured: Values, clusters: Labels | None, target: float | None, *, confidence: float = 0.95
) -> Interval:
    """Interval of |m_a - target| - |m_c - target|, by how much the cured side is closer to the target.

    It is `amplification_interval` of the amplified side against the cured one, with its errors.

    Raises:
        ComparisonError: as there.
    """
    return amplification_interval(amplified, cured, clusters, target, confidence=confidence)


def distance_interval(
    values: Values, clusters: Labels | None, target: float | None, *, confidence: float = 0.95
) -> Interval:
    """Interval of D = |m - target|, how far one side's mean is from the target; never below 0.

    `values` [seeds, items]. `target=None`: D = m (higher is worse), which may be below 0.

    With d = m - target, D = max(d, -d), and d has an interval [low, high] that misses on either side with probability
    alpha / 2; the interval of D is [max(low, -high, 0), max(high, -low)].

    Its errors are bounded as those of an amplification. Let i be the sign of the true d.
    Too low: the upper bound is at least that of i d, so it is below D = i d with probability alpha / 2.
    Too high: the lower bound of d or of -d is above D >= d, -d: at most alpha, and alpha / 2 where |d| is several
    standard errors.

    Raises:
        ComparisonError: a value is not finite, or shapes differ.
    """
    checked = checked_values(values, "values")
    items = design(checked.shape[1], None, clusters)
    if target is None:
        return max_of_mins(((items.contrast(checked),),), items, confidence)
    _finite(target)
    deviation = items.contrast(checked - target)
    interval = max_of_mins(((deviation,), (-deviation,)), items, confidence)
    return replace(interval, low=max(interval.low, 0.0))


def perplexity_ratio_interval(
    nll_candidate: Values,
    nll_reference: Values,
    tokens: Values,
    clusters: Labels | None = None,
    *,
    confidence: float = 0.95,
) -> Interval:
    """Interval of the candidate's perplexity over the reference's on the same texts.

    `nll_*` [seeds, texts]: negative log-likelihood in nats, summed over a text's tokens; `tokens` [texts]. The ratio is
    exp(sum(nll_c - nll_r) / sum(tokens)), its logarithm averaged over seeds; the interval is that of the logarithm,
    mapped back. `seed_sd` and `cluster_se` are on the scale of the ratio (delta method).

    Raises:
        ComparisonError: a value is not finite, a token count is negative, shapes differ, or seeds cannot be paired.
    """
    ours, theirs = paired_values(nll_candidate, nll_reference)
    texts = design(ours.shape[1], tokens, clusters)
    per_token = (ours - theirs) / np.where(texts.kept, tokens, 1.0)
    log = max_of_mins(((texts.contrast(per_token),),), texts, confidence)
    ratio = _exp(log.estimate)
    return Interval(
        estimate=ratio,
        low=_exp(log.low),
        high=_exp(log.high),
        seeds=log.seeds,
        items=log.items,
        clusters=log.clusters,
        factors=log.factors,
        seed_sd=None if log.seed_sd is None else ratio * log.seed_sd,
        cluster_se=ratio * log.cluster_se,
        df=log.df,
        contrasts=log.contrasts,
        scale="log",
    )


def max_of_mins(contrasts: Rows, items: Design, confidence: float) -> Interval:
    """The interval whose estimate and bounds are each the maximum over rows of the minimum within a row.

    Raises:
        ComparisonError: a confidence that is none.
    """
    if not 0.0 < confidence < 1.0:
        raise ComparisonError(
            f"confidence must be between 0 and 1, got {confidence!r}", where="confidence", fix="0.95 is usual"
        )
    bounds = [[(c.estimate, c.half_width(confidence)) for c in row] for row in contrasts]
    chosen = _deciding(contrasts)
    return Interval(
        estimate=chosen.estimate,
        low=max(min(estimate - width for estimate, width in row) for row in bounds),
        high=max(min(estimate + width for estimate, width in row) for row in bounds),
        seeds=chosen.seeds,
        items=items.items,
        clusters=min(items.clusters),
        factors=items.clusters,
        seed_sd=chosen.seed_sd,
        cluster_se=chosen.cluster_se,
        df=chosen.df,
        contrasts=contrasts,
    )


def _finite(target: float) -> None:
    if not math.isfinite(target):
        raise ComparisonError(f"the target is {target}", where="target", fix="give a finite target, or None")


def _deciding(contrasts: Rows) -> Contrast:
    estimate = attrgetter("estimate")
    return max((min(row, key=estimate) for row in contrasts), key=estimate)


def _exp(value: float) -> float:
    return math.exp(value) if value < 709.0 else math.inf
