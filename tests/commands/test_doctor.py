"""`fairtest doctor` as a user meets it."""

from __future__ import annotations

import importlib.metadata
import json
import re

import pytest
from repository import REPOSITORY

from fairtest.commands.tested import TESTED
from fairtest.store import Store
from fairtest.tiny.generator import corpus, write_jsonl


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project with nothing missing."""
    monkeypatch.delenv("FAIRTEST_DATA_DIR", raising=False)
    settings(tmp_path)
    write_jsonl(corpus("private", 0.65, 200, seed=1), tmp_path / "records.jsonl", prefix="r")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def settings(project, more=""):
    table = f'[tool.fairtest]\ncorpus = "records.jsonl"\nbatch_size = 16\nthreads = 1\n{more}'
    (project / "pyproject.toml").write_text(table)


@pytest.fixture
def doctor(run, project):
    """Exit status and the checks by name."""

    def call():
        shown = run("doctor", "--json", project / "doctor.json")
        checks = json.loads((project / "doctor.json").read_text())["checks"]
        assert max(map(len, shown.out.splitlines())) <= 80 + len(str(project))
        return shown, {check["name"]: check for check in checks}

    return call


def test_a_sound_project_needs_nothing_and_the_store_is_not_made(doctor, project):
    shown, checks = doctor()
    assert shown.status == 0, shown.out
    assert shown.out.splitlines()[-1] == "nothing that the settings need is missing"
    assert checks["settings"]["text"].startswith(f"settings in {project}: 3 from pyproject.toml [tool.fairtest]")
    assert checks["corpus"]["text"].startswith("corpus records.jsonl: 200 records; ")
    assert checks["model"]["text"].startswith("model fairtest/tiny: embedded, SHA-256 ")
    assert checks["store"]["text"].endswith("made at first use")
    assert (checks["data_dir"]["status"], checks["data_dir"]["needed"]) == ("missing", False)
    assert {"python", "torch", "transformers", "opacus", "threads", "plugin", "ci", "extra lora"} <= set(checks)
    assert not (project / ".fairtest").exists()


@pytest.mark.parametrize(
    ("more", "name", "expected"),
    [
        ('corpsu = "x"\n', "settings", ("unknown setting 'corpsu'", "did you mean 'corpus'?")),
        ("batch_size = 500\n", "corpus", ("a batch of 500 units cannot be sampled", "give a batch_size of at most")),
        ('text_field = "body"\n', "corpus", ("body", "")),
        ('model = "no such model!"\n', "model", ("no such directory, and no hub id", "give an existing directory")),
        ('data_dir = "nowhere"\n', "data_dir", ("there is no directory", "correct the setting data_dir")),
        ('unit = "document"\nunit_field = "group"\nmodel = "records.jsonl"\n', "model", ("is a file", "directory")),
    ],
)
def test_what_the_settings_need_is_told_with_its_repair(doctor, project, more, name, expected):
    told, fix = expected
    settings(project, more)
    (project / "pyproject.toml").write_text(
        (project / "pyproject.toml")
        .read_text()
        .replace("batch_size = 16\n", "" if "batch_size" in more else "batch_size = 4\n")
    )
    shown, checks = doctor()
    assert shown.status == 1
    assert checks[name]["status"] != "ok"
    assert told in checks[name]["text"]
    assert fix in checks[name]["fix"]
    assert shown.out.splitlines()[-1].startswith("to repair: ")


def test_a_directory_without_settings_is_sent_to_init(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shown = run("doctor")
    assert shown.status == 1
    assert "fairtest init writes a first gate test" in shown.out


def test_a_corpus_that_the_embedded_model_cannot_read(doctor, project):
    rows = [json.dumps({"text": f"Quarterly turbine telemetry deviates by {n} kelvin."}) for n in range(200)]
    (project / "records.jsonl").write_text("\n".join(rows))
    _, checks = doctor()
    assert "of its words are unknown to fairtest/tiny" in checks["corpus"]["text"]


@pytest.mark.parametrize("offline", [True, False])
def test_a_model_of_the_hub_is_looked_for_in_the_cache_alone(doctor, project, monkeypatch, offline):
    import huggingface_hub

    asked = []

    def nothing(name, **options):
        asked.append(options)
        raise OSError("not cached")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", nothing)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", offline)
    settings(project, 'model = "someone/some-model"\n')
    shown, checks = doctor()
    assert asked == [{"local_files_only": True}]
    assert (checks["model"]["status"], checks["model"]["needed"]) == ("missing", offline)
    assert shown.status == (1 if offline else 0)


def test_a_package_that_is_missing_or_too_old(doctor, monkeypatch):
    real = importlib.metadata.version

    def version(name):
        if name == "opacus":
            return "1.0"
        if name == "peft":
            raise importlib.metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    shown, checks = doctor()
    assert shown.status == 1
    assert "opacus 1.0; fairtest needs >=1.5" in checks["opacus"]["text"]
    assert checks["extra lora"]["text"].endswith("no peft; no setting needs it")
    assert checks["extra lora"]["fix"] == 'pip install "fairtest[lora]"'


def test_an_extra_that_a_setting_needs(doctor, project, monkeypatch):
    real = importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "0.1" if name == "peft" else real(name))
    settings(project, 'trainable = "lora"\n')
    shown, checks = doctor()
    assert shown.status == 1
    assert checks["extra lora"]["needed"]
    assert "to repair: extra lora" in shown.out


def test_what_killed_processes_left_is_told(doctor, project):
    Store(project / ".fairtest").obtain_json("run", {"a": 1}, dict)
    (project / ".fairtest" / "work" / f"run-{'0' * 32}-12345678").mkdir()
    shown, checks = doctor()
    assert checks["store"]["text"].split(": ")[-1].startswith("1 entry, ")
    assert (checks["leftovers"]["status"], checks["leftovers"]["fix"]) == ("problem", "fairtest cache gc removes them")
    assert shown.status == 0


def test_a_build_server_and_a_plugin_that_is_loaded_twice(doctor, project, monkeypatch):
    monkeypatch.setenv("CI", "true")
    (project / "conftest.py").write_text('pytest_plugins = ["pytest_fairtest.plugin"]\n')
    shown, checks = doctor()
    assert checks["ci"]["text"] == "a build server (CI is set): an undecided gate fails its test"
    assert checks["conftest"]["status"] == "problem"
    assert shown.status == 1


def test_published_probe_sets_are_found(doctor, project, data_dir, monkeypatch):
    monkeypatch.setenv("FAIRTEST_DATA_DIR", str(data_dir))
    _, checks = doctor()
    assert checks["probes crows_pairs"]["text"] == "probe set crows_pairs: 1,508 items, version anonymized"


def test_the_tested_versions_are_those_of_the_constraints():
    text = (REPOSITORY / "constraints.txt").read_text(encoding="utf-8")
    pinned = dict(re.findall(r"^([\w-]+)==([\w.]+)", text, flags=re.MULTILINE))
    assert {name: pinned.get(name) for name in TESTED} == TESTED
