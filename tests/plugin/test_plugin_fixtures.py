"""The plugin end to end on the embedded model: each fixture and helper, the report, the store, workers, interrupts."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest

SETTINGS = """
corpus = "records.jsonl"
group_field = "group"
seeds = 2
steps = 12
batch_size = 32
learning_rate = 2e-3
max_length = 48
threads = 1
min_improvement = 0.0001
"""
HELPERS = """
import sys

import fairtest


def test_amplification(arms, fairness):
    result = fairness.assert_no_amplification(
        arms.dp, arms.baseline, metric="templates.log_ratio[gender]", max_increase=50.0)
    assert result.verdict is fairtest.Verdict.PASS
    assert result.seeds == 2


def test_amplification_is_caught(arms, fairness):
    fairness.assert_no_amplification(arms.dp, arms.baseline, metric="templates.log_ratio[gender]", max_increase=-50.0)


def test_privacy(arms, fairness):
    result = fairness.assert_privacy(arms.dp, max_epsilon=3.0, unit="record")
    assert 2.9 < result.change.value <= 3.0


def test_privacy_of_an_arm_without(arms, fairness):
    fairness.assert_privacy(arms.baseline, max_epsilon=3.0)


def test_utility(arms, fairness):
    fairness.assert_utility(arms.dp, arms.baseline, max_perplexity_ratio=3.0)


def test_finetune(finetune, arms, fairness):
    arm = finetune("dp_eps8_cda", dp=8.0, cda=True, steps=4)
    assert arm.statement().epsilon <= 8.0
    assert arm.statement().max_views_per_unit == 2
    assert arm.train()[0]["steps"] == 4
    model, tokenizer = arm.load(seed=1)
    assert model.config.model_type == "gpt2" and tokenizer.bos_token
    fairness.measure(arm, "perplexity[stereotypical]")
    fairness.measure(arm, "templates.preference[gender]")


def test_config(fairtest_config):
    assert (fairtest_config.seeds, fairtest_config.steps) == (2, 12)
    assert fairtest_config.origin["steps"].startswith("pyproject.toml")
"""


def test_every_fixture_and_helper_and_what_they_leave(trained_project):
    run, project = trained_project
    text = run.stdout
    assert "2 failed, 5 passed" in text.splitlines()[-1], text + run.stderr
    assert "FAIL: dp amplifies templates.log_ratio[gender] against baseline by more than is allowed" in text
    assert "there is no privacy statement: the arm was trained without differential privacy" in text
    assert "fairtest/gates" not in text.replace("\\", "/")
    rows = [line.split() for line in text.splitlines() if line.startswith(("PASS ", "FAIL "))]
    assert [row[0] for row in rows] == ["PASS", "FAIL", "PASS", "FAIL", "PASS"]
    assert "5 gates: 3 PASS, 2 FAIL; 6 runs trained (" in text
    report = json.loads((project / ".fairtest/report/report.json").read_text())
    assert report["summary"]["gates"] == 5
    assert {gate["verdict"] for gate in report["gates"]} == {"PASS", "FAIL"}
    assert {row["metric"] for row in report["measurements"]} == {
        "perplexity[stereotypical]",
        "templates.preference[gender]",
    }
    assert report["arms"]["dp"]["statement"]["epsilon"] <= 3.0
    markdown = (project / ".fairtest/report/report.md").read_text()
    for words in (
        "# fairtest report",
        "## Gates",
        "## Measurements",
        "## Arms",
        "## Privacy statements",
        "not for release",
    ):
        assert words in markdown


def test_a_second_session_trains_nothing_and_imports_no_torch(trained_project):
    _, project = trained_project
    (project / "test_warm.py").write_text(
        "import sys\n"
        "def test_warm(arms, fairness):\n"
        "    fairness.assert_no_amplification(\n"
        "        arms.dp, arms.baseline, metric='templates.log_ratio[gender]', max_increase=50.0)\n"
        "    fairness.assert_privacy(arms.dp, max_epsilon=3.0)\n"
        "    fairness.assert_utility(arms.dp, arms.baseline, max_perplexity_ratio=3.0)\n"
        "    assert not {'torch', 'transformers', 'opacus', 'datasets'} & set(sys.modules)\n"
    )
    run = session(project, "-q", "test_warm.py")
    assert run.returncode == 0, run.stdout
    assert "4 runs from the store" in run.stdout
    assert "trained" not in run.stdout.split("= fairtest =")[1]


def test_workers_train_an_arm_once_and_the_controller_reports(trained_project, tmp_path):
    _, project = trained_project
    run = session(
        project, "-n", "2", "--fairtest-cache-dir", str(tmp_path / "fresh"), "--fairtest-report", "two", "test_it.py"
    )
    assert "5 passed" in run.stdout, run.stdout
    assert "2 failed" in run.stdout
    report = json.loads((project / "two/report.json").read_text())
    assert report["summary"]["gates"] == 5
    assert len(list((tmp_path / "fresh/entries/run").iterdir())) == 6
    trained = report["summary"]["runs_trained"]
    assert trained == 6, report["summary"]


def test_a_marker_overrides_the_project_and_the_command_line_overrides_both(trained_project):
    _, project = trained_project
    (project / "test_marker.py").write_text(
        "import pytest\n"
        "@pytest.mark.fairtest(seeds=4, epsilon=5.0)\n"
        "def test_marker(fairtest_config, arms):\n"
        "    assert fairtest_config.epsilon == 5.0 and arms.dp.spec.dp.epsilon == 5.0\n"
        "    assert len(arms.dp.seeds) == fairtest_config.seeds == 3\n"
    )
    run = session(project, "--fairtest-seeds", "3", "test_marker.py")
    assert run.returncode == 0, run.stdout


def test_an_interrupt_in_training_leaves_nothing_half_and_the_next_run_goes_on(trained_project, tmp_path):
    _, project = trained_project
    store = tmp_path / "store"
    (project / "test_long.py").write_text(
        "def test_long(finetune):\n    finetune('short', steps=2).train()\n    finetune('long', steps=100000).train()\n"
    )
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "no:cacheprovider",
        "--fairtest-cache-dir",
        str(store),
        "test_long.py",
    ]
    process = subprocess.Popen(command, cwd=project, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    deadline = time.monotonic() + 120
    while len(list(store.glob("entries/run/*/entry.json"))) < 2 or not list(store.glob("work/*")):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(0.5)
    os.kill(process.pid, signal.SIGINT)
    output = process.communicate(timeout=60)[0]
    assert "KeyboardInterrupt" in output
    assert "stopped after" in output
    assert list(store.glob("work/*")) == []
    assert len(list(store.glob("entries/run/*"))) == 2
    (project / "test_long.py").write_text("def test_long(finetune):\n    finetune('short', steps=2).train()\n")
    run = session(project, "--fairtest-cache-dir", str(store), "test_long.py")
    assert run.returncode == 0
    assert "train short" not in run.stdout + run.stderr


def session(project, *arguments):
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments]
    return subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def trained_project(tmp_path_factory):
    """A project whose arms were trained by its first session."""
    from fairtest.tiny.generator import corpus

    project = tmp_path_factory.mktemp("project")
    (project / "pyproject.toml").write_text(f"[tool.pytest.ini_options]\naddopts = ''\n[tool.fairtest]\n{SETTINGS}")
    rows = [
        {"id": str(index), "text": record.text, "group": record.group}
        for index, record in enumerate(corpus("private", 0.65, 300, seed=1))
    ]
    (project / "records.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (project / "test_it.py").write_text(HELPERS)
    return session(project, "test_it.py"), project
