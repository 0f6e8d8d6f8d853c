"""How far one side is from the target, and by how much another is closer."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairtest.errors import ComparisonError
from fairtest.statistics.intervals import (
    amplification_interval,
    distance_interval,
    mean_interval,
    reduction_interval,
)
from fairtest.statistics.planning import one_sided_p, seeds_to_decide


def sample(mean, *, seeds=3, items=30, sd=1.0, rng_seed=0):
    rng = np.random.default_rng(rng_seed)
    return mean + 0.3 * sd * rng.normal(size=(seeds, 1)) + sd * rng.normal(size=(seeds, items))


@pytest.mark.parametrize("side", [1, -1])
def test_far_from_the_target_it_is_the_interval_of_the_mean(side):
    values = 50 + side * sample(10.0)
    mean, distance = mean_interval(values, None), distance_interval(values, None, 50.0)
    bounds = sorted([abs(mean.low - 50), abs(mean.high - 50)])
    assert [distance.low, distance.high] == pytest.approx(bounds)
    assert distance.estimate == pytest.approx(abs(mean.estimate - 50))


def test_at_the_target_it_starts_at_zero():
    values = sample(0.0, rng_seed=4)
    mean, distance = mean_interval(values, None), distance_interval(values, None, 0.0)
    assert mean.low < 0 < mean.high
    assert distance.low == 0.0
    assert distance.high == pytest.approx(max(-mean.low, mean.high))


def test_without_a_target_it_is_the_mean_itself():
    values = sample(-3.0)
    assert distance_interval(values, None, None) == mean_interval(values, None)


@given(st.integers(0, 2**32 - 1), st.floats(-4, 4), st.floats(0.05, 4))
def test_p_values_turn_the_interval_round(seed, mean, threshold):
    values = sample(mean, rng_seed=seed)
    interval = distance_interval(values, None, 0.0)
    assert interval.low <= interval.estimate <= interval.high
    assert (one_sided_p(interval, threshold) < 0.025) == (interval.low > threshold)
    assert (one_sided_p(interval, threshold, alternative="less") < 0.025) == (interval.high < threshold)


@given(st.integers(0, 2**32 - 1), st.floats(-4, 4))
def test_mirrored_values_are_as_far_away(seed, mean):
    values = sample(mean, rng_seed=seed)
    there, back = distance_interval(values, None, 0.0), distance_interval(-values, None, 0.0)
    assert [there.low, there.estimate, there.high] == pytest.approx([back.low, back.estimate, back.high])


def test_what_would_decide_is_planned_from_it():
    interval = distance_interval(sample(3.0), None, 0.0)
    half = (interval.high - interval.low) / 2
    assert seeds_to_decide(interval, half * 1.001) == 3


@pytest.mark.parametrize("mean", [0.0, 0.05, 0.1, 0.2, 1.0, -1.0])
def test_errors_on_either_side_stay_within_5_percent(mean):
    too_low = too_high = 0
    repeats = 1500
    for repeat in range(repeats):
        rng = np.random.default_rng([repeat, int(100 * mean) + 500])
        values = mean + 0.2 * rng.normal(size=(3, 1)) + 0.5 * rng.normal(size=30) + 0.3 * rng.normal(size=(3, 30))
        interval = distance_interval(values, None, 0.0)
        too_low += interval.high < abs(mean)
        too_high += interval.low > abs(mean)
    assert too_low / repeats <= 0.042  # 2.5%, and four standard errors of the simulation
    assert too_high / repeats <= (0.042 if abs(mean) == 1.0 else 0.067)  # twice as much at the target


def test_a_reduction_is_the_amplification_of_the_other_side():
    amplified, cured = 50 + sample(6.0), 50 - sample(2.0, rng_seed=1)
    reduced, raised = (
        reduction_interval(amplified, cured, None, 50.0),
        amplification_interval(cured, amplified, None, 50.0),
    )
    assert [reduced.low, reduced.high] == pytest.approx([-raised.high, -raised.low])
    assert reduced.estimate == pytest.approx(4.0, abs=1.0)


@pytest.mark.parametrize("target", [math.nan, math.inf])
def test_a_target_that_is_no_number_is_refused(target):
    with pytest.raises(ComparisonError, match=f"the target is {target}"):
        distance_interval(sample(0.0), None, target)


def test_one_cluster_says_nothing():
    interval = distance_interval(sample(5.0), ["only"] * 30, 0.0)
    assert (interval.low, interval.high) == (0.0, math.inf)
