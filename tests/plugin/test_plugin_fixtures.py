"""The plugin end to end on the embedded model: each fixture and helper, the report, the store, workers, interrupts."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

from plugin_sessions import HELPERS, session_in


def test_every_fixture_and_helper_and_what_they_leave(first_session):
    run, project = first_session
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


def test_a_second_session_trains_nothing_and_imports_no_torch(warm_project, workers):
    """Nor anything else that takes long and that only training or a page needs: looked at when the process ends."""
    (warm_project / "test_warm.py").write_text(
        "import atexit\n"
        "import sys\n"
        "from pathlib import Path\n"
        "HEAVY = {'torch', 'transformers', 'opacus', 'datasets', 'dp_accounting', 'scipy.stats', 'scipy.optimize',\n"
        "         'matplotlib', 'jinja2', 'pandas', 'pyarrow'}\n"
        "def tell():\n"
        "    with Path(__file__).with_name('imported.txt').open('a') as stream:\n"
        "        stream.write(f'{sorted(HEAVY & set(sys.modules))} ')\n"
        "atexit.register(tell)\n"
        "def test_warm(arms, fairness):\n"
        "    fairness.assert_no_amplification(\n"
        "        arms.dp, arms.baseline, metric='templates.log_ratio[gender]', max_increase=50.0)\n"
        "    fairness.assert_privacy(arms.dp, max_epsilon=3.0)\n"
        "    fairness.assert_utility(arms.dp, arms.baseline, max_perplexity_ratio=3.0)\n"
        "    assert not {'torch', 'transformers', 'opacus', 'datasets'} & set(sys.modules)\n"
    )
    run = session_in(warm_project, "-q", *workers, "test_warm.py")
    assert run.returncode == 0, run.stdout
    assert "4 runs from the store" in run.stdout
    assert "trained" not in run.stdout.split("= fairtest =")[1]
    processes = 2 if workers else 1  # both workers collect the file
    assert (warm_project / "imported.txt").read_text() == "[] " * processes


def test_workers_train_an_arm_once_and_the_controller_reports(warm_project, tmp_path):
    project = warm_project
    (project / "test_it.py").write_text(HELPERS)
    run = session_in(
        project, "-n", "2", "--fairtest-cache-dir", str(tmp_path / "fresh"), "--fairtest-report", "two", "test_it.py"
    )
    assert "5 passed" in run.stdout, run.stdout
    assert "2 failed" in run.stdout
    report = json.loads((project / "two/report.json").read_text())
    assert report["summary"]["gates"] == 5
    assert len(list((tmp_path / "fresh/entries/run").iterdir())) == 6
    trained = report["summary"]["runs_trained"]
    assert trained == 6, report["summary"]


def test_a_marker_overrides_the_project_and_the_command_line_overrides_both(warm_project):
    project = warm_project
    (project / "test_marker.py").write_text(
        "import pytest\n"
        "@pytest.mark.fairtest(seeds=4, epsilon=5.0)\n"
        "def test_marker(fairtest_config, arms):\n"
        "    assert fairtest_config.epsilon == 5.0 and arms.dp.spec.dp.epsilon == 5.0\n"
        "    assert len(arms.dp.seeds) == fairtest_config.seeds == 3\n"
    )
    run = session_in(project, "--fairtest-seeds", "3", "test_marker.py")
    assert run.returncode == 0, run.stdout


def test_an_interrupt_in_training_leaves_nothing_half_and_the_next_run_goes_on(warm_project, tmp_path):
    project = warm_project
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
    run = session_in(project, "--fairtest-cache-dir", str(store), "test_long.py")
    assert run.returncode == 0
    assert "train short" not in run.stdout + run.stderr
