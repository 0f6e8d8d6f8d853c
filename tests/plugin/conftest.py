"""What the tests of the plugin share: sessions with and without workers, and one store that is warm."""

from __future__ import annotations

import json
import shutil

import pytest
from plugin_sessions import CONFTEST, GATES, HELPERS, SETTINGS, SETTLED, means, session_in

from fairtest.tiny.generator import corpus


@pytest.fixture(params=[(), ("-n", "2")], ids=["one process", "two workers"])
def workers(request):
    """Every test that takes it runs twice: an option does the same whoever runs the tests."""
    return request.param


@pytest.fixture
def session(pytester):
    """Runs one test file under some settings and options."""

    def run(test, *options, settings=""):
        pytester.makepyprojecttoml(f"[tool.fairtest]\n{settings}\n")
        pytester.makepyfile(test_it=test)
        return pytester.runpytest_subprocess("-p", "no:cacheprovider", "-W", "default", *options)

    return run


@pytest.fixture(scope="session")
def first_session(tmp_path_factory):
    """(what the session said, project) of the one session that trains: nobody writes into that project."""
    project = tmp_path_factory.mktemp("project")
    (project / "pyproject.toml").write_text(f"[tool.pytest.ini_options]\naddopts = ''\n[tool.fairtest]\n{SETTINGS}")
    rows = [
        {"id": str(index), "text": record.text, "group": record.group}
        for index, record in enumerate(corpus("private", 0.65, 300, seed=1))
    ]
    (project / "records.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (project / "test_it.py").write_text(HELPERS)
    return session_in(project, "test_it.py"), project


@pytest.fixture
def warm_project(first_session, tmp_path):
    """A copy of a project whose arms `baseline`, `dp` and `dp_eps8_cda` are in its store, without its tests."""
    project = tmp_path / "warm"
    shutil.copytree(first_session[1], project, ignore=shutil.ignore_patterns("test_*.py", "__pycache__", "report"))
    return project


@pytest.fixture
def project_of_numbers(tmp_path):
    """Arms of numbers, so that a session takes a second."""
    (tmp_path / "pyproject.toml").write_text(
        "[tool.pytest.ini_options]\naddopts = ''\n[tool.fairtest]\nundecided = 'warn'\n"
    )
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_gates.py").write_text(GATES)
    means(tmp_path, dp=0.7, cda=0.3)
    return tmp_path


@pytest.fixture
def gates_session(pytester):
    pytester.makepyfile(test_gates=SETTLED)

    def run(*options, family="show"):
        pytester.makepyprojecttoml(f'[tool.fairtest]\nfamily = "{family}"\n')
        return pytester.runpytest_subprocess("-p", "no:cacheprovider", "--fairtest-report=out", *options)

    return run
