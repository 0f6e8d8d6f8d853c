"""Projects of the plugin's tests, and how a session in one of them is run."""

from __future__ import annotations

import json
import os
import subprocess
import sys

from repository import REPOSITORY

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
METRIC = "templates.log_ratio[gender]"
CONFTEST = f"""
import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, {str(REPOSITORY / "tests" / "gates")!r})


@pytest.fixture
def arm():
    from arms_of_numbers import tuned

    means = json.loads(Path("means.json").read_text())
    return lambda name: tuned(name, means[name])
"""
GATES = f"""
def test_dp(arm, fairness):
    fairness.assert_no_regression(arm("dp"), metric="{METRIC}", max_increase=0.2)


def test_cda(arm, fairness):
    fairness.assert_no_regression(arm("cda"), metric="{METRIC}", max_increase=0.2)
"""

SETTLED = """
import pytest

from fairtest.gates.result import Estimate, GateFailure, GateResult, Verdict


def settle(fairness, number, verdict, p):
    result = GateResult(gate="no_amplification", metric=f"m{number}", unit="points", protocol="p v1", candidate="dp",
                        reference="baseline", verdict=verdict, reason="because", allowed=1.0, confidence=0.95,
                        change=Estimate(2.0, 1.5, 2.5), target=50.0, seeds=3, items=10, clusters=6,
                        p_pass=p if verdict is Verdict.PASS else 1 - p, p_fail=p if verdict is Verdict.FAIL else 1 - p)
    fairness._record(result)
    if verdict is Verdict.FAIL:
        raise GateFailure(result)


def test_holds(fairness):
    settle(fairness, 0, Verdict.PASS, 0.02)


def test_does_not(fairness):
    settle(fairness, 1, Verdict.FAIL, 0.001)


@pytest.mark.xfail(raises=GateFailure, strict=True)
def test_is_known_not_to(fairness):
    settle(fairness, 2, Verdict.FAIL, 0.001)
"""


def session_in(project, *arguments, **environment):
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:hypothesispytest", *arguments]
    environment = {**os.environ, **environment}
    return subprocess.run(command, cwd=project, capture_output=True, text=True, check=False, env=environment)


def runs_in(store):
    """How many runs are in a store."""
    return len(list(store.glob("entries/run/*")))


def outcome_of(project, *arguments, **environment):
    """(exit code, all that was said) of a session."""
    run = session_in(project, *arguments, **environment)
    return run.returncode, run.stdout + run.stderr


def means(project, **values):
    """What the arms of numbers measure from now on."""
    (project / "means.json").write_text(json.dumps(values))


def baseline_files(project):
    return {path.name: path.read_text() for path in (project / "fairtest-baselines").glob("*")}
