"""Counterfactuals as units of their own: the statement gives a person's epsilon, and says what would be claimed."""

from __future__ import annotations

import dataclasses
import math

import pytest

from fairtest.errors import PrivacyError, PrivacyWarning
from fairtest.privacy.accounting import PrivacyPlan, group_epsilon, naive_cda_epsilon, plan_privacy
from fairtest.privacy.checks import judge_privacy
from fairtest.privacy.copies import copies_spent
from fairtest.privacy.statement import CLIPPED_SEPARATELY, PrivacyStatement, statement_of
from fairtest.specs import DP

SIGMA = 0.7351  # of the first row of the table in docs/privacy.md


@pytest.fixture(scope="module")
def plan():
    """10,000 records and as many copies, batches of 256, 3 epochs, delta 1/(10 N)."""
    return plan_privacy(DP(epsilon=None, noise_multiplier=SIGMA, delta=1e-5), units=20_000, batch_size=256, steps=234)


@pytest.fixture(scope="module")
def stated(plan):
    return statement_of(
        plan, max_grad_norm=1.0, unit="record", max_views_per_unit=2, max_records_per_unit=1,
        copies=copies_spent(plan, 10_000, 1),
    )  # fmt: skip


def test_an_epsilon_of_three_is_six_for_whoever_is_behind_a_record_and_its_copy(stated):
    assert round(stated.epsilon_claimed, 2) == 3.00
    assert round(stated.epsilon, 2) == 6.08
    assert (stated.units, stated.originals, stated.copies, stated.max_copies_per_unit) == (20_000, 10_000, 10_000, 1)
    assert stated.views_handling == CLIPPED_SEPARATELY
    assert stated.epsilon_prv is None
    assert stated.delta_times_units == pytest.approx(0.1)


def test_the_statement_says_plainly_what_is_claimed_and_what_is_true(stated):
    told = "claimed 3.00 as if copies were other people; for a person whose record has a copy it is 6.08"
    assert stated.caveat().startswith(told)
    assert told[1:] in stated.prose()
    assert "gives epsilon = 6.08" in stated.prose()
    assert "10000 of the 20000 units that are sampled are copies of others, at most 1 of one" in stated.prose()
    assert "N = 10000" in stated.prose()
    assert stated.summary().startswith("epsilon 6.08 (claimed 3.00 as if copies were other people) at delta 1e-05")
    assert PrivacyStatement.from_dict(stated.as_dict()) == stated


def test_the_claimed_budget_fails_and_the_true_one_holds(stated):
    (problem,) = judge_privacy(stated, 3.0)
    assert problem == (
        "epsilon 6.079 is above the allowed 3: 3.00 is claimed as if 10000 copies were other people's, and whoever is"
        " behind a record and its counterfactuals is in the corpus up to 2 times (clip them with their record:"
        " CDA(mode='two_sided'))"
    )
    assert judge_privacy(stated, 6.1, unit="record", recompute=True) == []


def test_a_copy_cannot_be_talked_away(stated):
    for claimed in (None, stated.epsilon, 7.0):
        (problem,) = judge_privacy(dataclasses.replace(stated, epsilon_claimed=claimed), 6.1)
        assert "cannot be what is claimed" in problem
    (problem,) = judge_privacy(dataclasses.replace(stated, max_views_per_unit=3), 6.1)
    assert "some counterfactual is not accounted for" in problem
    (problem,) = judge_privacy(dataclasses.replace(stated, epsilon=3.01), 3.1, recompute=True)
    assert "does not follow from its sigma, q and steps: 6.079 does" in problem
    silent = dataclasses.replace(stated, copies=0, max_copies_per_unit=0, epsilon_claimed=None)
    (problem,) = judge_privacy(silent, 6.1)
    assert "clipped one by one" in problem


@pytest.mark.parametrize(
    "changes",
    [{"copies": 20_000}, {"copies": -1}, {"max_copies_per_unit": 0}, {"max_copies_per_unit": 10_001},
     {"epsilon_claimed": -1.0}, {"epsilon_claimed": math.inf}, {"repeated_units": 10_001}],
)  # fmt: skip
def test_numbers_that_no_copies_have_are_refused(stated, changes):
    with pytest.raises(PrivacyError, match=next(iter(changes))):
        dataclasses.replace(stated, **changes)


def test_the_largest_number_of_copies_counts():
    plan = PrivacyPlan(
        units=300, batch_size=30, sample_rate=0.1, steps=5, noise_multiplier=2.0, delta=1e-3, epsilon=1.0,
        epsilon_prv=None, target_epsilon=None, accountant="PLD",
    )  # fmt: skip
    one, two = (copies_spent(plan, 200, most).epsilon for most in (1, 2))
    assert one == naive_cda_epsilon(2.0, 0.1, 5, 1e-3)
    assert two == group_epsilon(2.0, 0.1, 5, 1e-3, times=3)
    assert one < two


def test_without_noise_copies_have_no_epsilon_either():
    plan = plan_privacy(DP(epsilon=None, noise_multiplier=0.0), units=300, batch_size=30, steps=5)
    found = copies_spent(plan, 100, 1)
    assert found.epsilon == math.inf
    statement = statement_of(plan, max_grad_norm=1.0, unit="record", max_views_per_unit=2, copies=found)
    assert statement.epsilon_claimed is None
    assert judge_privacy(statement, 1e9) == ["there is no privacy: no noise was added, so epsilon is infinite"]


def test_noise_too_small_to_account_for_gives_a_looser_bound_or_none():
    with pytest.warns(PrivacyWarning):
        plan = plan_privacy(DP(epsilon=None, noise_multiplier=0.05), units=300, batch_size=30, steps=5)
    assert copies_spent(plan, 100, 1).epsilon > plan.epsilon > 200
