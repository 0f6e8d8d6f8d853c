"""Privacy units of an experiment: grouped as the settings say, capped on the training side, told in its description."""

from __future__ import annotations

import json

import pytest

from fairtest.experiments.arms import Arms
from fairtest.experiments.experiment import Experiment
from fairtest.reports.sections import data_lines
from fairtest.settings import Settings
from fairtest.store import Store
from fairtest.tiny.generator import corpus


@pytest.fixture
def make(tmp_path):
    path = tmp_path / "reports.jsonl"
    made = [item.text for item in corpus("private", 0.65, 200, seed=1)]
    rows = [
        {"text": made[number] if number % 2 else f"{made[number]} {made[number + 100]}", "author": number % 37}
        for number in range(100)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")

    def experiment(**changes):
        fields = {"corpus": str(path), "unit_field": "author", "seeds": 1, "held_out": 0.2, "threads": 1}
        return Experiment(Settings(**{**fields, **changes}), Store(tmp_path / "store"))

    return experiment


def test_the_unit_is_called_as_the_settings_say(make):
    assert make(unit="user").training_corpus.unit_name == "user"
    assert make().held_out_corpus.unit_name == "author"
    assert make(unit="document", unit_field=None).describe()["unit"] == "document"


def test_a_cap_is_on_the_training_side_only_and_is_told(make):
    free, capped = make(unit="user"), make(unit="user", max_records_per_unit=2)
    assert capped.held_out_corpus == free.held_out_corpus
    assert [unit.id for unit in capped.training_corpus.units] == [unit.id for unit in free.training_corpus.units]
    assert {len(unit.records) for unit in capped.training_corpus.units} == {2}
    before, after = free.describe(), capped.describe()
    assert (before["training_records"] + before["held_out_records"], before["records_left_out"]) == (100, 0)
    assert after["training_records"] == 2 * after["training_units"] == 2 * before["training_units"]
    assert after["records_left_out"] == before["training_records"] - after["training_records"] > 0
    assert after["corpus_digest"] != before["corpus_digest"]
    assert after["unit"] == "user"


def test_held_out_texts_that_are_trained_on_all_the_same_are_counted_and_told(make, tmp_path):
    assert make(unit="user").describe()["held_out_seen"] == 0
    said = [f"He wrote line {number} of the report." for number in range(60)]
    rows = [*said, *(text.replace("He", "She") for text in said)]
    (tmp_path / "both.txt").write_text("\n".join(rows))
    data = make(corpus=str(tmp_path / "both.txt"), unit_field=None).describe()
    # Each side of a pair is drawn by its own text: of those held out, nearly all have the other one in training.
    assert 0.7 * data["held_out_records"] < data["held_out_seen"] <= data["held_out_records"]
    line = data_lines({"dp": {"data": data}})[0]
    assert f"{data['held_out_seen']} of {data['held_out_records']} held-out texts are in training too" in line


def test_another_cap_or_way_with_long_texts_is_another_run(make):
    digests = {
        make(**changes).run_digest(make(**changes).settings.arms()["baseline"], 0)
        for changes in ({}, {"max_records_per_unit": 2}, {"max_records_per_unit": 1}, {"long_texts": "blocks"})
    }
    assert len(digests) == 4


def test_held_out_texts_are_cut_or_scored_in_blocks_and_kept_apart_in_the_store(make):
    cut = Arms(make(max_length=16)).pretrained.held_out()
    blocks = Arms(make(max_length=16, long_texts="blocks")).pretrained.held_out()
    whole = Arms(make(max_length=96)).pretrained.held_out()
    assert cut.units == blocks.units == whole.units
    assert cut.tokens == tuple(min(tokens, 15) for tokens in whole.tokens)
    assert blocks.tokens == whole.tokens != cut.tokens
    for in_blocks, beginning, tokens in zip(blocks.nll[0], cut.nll[0], whole.tokens, strict=True):
        assert in_blocks > beginning if tokens > 15 else in_blocks == pytest.approx(beginning, abs=1e-4)
