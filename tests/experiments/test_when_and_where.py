"""When runs are trained (auto, never, always) and who trains several at once."""

from __future__ import annotations

import pytest

from fairtest.errors import SettingsError, StoreError
from fairtest.experiments import executors
from fairtest.experiments.arms import Arms
from fairtest.experiments.experiment import SESSION_VARIABLE, Experiment
from fairtest.settings import Settings
from fairtest.store import Store
from fairtest.tiny.generator import corpus, write_jsonl


@pytest.fixture
def arms(tmp_path):
    records = tmp_path / "records.jsonl"
    write_jsonl(corpus("private", 0.65, 120, seed=1), records, prefix="r")

    def make(**options):
        settings = Settings(
            corpus=str(records),
            cache_dir=str(tmp_path / "store"),
            **{"seeds": 2, "steps": 2, "batch_size": 16, "max_length": 48, "threads": 1, **options},
        )
        return Arms(Experiment(settings, Store(settings.cache_dir)))

    return make


@pytest.mark.parametrize("workers", [1, 2])
def test_never_refuses_what_is_not_there_and_takes_what_is(arms, workers):
    with pytest.raises(StoreError, match="arm 'baseline' with seed 0 is not in the store, and train = 'never'"):
        arms(train="never", workers=workers).baseline.held_out()
    trained = arms().baseline.train()
    assert arms(train="never", workers=workers).baseline.train() == trained
    assert len(arms(train="never", workers=workers).baseline.held_out().nll) == 2


def test_always_trains_anew_once_a_session(arms, monkeypatch):
    kept = arms().baseline
    kept.train()
    for session in ("a", "b"):
        monkeypatch.setenv(SESSION_VARIABLE, session)
        first, second = arms(train="always").baseline, arms(train="always").baseline
        assert [row["losses"] for row in first.train()] == [row["losses"] for row in kept.train()]
        second.train()
        assert all(run["seconds"] is not None for run in first.experiment.ledger.values())
        assert all(run["seconds"] is None for run in second.experiment.ledger.values())
        assert not set(first.identity) & set(kept.identity)


class Here:
    """Trains in this process, and remembers what it was given."""

    def __init__(self, settings):
        self.settings, self.jobs = settings, []

    def run(self, jobs):
        from fairtest.experiments.workers import work

        for job in jobs:
            self.jobs.append((job.spec.name, job.seed))
            yield job, work(job)


class Point:
    value = "package:executor"

    def __init__(self, name, made):
        self.name, self._made = name, made

    def load(self):
        if isinstance(self._made, Exception):
            raise self._made
        return self._made


def test_an_executor_of_a_package_trains_the_runs(arms, monkeypatch):
    made = []

    def executor(settings):
        made.append(Here(settings))
        return made[0]

    monkeypatch.setattr(executors, "entry_points", lambda group: [Point("here", executor)])
    arm = arms(executor="here").baseline
    assert len(arm.train()) == 2
    assert made[0].jobs == [("baseline", 0), ("baseline", 1)]
    assert all(run["seconds"] > 0 for run in arm.experiment.ledger.values())


@pytest.mark.parametrize(
    ("name", "made", "message"),
    [
        ("hare", Here, "unknown executor 'hare'.*did you mean 'here'"),
        ("here", ImportError("no such thing"), "cannot be started: no such thing"),
        ("here", lambda settings: 7, "gives 7, which has no run"),
    ],
)
def test_an_executor_that_cannot_be_had_is_told(arms, monkeypatch, name, made, message):
    monkeypatch.setattr(executors, "entry_points", lambda group: [Point("here", made)])
    with pytest.raises(SettingsError, match=f"(?s){message}"):
        arms(executor=name).baseline.train()


def test_when_is_one_of_three():
    with pytest.raises(SettingsError, match="one of auto, never, always"):
        Settings(train="sometimes")
