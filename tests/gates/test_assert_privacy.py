import pytest
from arms_of_numbers import tuned

from fairtest.gates.assertions import assert_privacy
from fairtest.gates.fairness import Fairness
from fairtest.gates.result import GateFailure, Verdict
from fairtest.privacy.accounting import PrivacyPlan
from fairtest.privacy.statement import statement_of
from fairtest.settings import Settings

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


def arm(**changes):
    statement = statement_of(PLAN, **{"max_grad_norm": 1.0, "unit": "record", **changes})
    return tuned("dp", 1.0, statement=statement)


@pytest.fixture(params=["function", "fixture"])
def judged(request):
    """The assertion as a plain function, and bound to a test's settings: they take and refuse the same."""
    return assert_privacy if request.param == "function" else Fairness(Settings()).assert_privacy


def test_a_claim_within_its_budget_passes(judged):
    result = judged(arm(), max_epsilon=3.0, max_delta=1e-3, unit="record")
    assert result.verdict is Verdict.PASS
    assert result.change.value == 2.99
    assert "not for release" in result.finding


def test_repeatable_noise_is_refused_for_release_alone(judged):
    secret = judged(arm(repeatable=False), max_epsilon=3.0, release=True)
    assert secret.verdict is Verdict.PASS
    assert secret.finding == ""
    with pytest.raises(GateFailure) as caught:
        judged(arm(), max_epsilon=3.0, release=True)
    assert caught.value.result.reason == (
        "the noise can be drawn again by whoever knows the run's seed, so these weights are not for release: train with"
        " DP(release=True)"
    )


@pytest.mark.parametrize(
    ("changes", "limits", "reason"),
    [
        ({}, {"max_epsilon": 2.0}, "epsilon 2.99 is above the allowed 2"),
        ({}, {"max_epsilon": 3.0, "max_delta": 1e-5}, "delta 0.000125 is above the allowed 1e-05"),
        ({}, {"max_epsilon": 3.0, "unit": "user"}, "the privacy unit is one record, and one user is required"),
        ({"sampler_actual": "shuffle"}, {"max_epsilon": 3.0}, "batches were drawn by shuffle sampling and accounted"),
        ({"repeated_units": 900}, {"max_epsilon": 3.0}, "900 of 4000 records have the text of another record"),
    ],
)
def test_a_claim_that_does_not_hold_fails_and_says_why(judged, changes, limits, reason):
    with pytest.raises(GateFailure, match=reason) as caught:
        judged(arm(**changes), **limits)
    assert caught.value.result.verdict is Verdict.FAIL


def test_repeated_records_can_be_allowed(judged):
    assert judged(arm(repeated_units=900), max_epsilon=3.0, allow_repeated=True).verdict is Verdict.PASS


def test_an_arm_without_a_statement_fails(judged):
    with pytest.raises(GateFailure, match="there is no privacy statement"):
        judged(tuned("baseline", 1.0), max_epsilon=3.0)
