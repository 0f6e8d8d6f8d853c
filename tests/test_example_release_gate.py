"""The release gate shows a gate that holds and one that catches a real amplification, or this fails."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest
from repository import REPOSITORY

EXAMPLE = REPOSITORY / "examples" / "release_gate"


@pytest.fixture(scope="module")
def released(tmp_path_factory):
    where = tmp_path_factory.mktemp("example") / "release_gate"
    shutil.copytree(EXAMPLE, where, ignore=shutil.ignore_patterns(".fairtest", "__pycache__"))
    command = [sys.executable, "-m", "pytest", str(where)]
    first = subprocess.run(command, cwd=where.parent, capture_output=True, text=True, check=False)
    return where, command, first


def test_the_example_passes_and_shows_each_outcome(released):
    where, _, first = released
    assert first.returncode == 0, first.stdout + first.stderr
    assert "4 passed, 1 xfailed" in first.stdout
    report = json.loads((where / ".fairtest/report/report.json").read_text())
    found = {(gate["gate"], gate["candidate"], gate["reference"]): gate for gate in report["gates"]}
    amplified = found["no_amplification", "dp", "baseline"]
    assert amplified["verdict"] == "FAIL"
    assert amplified["change"]["low"] > amplified["allowed"]
    assert "dp keeps bias of the pretrained model that baseline removed" in amplified["finding"]
    for key in (("no_amplification", "dp_cda", "baseline"), ("no_amplification", "cda", "baseline")):
        assert found[key]["verdict"] == "PASS"
        assert found[key]["change"]["high"] <= found[key]["allowed"] == amplified["allowed"]
    assert found["privacy", "dp_cda", ""]["verdict"] == "PASS"
    assert 2.9 < found["privacy", "dp_cda", ""]["change"]["value"] <= 3.0
    assert found["utility", "dp_cda", "baseline"]["verdict"] == "PASS"
    assert all(gate["seeds"] == 8 for gate in report["gates"] if gate["items"])
    assert report["arms"]["dp_cda"]["statement"]["max_views_per_unit"] == 2
    assert report["summary"]["runs_trained"] == 32


def test_the_readme_shows_what_the_example_measures(released):
    where, _, _ = released
    report = json.loads((where / ".fairtest/report/report.json").read_text())
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    shown = readme.split("```text\n")[1].split("```")[0]
    verdicts = [line.split()[0] for line in shown.splitlines()[1:-1] if not line.startswith((" ", "note:"))]
    assert verdicts == [gate["verdict"] for gate in report["gates"]]
    for gate in report["gates"]:
        # Another processor rounds otherwise, and rounding grows over forty steps: near, not equal.
        nearest = min(abs(float(word) - gate["change"]["value"]) for word in shown.split() if _is_number(word))
        assert nearest < 0.05, gate


def test_a_second_run_takes_everything_from_the_store(released):
    where, command, _ = released
    again = subprocess.run(command, cwd=where.parent, capture_output=True, text=True, check=False)
    assert again.returncode == 0
    assert "32 runs from the store" in again.stdout
    assert "fairtest: train" not in again.stdout + again.stderr


def test_the_corpus_is_what_the_generator_makes(tmp_path):
    words = (EXAMPLE / "README.md").read_text(encoding="utf-8").replace("\n", " ").split("`python -m ")[1].split("`")[0]
    command = words.replace("--out records.jsonl", f"--out {tmp_path / 'records.jsonl'}").split()
    subprocess.run([sys.executable, "-m", *command], check=True)
    assert (tmp_path / "records.jsonl").read_bytes() == (EXAMPLE / "records.jsonl").read_bytes()


def _is_number(word):
    try:
        float(word)
    except ValueError:
        return False
    return True
