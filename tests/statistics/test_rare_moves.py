"""Preferences of which few move: an interval alone passes too often at the boundary, the test does not."""

from __future__ import annotations

import numpy as np
import pytest

from fairtest.statistics.intervals import amplification_interval
from fairtest.statistics.rare_moves import p_of_rare_moves

REPETITIONS = 400


def passes_at_the_boundary(items, share, *, seeds=1):
    """(rate of intervals within the true change, the same with the test) where `share` of items move up, none down."""
    random = np.random.default_rng([items, seeds])
    alone = tested = 0
    for _ in range(REPETITIONS):
        reference = np.where(random.random((1, items)) < 0.7, 100.0, 0.0)
        up = (reference == 0.0) & (random.random((1, items)) < share / 0.3)
        candidate = np.repeat(np.where(up, 100.0, reference), seeds, axis=0)
        interval = amplification_interval(candidate, reference, None, 50.0)
        allowed = 100.0 * share
        if interval.width_of_change(0.95) > 1e-4 and interval.high <= allowed:
            alone += 1
            tested += p_of_rare_moves(candidate - reference, interval.estimate, allowed, interval.df) <= 0.025
    return alone / REPETITIONS, tested / REPETITIONS


@pytest.mark.parametrize(("items", "share", "seeds"), [(100, 0.05, 1), (255, 0.02, 3), (255, 0.05, 1), (600, 0.01, 1)])
def test_a_change_of_what_is_allowed_is_passed_in_few_cases_however_few_preferences_move(items, share, seeds):
    alone, tested = passes_at_the_boundary(items, share, seeds=seeds)
    assert alone > 0.04  # what is put right
    assert tested <= 0.025 + 2 * np.sqrt(0.025 / REPETITIONS)


def test_many_moves_both_ways_are_left_to_the_interval():
    random = np.random.default_rng(1)
    moves = random.choice([-100.0, 0.0, 100.0], p=[0.07, 0.86, 0.07], size=(3, 2000))
    estimate = float(moves.mean())
    assert p_of_rare_moves(moves, estimate, 3.0, 1000.0) < 1e-6


@pytest.mark.parametrize("allowed", [0.0, 200.0])
def test_nothing_is_said_of_no_change_and_of_one_that_no_moves_make(allowed):
    assert p_of_rare_moves(np.array([[0.0, 100.0, 0.0]]), 33.3, allowed, 2.0) == 0.0
    assert p_of_rare_moves(np.zeros((1, 3)), 0.0, 5.0, 2.0) == 0.0
