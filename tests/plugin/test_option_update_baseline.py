"""--fairtest-update-baseline: what is written and when, what a person reads; on one process and two."""

from __future__ import annotations

import json

import pytest
from plugin_sessions import METRIC, baseline_files, means, outcome_of

import fairtest.gates.baselines.records  # noqa: F401 - a session within this process must not import numpy again


@pytest.fixture
def project(project_of_numbers):
    return project_of_numbers


def test_missing_then_recorded_then_compared_then_accepted(project):
    code, text = outcome_of(project)
    assert code == 1
    assert f"no baseline for {METRIC} of dp" in text
    assert "run pytest --fairtest-update-baseline=new and commit the file" in text
    assert "fairtest/gates" not in text
    assert baseline_files(project) == {}

    code, text = outcome_of(project, "--fairtest-update-baseline=new")
    assert code == 0, text
    assert "baselines: 1 written to fairtest-baselines/dp.json, commit it" in text
    assert f"dp, {METRIC}: none -> 0.7" in text
    recorded = baseline_files(project)
    assert sorted(recorded) == ["cda.json", "dp.json"]

    means(project, dp=1.4, cda=0.3)
    code, text = outcome_of(project, "--fairtest-update-baseline=new")  # what has a baseline is judged all the same
    assert code == 1
    assert f"FAIL: dp is more biased on {METRIC} than its stored baseline, by more than is allowed" in text
    assert "1 failed, 1 passed" in text
    assert baseline_files(project) == recorded

    code, text = outcome_of(project, "--fairtest-update-baseline", "-k", "test_dp")
    assert code == 0, text
    assert " -> 1.4" in text
    assert baseline_files(project)["cda.json"] == recorded["cda.json"]
    assert baseline_files(project)["dp.json"] != recorded["dp.json"]

    code, text = outcome_of(project)
    assert code == 0, text


def test_with_two_workers_the_controller_writes_the_same_files(project):
    outcome_of(project, "--fairtest-update-baseline")
    alone = baseline_files(project)
    for name in alone:
        (project / "fairtest-baselines" / name).unlink()
    code, text = outcome_of(project, "-n", "2", "--fairtest-update-baseline=new")
    assert code == 0, text
    assert text.count(f"{METRIC}: none -> ") == 2
    assert baseline_files(project) == alone
    means(project, dp=1.4, cda=0.3)
    code, text = outcome_of(project, "-n", "2", "--fairtest-update-baseline", "-k", "test_dp")
    assert code == 0, text
    assert " -> 1.4" in text
    assert baseline_files(project)["cda.json"] == alone["cda.json"]


def test_a_build_server_is_refused_before_any_test_runs(project):
    code, text = outcome_of(project, "--fairtest-update-baseline", CI="true")
    assert code == pytest.ExitCode.USAGE_ERROR
    assert "ERROR: --fairtest-update-baseline: baselines are not written on a build server" in text
    assert "Traceback" not in text
    assert not (project / ".fairtest").exists()


@pytest.mark.parametrize("option", ["--fairtest-update-baseline=new", "--fairtest-update-baseline", "--fairtest-prune"])
def test_every_option_that_writes_is_refused_on_a_build_server(pytester, monkeypatch, option):
    monkeypatch.setenv("TF_BUILD", "True")
    with pytest.raises(pytest.UsageError, match="baselines are not written on a build server"):
        pytester.parseconfigure(option)


def test_a_path_taken_for_a_mode_is_told(pytester, capsys):
    with pytest.raises((pytest.UsageError, SystemExit)) as caught:
        pytester.parseconfigure("--fairtest-update-baseline", "test_gates.py")
    assert "'test_gates.py' is neither new nor all" in str(caught.value) + capsys.readouterr().err


def test_an_interrupted_session_writes_nothing(project):
    (project / "test_late.py").write_text("def test_stop():\n    raise KeyboardInterrupt\n")
    code, text = outcome_of(project, "--fairtest-update-baseline")
    assert code == pytest.ExitCode.INTERRUPTED
    assert "baselines: nothing was written, because the session was stopped" in text
    assert baseline_files(project) == {}


def test_a_test_that_fails_leaves_the_others_their_baselines(project):
    (project / "test_broken.py").write_text(
        "def test_broken(arm, fairness):\n"
        f"    fairness.assert_no_regression(arm('nobody'), metric='{METRIC}', max_increase=0.2)\n"
    )
    code, _ = outcome_of(project, "--fairtest-update-baseline=new")
    assert code == 1
    assert sorted(baseline_files(project)) == ["cda.json", "dp.json"]


def test_a_session_that_stopped_at_the_first_failure_writes_nothing(project):
    (project / "test_z.py").write_text("def test_broken():\n    assert False\n")
    code, text = outcome_of(project, "-x", "--fairtest-update-baseline=new")
    assert code == 1
    assert "nothing was written, because the session was stopped" in text
    assert baseline_files(project) == {}


def test_a_merge_conflict_in_the_file_is_one_message_with_its_line(project):
    outcome_of(project, "--fairtest-update-baseline")
    path = project / "fairtest-baselines" / "dp.json"
    conflict = path.read_text().replace('   "target"', '<<<<<<< HEAD\n   "target"', 1)
    path.write_text(conflict)
    line = 1 + conflict[: conflict.index("<<<<<<<")].count("\n")
    code, text = outcome_of(project, "--fairtest-update-baseline")
    assert code == 1
    assert "a merge conflict is not resolved in the baselines" in text
    assert f"dp.json, line {line}" in text
    assert "fairtest/gates" not in text
    assert path.read_text() == conflict


def test_the_embedded_model_end_to_end(tmp_path):
    """A real arm: recorded, and found unchanged by the next session, which imports no torch."""
    from fairtest.tiny.generator import corpus

    rows = [{"text": record.text} for record in corpus("private", 0.65, 200, seed=1)]
    (tmp_path / "records.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "pyproject.toml").write_text(
        "[tool.pytest.ini_options]\naddopts = ''\n[tool.fairtest]\ncorpus = 'records.jsonl'\nseeds = 2\nsteps = 4\n"
        "batch_size = 32\nlearning_rate = 2e-3\nmax_length = 48\nthreads = 1\nmin_improvement = 0.0001\n"
    )
    gate = "    fairness.assert_no_regression(arms.baseline, metric='{}', max_increase={})\n"
    test = (
        "def test_it(arms, fairness):\n" + gate.format(METRIC, 0.0) + gate.format("templates.preference[gender]", 0.0)
    )
    (tmp_path / "test_it.py").write_text(test)
    code, text = outcome_of(tmp_path, "--fairtest-update-baseline=new")
    assert code == 0, text
    document = json.loads((tmp_path / "fairtest-baselines" / "fairtest--tiny.json").read_text())
    assert document["model"] == "fairtest/tiny"
    assert [name.split(" | ")[:2] for name in document["entries"]] == [
        ["baseline", METRIC],
        ["baseline", "templates.preference[gender]"],
    ]
    (tmp_path / "test_it.py").write_text(f"import sys\n\n\n{test}    assert 'torch' not in sys.modules\n")
    code, text = outcome_of(tmp_path)
    assert code == 0, text
    assert text.count("baseline against baseline file of 20") == 2
