from __future__ import annotations

import itertools
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairtest.errors import ComparisonError
from fairtest.statistics.intervals import (
    amplification_interval,
    mean_interval,
    perplexity_ratio_interval,
    weighted_mean_interval,
)
from fairtest.statistics.planning import mcnemar_exact

NUMBERS = ("estimate", "low", "high")


@st.composite
def two_arms(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    seeds, groups = draw(st.integers(1, 5)), draw(st.integers(2, 6))
    clusters = np.concatenate([np.arange(groups), rng.integers(0, groups, draw(st.integers(0, 12)))])
    shape = (seeds, len(clusters))
    return 50 + 10 * rng.normal(size=shape), 50 + 10 * rng.normal(size=shape), clusters, rng


def numbers(interval):
    return [getattr(interval, name) for name in NUMBERS]


def close(interval, expected):
    assert numbers(interval) == pytest.approx(expected, rel=1e-9, abs=1e-9)


@settings(deadline=None)
@given(two_arms(), st.sampled_from([None, 50.0, 47.0]))
def test_the_order_of_items_and_of_seeds_changes_nothing(arms, target):
    ours, theirs, clusters, rng = arms
    items, seeds = rng.permutation(len(clusters)), rng.permutation(len(ours))
    shuffled = amplification_interval(ours[seeds][:, items], theirs[seeds][:, items], clusters[items], target)
    close(shuffled, numbers(amplification_interval(ours, theirs, clusters, target)))


@settings(deadline=None)
@given(two_arms(), st.sampled_from([None, 50.0]))
def test_names_of_clusters_do_not_matter(arms, target):
    ours, theirs, clusters, _ = arms
    named = [f"term {9 - label}" for label in clusters]
    close(
        amplification_interval(ours, theirs, named, target),
        numbers(amplification_interval(ours, theirs, clusters, target)),
    )


@settings(deadline=None)
@given(two_arms())
def test_swapping_the_sides_flips_the_sign_of_a_difference(arms):
    ours, theirs, clusters, _ = arms
    there = amplification_interval(ours, theirs, clusters, None)
    close(amplification_interval(theirs, ours, clusters, None), [-there.estimate, -there.high, -there.low])


@settings(deadline=None)
@given(two_arms(), st.floats(-100, 100))
def test_a_constant_on_both_sides_leaves_a_difference_alone(arms, constant):
    ours, theirs, clusters, _ = arms
    there = amplification_interval(ours, theirs, clusters, None)
    close(amplification_interval(ours + constant, theirs + constant, clusters, None), numbers(there))


@settings(deadline=None)
@given(two_arms(), st.floats(0.01, 100))
def test_another_unit_scales_the_interval(arms, factor):
    ours, theirs, clusters, _ = arms
    there = amplification_interval(ours, theirs, clusters, 50.0)
    scaled = amplification_interval(factor * ours, factor * theirs, clusters, factor * 50.0)
    assert numbers(scaled) == pytest.approx([factor * x for x in numbers(there)], rel=1e-8, abs=1e-8)


@settings(deadline=None)
@given(two_arms(), st.sampled_from([None, 50.0, 0.0]))
def test_mirroring_both_arms_at_the_target_changes_no_amplification(arms, target):
    ours, theirs, clusters, _ = arms
    if target is None:
        return
    mirrored = amplification_interval(2 * target - ours, 2 * target - theirs, clusters, target)
    close(mirrored, numbers(amplification_interval(ours, theirs, clusters, target)))


@settings(deadline=None)
@given(two_arms())
def test_a_repeated_reference_is_a_reference_of_one_row(arms):
    ours, theirs, clusters, _ = arms
    once = amplification_interval(ours, theirs[:1], clusters, 50.0)
    repeated = amplification_interval(ours, np.repeat(theirs[:1], len(ours), axis=0), clusters, 50.0)
    close(once, numbers(repeated))


@settings(deadline=None)
@given(two_arms(), st.sampled_from([50.0, 46.5]))
def test_an_amplification_is_the_max_min_of_four_separate_intervals(arms, target):
    ours, theirs, clusters, _ = arms
    interval = amplification_interval(ours, theirs, clusters, target)
    assert interval.estimate == pytest.approx(abs(ours.mean() - target) - abs(theirs.mean() - target), abs=1e-9)
    single = {
        (i, j): numbers(mean_interval(i * (ours - target) - j * (theirs - target), clusters))
        for i, j in itertools.product((1, -1), repeat=2)
    }
    expected = [max(min(single[i, j][k] for j in (1, -1)) for i in (1, -1)) for k in range(3)]
    close(interval, expected)


@settings(deadline=None)
@given(two_arms())
def test_the_variance_is_at_least_that_of_seeds_and_of_clusters_alone(arms):
    ours, theirs, clusters, _ = arms
    interval = amplification_interval(ours, theirs, clusters, None)
    half = (interval.high - interval.low) / 2
    seeds_alone = 0.0 if interval.seed_sd is None else interval.seed_sd / math.sqrt(interval.seeds)
    assert half >= 1.9599 * max(seeds_alone, interval.cluster_se)


def test_equal_clusters_and_one_seed_give_the_textbook_interval_of_cluster_means():
    values = np.array([[1.0, 3.0, 2.0, 8.0, 4.0, 6.0]])
    interval = mean_interval(values, ["a", "a", "b", "b", "c", "c"])
    means = [2.0, 5.0, 5.0]
    error = np.std(means, ddof=1) / math.sqrt(3)
    assert interval.estimate == pytest.approx(4.0)
    assert interval.cluster_se == pytest.approx(error)
    assert interval.high == pytest.approx(4.0 + 4.302653 * error)  # t(2), 2.5% on a side
    assert (interval.seeds, interval.items, interval.clusters, interval.seed_sd) == (1, 6, 3, None)


def test_unequal_clusters_give_the_jackknife_by_brute_force():
    rng = np.random.default_rng(1)
    clusters = np.repeat(np.arange(7), [1, 9, 2, 5, 3, 4, 12])
    values, weights = rng.normal(size=(1, 36)), rng.uniform(1, 5, 36)
    left_out = [np.average(values[0, clusters != g], weights=weights[clusters != g]) for g in range(7)]
    estimate = np.average(values[0], weights=weights)
    error = math.sqrt(6 / 7 * np.sum((np.array(left_out) - estimate) ** 2))
    interval = weighted_mean_interval(values, weights, clusters)
    assert interval.estimate == pytest.approx(estimate)
    assert interval.cluster_se == pytest.approx(error)


def test_crossed_components_match_a_two_way_analysis_of_variance():
    rng = np.random.default_rng(2)
    values = rng.normal(size=(4, 1)) + rng.normal(size=9) + rng.normal(size=(4, 9))
    rows, columns = values.mean(axis=1), values.mean(axis=0)
    residual = values - rows[:, None] - columns + values.mean()
    mean_square = np.sum(residual**2) / (3 * 8)
    contrast = mean_interval(values, range(9)).deciding
    assert contrast.seed_sd == pytest.approx(np.std(rows, ddof=1))
    assert contrast.cluster_se == pytest.approx(np.std(columns, ddof=1) / 3)
    assert contrast.interaction_se == pytest.approx(math.sqrt(mean_square / 36))
    expected = np.var(rows, ddof=1) / 4 + np.var(columns, ddof=1) / 9 - mean_square / 36
    assert contrast.variance == pytest.approx(expected)


def test_one_cluster_says_nothing():
    for interval in (
        mean_interval(np.ones((3, 4)), ["a"] * 4),
        amplification_interval(np.ones((3, 4)), np.zeros((3, 4)), ["a"] * 4, 50.0),
        mean_interval(np.ones((3, 1)), None),
    ):
        assert (interval.low, interval.high) == (-math.inf, math.inf)
    ratio = perplexity_ratio_interval(np.ones((1, 2)), np.ones((1, 2)), np.ones(2), ["a", "a"])
    assert (ratio.estimate, ratio.low, ratio.high) == (1.0, 0.0, math.inf)


@pytest.mark.parametrize("target", [None, 50.0])
def test_equal_sides_have_no_width_and_say_so(target):
    values = 50 + np.random.default_rng(0).normal(size=(3, 40)) * 30
    interval = amplification_interval(values, values.copy(), np.arange(40) % 8, target)
    assert interval.estimate == 0.0
    assert interval.low <= 0.0 <= interval.high
    assert mean_interval(values - values, None).degenerate
    assert not mean_interval(values, None).degenerate
    if target is None:
        assert interval.degenerate


def test_a_perplexity_ratio_weighs_records_by_their_tokens():
    tokens = np.array([10.0, 30.0, 0.0])
    ours, theirs = np.array([[30.0, 60.0, 0.0]]), np.array([[20.0, 60.0, 0.0]])
    interval = perplexity_ratio_interval(ours, theirs, tokens)
    assert interval.estimate == pytest.approx(math.exp(10 / 40))
    assert (interval.items, interval.clusters) == (2, 2)
    assert interval.low < interval.estimate < interval.high


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda v: mean_interval(np.where(v == v[1, 2], np.nan, v), "abcd"), "nan at item 2 of seed 1"),
        (
            lambda v: amplification_interval(v, np.where(v == v[0, 3], np.inf, v), "abcd", 1.0),
            "inf at item 3 of seed 0",
        ),
        (lambda v: mean_interval(v[0], list("abcd")), r"shape \(4,\)"),
        (lambda v: mean_interval(v, list("abc")), "clusters have shape"),
        (lambda v: mean_interval(v, [list("abcd")] * 3), r"clusters have shape \(3, 4\)"),
        (lambda v: mean_interval(v[:, :0], []), "at least one of each"),
        (lambda v: amplification_interval(v, v[:, :3], list("abcd"), 1.0), "4 items and the reference 3"),
        (lambda v: amplification_interval(v, v[:2], list("abcd"), 1.0), "3 seeds and the reference 2"),
        (lambda v: amplification_interval(v, v, list("abcd"), math.nan), "target is nan"),
        (lambda v: weighted_mean_interval(v, np.array([1.0, -1.0, 1.0, 1.0])), "weight -1.0 at item 1"),
        (lambda v: weighted_mean_interval(v, np.zeros(4)), "all weights are zero"),
        (lambda v: mean_interval(v, list("abcd"), confidence=95), "confidence must be between 0 and 1"),
    ],
)
def test_what_cannot_be_compared_is_named(call, message):
    values = np.arange(12.0).reshape(3, 4)
    with pytest.raises(ComparisonError, match=message):
        call(values)


