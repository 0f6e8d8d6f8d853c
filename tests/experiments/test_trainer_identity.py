"""A trainer is the same for as long as nothing that it consists of changes, and what cannot be told is asked for."""

from __future__ import annotations

import functools
import importlib.util
import itertools
import random
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

import pytest

from fairtest.errors import SpecError
from fairtest.experiments.trainer_identity import trainer_identity
from fairtest.settings import Settings

SOURCE = """
import torch
from mylib import elsewhere

RATE = 1e-3
LOGGER = object()
OPTIONS = {"decay": 0.1}
SEEN = []

def helper(x):
    return x * RATE

class Model:
    def step(self):
        return helper(2)

def train(arm, units, seed, directory):
    SEEN.append(seed)
    LOGGER, OPTIONS
    elsewhere.go()
    return Model().step()

def other(a):
    return 1
"""
_numbers = itertools.count()


@pytest.fixture
def identity(tmp_path, monkeypatch):
    """The identity of `train` in a module with that source."""

    def of(source, name="train"):
        # Another folder each time, as source is remembered by file.
        path = tmp_path / str(next(_numbers)) / "own_trainers.py"
        path.parent.mkdir()
        path.write_text(source.replace("import torch\nfrom mylib import elsewhere\n", "import json as elsewhere\n"))
        spec = importlib.util.spec_from_file_location("own_trainers", path)
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, "own_trainers", module)
        spec.loader.exec_module(module)
        return trainer_identity(getattr(module, name))

    return of


def test_the_same_source_is_the_same_trainer_in_any_place(identity):
    assert identity(SOURCE) == identity(SOURCE)
    assert identity(SOURCE)["name"] == "own_trainers.train"
    assert identity(SOURCE)["version"] is None


@pytest.mark.parametrize(
    "change",
    [
        ("seed, directory):", "seed, directory, *more):"),
        ("x * RATE", "x + RATE"),
        ("1e-3", "2e-3"),
        ("(2)", "(3)"),
        ("0.1", "0.2"),
    ],
)
def test_what_it_names_in_its_own_module_belongs_to_it(identity, change):
    assert identity(SOURCE.replace(*change)) != identity(SOURCE)


def test_a_list_that_fills_up_while_it_trains_changes_nothing():
    before = trainer_identity(counting)
    CALLS.append(1)
    assert trainer_identity(counting) == before


def test_what_it_does_not_name_does_not(identity):
    assert identity(SOURCE.replace("return 1", "return 2") + "\n# a comment\n") == identity(SOURCE)


def test_what_a_trainer_was_made_with_belongs_to_it():
    def made(value, default=1):
        def train(arm, units, seed, directory, default=default):
            return (value, default)

        return train

    def differ(one, two):
        return trainer_identity(one) != trainer_identity(two)

    assert not differ(made(1), made(1))
    assert differ(made(1), made(2))
    assert differ(made({"a": [1]}), made({"a": [2]}))
    assert differ(made(1), made(1, default=2))
    assert differ(made(Path("a")), made(Path("b")))
    assert differ(made(made(1)), made(made(2)))
    # Settings decide nothing that is not in the key already.
    assert not differ(made(Settings(seeds=2)), made(Settings(seeds=5)))
    assert differ(functools.partial(made(1), rate=1.0), functools.partial(made(1), rate=2.0))


CALLS = []


def counting(arm, units, seed, directory):
    CALLS.append(seed)


@dataclass
class Loop:
    rate: float = 1.0

    def __call__(self, arm, units, seed, directory):
        return self.rate

    def train(self, arm, units, seed, directory):
        return self.rate


def test_objects_and_their_methods_count_with_what_they_hold():
    assert trainer_identity(Loop(1.0)) == trainer_identity(Loop(1.0)) != trainer_identity(Loop(2.0))
    assert trainer_identity(Loop(1.0).train) != trainer_identity(Loop(2.0).train)
    assert trainer_identity(Loop())["name"].endswith("test_trainer_identity.Loop")
    assert trainer_identity(Loop().train)["name"].endswith("Loop.train")


def test_what_cannot_be_told_needs_a_version():
    lock = threading.Lock()

    def train(arm, units, seed, directory):
        return lock

    with pytest.raises(SpecError, match=r"was made with a _thread.lock, and nobody can tell when that changed"):
        trainer_identity(train)
    train.version = 1
    first = trainer_identity(train)
    train.version = "2"
    assert first["version"] == "1"
    assert trainer_identity(train) != first
    assert trainer_identity(train)["source"] == first["source"]


def test_a_trainer_without_source_needs_a_version():
    made = {}
    exec("def train(arm, units, seed, directory): pass", made)
    for trainer in (made["train"], random.random):
        with pytest.raises(SpecError, match=r"the source of trainer .* cannot be read") as caught:
            trainer_identity(trainer)
        assert 'train.version = "1"' in caught.value.fix
    made["train"].version = "1"
    assert trainer_identity(made["train"])["source"] is None


@pytest.mark.parametrize(("trainer", "message"), [("train", "cannot be called"), (None, "cannot be called")])
def test_what_is_no_trainer_is_refused(trainer, message):
    with pytest.raises(SpecError, match=message):
        trainer_identity(trainer)


def test_a_version_is_a_text_or_a_number():
    def train(arm, units, seed, directory):
        return directory

    train.version = ["1"]
    with pytest.raises(SpecError, match=r"the version of a trainer is \['1'\]"):
        trainer_identity(train)
