"""--fairtest-train: auto, never, always."""

from __future__ import annotations

import json

from plugin_sessions import runs_in, session_in

CORPUS = "".join(f'{{"text": "The nurse said that she was tired of {i} reports."}}\n' for i in range(60))
TWO_TESTS = """
def test_one(arms, fairness):
    fairness.measure(arms.baseline, "templates.log_ratio[gender]")


def test_two(arms, fairness):
    fairness.measure(arms.baseline, "templates.log_ratio[gender]")
"""


def test_train_never_trains_nothing_and_says_what_is_missing(session, pytester, workers):
    (pytester.path / "records.jsonl").write_text(CORPUS)
    test = """
    def test_gate(arms, fairness):
        fairness.measure(arms.baseline, "perplexity")
    """
    settings = 'corpus = "records.jsonl"\nsteps = 2\nbatch_size = 4\nheld_out = 0.2\n'
    result = session(test, "--fairtest-train=never", *workers, settings=settings)
    result.assert_outcomes(failed=1)
    assert "the run of arm 'baseline' with seed 0 is not in the store, and train = 'never'" in result.stdout.str()
    assert not list((pytester.path / ".fairtest").glob("entries/run/*"))


def test_never_takes_what_is_in_the_store(warm_project, workers):
    (warm_project / "test_two.py").write_text(TWO_TESTS)
    run = session_in(warm_project, "--fairtest-train=never", *workers)
    assert run.returncode == 0, run.stdout
    assert "2 runs from the store" in run.stdout


def test_always_trains_a_run_anew_once_a_session_whoever_asks_for_it(warm_project, workers):
    (warm_project / "test_two.py").write_text(TWO_TESTS)
    run = session_in(warm_project, "--fairtest-train=always", "--fairtest-seeds=1", *workers)
    assert run.returncode == 0, run.stdout
    report = json.loads((warm_project / ".fairtest/report/report.json").read_text())
    assert (report["summary"]["runs_trained"], report["summary"]["runs_from_store"]) == (1, 0)
    assert runs_in(warm_project / ".fairtest") == 7


def test_always_as_a_setting_trains_a_run_once_a_session_too(warm_project, workers):
    """Workers that trained it each by itself would judge models of their own."""
    (warm_project / "test_two.py").write_text(TWO_TESTS)
    settings = warm_project / "pyproject.toml"
    settings.write_text(settings.read_text() + '\ntrain = "always"\n')
    run = session_in(warm_project, "--fairtest-seeds=1", *workers)
    assert run.returncode == 0, run.stdout
    assert runs_in(warm_project / ".fairtest") == 7


def test_a_choice_that_is_none_is_told_with_the_choices(session, workers):
    result = session("def test_gate(fairness): pass\n", "--fairtest-train=sometimes", *workers)
    result.assert_outcomes(errors=1)
    assert "setting 'train' must be one of auto, never, always" in result.stdout.str()
