"""A gate against an arm that was stopped at a held-out loss asks whether that loss is the candidate's."""

from types import SimpleNamespace

import pytest
from arms_of_numbers import NumbersArm

from fairtest.gates.matching import match_guards, matching_of

START = NumbersArm("pretrained", [[1.8] * 6], tuned=False, nll=3.0)


def arm(name, nll, *, matched_to=None):
    made = NumbersArm(name, [[1.0] * 6], nll=nll, start=START)
    made.spec = SimpleNamespace(matched_to=matched_to)
    return made


@pytest.mark.parametrize(("nll", "met"), [(2.0, True), (2.04, True), (1.96, True), (2.2, False), (1.8, False)])
def test_losses_have_to_be_equal_to_a_twentieth_of_what_was_gained(nll, met):
    (guard,) = match_guards(arm("dp", 2.0), arm("twin", nll, matched_to="dp"))
    assert guard.met == met
    assert guard.name == "twin has the held-out loss of dp"


def test_a_candidate_that_gained_nothing_is_matched_by_nobody():
    (guard,) = match_guards(arm("dp", 3.0), arm("twin", 3.0, matched_to="dp"))
    assert not guard.met


def test_a_plain_reference_has_no_such_guard():
    assert match_guards(arm("dp", 2.0), arm("baseline", 1.5)) == []
    assert match_guards(arm("dp", 2.0), NumbersArm("other", [[1.0] * 6], nll=1.5)) == []


def test_a_twin_of_another_arm_is_not_said_to_match():
    """Its records are of the arm that it was matched to, and say that the match is exact."""
    twin = arm("twin", 2.4, matched_to="dp_eps3")
    record = {"matched_step": 3, "matched_loss": 2.4, "target_loss": 2.4, "reached": True, "baseline_steps": 30}
    twin.train = lambda: [record]
    assert matching_of(twin, arm("dp_eps3", 2.4)).coarse == 0
    assert matching_of(twin, arm("dp_eps8", 2.0)).coarse == pytest.approx(0.4)
