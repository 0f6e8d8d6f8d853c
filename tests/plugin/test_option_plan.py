"""`pytest --fairtest-plan` end to end: every gate of every test is planned, in one process and in two."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest

from fairtest.tiny.generator import corpus

SETTINGS = """
corpus = "records.jsonl"
seeds = 2
steps = 12
batch_size = 32
max_length = 48
threads = 1
"""
TESTS = """
import pytest

import fairtest

METRIC = "templates.preference[gender]"


def test_two_gates(arms, fairness):
    fairness.assert_no_amplification(arms.dp_cda, arms.baseline, metric=METRIC, max_increase=2.0)
    fairness.assert_bias_within(arms.dp_cda, metric=METRIC, max_distance=30.0)


def test_values_end_a_test(arms, fairness):
    fairness.assert_no_amplification(arms.cda, arms.baseline, metric=METRIC, max_increase=2.0)
    assert arms.cda.train()[0]["steps"] == 12
    fairness.assert_no_amplification(arms.dp, arms.baseline, metric=METRIC, max_increase=2.0)


@pytest.mark.xfail(raises=fairtest.GateFailure, strict=True, reason="it amplifies")
def test_expected_to_fail(finetune, arms, fairness):
    eight = finetune("short", steps=4)
    fairness.assert_mitigated(eight, arms.cda, arms.baseline, metric=METRIC, min_reduction=1.0)


def test_results_and_measurements_have_no_values(arms, fairness):
    fairness.measure(arms.pretrained, "perplexity")
    result = fairness.assert_utility(arms.cda, arms.baseline, max_perplexity_ratio=1.25)
    assert result.verdict is fairtest.Verdict.PASS


def test_plain_helpers_ask_for_values(arms):
    fairtest.assert_utility(arms.cda, arms.baseline, max_perplexity_ratio=1.25)


def test_of_something_else():
    raise AssertionError("a plan does not run it")
"""


@pytest.fixture
def project(tmp_path):
    (tmp_path / "pyproject.toml").write_text(f"[tool.pytest.ini_options]\naddopts = ''\n[tool.fairtest]\n{SETTINGS}")
    rows = [json.dumps({"text": record.text}) + "\n" for record in corpus("private", 0.65, 200, seed=1)]
    (tmp_path / "records.jsonl").write_text("".join(rows))
    (tmp_path / "test_gates.py").write_text(TESTS)
    return tmp_path


def plan(project, *arguments):
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--fairtest-plan", *arguments]
    return subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("processes", [(), ("-n", "2")], ids=["alone", "xdist"])
def test_every_gate_is_planned_and_nothing_is_trained(project, processes):
    run = plan(project, "--fairtest-no-timing", "-rs", *processes)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "5 skipped" in run.stdout.splitlines()[-1]
    assert "passed" not in run.stdout.splitlines()[-1]
    assert run.stdout.count("asks for values, which a plan does not have") >= 1
    table = run.stdout.split("fairtest plan: nothing was trained")[1]
    names = re.findall(r"^(\S.*?): (\S+), points", table, flags=re.MULTILINE)
    assert sorted(names) == [
        ("cda against baseline", "templates.preference[gender]"),
        ("dp_cda against baseline", "templates.preference[gender]"),
        ("dp_cda is near the target", "templates.preference[gender]"),
        ("short mitigates against cda", "templates.preference[gender]"),
    ]
    assert "cda against baseline: perplexity ratio" in table
    assert "Holm: the same with the verdicts of all 5 gates together" in " ".join(table.split())
    assert "8 distinct runs: 0 in the store, 8 to train" in " ".join(table.split())
    store = project / ".fairtest"
    assert not list(store.glob("entries/run/*"))
    assert not list(store.glob("entries/scores/*"))
    assert not (store / "report").exists()


def test_a_step_is_timed(project):
    (project / "test_gates.py").write_text(
        "def test_log_ratio(arms, fairness):\n"
        "    fairness.assert_no_amplification(\n"
        "        arms.baseline, arms.pretrained, metric='templates.log_ratio[gender]', max_increase=0.5)\n"
    )
    run = plan(project)
    assert run.returncode == 0, run.stdout + run.stderr
    text = " ".join(run.stdout.split())
    assert "one step timed here" in text
    assert "times their standard deviation under the pretrained model" in text
    assert re.search(r"2 distinct runs: 0 in the store, 2 to train; about \d+ s of training", text)
    assert not list((project / ".fairtest").glob("entries/run/*"))


def test_a_gate_that_cannot_be_asked_fails_its_test(project):
    (project / "test_gates.py").write_text(
        "def test_wrong(arms, fairness):\n"
        "    fairness.assert_no_amplification(arms.dp, arms.baseline, metric='templates.nonsense', max_increase=1.0)\n"
    )
    run = plan(project, "--fairtest-no-timing")
    assert run.returncode == 1
    assert "unknown metric 'templates.nonsense'" in run.stdout
    assert "fairtest/gates" not in run.stdout.replace("\\", "/")


def test_a_project_without_gates_has_no_plan(project):
    (project / "test_gates.py").write_text("def test_other():\n    pass\n")
    run = plan(project)
    assert run.returncode == pytest.ExitCode.NO_TESTS_COLLECTED
    assert "1 deselected" in run.stdout
    assert "fairtest plan" not in run.stdout


@pytest.mark.parametrize("option", ["--fairtest-update-baseline", "--fairtest-prune"])
def test_a_plan_changes_no_baselines(project, option):
    run = plan(project, option)
    assert run.returncode == pytest.ExitCode.USAGE_ERROR
    assert f"{option} has nothing to go by" in run.stderr or "unrecognized arguments" in run.stderr


def test_a_session_without_a_plan_has_none(project):
    (project / "test_gates.py").write_text(
        "import sys\n\n"
        "def test_it(arms, fairness):\n"
        "    assert 'fairtest.gates.planning.planner' not in sys.modules\n"
        "    assert type(fairness).__name__ == 'Fairness'\n"
    )
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q"]
    run = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout
    assert "plan" not in run.stdout
