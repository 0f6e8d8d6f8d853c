"""Options of the command line, in one process and in two: what they set, and what a wrong value says."""

from __future__ import annotations

import pytest

WORKERS = pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["one process", "two workers"])
CORPUS = "".join(f'{{"text": "The nurse said that she was tired of {i} reports."}}\n' for i in range(60))
UNDECIDED = """
from fairtest.gates.assertions import settle
from fairtest.gates.result import Estimate, GateResult, Verdict


def test_gate(fairness):
    result = GateResult(gate="no_amplification", metric="m", unit="points", protocol="p v1", candidate="dp",
                        reference="baseline", verdict=Verdict.UNDECIDED, reason="wide", allowed=1.0, confidence=0.95,
                        change=Estimate(1.0, 0.0, 2.0), seeds=3, items=10, clusters=6, p_pass=0.5, p_fail=0.5)
    settle(result, fairness.settings, fairness._record)
"""


@pytest.fixture
def session(pytester):
    def run(test, *options, settings=""):
        pytester.makepyprojecttoml(f"[tool.fairtest]\n{settings}\n")
        pytester.makepyfile(test_it=test)
        return pytester.runpytest_subprocess("-p", "no:cacheprovider", "-W", "default", *options)

    return run


@WORKERS
@pytest.mark.parametrize(
    ("policy", "outcome"),
    [
        ("fail", {"failed": 1}),
        ("warn", {"passed": 1, "warnings": 1}),
        ("pass", {"passed": 1, "warnings": 0}),
        ("skip", {"skipped": 1}),
    ],
)
def test_undecided(session, workers, policy, outcome):
    result = session(UNDECIDED, "--fairtest-undecided", policy, *workers)
    result.assert_outcomes(**outcome)
    result.stdout.fnmatch_lines(["UNDECIDED *dp against baseline*", "1 gate: 1 UNDECIDED*"])


@WORKERS
def test_seeds_and_cache_dir(session, pytester, workers):
    test = """
    def test_settings(fairtest_config):
        assert fairtest_config.seeds == "auto"
        assert fairtest_config.origin["seeds"] == "command line"
        assert fairtest_config.cache_dir.endswith("elsewhere")
    """
    session(test, "--fairtest-seeds=auto", "--fairtest-cache-dir=elsewhere", *workers).assert_outcomes(passed=1)


def test_seeds_that_are_no_number(session):
    result = session("", "--fairtest-seeds=many")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "--fairtest-seeds: invalid number_or_auto value: 'many'" in result.stderr.str()


@WORKERS
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


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--fairtest-train=sometimes", "setting 'train' must be one of auto, never, always"),
        ("--fairtest-undecided=maybe", "setting 'undecided' must be one of auto, fail, warn, pass, skip"),
    ],
)
def test_a_choice_that_is_none_is_told_with_the_choices(session, option, message):
    result = session("def test_gate(fairness): pass\n", option)
    result.assert_outcomes(errors=1)
    assert message in result.stdout.str()


@WORKERS
def test_an_executor_that_nobody_brings_is_told(session, pytester, workers):
    (pytester.path / "records.jsonl").write_text(CORPUS)
    test = """
    def test_gate(arms):
        arms.baseline.train()
    """
    settings = 'corpus = "records.jsonl"\nsteps = 2\nbatch_size = 4\nseeds = 2\n'
    result = session(test, "--fairtest-executor=cloud", *workers, settings=settings)
    result.assert_outcomes(failed=1)
    assert "unknown executor 'cloud'" in result.stdout.str()
