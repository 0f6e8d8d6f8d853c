"""`fairtest cache ls | gc | verify` as a user meets them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import pytest

from fairtest.settings import Settings
from fairtest.store import Store
from fairtest.store.listing import listed

MADE = """
import json, sys
from pathlib import Path
from fairtest.settings import Settings
from fairtest.digests import digest_of
from fairtest.store import Store

store, settings = Store(Path(sys.argv[1])), Settings(steps=4)
for name in ("baseline", "dp_cda"):
    for seed in range(2):
        key = {"model": "m" * 64, "corpus": "c", "arm": settings.arms()[name].as_dict(), "seed": seed}
        store.obtain_json("run", key, lambda: {"weights": "w" * 2000})
        store.obtain_json("scores", {"run": digest_of(key), "probes": "p"}, lambda: {"x": [1.0]})
other = {"model": "m" * 64, "corpus": "c", "arm": Settings(steps=9, epsilon=8.0).arms()["dp"].as_dict(), "seed": 0}
store.obtain_json("run", other, lambda: {})
store.obtain_json("held-out", {"run": digest_of({"model": "m" * 64})}, lambda: {"nll": [1.0]})
store.obtain_json("held-out", {"run": "f" * 64}, lambda: {"nll": [1.0]})
"""


@pytest.fixture
def store(tmp_path, monkeypatch):
    """The store of a project, made by a process that has ended; dp_cda was last used 40 days ago."""
    (tmp_path / "pyproject.toml").write_text("[tool.fairtest]\nsteps = 4\n")
    monkeypatch.chdir(tmp_path)
    root = tmp_path / ".fairtest"
    subprocess.run([sys.executable, "-c", MADE, str(root)], check=True)
    private = json.loads(json.dumps(Settings(steps=4).arms()["dp_cda"].as_dict()))
    for entry in listed(root):
        if entry.key.get("arm") == private:
            then = time.time() - 40 * 86_400
            os.utime(entry.path / "entry.json", (then, then))
    return root


def runs(root):
    return [entry for entry in listed(root) if entry.kind == "run"]


@pytest.mark.parametrize("columns", [80, 120])
def test_ls_shows_kinds_and_runs_by_arm(run, store, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    shown = run("cache", "ls")
    assert shown.status == 0
    lines = shown.out.splitlines()
    assert "11 entries, " in " ".join(shown.out.split())
    assert any(line.split()[:2] == ["run", "5"] for line in lines)
    text = shown.out
    assert "baseline, seed 0" in text
    assert "dp_cda, seed 1" in text
    assert "epsilon 8.0, 9 steps, seed 0" in text
    assert any(line.startswith("dp_cda, seed 0") and line.endswith("40 d ago") for line in lines)
    assert max(len(line) for line in lines if str(store) not in line) <= columns


def test_ls_of_everything_and_as_json(run, store):
    text = run("cache", "ls", "--all").out
    assert "scores of dp_cda, seed 1" in text
    assert "held-out losses of pretrained" in text
    assert "held-out losses of a run that is gone" in text
    document = json.loads(run("cache", "ls", "--json").out)
    assert len(document["entries"]) == 11
    (one,) = (row for row in document["entries"] if row["name"] == "baseline, seed 1")
    assert (one["kind"], one["key"]["seed"], one["bytes"] > 2000) == ("run", 1, True)


def test_gc_without_a_limit_removes_no_entry_and_names_the_limits(run, store):
    shown = run("cache", "gc")
    assert shown.status == 0
    assert "freed 0 B: 0 entries, 0 unfinished pieces; 11 entries kept" in shown.out
    assert "--older-than DAYS or --keep-size GB" in shown.out


def test_gc_removes_what_is_old_and_says_what(run, store):
    would = run("cache", "gc", "--older-than", "30", "--dry-run").out
    assert len(runs(store)) == 5
    shown = run("cache", "gc", "--older-than", "30").out
    assert would.replace("would remove", "removed").replace("would free", "freed") == shown
    assert "(dp_cda, seed 0)" in shown
    assert len(runs(store)) == 3
    assert "0 entries kept" in run("cache", "gc", "--keep-size", "0").out


def test_gc_leaves_what_a_living_process_uses(run, store):
    kept = runs(store)[0]
    assert Store(store).find("run", kept.key) is not None
    shown = run("cache", "gc", "--older-than", "0").out
    assert f"left {kept.name}: in use" in shown
    assert [entry.digest for entry in listed(store)] == [kept.digest]


@pytest.mark.parametrize("value", ["-1", "nan", "much"])
def test_gc_refuses_a_limit_that_is_none(run, store, value):
    shown = run("cache", "gc", f"--older-than={value}")
    assert shown.status == 2
    assert len(listed(store)) == 11


def test_verify_finds_damage_and_removes_it_where_asked(run, store):
    assert run("cache", "verify").out.splitlines()[-1] == "11 entries sound, 0 damaged"
    first, second = runs(store)[:2]
    (first.path / "value.json").write_text("{")
    (second.path / "entry.json").write_text("nonsense")
    shown = run("cache", "verify")
    assert shown.status == 1
    told = " ".join(shown.out.split())
    assert f"damaged: {first.name}: value.json has 1 bytes" in told
    assert f"damaged: {second.name}: entry.json cannot be read" in told
    assert "9 entries sound, 2 damaged" in told
    assert "verify --remove" in told
    assert len(runs(store)) == 5
    again = run("cache", "verify", "--remove")
    assert again.status == 0
    assert f"removed {first.name}" in again.out
    assert len(runs(store)) == 3
    assert run("cache", "verify").status == 0


def test_verify_tells_of_unfinished_pieces(run, store):
    (store / "work" / f"run-{'0' * 32}-12345678").mkdir()
    assert "1 unfinished piece (0 B) of killed processes: fairtest cache gc" in run("cache", "verify").out
    assert "1 unfinished piece" in run("cache", "gc").out
    assert list((store / "work").iterdir()) == []


@pytest.mark.parametrize("action", ["ls", "gc", "verify"])
def test_a_store_that_is_not_there_is_not_made(run, tmp_path, monkeypatch, action):
    monkeypatch.chdir(tmp_path)
    shown = run("cache", action)
    assert shown.status == 2
    assert "there is no store" in shown.err
    assert list(tmp_path.iterdir()) == []


def test_a_store_named_by_hand_needs_no_settings(run, store, tmp_path):
    (tmp_path / "pyproject.toml").write_text("[tool.fairtest]\nstep = 4\n")
    assert run("cache", "ls").status == 2
    shown = run("cache", "ls", "--cache-dir", store)
    assert shown.status == 0
    assert "not private, 4 steps, seed 0" in shown.out
