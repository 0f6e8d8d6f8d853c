"""Two crossed factors of clusters, against brute force and against one factor."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairtest.statistics.intervals import (
    amplification_interval,
    mean_interval,
    perplexity_ratio_interval,
    weighted_mean_interval,
)
from fairtest.statistics.planning import items_factor_to_decide, seeds_to_decide

NUMBERS = ("estimate", "low", "high", "cluster_se", "df")


@st.composite
def crossed_arms(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    seeds, first, second = draw(st.integers(1, 4)), draw(st.integers(2, 6)), draw(st.integers(2, 6))
    grid = np.array(np.meshgrid(np.arange(first), np.arange(second), indexing="ij")).reshape(2, -1)
    more = rng.integers(0, grid.shape[1], draw(st.integers(0, 10)))
    clusters = np.concatenate([grid, grid[:, more]], axis=1)
    shape = (seeds, clusters.shape[1])
    return 50 + 10 * rng.normal(size=shape), 50 + 10 * rng.normal(size=shape), clusters, rng


def close(interval, expected):
    found = [getattr(interval, name) for name in NUMBERS]
    assert found == pytest.approx([getattr(expected, name) for name in NUMBERS], rel=1e-9, abs=1e-9)


def jackknife(rows, weights, labels):
    """(variance of the mean over seeds, seed interaction) by leaving out each cluster in turn."""
    seeds, names = len(rows), sorted(set(labels))
    left_out = np.array([[np.average(row[labels != g], weights=weights[labels != g]) for g in names] for row in rows])
    moves = left_out - np.average(rows, axis=1, weights=weights)[:, None]
    scale = (len(names) - 1) / len(names)
    interaction = scale * np.sum((moves - moves.mean(axis=0)) ** 2) / (seeds * (seeds - 1))
    return scale * np.sum(moves.mean(axis=0) ** 2), interaction


@settings(deadline=None, max_examples=50)
@given(crossed_arms(), st.sampled_from([None, 50.0]))
def test_the_order_of_items_and_of_seeds_changes_nothing(arms, target):
    ours, theirs, clusters, rng = arms
    items, seeds = rng.permutation(clusters.shape[1]), rng.permutation(len(ours))
    shuffled = amplification_interval(ours[seeds][:, items], theirs[seeds][:, items], clusters[:, items], target)
    close(shuffled, amplification_interval(ours, theirs, clusters, target))


@settings(deadline=None, max_examples=50)
@given(crossed_arms(), st.sampled_from([None, 50.0]))
def test_swapping_the_factors_changes_nothing(arms, target):
    ours, theirs, clusters, _ = arms
    there, swapped = (amplification_interval(ours, theirs, rows, target) for rows in (clusters, clusters[::-1]))
    close(swapped, there)
    assert swapped.factors == there.factors[::-1]
    assert swapped.clusters == there.clusters == min(there.factors)


@settings(deadline=None, max_examples=50)
@given(crossed_arms())
def test_names_of_clusters_do_not_matter(arms):
    ours, _, clusters, _ = arms
    named = [[f"term {9 - label}" for label in clusters[0]], [f"frame {label}" for label in clusters[1]]]
    close(mean_interval(ours, named), mean_interval(ours, clusters))


@settings(deadline=None, max_examples=50)
@given(crossed_arms())
def test_the_clusters_variance_is_never_below_that_of_either_factor(arms):
    ours, _, clusters, _ = arms
    both = mean_interval(ours, clusters).deciding
    alone = [mean_interval(ours, row).deciding for row in clusters]
    assert both.cluster_se >= max(one.cluster_se for one in alone) * (1 - 1e-12)
    assert both.variance >= max(one.cluster_se for one in alone) ** 2 * (1 - 1e-12)
    assert min(one.cluster_df for one in alone) <= both.cluster_df * (1 + 1e-12)
    assert both.cluster_df <= sum(one.cluster_df for one in alone) * (1 + 1e-12)


@settings(deadline=None, max_examples=50)
@given(crossed_arms())
def test_one_factor_is_one_factor_however_it_is_written(arms):
    ours, theirs, clusters, _ = arms
    plain = amplification_interval(ours, theirs, clusters[0], 50.0)
    assert amplification_interval(ours, theirs, clusters[:1], 50.0) == plain
    assert plain.factors == (plain.clusters,)


@settings(deadline=None, max_examples=50)
@given(crossed_arms())
def test_a_factor_within_the_other_or_equal_to_it_adds_no_variance(arms):
    ours, _, clusters, _ = arms
    alone = mean_interval(ours, clusters[0])
    cells = 10 * clusters[0] + clusters[1]
    by_cell = mean_interval(ours, cells)
    wider = max(alone.cluster_se, by_cell.cluster_se)
    assert mean_interval(ours, [clusters[0], clusters[0]]).cluster_se == pytest.approx(alone.cluster_se)
    assert mean_interval(ours, [clusters[0], cells]).cluster_se == pytest.approx(wider)


@pytest.mark.parametrize("draw", range(20))
def test_unequal_cells_and_weights_give_the_jackknives_by_brute_force(draw):
    rng = np.random.default_rng(draw)
    clusters = np.array([rng.integers(0, 7, 60), rng.integers(0, 4, 60)])
    rows = (
        rng.normal(size=(3, 60))
        + rng.normal(size=7)[clusters[0]]
        + rng.normal(size=4)[clusters[1]]
        + rng.normal(size=(3, 4))[:, clusters[1]]
    )
    weights = rng.uniform(0.5, 3.0, 60)
    first, second, cell = (jackknife(rows, weights, labels) for labels in (*clusters, 10 * clusters[0] + clusters[1]))
    interval = weighted_mean_interval(rows, weights, clusters)
    variance = max(first[0] + second[0] - cell[0], first[0], second[0])
    assert interval.cluster_se == pytest.approx(math.sqrt(variance))
    assert interval.deciding.interaction_se == pytest.approx(math.sqrt(max(first[1] + second[1] - cell[1], 0.0)))
    sizes = [np.bincount(labels, weights=weights) / weights.sum() for labels in clusters]
    dfs = [1 / np.sum(size**2) - 1 for size in sizes]
    total = (first[0] + second[0]) ** 2
    satterthwaite = total / (first[0] ** 2 / dfs[0] + second[0] ** 2 / dfs[1])
    assert interval.deciding.cluster_df == pytest.approx(satterthwaite)


def test_expected_parts_are_those_of_the_random_effects():
    rng = np.random.default_rng(5)
    labels = np.array(np.meshgrid(np.arange(20), np.arange(10), indexing="ij")).reshape(2, -1)
    clusters, interactions = [], []
    for _ in range(1500):
        rows = (
            0.6 * rng.normal(size=(1, 20, 1))
            + 0.5 * rng.normal(size=(1, 1, 10))
            + 0.5 * rng.normal(size=(3, 20, 1))
            + 0.8 * rng.normal(size=(3, 1, 10))
            + rng.normal(size=(3, 20, 10))
        )
        contrast = mean_interval(rows.reshape(3, -1), labels).deciding
        clusters.append(contrast.cluster_se**2)
        interactions.append(contrast.interaction_se**2)
    shared = 0.25 / 60 + 0.64 / 30 + 1.0 / 600
    assert np.mean(interactions) == pytest.approx(shared, rel=0.08)
    assert np.mean(clusters) == pytest.approx(0.36 / 20 + 0.25 / 10 + shared, rel=0.08)


def test_counts_are_those_of_each_factor():
    values = np.random.default_rng(0).normal(size=(3, 12))
    labels = [list("aaabbbcccddd"), list("xyz" * 4)]
    interval = mean_interval(values, labels)
    assert (interval.items, interval.factors, interval.clusters) == (12, (4, 3), 3)
    ratio = perplexity_ratio_interval(values, values[:1] - 1, np.ones(12), labels)
    assert (ratio.factors, ratio.clusters) == ((4, 3), 3)
    assert mean_interval(values, None).factors == (12,)


def test_one_cluster_of_either_factor_gives_an_infinite_interval():
    values = np.random.default_rng(0).normal(size=(3, 6))
    for labels in (["aabbcc", "xxxxxx"], ["xxxxxx", "aabbcc"]):
        interval = mean_interval(values, [list(row) for row in labels])
        assert (interval.low, interval.high, interval.clusters) == (-math.inf, math.inf, 1)


def test_what_would_decide_is_planned_for_both_factors_together():
    rng = np.random.default_rng(2)
    labels = np.array(np.meshgrid(np.arange(20), np.arange(8), indexing="ij")).reshape(2, -1)
    values = rng.normal(size=8)[labels[1]] + 0.3 * rng.normal(size=(3, 1)) + 0.5 * rng.normal(size=(3, 160))
    interval = mean_interval(values, labels)
    half = (interval.high - interval.low) / 2
    assert seeds_to_decide(interval, half * 1.001) == 3
    assert items_factor_to_decide(interval, half * 1.001) == 1.0
    factor = items_factor_to_decide(interval, 0.95 * half)
    assert factor is not None
    assert 1.0 < factor < 20.0
