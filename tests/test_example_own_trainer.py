"""A training loop of a user's own, with everything of fairtest around it, or this fails."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest
from repository import REPOSITORY

EXAMPLE = REPOSITORY / "examples" / "own_trainer"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    where = tmp_path_factory.mktemp("example") / "own_trainer"
    shutil.copytree(EXAMPLE, where, ignore=shutil.ignore_patterns(".fairtest", "__pycache__"))
    return where, run(where)


def run(where, *options):
    command = [sys.executable, "-m", "pytest", str(where), *options]
    return subprocess.run(command, cwd=where.parent, capture_output=True, text=True, check=False)


def test_the_loop_trains_what_the_gates_judge(trained):
    where, first = trained
    assert first.returncode == 0, first.stdout + first.stderr
    assert "3 passed" in first.stdout
    assert "train cda seed 2 (3 of 3), by conftest.train" in first.stdout + first.stderr
    report = json.loads((where / ".fairtest/report/report.json").read_text())
    assert [gate["verdict"] for gate in report["gates"]] == ["PASS"] * 3
    assert {gate["seeds"] for gate in report["gates"]} == {3}
    # The corpus has less of the stereotype than the base model: training unlearns some, counterfactuals all they can.
    assert all(gate["change"]["value"] < -0.1 for gate in report["gates"] if gate["gate"] == "no_amplification")
    cda = report["arms"]["cda"]
    assert cda["data"]["trainer"] == "conftest.train"
    assert [run["views_per_unit"] for run in cda["training"]] == [2, 2, 2]
    assert report["summary"]["runs_trained"] == 6


def test_a_second_run_takes_everything_from_the_store_and_a_changed_loop_does_not(trained):
    where, _ = trained
    again = run(where)
    assert again.returncode == 0
    assert "6 runs from the store" in again.stdout
    loop = where / "conftest.py"
    whole = loop.read_text()
    # In a function that the trainer calls, not in the trainer itself.
    loop.write_text(whole.replace("return (per_view * shares).sum() / len(batch)", "raise RuntimeError('changed')"))
    changed = run(where, "-k", "utility")
    loop.write_text(whole)
    assert changed.returncode == 1
    assert "trainer conftest.train failed: RuntimeError: changed" in changed.stdout
    assert "where: arm cda, seed 0, conftest.py:" in changed.stdout


def test_a_private_arm_is_refused_by_a_loop_that_adds_no_noise(trained):
    where, _ = trained
    (where / "test_private.py").write_text(
        "def test_private(arms, fairness):\n    fairness.assert_privacy(arms.dp, max_epsilon=3.0)\n"
    )
    refused = run(where, "-k", "test_private")
    (where / "test_private.py").unlink()
    assert refused.returncode == 1
    assert "NotImplementedError: this loop adds no noise" in refused.stdout
    assert "where: arm dp, seed 0" in refused.stdout


def test_the_corpus_is_what_the_generator_makes(tmp_path):
    words = (EXAMPLE / "README.md").read_text(encoding="utf-8").replace("\n", " ").split("`python -m ")[1].split("`")[0]
    command = words.replace("--out records.jsonl", f"--out {tmp_path / 'records.jsonl'}").split()
    subprocess.run([sys.executable, "-m", *command], check=True)
    assert (tmp_path / "records.jsonl").read_bytes() == (EXAMPLE / "records.jsonl").read_bytes()
