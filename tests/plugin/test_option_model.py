"""--fairtest-model: which model is judged, whatever the project says."""

from __future__ import annotations


def test_the_model_comes_from_the_command_line(session, workers):
    test = """
    def test_settings(fairtest_config, arms):
        assert fairtest_config.model == "gpt2"
        assert fairtest_config.origin["model"] == "command line"
    """
    session(test, "--fairtest-model=gpt2", *workers, settings="model = 'distilgpt2'").assert_outcomes(passed=1)


def test_a_directory_is_one_from_where_the_session_was_started(session, pytester):
    (pytester.path / "mine").mkdir()
    test = """
    from pathlib import Path

    def test_settings(fairtest_config):
        assert Path(fairtest_config.model) == Path("mine").absolute()
    """
    session(test, "--fairtest-model=mine").assert_outcomes(passed=1)
