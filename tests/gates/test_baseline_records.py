"""What a session writes: once, only what was recorded, and nothing of what is in doubt."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from baseline_entries import MODEL, entry, key
from repository import CI_VARIABLES

from fairtest.gates.baselines.entry import BaselineError
from fairtest.gates.baselines.files import load, update
from fairtest.gates.baselines.records import apply_records, under_ci

ROWS = [[0.1, 0.2], [0.3, 0.4]]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "baselines" / "f.json"


def record(path, rows=None, *, arm="dp", status="recorded", test="test_it.py::test_gate"):
    found = {"file": str(path), "model": MODEL, "key": key(arm).text, "status": status, "test": test}
    if status == "recorded":
        found["entry"] = entry(rows or ROWS, arm=arm).as_dict()
    return json.loads(json.dumps(found))


def test_what_was_recorded_is_written_with_old_and_new(path):
    lines = apply_records([record(path), record(path, arm="dp_cda")], recording=True)
    assert lines == [
        f"baselines: 2 written to {path}, commit it",
        "  dp, templates.log_ratio[gender]: none -> 0.25 [-0.25, 0.75] nats, 2 seeds",
        "  dp_cda, templates.log_ratio[gender]: none -> 0.25 [-0.25, 0.75] nats, 2 seeds",
    ]
    assert load(path).get(key("dp")) == entry(ROWS)
    again = apply_records([record(path)], recording=True)
    assert again[0] == f"baselines: 0 written to {path}"
    assert "unchanged" in again[1]


def test_paths_are_shown_as_seen_from_here(path, monkeypatch):
    monkeypatch.chdir(path.parent.parent)
    assert (
        apply_records([record(path)], recording=True)[0]
        == f"baselines: 1 written to {Path('baselines/f.json')}, commit it"
    )


def test_a_session_that_only_compared_writes_nothing(path):
    assert apply_records([record(path, status="compared")], recording=True) == []
    assert apply_records([record(path)], recording=False) == []
    assert not path.parent.exists()


def test_a_key_that_one_test_could_not_record_is_not_written_from_another(path):
    blocked = record(path, status="blocked", test="test_b.py::test_other")
    lines = apply_records([record(path), blocked, record(path, arm="cda")], recording=True)
    assert "  dp, templates.log_ratio[gender]: NOT recorded, a guard is not met" in lines[-1]
    assert "test_b.py::test_other" in lines[-1]
    assert list(load(path).entries) == [key("cda")]


def test_two_tests_with_other_settings_do_not_overwrite_each_other(path):
    other = record(path, [[0.9, 0.2], [0.3, 0.4]], test="test_b.py::test_other")
    lines = apply_records([record(path), other], recording=True)
    assert "tests with other settings give this arm other values" in lines[-1]
    assert "test_b.py::test_other" in lines[-1]
    assert not path.exists()


def test_of_two_tests_with_more_and_fewer_of_the_same_seeds_the_more_are_kept(path):
    apply_records([record(path, ROWS[:1]), record(path), record(path, ROWS[:1])], recording=True)
    assert load(path).get(key("dp")).seeds == 2


def test_unused_entries_are_listed_after_a_complete_session_and_removed_on_request(path):
    update(path, [entry(ROWS, arm=arm) for arm in ("dp", "gone")], MODEL)
    nobody = path.with_name("nobody.json")
    update(nobody, [entry(ROWS, arm="old")], "other")
    used = [record(path, status="compared")]
    assert apply_records(used) == []
    lines = apply_records(used, complete=True)
    assert lines[0] == f"no test asks for 1 baseline in {path} (--fairtest-prune removes them)"
    assert key("gone").text in lines[1]
    assert key("old").text in lines[3]
    assert len(load(path).entries) == 2
    lines = apply_records(used, complete=True, pruning=True)
    assert lines[0] == f"pruned 1 baseline that no test asks for from {path}"
    assert list(load(path).entries) == [key("dp")]
    assert not nobody.exists()


def test_nothing_is_pruned_where_a_test_did_not_run(path):
    update(path, [entry(ROWS, arm="other")], MODEL)
    lines = apply_records([record(path, status="compared")], pruning=True, complete=False)
    assert "no baseline was pruned" in lines[0]
    assert list(load(path).entries) == [key("other")]


def test_a_file_beside_them_that_is_no_baseline_stays(path):
    update(path, [entry(ROWS)], MODEL)
    foreign = path.with_name("notes.json")
    foreign.write_text("[]")
    lines = apply_records([record(path, status="compared")], pruning=True, complete=True)
    assert lines == [f"baselines: {foreign}: the baselines are no JSON object"]
    assert foreign.exists()


def test_many_unused_entries_are_counted(path):
    update(path, [entry(ROWS, arm=f"arm{number:02}") for number in range(14)], MODEL)
    lines = apply_records([record(path, arm="dp", status="compared")], complete=True)
    assert len(lines) == 12
    assert lines[-1] == "  and 4 more"


@pytest.mark.parametrize("asked", [{"recording": True}, {"pruning": True}])
def test_nothing_is_written_on_a_build_server(path, asked):
    with pytest.raises(BaselineError, match="not written on a build server"):
        apply_records([record(path)], ci=True, complete=True, **asked)
    assert not path.exists()


@pytest.mark.parametrize("name", CI_VARIABLES)
def test_build_servers_are_known_by_what_they_set(monkeypatch, name):
    for variable in CI_VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    assert not under_ci()
    monkeypatch.setenv(name, "1")
    assert under_ci()
