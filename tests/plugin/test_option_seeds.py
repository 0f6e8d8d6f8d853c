"""--fairtest-seeds: how many seeds an arm has, whatever the project says."""

from __future__ import annotations

import json

import pytest
from plugin_sessions import runs_in, session_in


def test_auto_comes_from_the_command_line(session, workers):
    test = """
    def test_settings(fairtest_config):
        assert fairtest_config.seeds == "auto"
        assert fairtest_config.origin["seeds"] == "command line"
    """
    session(test, "--fairtest-seeds=auto", *workers).assert_outcomes(passed=1)


def test_seeds_that_are_no_number(session):
    result = session("", "--fairtest-seeds=many")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "--fairtest-seeds: invalid number_or_auto value: 'many'" in result.stderr.str()


def test_fewer_seeds_than_the_project_has_are_those_of_the_store(warm_project, workers):
    (warm_project / "test_seeds.py").write_text(
        "def test_one_seed(arms, fairness):\n"
        "    assert len(arms.baseline.train()) == 1\n"
        "    fairness.measure(arms.baseline, 'templates.log_ratio[gender]')\n"
    )
    run = session_in(warm_project, "--fairtest-seeds", "1", *workers)
    assert run.returncode == 0, run.stdout
    assert "1 run from the store" in run.stdout
    report = json.loads((warm_project / ".fairtest/report/report.json").read_text())
    assert (report["summary"]["runs_trained"], report["summary"]["runs_from_store"]) == (0, 1)
    assert runs_in(warm_project / ".fairtest") == 6
