"""`fairtest run` as a user meets it: four steps of the embedded model."""

from __future__ import annotations

import dataclasses
import re
import signal
import subprocess
import sys
import time

import pytest

from fairtest.commands.project import project_settings
from fairtest.commands.run import _wanted
from fairtest.errors import MetricError
from fairtest.experiments.arms import Arms
from fairtest.experiments.experiment import Experiment
from fairtest.gates.measure import measure
from fairtest.scoring.generation_protocols import parse_generation
from fairtest.scoring.text_scorers import TOXICITY_VARIABLE
from fairtest.store import Store
from fairtest.tiny.generator import corpus, write_jsonl

SETTINGS = """[tool.fairtest]
corpus = "records.jsonl"
seeds = 2
steps = 4
batch_size = 16
max_length = 48
threads = 1
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    (tmp_path / "pyproject.toml").write_text(SETTINGS)
    write_jsonl(corpus("private", 0.65, 200, seed=1), tmp_path / "records.jsonl", prefix="r")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def settings_here():
    return project_settings(command_line={})[0]


def table(text):
    return [tuple(re.split(r" {2,}", line)) for line in text.splitlines() if re.match(r"\w+ +(\d|-) ", line)]


def test_a_line_a_run_then_from_the_store_and_gates_find_them(run, project):
    first = run("run", "pretrained", "baseline", "dp", "--score", "templates[gender]")
    assert first.status == 0, first.err
    assert "4 runs: 0 in the store, 4 to train, about " in first.out
    rows = table(first.out)
    assert [row[:3] for row in rows] == [
        ("pretrained", "-", "as it is"),
        ("baseline", "0", "trained"),
        ("baseline", "1", "trained"),
        ("dp", "0", "trained"),
        ("dp", "1", "trained"),
    ]
    assert all(float(row[4]) > 1 for row in rows)
    assert re.search(r"^4 runs: 4 trained \(\d+ s\), 0 from the store$", first.out, flags=re.MULTILINE)
    assert re.search(r"^dp: epsilon 2\.9\d at delta .* per record", first.out, flags=re.MULTILINE)
    assert first.err == ""
    again = run("run", "dp", "dp", "baseline")
    assert [row[:4] for row in table(again.out)] == [
        ("dp", "0", "from store", "-"),
        ("dp", "1", "from store", "-"),
        ("baseline", "0", "from store", "-"),
        ("baseline", "1", "from store", "-"),
    ]
    (project / "test_it.py").write_text(
        "def test_it(arms, fairness):\n    fairness.measure(arms.baseline, 'templates.log_ratio[gender]')\n"
    )
    gate = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"], capture_output=True, text=True, check=False
    )
    assert gate.returncode == 0, gate.stdout
    assert "2 runs from the store" in gate.stdout


def test_what_a_model_writes_is_scored_for_the_metrics_that_read_it(run, project, monkeypatch):
    pytest.importorskip("vaderSentiment")
    monkeypatch.delenv(TOXICITY_VARIABLE, raising=False)
    shown = run("run", "pretrained", "--score", "occupation_prompts", "--score", "completions[gender]")
    assert shown.status == 0, shown.err
    assert "scored on occupation_prompts[gender], completions[gender]" in shown.out
    kept = [entry.key for entry in Store(project / ".fairtest").entries("scores")]
    assert sorted(parse_generation(key["protocol"]).scorer for key in kept) == ["first_pronoun", "vader"]
    monkeypatch.setattr(Experiment, "loaded", lambda *_: pytest.fail("a forward pass"))
    experiment = Experiment(settings_here(), Store(project / ".fairtest"))
    for metric in ("occupation_prompts.sentiment_gap_max[gender]", "completions.pronoun_gap"):
        measure(Arms(experiment).pretrained, metric, confidence=0.95)


def test_toxicity_is_scored_where_something_says_what_it_is(project, monkeypatch):
    pytest.importorskip("vaderSentiment")
    monkeypatch.setenv(TOXICITY_VARIABLE, "vader")
    experiment = Experiment(settings_here(), Store(project / ".fairtest"))
    scorers = [parse_generation(protocol).scorer for protocol in _wanted(experiment, "prompts").protocols]
    assert scorers == ["toxicity", "vader"]
    monkeypatch.setenv(TOXICITY_VARIABLE, "no such scorer")
    with pytest.raises(MetricError, match="unknown text scorer 'no such scorer'"):
        _wanted(experiment, "prompts")
    monkeypatch.delenv(TOXICITY_VARIABLE)
    with pytest.raises(MetricError, match="compares two groups, and only axis 'gender' has just two"):
        _wanted(experiment, "prompts[race]")


def test_published_prompts_are_named_like_others(project, data_dir):
    pytest.importorskip("vaderSentiment")
    settings = dataclasses.replace(settings_here(), data_dir=str(data_dir))
    wanted = _wanted(Experiment(settings, Store(project / ".fairtest")), "bold")
    assert str(wanted) == "bold[gender]"
    assert [parse_generation(protocol).scorer for protocol in wanted.protocols][-1] == "vader"


def test_an_interrupted_run_goes_on_where_it_was(run, project):
    (project / "pyproject.toml").write_text(SETTINGS.replace("steps = 4", "steps = 12"))
    command = [sys.executable, "-m", "fairtest", "run", "baseline", "--seeds", "3"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            if line.startswith("baseline"):
                break
        time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
        process.wait(60)
    rows = table(run("run", "baseline", "--seeds", "3").out)
    assert rows[0][2] == "from store"
    assert rows[-1][1] == "2"
    assert list((project / ".fairtest" / "work").iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("dp_cdaa",), "did you mean 'dp_cda'?"),
        (("--score", "templtes"), "did you mean 'templates'?"),
        (("--score", "templates[gendr]"), "axes it has: gender, race, religion"),
        (("--score", "[gender]"), "does not name a probe set"),
        (("--seeds", "0"), "setting 'seeds' must be"),
    ],
)
def test_a_mistake_is_told_before_anything_is_trained(run, project, arguments, told):
    shown = run("run", *arguments)
    assert shown.status == 2
    assert told in shown.err
    assert shown.out == ""
    assert not list((project / ".fairtest").glob("entries/run/*"))


def test_without_settings_it_names_init(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shown = run("run")
    assert shown.status == 2
    assert "fairtest init writes one" in shown.err


def test_a_trainer_of_ones_own_is_pytests_alone_and_that_is_said(run, project):
    (project / "conftest.py").write_text("import pytest\n\n@pytest.fixture\ndef fairtest_trainer():\n    return None\n")
    shown = run("run", "pretrained")
    assert "has a fixture fairtest_trainer, which only pytest uses" in " ".join(shown.out.split())
