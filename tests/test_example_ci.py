"""The files for build servers: valid YAML, and every command in them is one that runs."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from report_documents import document
from repository import REPOSITORY

import fairtest
from fairtest.reports import dump
from fairtest.reports.html import missing
from fairtest.training.trunk_store import KIND

EXAMPLE = REPOSITORY / "examples" / "ci"


class _Plain(yaml.SafeLoader):
    """YAML 1.2 as the servers read it: `on` is a word."""


_Plain.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in rules if tag != "tag:yaml.org,2002:bool"]
    for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def load(name):
    return yaml.load((EXAMPLE / name).read_text(encoding="utf-8"), Loader=_Plain)


def github_commands():
    (job,) = load("github-actions.yml")["jobs"].values()
    return [line for step in job["steps"] for line in step.get("run", "").splitlines()]


def gitlab_commands():
    jobs = load("gitlab-ci.yml").values()
    return [line for job in jobs for key in ("before_script", "script", "after_script") for line in job.get(key, ())]


COMMANDS = list(dict.fromkeys([*github_commands(), *gitlab_commands()]))
PYTEST = [line for line in COMMANDS if line.startswith("pytest ")]
FAIRTEST = [line for line in COMMANDS if line.startswith("fairtest ")]


def words(line, report):
    return shlex.split(line.replace("$REPORT", str(report)), comments=True)


def test_every_command_is_of_a_kind_that_is_run_here():
    assert set(COMMANDS) == {*PYTEST, *FAIRTEST, *(line for line in COMMANDS if line.startswith("pip install "))}
    assert len(PYTEST) == 3
    assert len(FAIRTEST) == 1


@pytest.mark.parametrize("line", PYTEST)
def test_pytest_takes_every_option(line, tmp_path):
    tests = tmp_path / "tests" / "fairness"
    tests.mkdir(parents=True)
    (tests / "test_gate.py").write_text("def test_gate(fairness): pass\n")
    command = [sys.executable, "-m", *words(line, tmp_path / "out"), "--collect-only", "-q"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "tests/fairness/test_gate.py::test_gate" in done.stdout


@pytest.mark.parametrize("line", FAIRTEST)
def test_fairtest_runs_every_command(line, tmp_path, monkeypatch):
    if "--html" in line and missing():
        pytest.skip(f"a page needs {', '.join(missing())}")
    report = tmp_path / "out"
    report.mkdir()
    (report / "report.json").write_text(dump(document()), encoding="utf-8")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary"))
    command = [sys.executable, "-m", *words(line, report)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    made = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()} - {"out/report.json"}
    assert made, "a command that leaves nothing behind"


def test_the_three_uses_are_told_apart():
    workflow = load("github-actions.yml")
    assert set(workflow["on"]) == {"pull_request", "schedule", "release"}
    (job,) = workflow["jobs"].values()
    asked = {step["if"].split("'")[1] for step in job["steps"] if step.get("if", "").startswith("github.event_name")}
    assert asked == set(workflow["on"])
    gitlab = load("gitlab-ci.yml")
    assert [job["extends"] for name, job in gitlab.items() if name != ".fairness"] == [".fairness"] * 3


def kinds():
    """Every kind of entry that the library puts into a store, by its source."""
    texts = [path.read_text(encoding="utf-8") for path in Path(fairtest.__file__).parent.rglob("*.py")]
    return {kind for text in texts for kind in re.findall(r'\bobtain(?:_json)?\(\s*"([a-z-]+)"', text)}


def cached():
    """Paths of the store that are cached, by where that is said."""
    (job,) = load("github-actions.yml")["jobs"].values()
    by_use = {step["uses"].split("@")[0]: step for step in job["steps"] if "uses" in step}
    return [
        by_use["actions/cache/restore"]["with"]["path"].splitlines(),
        by_use["actions/cache/save"]["with"]["path"].splitlines(),
        [path.removesuffix("/") for path in load("gitlab-ci.yml")[".fairness"]["cache"][0]["paths"]],
    ]


def test_every_kind_of_entry_is_cached_but_what_frozen_layers_put_out():
    known = kinds() - {KIND}
    assert {"run", "scores", "model-scores", "completions"} < known
    for paths in cached():
        assert sorted(paths) == sorted(f".fairtest/entries/{kind}" for kind in known)


def test_the_store_is_kept_and_the_report_uploaded_when_a_gate_is_red():
    (job,) = load("github-actions.yml")["jobs"].values()
    by_use = {step["uses"].split("@")[0]: step for step in job["steps"] if "uses" in step}
    for name in ("actions/cache/save", "actions/upload-artifact"):
        assert by_use[name]["if"] == "always()"
    assert "hashFiles('pyproject.toml', 'data/**')" in by_use["actions/cache/restore"]["with"]["key"]
    base = load("gitlab-ci.yml")[".fairness"]
    assert base["cache"][0]["when"] == base["artifacts"]["when"] == "always"
    assert {"junit", "metrics"} == set(base["artifacts"]["reports"])
