"""--fairtest-cache-dir: where runs are kept and looked for."""

from __future__ import annotations

from plugin_sessions import runs_in, session_in

GATE = """
def test_gate(arms, fairness):
    fairness.assert_no_amplification(arms.dp, arms.baseline, metric="templates.log_ratio[gender]", max_increase=50.0)
"""


def test_it_comes_from_the_command_line(session, workers):
    test = """
    def test_settings(fairtest_config):
        assert fairtest_config.origin["cache_dir"] == "command line"
        assert fairtest_config.cache_dir.endswith("elsewhere")
    """
    session(test, "--fairtest-cache-dir=elsewhere", *workers).assert_outcomes(passed=1)


def test_runs_are_found_in_it_and_in_no_other(warm_project, workers):
    (warm_project / ".fairtest").rename(warm_project / "elsewhere")
    (warm_project / "test_gate.py").write_text(GATE)
    run = session_in(warm_project, "--fairtest-cache-dir=elsewhere", "--fairtest-train=never", *workers)
    assert run.returncode == 0, run.stdout
    assert "4 runs from the store" in run.stdout
    assert not (warm_project / ".fairtest" / "entries").exists()
    run = session_in(warm_project, "--fairtest-train=never", *workers)
    assert run.returncode == 1
    assert "is not in the store" in run.stdout
    assert runs_in(warm_project / "elsewhere") == 6


def test_a_directory_that_is_there_does_not_move_the_project(session, workers, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    test = "def test_it(fairtest_config):\n    assert fairtest_config.epsilon == 8.0\n"
    options = ("--fairtest-cache-dir", str(elsewhere), *workers)
    session(test, *options, settings="epsilon = 8.0").assert_outcomes(passed=1)
