import dataclasses
import math

import pytest

from fairtest.privacy.accounting import PrivacyPlan
from fairtest.privacy.checks import judge_privacy
from fairtest.privacy.statement import CLIPPED_SEPARATELY, NOISE_RELEASE, NOISE_SEEDED, statement_of

PLAN = PrivacyPlan(
    units=4000,
    batch_size=64,
    sample_rate=0.016,
    steps=188,
    noise_multiplier=0.696,
    delta=1.25e-4,
    epsilon=2.99,
    epsilon_prv=3.0,
    target_epsilon=3.0,
    accountant="PLD, dp-accounting 0.6.0",
)
GOOD = statement_of(PLAN, max_grad_norm=1.0, unit="record", max_views_per_unit=2)


SEPARATE = (
    "a unit has up to 2 views and they were clipped one by one, so it moves a step by up to 2 clipping norms"
    " and not by one"
)


REPEATABLE = (
    "the noise can be drawn again by whoever knows the run's seed, so these weights are not for release: train with"
    " DP(release=True)"
)


def but(**changes):
    return dataclasses.replace(GOOD, **changes)


def test_a_claim_within_its_budget_has_no_problems():
    assert judge_privacy(GOOD, max_epsilon=3.0, max_delta=1e-3, unit="record", recompute=True) == []


@pytest.mark.parametrize(
    ("statement", "limits", "problem"),
    [
        (
            None,
            {"max_epsilon": 3.0},
            "there is no privacy statement: the arm was trained without differential privacy",
        ),
        (GOOD, {"max_epsilon": 2.0}, "epsilon 2.99 is above the allowed 2"),
        (GOOD, {"max_epsilon": math.nan}, "epsilon 2.99 is above the allowed nan"),
        (but(delta=2.5e-4), {"max_epsilon": 3.0}, "delta 0.00025 is not below 1/N = 0.00025"),
        (GOOD, {"max_epsilon": 3.0, "max_delta": 1e-5}, "delta 0.000125 is above the allowed 1e-05"),
        (GOOD, {"max_epsilon": 3.0, "unit": "user"}, "the privacy unit is one record, and one user is required"),
        (
            but(sampler_actual="shuffled"),
            {"max_epsilon": 3.0},
            "batches were drawn by shuffled sampling and accounted as poisson",
        ),
        (
            but(views_handling=CLIPPED_SEPARATELY),
            {"max_epsilon": 3.0},
            SEPARATE,
        ),
        (
            but(epsilon=math.inf, noise_multiplier=0.0),
            {"max_epsilon": math.inf},
            "there is no privacy: no noise was added, so epsilon is infinite",
        ),
        (
            but(units=8000, delta=1e-5),
            {"max_epsilon": 3.0},
            "the sampling rate 0.016 does not belong to batches of 64 out of 8000 units: q N is 128",
        ),
        (
            but(epsilon_of_two=2.0),
            {"max_epsilon": 3.0},
            "epsilon 2.99 of one unit cannot be above that of a person behind two, 2",
        ),
        (GOOD, {"max_epsilon": 3.0, "release": True}, REPEATABLE),
        (but(repeatable=False, noise_generator=NOISE_SEEDED), {"max_epsilon": 3.0, "release": True}, REPEATABLE),
        (
            but(noise_generator=NOISE_RELEASE),
            {"max_epsilon": 3.0, "release": True},
            REPEATABLE,
        ),
    ],
)
def test_each_fault_of_a_claim_is_named(statement, limits, problem):
    assert judge_privacy(statement, **limits) == [problem]


def test_only_noise_that_nobody_can_draw_again_is_for_release():
    secret = but(repeatable=False, noise_generator=NOISE_RELEASE)
    assert judge_privacy(secret, 3.0, release=True) == []
    assert judge_privacy(GOOD, 3.0, release=False) == []


@pytest.mark.parametrize("batch_size", [62, 64])
def test_a_rate_of_one_batch_in_so_many_is_not_batch_over_units(batch_size):
    # 1000 units in batches of 64 are 16 batches; a sampler with q = 1/16 expects 62.5 units, and int(N q) says 62.
    loader = but(units=1000, sample_rate=1 / 16, batch_size=batch_size)
    assert judge_privacy(loader, 3.0) == [
        f"the sampling rate 0.0625 does not belong to batches of {batch_size} out of 1000 units: q N is 62.5"
    ]


def test_a_claim_with_several_faults_is_told_all_of_them():
    wrong = but(delta=0.1, sampler_actual="shuffle", views_handling=CLIPPED_SEPARATELY)
    problems = judge_privacy(wrong, 1.0, unit="user", release=True)
    assert len(problems) == 6
    assert len(set(problems)) == 6


def test_a_claim_that_its_own_numbers_do_not_support_is_found_when_recomputed():
    boast = but(epsilon=1.0)
    assert judge_privacy(boast, 3.0) == []
    (problem,) = judge_privacy(boast, 3.0, recompute=True)
    assert problem.startswith("the stated epsilon 1 does not follow from its sigma, q and steps: 2.9")


def test_one_view_needs_no_clipping_together():
    assert judge_privacy(but(max_views_per_unit=1, views_handling=CLIPPED_SEPARATELY), 3.0) == []


def test_many_repeated_records_are_a_problem_unless_allowed():
    repeated = but(repeated_units=201, epsilon_of_two=6.08)
    assert judge_privacy(but(repeated_units=200), 3.0) == []
    problem = (
        "201 of 4000 records have the text of another record or its counterfactual, so epsilon is per record and not"
        " per person (6.08 for one behind two of them): name the person's column as unit_field"
    )
    assert judge_privacy(repeated, 3.0) == [problem]
    assert judge_privacy(repeated, 3.0, allow_repeated=True) == []
    assert judge_privacy(dataclasses.replace(repeated, unit="user"), 3.0) == []
    # Documents that no column names are records under another name; those of several records are not.
    (document,) = judge_privacy(dataclasses.replace(repeated, unit="document"), 3.0)
    assert "documents have the text of another document" in document
    assert judge_privacy(dataclasses.replace(repeated, unit="document", max_records_per_unit=4), 3.0) == []