def published_preferences(data_dir, model):
    folder = data_dir / "stereoset"
    path = folder / f"predictions_{model}.json"
    if not path.is_file():
        pytest.skip(f"{path} is absent")
    predictions = json.loads(path.read_text(encoding="utf-8"))["intrasentence"]
    score = {entry["id"]: entry["score"] for entry in predictions}
    items = json.loads((folder / "dev.json").read_text(encoding="utf-8"))["data"]["intrasentence"]
    preferred, terms = [], []
    for item in items:
        by_label = {sentence["gold_label"]: score[sentence["id"]] for sentence in item["sentences"]}
        preferred.append(100.0 * (by_label["stereotype"] > by_label["anti-stereotype"]))
        terms.append(item["target"])
    return np.array([preferred]), terms


def test_pairing_by_item_on_published_stereoset_scores(data_dir):
    small, terms = published_preferences(data_dir, "gpt2")
    medium, _ = published_preferences(data_dir, "gpt2-medium")
    assert np.mean(small != medium) == pytest.approx(0.14, abs=0.005)
    paired = amplification_interval(medium, small, None, None)
    assert paired.cluster_se == pytest.approx(0.83, abs=0.02)
    unpaired = math.hypot(mean_interval(medium, None).cluster_se, mean_interval(small, None).cluster_se)
    assert unpaired == pytest.approx(1.49, abs=0.05)
    clustered = amplification_interval(medium, small, terms, 50.0)
    assert clustered.clusters == 79
    assert 0.7 < clustered.cluster_se < 1.3
    assert 0.2 < mcnemar_exact(medium[0], small[0]) < 0.5  # z near 0.9
