"""Makes the private corpus from the generator, whose share of stereotype is known: .65, the model has seen .85."""

from pathlib import Path

import pytest

from fairtest.tiny.generator import corpus, write_jsonl

RECORDS = Path(__file__).parent / ".fairtest" / "records.jsonl"


@pytest.fixture(autouse=True, scope="session")
def records():
    RECORDS.parent.mkdir(exist_ok=True)
    write_jsonl(corpus("private", 0.65, 2000, seed=1), RECORDS, prefix="private-1")
