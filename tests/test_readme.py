"""Every code block of the README runs, as a newcomer would run it, in an empty directory."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
import yaml
from repository import REPOSITORY

README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
BLOCKS = [(kind, text) for kind, text in re.findall(r"^```(\w+)\n(.*?)^```$", README, flags=re.DOTALL | re.MULTILINE)]


def blocks(kind: str) -> list[str]:
    return [text for found, text in BLOCKS if found == kind]


def run(command, where):
    done = subprocess.run(command, cwd=where, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def newcomer(tmp_path_factory):
    """An empty directory after the README's section on one's own CI was followed (the package is installed already)."""
    where = tmp_path_factory.mktemp("newcomer")
    install, generate = blocks("sh")[1].splitlines()
    assert install.startswith("pip install ")
    words = generate.partition("#")[0].split()
    assert words[:3] == ["python", "-m", "fairtest.tiny"]
    run([sys.executable, *words[1:]], where)
    (where / "pyproject.toml").write_text(blocks("toml")[0])
    (where / "test_release.py").write_text(blocks("python")[0])
    return where


def test_every_block_is_of_a_kind_that_is_run_here():
    assert [kind for kind, _ in BLOCKS] == ["sh", "text", "sh", "toml", "python", "yaml", "python"]


def test_the_first_commands_are_targets_of_the_makefile():
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    for line in blocks("sh")[0].splitlines():
        assert re.search(rf"^{line.split()[1]}:", makefile, flags=re.MULTILINE), line


def test_the_gate_a_newcomer_writes_judges_and_reports(newcomer):
    # Two seeds and few steps: that it runs and judges is the point here; what the example finds has a test of its own.
    pyproject = newcomer / "pyproject.toml"
    pyproject.write_text(pyproject.read_text().replace("steps = 40", "steps = 4"))
    command = [
        sys.executable,
        "-m",
        "pytest",
        "--fairtest-seeds=2",
        "--fairtest-undecided=warn",
        "-p",
        "no:cacheprovider",
    ]
    done = subprocess.run(command, cwd=newcomer, capture_output=True, text=True, check=False)
    assert "3 gates: " in done.stdout, done.stdout + done.stderr
    assert "error" not in done.stdout.lower().replace("userwarning", "")
    assert (newcomer / ".fairtest/report/report.md").is_file()


def test_the_workflow_is_yaml_that_runs_the_gate():
    workflow = yaml.safe_load(blocks("yaml")[0])
    commands = [step["run"] for step in workflow["jobs"]["fairness"]["steps"] if "run" in step]
    assert commands[0].startswith("pip install ")
    assert commands[1].startswith("pytest test_release.py --fairtest-report")


def test_the_library_works_without_pytest(newcomer):
    output = run([sys.executable, "-c", blocks("python")[1]], newcomer)
    assert re.match(r"-?\d+\.\d+ \[-?\d+\.\d+, -?\d+\.\d+\]\n", output)
    assert "Training gives epsilon = " in output
