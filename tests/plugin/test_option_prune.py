"""--fairtest-prune: only where all tests ran can anybody tell which baselines are unused."""

from __future__ import annotations

import pytest
from plugin_sessions import GATES, baseline_files, outcome_of

import fairtest.gates.baselines.records  # noqa: F401 - a session within this process must not import numpy again


@pytest.fixture
def project(project_of_numbers):
    return project_of_numbers


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("-k", "dp"), "-k leaves some out"),
        (("-m", "slow"), "-m leaves some out"),
        (("--deselect", "x"), "--deselect leaves some out"),
        (("--ignore", "sub"), "--ignore leaves some out"),
        (("--lf",), "--last-failed leaves some out"),
        (("sub",), "sub leaves some out"),
        (("test_it.py::test_it",), "test_it.py::test_it leaves some out"),
        (("-n", "2"), "run it in one process"),
        ((), ""),
        ((".",), ""),
    ],
)
def test_pruning_is_refused_where_tests_are_left_out(pytester, arguments, words):
    pytester.makepyprojecttoml("[tool.pytest.ini_options]\naddopts = ''\n")
    pytester.mkdir("sub")
    pytester.makepyfile(test_it="def test_it(): pass")
    if words:
        with pytest.raises(pytest.UsageError, match=words):
            pytester.parseconfigure("--fairtest-prune", *arguments)
    else:
        pytester.parseconfigure("--fairtest-prune", *arguments)


def test_unused_baselines_are_listed_and_pruned_only_when_all_tests_ran(project):
    outcome_of(project, "--fairtest-update-baseline")
    (project / "test_gates.py").write_text(GATES.split("\n\n\n", maxsplit=1)[0] + "\n")
    code, text = outcome_of(project)
    assert code == 0
    assert "no test asks for 1 baseline in fairtest-baselines/cda.json (--fairtest-prune removes them)" in text
    assert sorted(baseline_files(project)) == ["cda.json", "dp.json"]

    (project / "test_skipped.py").write_text("import pytest\n\n\ndef test_skipped():\n    pytest.skip('no data')\n")
    code, text = outcome_of(project, "--fairtest-prune")
    assert "no baseline was pruned" in text
    assert sorted(baseline_files(project)) == ["cda.json", "dp.json"]

    (project / "test_skipped.py").unlink()
    code, text = outcome_of(project, "--fairtest-prune")
    assert code == 0
    assert "pruned 1 baseline that no test asks for from fairtest-baselines/cda.json" in text
    assert sorted(baseline_files(project)) == ["dp.json"]


def test_with_two_workers_it_is_refused_before_any_test_runs_and_without_them_it_prunes(project):
    outcome_of(project, "-n", "2", "--fairtest-update-baseline")
    (project / "test_gates.py").write_text(GATES.split("\n\n\n", maxsplit=1)[0] + "\n")
    recorded = baseline_files(project)
    code, text = outcome_of(project, "-n", "2", "--fairtest-prune")
    assert code == pytest.ExitCode.USAGE_ERROR
    assert "run it in one process, without -n" in text
    assert "passed" not in text
    assert baseline_files(project) == recorded
    code, text = outcome_of(project, "-n", "2")
    assert code == 0, text
    assert "no test asks for 1 baseline in fairtest-baselines/cda.json (--fairtest-prune removes them)" in text
    code, text = outcome_of(project, "--fairtest-prune")
    assert code == 0, text
    assert sorted(baseline_files(project)) == ["dp.json"]
