"""`fairtest plan` as a user meets it."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from fairtest.tiny.generator import corpus


@pytest.fixture
def project(tmp_path):
    (tmp_path / "pyproject.toml").write_text(
        '[tool.fairtest]\ncorpus = "records.jsonl"\nsteps = 4\nbatch_size = 16\nseeds = "auto"\n'
    )
    rows = [json.dumps({"text": record.text}) + "\n" for record in corpus("private", 0.65, 200, seed=1)]
    (tmp_path / "records.jsonl").write_text("".join(rows))
    for name, arm in (("one", "cda"), ("two", "dp")):
        (tmp_path / f"test_{name}.py").write_text(
            "def test_it(arms, fairness):\n"
            "    fairness.assert_no_amplification(\n"
            f"        arms.{arm}, arms.baseline, metric='templates.preference[gender]', max_increase=2.0)\n"
        )
    return tmp_path


def plan(project, *arguments, columns=80):
    return subprocess.run(
        [sys.executable, "-m", "fairtest", "plan", *arguments],
        cwd=project,
        env={**os.environ, "COLUMNS": str(columns)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("columns", [80, 120])
def test_arguments_are_passed_on_in_their_order(project, columns):
    run = plan(project, "-q", "--no-timing", "test_one.py", "-k", "it", "-p", "no:cacheprovider", columns=columns)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "cda against baseline: templates.preference[gender], points" in run.stdout
    assert "dp against" not in run.stdout
    assert "seeds = auto: looked at with 3, 5, 8 seeds" in " ".join(run.stdout.split())
    table = run.stdout.split("nothing was trained")[1].splitlines()[1:]
    assert max(map(len, table)) <= columns


def test_an_option_may_come_first(project):
    run = plan(project, "-p", "no:cacheprovider", "--no-timing")
    assert run.returncode == 0, run.stdout + run.stderr
    assert "2 gates; 24 distinct runs: 0 in the store, 9 to train" in " ".join(run.stdout.split())


def test_an_unknown_option_is_pytests_to_refuse(project):
    run = plan(project, "--no-such-option")
    assert run.returncode == pytest.ExitCode.USAGE_ERROR
    assert "--no-such-option" in run.stderr


def test_help_says_what_it_does(run):
    result = run("plan", "--help")
    assert result.status == 0
    assert "without training anything" in result.out
    assert "PYTEST ARGUMENTS" in result.out
