"""What a session leaves for others: properties in JUnit XML, the summary and annotations of a job."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET

import pytest
from plugin_sessions import SETTLED


def gates_of(pytester):
    return {gate["metric"]: gate for gate in json.loads((pytester.path / "out/report.json").read_text())["gates"]}


def test_the_family_outcome_and_place_of_every_gate_are_in_the_report(gates_session, pytester, workers):
    result = gates_session(*workers)
    result.assert_outcomes(passed=1, failed=1, xfailed=1)
    gates = gates_of(pytester)
    assert {name: gate["outcome"] for name, gate in gates.items()} == {"m0": "passed", "m1": "failed", "m2": "xfailed"}
    assert {gate["location"][0] for gate in gates.values()} == {"test_gates.py"}
    assert {name: gate["family"]["verdict"] for name, gate in gates.items()} == {
        "m0": "UNDECIDED",
        "m1": "FAIL",
        "m2": "FAIL",
    }
    assert {gate["family"]["size"] for gate in gates.values()} == {3}
    result.stdout.fnmatch_lines(
        ["PASS[*] *dp against baseline*", "note: [*] 1 verdict that would not hold in the family*"]
    )


def test_junit_has_a_property_for_everything_a_gate_found(gates_session, pytester):
    gates_session("--junit-xml=junit.xml")
    found = {}
    for case in ET.parse(pytester.path / "junit.xml").iter("testcase"):
        found[case.get("name")] = {one.get("name"): one.get("value") for one in case.iter("property")}
    assert found["test_holds"]["fairtest.1.verdict"] == "PASS"
    assert found["test_does_not"]["fairtest.1.verdict"] == "FAIL"
    assert found["test_does_not"]["fairtest.1.high"] == "2.5"


def test_a_job_of_github_gets_a_summary_and_annotations_of_failures_alone(gates_session, pytester, monkeypatch):
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(pytester.path / "summary.md"))
    result = gates_session()
    annotations = [line for line in result.stdout.lines if line.startswith("::error")]
    assert len(annotations) == 1
    assert "file=test_gates.py" in annotations[0]
    assert "dp against baseline" in (pytester.path / "summary.md").read_text()


@pytest.mark.parametrize(("family", "status"), [("show", 0), ("enforce", 1)])
def test_a_pass_that_does_not_hold_in_the_family_fails_a_session_that_enforces_it(
    pytester, gates_session, family, status
):
    pytester.makepyfile(
        test_gates=SETTLED.replace("Verdict.FAIL, 0.001", "Verdict.PASS, 0.02").replace(
            "xfail(raises=GateFailure, strict=True)", "filterwarnings"
        )
    )
    assert gates_session(family=family).ret == status
    assert {gate["family"]["verdict"] for gate in gates_of(pytester).values()} == {"UNDECIDED"}
