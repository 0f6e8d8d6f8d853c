import dataclasses
import json
import math

import pytest

from fairtest.errors import PrivacyError
from fairtest.privacy.accounting import PrivacyPlan
from fairtest.privacy.statement import (
    CLIPPED_SEPARATELY,
    NOT_COVERED,
    PrivacyStatement,
    judge_privacy,
    statement_of,
)

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
            "the sampling rate 0.016 does not belong to batches of 64 out of 8000 units",
        ),
    ],
)
def test_each_fault_of_a_claim_is_named(statement, limits, problem):
    assert judge_privacy(statement, **limits) == [problem]


def test_a_claim_that_its_own_numbers_do_not_support_is_found_when_recomputed():
    boast = but(epsilon=1.0)
    assert judge_privacy(boast, 3.0) == []
    (problem,) = judge_privacy(boast, 3.0, recompute=True)
    assert problem.startswith("the stated epsilon 1 does not follow from its sigma, q and steps: 2.9")


def test_one_view_needs_no_clipping_together():
    assert judge_privacy(but(max_views_per_unit=1, views_handling=CLIPPED_SEPARATELY), 3.0) == []


def test_a_statement_survives_json_also_without_a_finite_epsilon():
    for statement in (GOOD, but(epsilon=math.inf, noise_multiplier=0.0)):
        text = json.dumps(statement.as_dict(), allow_nan=False)
        assert PrivacyStatement.from_dict(json.loads(text)) == statement


def test_a_statement_with_missing_or_unknown_fields_is_refused():
    data = GOOD.as_dict()
    del data["units"]
    data["eps"] = 3
    with pytest.raises(PrivacyError) as caught:
        PrivacyStatement.from_dict(data, where="privacy.json")
    assert caught.value.what == "a privacy statement lacks units and has unknown fields eps"
    assert caught.value.where == "privacy.json"


@pytest.mark.parametrize(
    ("field", "value"),
    [("epsilon", "3"), ("units", 40.5), ("units", True), ("repeatable", 1), ("unit", None), ("not_covered", "all")],
)
def test_a_field_of_another_type_is_refused(field, value):
    with pytest.raises(PrivacyError, match=f"field {field} of a privacy statement is"):
        PrivacyStatement.from_dict({**GOOD.as_dict(), field: value})


@pytest.mark.parametrize(
    ("field", "value"),
    [("epsilon", -1.0), ("epsilon", math.nan), ("delta", 0.0), ("delta", 1.0), ("sample_rate", 1.5), ("units", 0)],
)
def test_numbers_no_mechanism_can_have_are_refused(field, value):
    with pytest.raises(PrivacyError, match=f"{field} cannot be"):
        but(**{field: value})


def test_the_prose_carries_what_a_claim_must_carry():
    prose = GOOD.prose()
    for part in (
        "epsilon = 2.99",
        "delta = 0.000125 (0.5 times 1/N, N = 4000)",
        "add or remove one unit",
        "the unit is one record",
        "up to 2 texts (counterfactuals included), clipped together, once",
        "C = 1",
        "sigma = 0.696",
        "188 steps",
        "q = 0.016",
        "sampler poisson (accounted as poisson)",
        "PLD, dp-accounting 0.6.0",
        "the trained weights after the last step",
        *NOT_COVERED,
        "not for release",
    ):
        assert part in prose


def test_only_repeatable_noise_is_not_for_release():
    assert "not for release" in GOOD.caveat()
    secret = but(repeatable=False, noise_generator="operating system")
    assert secret.caveat() == ""
    assert "not for release" not in secret.prose()


def test_units_that_repeat_a_text_limit_the_claim():
    repeated = but(repeated_units=12)
    assert "12 of 4000 units have the text of another unit" in repeated.caveat()
    assert "not for release" in repeated.caveat()
    assert repeated.caveat()[1:] in repeated.prose()
    assert "another unit" not in GOOD.caveat()
    with pytest.raises(PrivacyError, match="repeated_units cannot be -1"):
        but(repeated_units=-1)


def test_arms_of_one_seed_share_their_noise_and_the_caveat_says_so():
    assert "arms of one seed share their noise" in GOOD.caveat()
    assert "share their noise" not in but(repeatable=False).caveat()


def test_the_epsilon_of_two_units_is_stated_where_units_repeat():
    said = "for a person behind two of them epsilon is 6.08 at the same delta"
    assert said in but(repeated_units=12, epsilon_of_two=6.08).prose()
    assert "behind two" not in but(repeated_units=12).prose()
    assert "behind two" not in but(epsilon_of_two=6.08).prose()


def test_the_epsilon_of_two_survives_json_and_an_infinite_one_is_not_known():
    stated = statement_of(PLAN, max_grad_norm=1.0, unit="record", repeated_units=3, epsilon_of_two=6.08)
    assert PrivacyStatement.from_dict(json.loads(json.dumps(stated.as_dict()))) == stated
    assert statement_of(PLAN, max_grad_norm=1.0, unit="record", epsilon_of_two=math.inf).epsilon_of_two is None
    older = GOOD.as_dict()
    del older["epsilon_of_two"]
    assert PrivacyStatement.from_dict(older) == GOOD
    with pytest.raises(PrivacyError, match="field epsilon_of_two of a privacy statement is '6'"):
        PrivacyStatement.from_dict({**older, "epsilon_of_two": "6"})
    for impossible in (-1.0, math.inf, math.nan):
        with pytest.raises(PrivacyError, match="epsilon_of_two cannot be"):
            but(epsilon_of_two=impossible)


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
