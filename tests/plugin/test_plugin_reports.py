"""What a session leaves for others: properties in JUnit XML, a page, metrics, the summary and annotations of a job."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET

import pytest

GATES = """
import pytest

from fairtest.gates.result import Estimate, GateFailure, GateResult, Verdict


def settle(fairness, number, verdict, p):
    result = GateResult(gate="no_amplification", metric=f"m{number}", unit="points", protocol="p v1", candidate="dp",
                        reference="baseline", verdict=verdict, reason="because", allowed=1.0, confidence=0.95,
                        change=Estimate(2.0, 1.5, 2.5), target=50.0, seeds=3, items=10, clusters=6,
                        p_pass=p if verdict is Verdict.PASS else 1 - p, p_fail=p if verdict is Verdict.FAIL else 1 - p)
    fairness._record(result)
    if verdict is Verdict.FAIL:
        raise GateFailure(result)


def test_holds(fairness):
    settle(fairness, 0, Verdict.PASS, 0.02)


def test_does_not(fairness):
    settle(fairness, 1, Verdict.FAIL, 0.001)


@pytest.mark.xfail(raises=GateFailure, strict=True)
def test_is_known_not_to(fairness):
    settle(fairness, 2, Verdict.FAIL, 0.001)
"""


@pytest.fixture
def session(pytester):
    pytester.makepyfile(test_gates=GATES)

    def run(*options, family="show"):
        pytester.makepyprojecttoml(f'[tool.fairtest]\nfamily = "{family}"\n')
        return pytester.runpytest_subprocess("-p", "no:cacheprovider", "--fairtest-report=out", *options)

    return run


def gates_of(pytester):
    return {gate["metric"]: gate for gate in json.loads((pytester.path / "out/report.json").read_text())["gates"]}


@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["one process", "two workers"])
def test_the_family_outcome_and_place_of_every_gate_are_in_the_report(session, pytester, workers):
    result = session(*workers)
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


def test_junit_has_a_property_for_everything_a_gate_found(session, pytester):
    session("--junit-xml=junit.xml")
    found = {}
    for case in ET.parse(pytester.path / "junit.xml").iter("testcase"):
        found[case.get("name")] = {one.get("name"): one.get("value") for one in case.iter("property")}
    assert found["test_holds"]["fairtest.1.verdict"] == "PASS"
    assert found["test_does_not"]["fairtest.1.verdict"] == "FAIL"
    assert found["test_does_not"]["fairtest.1.high"] == "2.5"


def test_a_page_and_metrics_are_written_where_a_report_is_asked_for(session, pytester):
    result = session()
    result.stdout.fnmatch_lines(["report: out/report.json, out/report.md, out/report.html"])
    page = (pytester.path / "out/report.html").read_text()
    assert page.startswith("<!DOCTYPE html>")
    assert not re.search(r"<script|https?://(?!www.w3.org)[^\"<]*\.(js|css)", page)
    assert (pytester.path / "out/metrics.txt").read_text().endswith("# EOF\n")
    pytester.runpytest_subprocess("-p", "no:cacheprovider", "--deselect", "test_gates.py::test_holds")
    assert not (pytester.path / ".fairtest/report/report.html").exists()


def test_a_job_of_github_gets_a_summary_and_annotations_of_failures_alone(session, pytester, monkeypatch):
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(pytester.path / "summary.md"))
    result = session()
    annotations = [line for line in result.stdout.lines if line.startswith("::error")]
    assert len(annotations) == 1
    assert "file=test_gates.py" in annotations[0]
    assert "dp against baseline" in (pytester.path / "summary.md").read_text()


@pytest.mark.parametrize(("family", "status"), [("show", 0), ("enforce", 1)])
def test_a_pass_that_does_not_hold_in_the_family_fails_a_session_that_enforces_it(pytester, session, family, status):
    pytester.makepyfile(
        test_gates=GATES.replace("Verdict.FAIL, 0.001", "Verdict.PASS, 0.02").replace(
            "xfail(raises=GateFailure, strict=True)", "filterwarnings"
        )
    )
    assert session(family=family).ret == status
    assert {gate["family"]["verdict"] for gate in gates_of(pytester).values()} == {"UNDECIDED"}
