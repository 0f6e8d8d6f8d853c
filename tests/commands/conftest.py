from __future__ import annotations

import json
import tracemalloc
from dataclasses import dataclass

import pytest

from fairtest.commands import main

TERM, NO_TERM, EMPTY, FALSE = "She met her brother.", "The sky is blue.", " ", "She was pregnant."


@dataclass(frozen=True)
class Result:
    status: int
    out: str
    err: str


@pytest.fixture
def run(capsys, monkeypatch):
    """Runs `fairtest ...` in this process, in a terminal of 80 columns that has no colour of its own."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("NO_COLOR", raising=False)

    def call(*arguments):
        try:
            status = main([str(argument) for argument in arguments])
        except SystemExit as stop:
            status = stop.code
        return Result(status, *capsys.readouterr())

    return call


@pytest.fixture
def corpus(tmp_path):
    """Four records with columns of several types: one that is swapped, and three that are not."""
    rows = [
        {"id": "a", "text": TERM, "score": 1.5, "tags": ["x", {"deep": None}], "text_length": 20},
        {"id": "b", "text": NO_TERM, "score": None, "tags": [], "text_length": 16},
        {"id": "c", "text": EMPTY, "score": 3, "tags": None, "text_length": 1},
        {"id": "d", "text": FALSE, "score": 4, "tags": [], "text_length": 17},
    ]
    path = tmp_path / "corpus.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def peak():
    """Bytes of Python's memory at the highest while a function runs."""

    def measure(function):
        tracemalloc.start()
        try:
            function()
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    return measure


@pytest.fixture
def ages(tmp_path):
    """An axis of three groups."""
    path = tmp_path / "ages.toml"
    path.write_text(
        'groups = ["young", "middle", "old"]\n'
        'terms = [{ words = ["teenager", "adult", "pensioner"], kind = "noun" }]\n',
        encoding="utf-8",
    )
    return path
