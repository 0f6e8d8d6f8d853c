from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairtest.errors import ComparisonError
from fairtest.statistics.intervals import amplification_interval, mean_interval, perplexity_ratio_interval
from fairtest.statistics.planning import (
    holm,
    items_factor_to_decide,
    mcnemar_exact,
    one_sided_p,
    seeds_to_decide,
)


def sample(*, seeds=3, groups=20, seed_sd=1.0, cluster_sd=0.5, noise=0.3, rng_seed=0, mean=0.0):
    rng = np.random.default_rng(rng_seed)
    return (
        mean
        + seed_sd * rng.normal(size=(seeds, 1))
        + cluster_sd * rng.normal(size=groups)
        + noise * rng.normal(size=(seeds, groups))
    )


def half_width(interval):
    return (interval.high - interval.low) / 2


def test_as_many_seeds_as_were_used_decide_what_they_decided():
    interval = mean_interval(sample(), None)
    assert seeds_to_decide(interval, half_width(interval) * 1.001) == 3


def test_a_wider_gap_never_needs_more_seeds():
    interval = mean_interval(sample(), None)
    needed = [seeds_to_decide(interval, distance) for distance in np.linspace(0.5, 5.0, 12)]
    counts = [101 if count is None else count for count in needed]
    assert counts == sorted(counts, reverse=True)
    assert 2 <= counts[-1] < counts[0]


def test_the_planned_seeds_do_decide_when_they_are_drawn():
    planned, reached = [], []
    for draw in range(60):
        interval = mean_interval(sample(rng_seed=draw), None)
        seeds = seeds_to_decide(interval, 1.0)
        if seeds is None:
            continue
        planned.append(seeds)
        reached.append(half_width(mean_interval(sample(seeds=seeds, rng_seed=1000 + draw), None)) < 1.0)
    assert len(planned) > 50
    assert np.mean(reached) > 0.4  # the plan hangs on a standard deviation from three seeds


def test_seeds_cannot_mend_clusters_that_are_too_few():
    interval = mean_interval(sample(seed_sd=0.1, cluster_sd=2.0), None)
    assert seeds_to_decide(interval, 0.1) is None
    factor = items_factor_to_decide(mean_interval(sample(seed_sd=0.0, cluster_sd=2.0, noise=0.1), None), 0.1)
    assert factor is not None
    assert 20 < factor < 2000


def test_probes_cannot_mend_seeds_that_are_too_few():
    assert items_factor_to_decide(mean_interval(sample(seed_sd=3.0), None), 0.1) is None


def test_a_decided_interval_needs_nothing_more():
    interval = mean_interval(sample(), None)
    assert items_factor_to_decide(interval, half_width(interval) * 1.01) == 1.0


def test_one_seed_says_nothing_of_the_seeds_needed():
    assert seeds_to_decide(mean_interval(sample(seeds=1), None), 1.0) is None


def test_one_cluster_cannot_be_multiplied():
    interval = mean_interval(sample(), ["only"] * 20)
    assert seeds_to_decide(interval, 1.0) is None
    assert items_factor_to_decide(interval, 1.0) is None


def test_a_distance_that_is_no_distance_is_an_error():
    with pytest.raises(ComparisonError, match="distance"):
        seeds_to_decide(mean_interval(sample(), None), math.nan)


@settings(deadline=None)
@given(st.integers(0, 10**6), st.floats(-2.0, 2.0), st.sampled_from([0.5, 0.8, 0.95, 0.99]), st.booleans())
def test_a_p_value_is_the_interval_turned_round(seed, threshold, confidence, kink):
    ours = sample(rng_seed=seed, mean=50.3)
    theirs = sample(rng_seed=seed + 1, mean=49.9)
    interval = amplification_interval(ours, theirs, None, 50.0 if kink else None, confidence=confidence)
    alpha = (1 - confidence) / 2
    above, below = one_sided_p(interval, threshold), one_sided_p(interval, threshold, alternative="less")
    if abs(interval.low - threshold) > 1e-6:
        assert (interval.low > threshold) == (above < alpha)
    if abs(interval.high - threshold) > 1e-6:
        assert (interval.high < threshold) == (below < alpha)


def test_a_p_value_of_a_ratio_is_taken_on_its_own_scale():
    rng = np.random.default_rng(3)
    tokens = rng.integers(5, 50, 60).astype(float)
    before = rng.normal(3.0, 0.3, (1, 60)) * tokens
    after = before + (0.2 + rng.normal(0, 0.05, (4, 60))) * tokens
    interval = perplexity_ratio_interval(after, before, tokens)
    assert one_sided_p(interval, interval.low) == pytest.approx(0.025)
    assert one_sided_p(interval, interval.high, alternative="less") == pytest.approx(0.025)
    assert one_sided_p(interval, -1.0) == 0.0
    assert seeds_to_decide(interval, interval.high - interval.low) is not None


def test_no_variation_is_certain_only_off_the_threshold():
    interval = mean_interval(np.zeros((3, 5)), None)
    assert one_sided_p(interval, -1.0) == 0.0
    assert one_sided_p(interval, 0.0) == 1.0
    assert one_sided_p(interval, 1.0) == 1.0


def test_mcnemar_counts_discordant_items_alone():
    ours = [100.0] * 8 + [0.0] * 2 + [50.0] * 90
    theirs = [0.0] * 8 + [100.0] * 2 + [50.0] * 90
    binomial = 2 * sum(math.comb(10, k) for k in (8, 9, 10)) / 2**10
    assert mcnemar_exact(ours, theirs) == pytest.approx(binomial)
    assert mcnemar_exact(theirs, ours) == pytest.approx(binomial)
    assert mcnemar_exact(ours, ours) == 1.0
    with pytest.raises(ComparisonError, match="two finite values per item"):
        mcnemar_exact(ours, theirs[:-1])


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_keeps_the_order_and_lies_between_raw_and_bonferroni(p_values):
    adjusted = holm(p_values)
    assert all(p <= a <= min(1.0, len(p_values) * p) + 1e-12 for p, a in zip(p_values, adjusted, strict=True))
    ranked = sorted(zip(p_values, adjusted, strict=True))
    assert [a for _, a in ranked] == sorted(adjusted)
