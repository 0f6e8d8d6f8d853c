"""The crossed bootstrap that intervals are compared with: against scipy, brute force, and its measured coverage."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import bootstrap

from fairtest.errors import ComparisonError
from fairtest.statistics.bootstrap import bootstrap_interval
from fairtest.statistics.intervals import mean_interval

GRID = np.array(np.meshgrid(np.arange(10), np.arange(6), indexing="ij")).reshape(2, -1)


def test_one_seed_and_items_of_their_own_are_scipys_percentile_bootstrap():
    values = np.random.default_rng(0).normal(size=(1, 40))
    found = bootstrap_interval(values, None, None, None, resamples=20000)
    expected = bootstrap((values[0],), np.mean, method="percentile", n_resamples=20000).confidence_interval
    assert found == pytest.approx((expected.low, expected.high), abs=0.02)


def slow_bootstrap(values, clusters, draws, rng):
    """Means of tables put together row by row and item by item."""
    factors = np.atleast_2d(clusters)
    means = []
    for _ in range(draws):
        rows = rng.integers(0, len(values), len(values))
        times = np.ones(values.shape[1], dtype=int)
        for labels in factors:
            names = np.unique(labels)
            picked = list(rng.choice(names, len(names)))
            times *= np.array([picked.count(label) for label in labels])
        means.append(np.repeat(values[rows], times, axis=1).mean())
    return np.quantile(means, [0.025, 0.975])


@pytest.mark.parametrize("clusters", [GRID[0], GRID], ids=["one factor", "two factors"])
def test_clusters_come_with_all_their_items_for_every_seed(clusters):
    rng = np.random.default_rng(1)
    values = rng.normal(size=(4, 1)) + rng.normal(size=10)[GRID[0]] + 2 * rng.normal(size=6)[GRID[1]]
    values = np.concatenate([values, values[:, :3]], axis=1)
    clusters = np.concatenate([clusters, clusters[..., :3]], axis=-1)
    found = bootstrap_interval(values, None, clusters, None, resamples=8000)
    assert found == pytest.approx(tuple(slow_bootstrap(values, clusters, 4000, rng)), abs=0.12)


def test_both_sides_are_drawn_alike():
    values = np.random.default_rng(2).normal(size=(3, 50))
    low, high = bootstrap_interval(values + 2.0, values, None, None)
    assert (low, high) == pytest.approx((2.0, 2.0))


def test_with_a_target_it_is_about_distances():
    values = np.random.default_rng(3).normal(size=(3, 400))
    low, high = bootstrap_interval(50 - 4 + values, 50 + 1 + values, None, 50.0)
    assert low < 3.0 < high
    alone = bootstrap_interval(50 - 4 + values, None, None, 50.0)
    assert alone[0] < 4.0 < alone[1]


def test_one_draw_again_is_the_same():
    values = np.random.default_rng(4).normal(size=(3, 50))
    assert bootstrap_interval(values, None, None, 0.0) == bootstrap_interval(values, None, None, 0.0)
    assert bootstrap_interval(values, None, None, 0.0) != bootstrap_interval(values, None, None, 0.0, rng_seed=1)


def test_factors_that_meet_in_few_cells_can_be_drawn():
    values = np.arange(12.0).reshape(3, 4)
    low, high = bootstrap_interval(values, None, [["a", "b", "c", "d"], ["w", "x", "y", "z"]], None)
    assert 0.0 <= low < high <= 11.0


@pytest.mark.parametrize(("seeds", "covered"), [(3, 0.742), (5, 0.839), (10, 0.893)])
def test_with_the_variance_between_seeds_it_covers_as_little_as_its_docstring_says(seeds, covered):
    rng = np.random.default_rng(seeds)
    hits = ours = 0
    for draw in range(600):
        values = rng.normal(size=(seeds, 1)) + 0.01 * rng.normal(size=(seeds, 20))
        low, high = bootstrap_interval(values, None, None, None, resamples=400, rng_seed=draw)
        hits += low <= 0 <= high
        interval = mean_interval(values, None)
        ours += interval.low <= 0 <= interval.high
    assert hits / 600 == pytest.approx(covered, abs=0.05)
    assert ours / 600 >= 0.93


@pytest.mark.parametrize(("confidence", "resamples"), [(95, 2000), (0.95, 10)])
def test_numbers_without_meaning_are_refused(confidence, resamples):
    with pytest.raises(ComparisonError, match=f"confidence {confidence} with {resamples} resamples"):
        bootstrap_interval(np.ones((2, 3)), None, None, None, confidence=confidence, resamples=resamples)
