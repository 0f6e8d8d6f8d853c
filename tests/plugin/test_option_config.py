"""--fairtest-config: every setting, and where it comes from."""

from __future__ import annotations

import pytest


def test_every_setting_is_shown_with_where_it_comes_from(session, workers):
    result = session(
        "raise SystemExit\n", "--fairtest-config", "--fairtest-seeds", "7", *workers, settings="epsilon = 8.0"
    )
    result.stdout.fnmatch_lines_random(
        ["epsilon * 8.0 * pyproject.toml*", "seeds * 7 * command line", "held_out * 0.1 * default"]
    )
    assert result.ret == 0
    assert "test session starts" not in result.stdout.str()


def test_an_unknown_setting_is_told_with_what_was_meant(session, workers):
    result = session("", "--fairtest-config", *workers, settings="epsilom = 8.0")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "did you mean 'epsilon'" in result.stderr.str()
