"""Which arms take an amplification apart, by what a test wrote."""

from types import SimpleNamespace

import pytest

from fairtest.gates.parts import OF_CANDIDATE, parts_of
from fairtest.gates.result import GateSetupError


def arm(name):
    return SimpleNamespace(
        name=name,
        clip_only=lambda: f"{name} clipped",
        noise_only=lambda: f"{name} noisy",
        matched=lambda: f"{name} twin",
    )


ARMS = SimpleNamespace(dp=arm("dp"), baseline="baseline", shuffled="shuffled", baseline_matched="matched")


def test_all_arms_are_dp_against_baseline_with_sampling():
    candidate, reference, parts = parts_of(ARMS, None, {})
    assert (candidate, reference) == (ARMS.dp, "baseline")
    assert parts == {
        "shuffled": "shuffled", "clip_only": "dp clipped", "noise_only": "dp noisy", "matched": "dp twin"
    }  # fmt: skip


def test_one_arm_brings_its_own_parts_and_none_leaves_one_out():
    private = arm("dp_eps8")
    candidate, reference, parts = parts_of(private, "baseline", {"noise_only": None, "matched": "mine"})
    assert (candidate, reference) == (private, "baseline")
    assert parts == {"clip_only": "dp_eps8 clipped", "noise_only": None, "matched": "mine"}
    assert set(OF_CANDIDATE) == set(parts)


def test_a_part_that_there_is_not_is_named():
    with pytest.raises(GateSetupError, match="an amplification has no part sampling"):
        parts_of(ARMS, None, {"sampling": "x"})


def test_an_amplification_is_against_something():
    with pytest.raises(GateSetupError, match="no reference was given"):
        parts_of(arm("dp"), None, {})
