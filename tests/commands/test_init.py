"""`fairtest init` as a user meets it."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import sys

import pytest
from repository import CI_VARIABLES

from fairtest.settings import session_settings, settings_root

FILES = ["pyproject.toml", "records.jsonl", "test_fairness.py"]


@pytest.fixture
def project(tmp_path, monkeypatch):
    directory = tmp_path / "project"
    directory.mkdir()
    monkeypatch.chdir(directory)
    return directory


def settings(project):
    assert settings_root(project) == project
    return session_settings(root=project, invocation=project)


def names(project):
    return sorted(path.name for path in project.iterdir())


def test_a_sample_project_is_judged_by_pytest_at_once(run, project):
    """Ten runs are trained, as a new user would: nothing less shows that the first verdicts are real ones."""
    shown = run("init", "--sample")
    assert shown.status == 0, shown.err
    assert names(project) == FILES
    environment = {name: value for name, value in os.environ.items() if name not in CI_VARIABLES}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(re.findall(r"^PASS ", done.stdout, flags=re.MULTILINE)) == 3
    assert "3 gates: 3 PASS; 10 runs trained" in done.stdout
    assert run("doctor").status == 0


def test_it_says_what_it_wrote_and_what_to_do_next(run, project):
    shown = run("init", "--sample")
    lines = shown.out.splitlines()
    assert lines[:3] == [
        "wrote records.jsonl: 2,000 generated records, 65% of them stereotypical",
        "wrote test_fairness.py: three gates",
        "wrote pyproject.toml: [tool.fairtest], 10 settings",
    ]
    assert lines[4] == "Next:"
    assert lines[5].startswith("  pytest ")
    assert max(map(len, lines)) <= 120
    compile((project / "test_fairness.py").read_text(), "test_fairness.py", "exec")
    assert max(map(len, (project / "test_fairness.py").read_text().splitlines())) <= 120


def test_without_a_corpus_it_says_how_to_make_one(run, project):
    shown = run("init")
    assert names(project) == ["pyproject.toml", "test_fairness.py"]
    command = re.search(r"python -m (fairtest\.tiny corpus .*)", shown.out)[1]
    subprocess.run([sys.executable, "-m", *command.split()], check=True)
    assert settings(project).corpus == str(project / "records.jsonl")
    assert len((project / "records.jsonl").read_text().splitlines()) == 2000


def test_a_corpus_and_a_model_of_ones_own(run, project):
    rows = [json.dumps({"body": f"text {n}", "author": f"a{n // 2}"}) for n in range(60)]
    (project / "data").mkdir()
    (project / "data" / "notes.jsonl").write_text("\n".join(rows))
    arguments = ("--corpus", "data/notes.jsonl", "--model", "distilgpt2", "--text-field", "body")
    assert run("init", *arguments, "--unit-field", "author").status == 0
    assert 'corpus = "data/notes.jsonl"' in (project / "pyproject.toml").read_text()
    found = settings(project)
    assert (found.model, found.text_field, found.unit_field) == ("distilgpt2", "body", "author")
    assert found.batch_size == 3  # of thirty authors
    assert 'unit="author"' in (project / "test_fairness.py").read_text()


def test_a_corpus_that_cannot_be_read_is_told_before_anything_is_written(run, project):
    shown = run("init", "--corpus", "nothing.jsonl")
    assert shown.status == 2
    assert "there is no corpus at" in shown.err
    assert names(project) == []


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_the_table_is_added_to_what_is_there(run, project, end):
    line = "\r\n" if end == "\r\n" else "\n"
    before = f'[project]{line}name = "mine"  # kept{end}'
    path = project / "pyproject.toml"
    path.write_bytes(before.encode())
    path.chmod(0o640)
    assert run("init").status == 0
    after = path.read_bytes().decode()
    assert after.startswith(before)
    assert after.count("\n") == after.count(line)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert settings(project).seeds == 5


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ("[tool.fairtest]\nseeds = 2\n", "has a [tool.fairtest] table already"),
        ("[tool.fairtest]\n", "has a [tool.fairtest] table already"),
        ("tool = { other = 1 }\n", "a [tool.fairtest] table cannot be added to pyproject.toml"),
        ("[tool\n", "pyproject.toml is not valid TOML"),
    ],
)
@pytest.mark.parametrize("force", [(), ("--force",)])
def test_a_settings_table_is_never_replaced(run, project, table, told, force):
    (project / "pyproject.toml").write_text(table)
    shown = run("init", "--sample", *force)
    assert shown.status == 2
    assert told in shown.err
    assert (project / "pyproject.toml").read_text() == table
    assert names(project) == ["pyproject.toml"]


@pytest.mark.parametrize("name", ["test_fairness.py", "records.jsonl"])
def test_a_file_that_is_there_is_overwritten_by_force_alone(run, project, name):
    (project / name).write_text("mine")
    shown = run("init", "--sample")
    assert shown.status == 2
    assert f"{name} is there already" in shown.err
    assert "--force" in shown.err
    assert names(project) == [name]
    assert (project / name).read_text() == "mine"
    assert run("init", "--sample", "--force").status == 0
    assert (project / name).read_text() != "mine"


def test_a_write_that_fails_leaves_nothing(run, project, monkeypatch):
    from pathlib import Path

    def full(self, mode):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "chmod", full)
    shown = run("init", "--sample")
    assert shown.status == 2
    assert "cannot be written: No space left on device" in shown.err
    assert names(project) == []


def test_a_gate_test_goes_where_tests_are(run, project, tmp_path, monkeypatch):
    (project / "tests").mkdir()
    monkeypatch.chdir(tmp_path)
    shown = run("init", "project")
    assert "Next, in project:" in shown.out
    assert names(project) == ["pyproject.toml", "tests"]
    assert names(project / "tests") == ["test_fairness.py"]


def test_a_directory_that_is_not_there(run, project):
    shown = run("init", "elsewhere")
    assert shown.status == 2
    assert "mkdir -p elsewhere" in shown.err
