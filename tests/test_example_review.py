"""A reviewer judges two directories and a claim without training anything, or this fails."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest
from repository import REPOSITORY

EXAMPLE = REPOSITORY / "examples" / "review"


@pytest.fixture(scope="module")
def reviewed(tmp_path_factory):
    where = tmp_path_factory.mktemp("example") / "review"
    shutil.copytree(EXAMPLE, where, ignore=shutil.ignore_patterns(".fairtest", "__pycache__", "received*"))
    return where, run(where)


def run(where):
    command = [sys.executable, "-m", "pytest", str(where)]
    return subprocess.run(command, cwd=where.parent, capture_output=True, text=True, check=False)


def report_of(where):
    return json.loads((where / ".fairtest/report/report.json").read_text())


def test_the_example_passes_and_shows_each_outcome(reviewed):
    where, first = reviewed
    assert first.returncode == 0, first.stdout + first.stderr
    assert "3 passed, 2 xfailed" in first.stdout
    assert "fairtest: train" not in first.stdout + first.stderr
    found = {(gate["gate"], gate["test"].partition("::")[2]): gate for gate in report_of(where)["gates"]}
    bias = found["no_amplification", "test_privacy_does_not_cost_fairness"]
    assert (bias["verdict"], bias["seeds"], bias["scope"]) == ("PASS", 3, "training")
    assert set(bias["levels"]) == {"private", "public", "fairtest/tiny"}
    assert all(guard["met"] for guard in bias["guards"])
    assert {guard["name"] for guard in bias["guards"]} >= {"private was trained", "different models"}
    assert found["utility", "test_utility"]["verdict"] == "PASS"
    claim = found["privacy", "test_the_claim_holds"]
    assert (claim["verdict"], 2.9 < claim["change"]["value"] <= 3.0) == ("PASS", True)
    assert found["privacy", "test_a_smaller_claim_would_not"]["verdict"] == "FAIL"
    assert "drawn again" in found["privacy", "test_these_weights_may_leave_the_house"]["reason"]


def test_a_second_review_computes_nothing_and_says_the_same(reviewed):
    where, _ = reviewed
    before = report_of(where)["gates"]
    again = run(where)
    assert again.returncode == 0
    assert "fairtest: score" not in again.stdout + again.stderr
    assert [gate["change"] for gate in report_of(where)["gates"]] == [gate["change"] for gate in before]


def test_without_a_start_or_texts_no_gate_passes(reviewed):
    where, _ = reviewed
    test = where / "test_review.py"
    whole = test.read_text()
    try:
        for line in (
            '        start="fairtest/tiny",  # what the authors say they began with\n',
            '        held_out=RECEIVED / "held_out.jsonl",\n',
        ):
            assert line in whole
            test.write_text(whole.replace(line, ""))
            assert run(where).returncode == 1
            assert {gate["verdict"] for gate in report_of(where)["gates"]} == {"UNDECIDED", "FAIL"}
    finally:
        test.write_text(whole)
