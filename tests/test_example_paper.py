"""The paper's study runs end to end on the embedded model, and its page answers from gates and intervals."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys

import pytest
from repository import CI_VARIABLES, REPOSITORY, smaller_copy

from fairtest.settings import Settings, session_settings

EXAMPLE = REPOSITORY / "examples" / "paper"
SIZES = ("tiny", "smollm2", "full")
# Few and short runs: what is shown is that the study asks, records and tells.
SMALLER = (
    ("seeds = 8", "seeds = 3"),
    ("steps = 40", "steps = 12"),
    ("workers = 2", "workers = 1"),
    ("epsilons = [3.0, 10.0, 20.0]", "epsilons = [3.0]"),
    ("matched = [3.0, 10.0, 20.0]", "matched = [3.0]"),
    ('diagnosed = ["baseline", "dp_eps3", "dp_cda_eps3"]', 'diagnosed = ["dp_eps3"]'),
    ("diagnosed_seeds = [0, 1, 2, 3, 4, 5, 6, 7]", "diagnosed_seeds = [0]"),
    ("lengths = [20, 80]", "lengths = [6]"),
    ('"templates.preference[gender]" = 5.0\n', ""),
)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    where = smaller_copy(EXAMPLE, tmp_path_factory.mktemp("example") / "paper", "tiny", SMALLER)
    records = where / "tiny" / "conftest.py"
    records.write_text(records.read_text().replace("0.65, 2000", "0.65, 700"))
    environment = {name: value for name, value in os.environ.items() if name not in CI_VARIABLES}
    run = subprocess.run(
        [sys.executable, "-m", "pytest", str(where / "tiny")],
        cwd=where.parent,
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    return where, run.stdout


def rendered(where, *options):
    return subprocess.run(
        [sys.executable, str(where / "render.py"), "tiny", "--out", str(where / "paper-tiny.md"), *options],
        capture_output=True,
        text=True,
        check=False,
    )


def test_every_claim_is_asked_and_a_finding_is_no_failure(study):
    where, output = study
    report = json.loads((where / "tiny/.fairtest/report/report.json").read_text())
    asked = {(gate["gate"], gate["candidate"], gate["reference"]) for gate in report["gates"]}
    assert {
        ("no_amplification", "dp_eps3", "baseline"),
        ("no_amplification", "dp_eps3", "baseline_matched_dp_eps3"),
        ("no_amplification", "dp_eps3", "pretrained"),
        ("no_amplification", "dp_cda_eps3", "baseline"),
        ("mitigated", "dp_cda_eps3", "dp_eps3"),
        ("utility", "dp_eps3", "baseline"),
        ("privacy", "dp_eps3", ""),
        ("privacy", "copies_eps3", ""),
    } <= asked
    assert " failed" not in output
    assert report["failed_otherwise"] == []


def test_naive_copies_cost_more_than_they_claim(study):
    where, _ = study
    report = json.loads((where / "tiny/.fairtest/report/report.json").read_text())
    gate = next(one for one in report["gates"] if one["candidate"] == "copies_eps3")
    assert gate["verdict"] == "FAIL"
    statement = report["arms"]["copies_eps3"]["statement"]
    assert statement["epsilon_claimed"] <= 3.0 < 1.5 * statement["epsilon_claimed"] < statement["epsilon"]


def test_causes_and_groups_are_in_the_report(study):
    where, _ = study
    report = json.loads((where / "tiny/.fairtest/report/report.json").read_text())
    explained = {one["metric"]: one for one in report["explanations"] if one["candidate"] == "dp_eps3"}
    assert set(explained) == {"templates.log_ratio[gender]", "completions.pronoun_gap[gender]"}
    for one in explained.values():
        parts = {part["name"]: part["value"] for part in one["parts"]}
        assert parts["clipping"] + parts["noise"] == pytest.approx(one["total"]["value"])
        assert parts["under-training"] + parts["DP's own"] == pytest.approx(one["total"]["value"])
    assert report["arms"]["dp_eps3"]["diagnostics"]
    assert "not for release" in report["arms"]["dp_eps3"]["diagnostics_note"]
    assert report["arms"]["dp_eps3"]["diagnostics_findings"][0].startswith("Loss, dp_eps3 against baseline: ")
    page = (where / "tiny/.fairtest/report/report.md").read_text()
    assert "What the amplification is made of" in page


def test_the_same_is_asked_of_another_number_of_steps(study):
    where, _ = study
    report = json.loads((where / "tiny/.fairtest/report/report.json").read_text())
    (other,) = [one for one in report["explanations"] if one["candidate"] == "dp_eps3_steps6"]
    assert other["reference"] == "baseline_steps6"
    assert {part["name"] for part in other["parts"]} == {"under-training", "DP's own"}
    arms = report["arms"]
    assert {run["steps"] for run in arms["dp_eps3_steps6"]["training"] + arms["baseline_steps6"]["training"]} == {6}
    assert max(run["steps"] for run in arms["baseline_matched_dp_eps3_steps6"]["training"]) <= 6
    # The budget is the same: the noise is chosen for the number of steps.
    fewer, usual = (arms[name]["statement"] for name in ("dp_eps3_steps6", "dp_eps3"))
    assert fewer["epsilon"] == pytest.approx(usual["epsilon"], rel=0.05)
    assert fewer["noise_multiplier"] < usual["noise_multiplier"]


def test_the_page_answers_the_questions_and_the_same_numbers_come_out_twice(study):
    where, _ = study
    first = rendered(where)
    assert first.returncode == 0, first.stderr
    page = (where / "paper-tiny.md").read_text()
    for heading in (
        "Does privacy amplify bias here?",
        "Why?",
        "Is it so when one trains less, or longer?",
        "Does CDA undo it?",
        "What do naive copies cost?",
    ):
        assert f"### {heading}" in page
    for steps in (6, 12):
        assert re.search(rf"\| templates\.log\\_ratio\\\[gender\\\] \| \d\.\d\d \| {steps} \|", page), page
    for row in ("before fine-tuning", "no DP", "epsilon 3", "epsilon 3, CDA", "this data would have shown"):
        assert f"| {row} |" in page
    assert re.search(r"epsilon is \*\*\d", page)
    shutil.copy(where / "paper-tiny.json", where / "before.json")
    again = rendered(where, "--against", str(where / "before.json"))
    assert again.returncode == 0
    assert "largest difference 0; other verdicts: 0; in one run only: 0" in again.stdout
    before = json.loads((where / "before.json").read_text())
    before["measurements"][0]["value"] += 1.0
    (where / "before.json").write_text(json.dumps(before))
    assert rendered(where, "--against", str(where / "before.json")).returncode == 1


@pytest.mark.parametrize("size", SIZES)
def test_the_settings_of_every_size_are_ones_that_fairtest_knows(size):
    settings = session_settings(
        root=EXAMPLE / size, invocation=EXAMPLE, marker={}, marker_origin="marker", command_line={}
    )
    assert isinstance(settings, Settings)
    assert settings.undecided == "pass"


@pytest.mark.parametrize("size", SIZES)
def test_every_size_asks_the_same_questions(size):
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-q", str(EXAMPLE / size)],
        capture_output=True,
        text=True,
        check=False,
        cwd=EXAMPLE,
    )
    assert run.returncode == 0, run.stdout
    tests = set(re.findall(r"::(test_\w+)", run.stdout))
    names = set(re.findall(r"^def (test_\w+)", (EXAMPLE / "study.py").read_text(), re.MULTILINE))
    assert tests == names
