"""Seeds trained side by side: the same scores as one after the other, errors as they are, nothing left behind."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import time

import pytest

from fairtest import errors
from fairtest.errors import FairtestError, TrainingError
from fairtest.experiments.arms import Arms
from fairtest.experiments.experiment import Experiment
from fairtest.settings import Settings
from fairtest.store import Store
from fairtest.store.cleaning import clean
from fairtest.tiny.generator import corpus, write_jsonl


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    path = tmp_path_factory.mktemp("corpus") / "records.jsonl"
    write_jsonl(corpus("private", 0.65, 200, seed=1), path, prefix="r")
    return path


def settings(records, store, **changes):
    fields = {"corpus": str(records), "seeds": 3, "steps": 2, "batch_size": 32, "max_length": 48, "threads": 1}
    return Settings(**{**fields, "cache_dir": str(store), **changes})


def test_side_by_side_gives_the_scores_of_one_after_the_other(records, tmp_path):
    found = {}
    for workers in (1, 2):
        chosen = settings(records, tmp_path / str(workers), workers=workers)
        experiment = Experiment(chosen, Store(tmp_path / str(workers)))
        found[workers] = [scores.log_probs for scores in Arms(experiment).dp_cda.scores("templates", "gender")]
        assert sorted(run["seed"] for run in experiment.ledger.values()) == [0, 1, 2]
        assert all(run["seconds"] > 0 for run in experiment.ledger.values())
        assert len(list(experiment.store.entries("run"))) == 3
    assert found[1] == found[2]


def test_an_error_of_a_run_arrives_as_it_is(records, tmp_path):
    experiment = Experiment(settings(records, tmp_path, workers=2, max_length=1), Store(tmp_path))
    with pytest.raises(TrainingError, match="without a token to learn from"):
        Arms(experiment).baseline.train()
    assert list(experiment.store.entries("run")) == []


@pytest.mark.parametrize(
    "kind", [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, FairtestError)]
)
def test_every_error_of_ours_crosses_a_process_border(kind):
    error = pickle.loads(pickle.dumps(kind("what", where="where", fix="fix")))
    assert type(error) is kind
    assert str(error) == "what\n  where: where\n  do:    fix"


SCRIPT = """
import sys
from pathlib import Path
from fairtest import Arms, Experiment, Settings, Store

if __name__ == "__main__":
    settings = Settings(corpus=sys.argv[1], seeds=4, steps=100000, batch_size=32, max_length=48, threads=1, workers=2,
                        cache_dir=sys.argv[2])
    Arms(Experiment(settings, Store(Path(sys.argv[2])))).baseline.train()
"""


def test_an_interrupt_stops_the_workers_and_leaves_nothing_half(records, tmp_path):
    script, store = tmp_path / "script.py", tmp_path / "store"
    script.write_text(SCRIPT)
    process = subprocess.Popen(
        [sys.executable, str(script), str(records), str(store)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    deadline = time.monotonic() + 120
    while len(list(store.glob("work/run-*"))) < 2:
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.1)
    time.sleep(1.0)
    os.kill(process.pid, signal.SIGINT)
    output = process.communicate(timeout=60)[0]
    assert output.count("Traceback") <= 1, output  # the parent's own KeyboardInterrupt; no worker adds one
    assert list(store.glob("entries/run/*")) == []
    clean(store)  # an exit that was swallowed during an import leaves scraps, which are no entry
    assert list(store.glob("work/run-*")) == []
