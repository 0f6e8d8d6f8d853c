"""Looks of adaptive seeds: the plan, and what it does to confidence and p-values."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairtest.errors import ComparisonError
from fairtest.statistics.intervals import mean_interval
from fairtest.statistics.planning import one_sided_p
from fairtest.statistics.sequential import Look, looks, overall_p


def test_three_to_eight_seeds_are_three_looks():
    assert [look.seeds for look in looks(3, 8)] == [3, 5, 8]
    assert [look.share for look in looks(3, 8)] == [3 / 8, 2 / 8, 3 / 8]


def test_as_many_seeds_first_as_at_most_is_one_look_with_all_of_the_error():
    (only,) = looks(4, 4)
    assert only == Look(4, 1.0)
    assert only.confidence(0.95) == pytest.approx(0.95)
    assert overall_p(0.01, only) == 0.01


@given(st.integers(2, 50), st.integers(0, 100))
def test_looks_grow_to_the_most_and_their_shares_sum_to_one(first, more):
    plan = looks(first, first + more)
    counts = [look.seeds for look in plan]
    assert counts[0] == first
    assert counts[-1] == first + more
    assert counts == sorted(set(counts))
    assert sum(look.share for look in plan) == pytest.approx(1.0)
    assert [(look.number, look.of) for look in plan] == [(i + 1, len(plan)) for i in range(len(plan))]
    assert all(after.seeds <= 1.6 * look.seeds + 0.5 for look, after in pairwise(plan))


@given(st.integers(2, 9), st.integers(0, 20), st.floats(0.5, 0.999))
def test_the_errors_of_all_looks_sum_to_the_one_asked_for(first, more, confidence):
    errors = [1 - look.confidence(confidence) for look in looks(first, first + more)]
    assert sum(errors) == pytest.approx(1 - confidence)


@given(st.integers(0, 2**32 - 1))
def test_a_p_value_counts_the_looks_as_the_interval_does(seed):
    values = np.random.default_rng(seed).normal(0.4, 1.0, (3, 12))
    for look in looks(3, 8):
        low = mean_interval(values, None, confidence=look.confidence(0.95)).low
        p = overall_p(one_sided_p(mean_interval(values, None), 0.0), look)
        assert (p < 0.025) == (low > 0.0)


def test_a_p_value_is_never_above_one():
    assert overall_p(0.9, looks(3, 8)[0]) == 1.0


def test_a_look_says_which_it_is():
    assert looks(3, 8)[1].text() == "look 2 of 3 (5 seeds, 25% of the allowed error)"


@pytest.mark.parametrize(("first", "most"), [(1, 8), (5, 3), (0, 0)])
def test_one_seed_or_a_maximum_below_the_start_is_no_plan(first, most):
    with pytest.raises(ComparisonError, match=f"seeds from {first} to {most} make no plan"):
        looks(first, most)
