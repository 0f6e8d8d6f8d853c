"""--fairtest-undecided: what an UNDECIDED verdict does to its test."""

from __future__ import annotations

import pytest

UNDECIDED = """
from fairtest.gates.assertions import settle
from fairtest.gates.result import Estimate, GateResult, Verdict


def test_gate(fairness):
    result = GateResult(gate="no_amplification", metric="m", unit="points", protocol="p v1", candidate="dp",
                        reference="baseline", verdict=Verdict.UNDECIDED, reason="wide", allowed=1.0, confidence=0.95,
                        change=Estimate(1.0, 0.0, 2.0), seeds=3, items=10, clusters=6, p_pass=0.5, p_fail=0.5)
    settle(result, fairness.settings, fairness._record)
"""


@pytest.mark.parametrize(
    ("policy", "outcome"),
    [
        ("fail", {"failed": 1}),
        ("warn", {"passed": 1, "warnings": 1}),
        ("pass", {"passed": 1, "warnings": 0}),
        ("skip", {"skipped": 1}),
    ],
)
def test_undecided(session, workers, policy, outcome):
    result = session(UNDECIDED, "--fairtest-undecided", policy, *workers)
    result.assert_outcomes(**outcome)
    result.stdout.fnmatch_lines(["UNDECIDED *dp against baseline*", "1 gate: 1 UNDECIDED*"])


def test_a_choice_that_is_none_is_told_with_the_choices(session, workers):
    result = session("def test_gate(fairness): pass\n", "--fairtest-undecided=maybe", *workers)
    result.assert_outcomes(errors=1)
    assert "setting 'undecided' must be one of auto, fail, warn, pass, skip" in result.stdout.str()
