"""An experiment keeps what frozen layers put out: for all arms, seeds, scoring and later sessions."""

from __future__ import annotations

import pytest

from fairtest.experiments.arms import Arms
from fairtest.experiments.experiment import Experiment
from fairtest.settings import Settings
from fairtest.store import Store
from fairtest.store.checking import damage_of
from fairtest.store.listing import listed
from fairtest.store.naming import entry_name
from fairtest.tiny.generator import corpus, write_jsonl
from fairtest.training import trunk_store
from fairtest.training.trunk import Trunk

STEPS = {"steps": 2, "batch_size": 64, "max_length": 48, "threads": 1, "seeds": 2, "trainable": "last:1"}


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    path = tmp_path_factory.mktemp("corpus") / "records.jsonl"
    write_jsonl(corpus("private", 0.65, 400, seed=1), path, prefix="r")
    return path


def experiment(records, store, **changes):
    return Experiment(Settings(**{"corpus": str(records), **STEPS, **changes}), Store(store))


def trunks(root):
    return [entry for entry in listed(root) if entry.kind == "trunk"]


@pytest.fixture(autouse=True)
def _a_few_rows_are_worth_storing(monkeypatch):
    monkeypatch.setattr(trunk_store, "_LEAST_BYTES", 1)


@pytest.fixture
def computed(monkeypatch):
    """How many rows went through frozen layers."""
    rows, real = [], Trunk._run

    def run(self, some):
        rows.extend(some)
        return real(self, some)

    monkeypatch.setattr(Trunk, "_run", run)
    return rows


def test_a_later_session_runs_no_frozen_layer_again(records, tmp_path, computed, monkeypatch):
    monkeypatch.setattr("fairtest.training.trunk._is_exact", lambda *_: True)  # runs frozen layers too
    first = Arms(experiment(records, tmp_path))
    scores = [one.log_probs for one in first.baseline.scores("templates", "gender")]
    assert len(computed) == len(set(computed)) > 400
    stored = trunks(tmp_path)
    assert sum(entry.result["rows"] for entry in stored) <= len(computed)
    assert all(damage_of(entry) is None for entry in stored)
    model = experiment(records, tmp_path).source.digest[:12]
    assert {entry_name(entry, {}) for entry in stored} == {f"frozen layers of model {model}"}

    computed.clear()
    later = Arms(experiment(records, tmp_path, learning_rate=1e-3))
    changed = [one.log_probs for one in later.baseline.scores("templates", "gender")]
    assert computed == []
    assert changed != scores
    assert {entry.digest for entry in trunks(tmp_path)} == {entry.digest for entry in stored}


def test_a_store_that_may_not_hold_them_holds_none_and_the_run_is_the_same(records, tmp_path, computed):
    runs = {}
    for kept in (True, False):
        store = tmp_path / str(kept)
        made = experiment(records, store, seeds=1, store_frozen_layers=kept)
        runs[kept] = (Arms(made).baseline.identity, Arms(made).baseline.train()[0]["losses"])
        assert bool(trunks(store)) == kept
    assert computed
    assert runs[True] == runs[False]


def test_scores_are_those_of_whole_models(records, tmp_path, monkeypatch):
    kept = Arms(experiment(records, tmp_path / "kept", seeds=1)).baseline.scores("templates", "gender")
    monkeypatch.setattr("fairtest.training.trunk.split_trunk", lambda *_, **__: None)
    plain = Arms(experiment(records, tmp_path / "plain", seeds=1)).baseline.scores("templates", "gender")
    assert trunks(tmp_path / "kept")
    assert trunks(tmp_path / "plain") == []
    for role, expected in plain[0].log_probs.items():
        assert list(kept[0].log_probs[role]) == pytest.approx(list(expected), rel=1e-5)
