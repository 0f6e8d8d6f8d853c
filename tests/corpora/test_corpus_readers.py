from __future__ import annotations

import csv
import json

import datasets
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from fairtest.corpora.readers import read_corpus

ROWS = [
    {"text": "She is a nurse.", "user": "ann", "score": 1},
    {"text": 'He said: "no", then left — é…', "user": "bob", "score": 2},
    {"text": "Tabs, commas, and 'quotes'", "user": "ann", "score": 3},
]  # fmt: skip
TEXTS = [row["text"] for row in ROWS]


def write_json_lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def write_delimited(path, rows, delimiter=","):
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)


def in_every_format(folder):
    (folder / "a.txt").write_text("\n".join(TEXTS), encoding="utf-8")
    write_json_lines(folder / "b.jsonl", ROWS)
    write_json_lines(folder / "c.ndjson", ROWS)
    (folder / "d.json").write_text(json.dumps(ROWS), encoding="utf-8")
    write_delimited(folder / "e.csv", ROWS)
    write_delimited(folder / "f.tsv", ROWS, "\t")
    parquet.write_table(pa.Table.from_pylist(ROWS), folder / "g.parquet")
    dataset = datasets.Dataset.from_list(ROWS)
    dataset.save_to_disk(str(folder / "h"))
    return [*sorted(folder.iterdir()), dataset, ROWS, TEXTS, tuple(ROWS), str(folder / "b.jsonl")]


def texts(corpus):
    return [record.text for unit in corpus.units for record in unit.records]


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    return in_every_format(tmp_path_factory.mktemp("formats"))


def test_every_format_gives_the_same_texts(sources):
    assert len(sources) == 13
    for source in sources:
        corpus = read_corpus(source)
        assert texts(corpus) == TEXTS, source
        assert [unit.id for unit in corpus.units] == ["0", "1", "2"]
        assert corpus.unit_name == "record"


def test_every_format_with_columns_gives_the_same_corpus(sources):
    with_columns = [source for source in sources if source is not TEXTS and not str(source).endswith(".txt")]
    digests = {read_corpus(source, unit_field="user").digest for source in with_columns}
    assert len(digests) == 1
    corpus = read_corpus(ROWS, unit_field="user", name="reviews")
    assert (corpus.name, corpus.unit_name) == ("reviews", "user")
    assert [(unit.id, [record.id for record in unit.records]) for unit in corpus.units] == [
        ("ann", ["0", "2"]),
        ("bob", ["1"]),
    ]
    assert corpus.units[1].records[0].fields == {"user": "bob", "score": "2"}


def test_a_corpus_is_called_by_its_file(sources):
    assert read_corpus(sources[0]).name == "a.txt"
    assert read_corpus(TEXTS, name="mine").name == "mine"


def test_unique_ids_name_the_records_and_others_do_not():
    rows = [{"text": "a", "id": "x"}, {"text": "b", "id": 7}]
    assert [unit.records[0].id for unit in read_corpus(rows).units] == ["x", "7"]
    assert [unit.records[0].id for unit in read_corpus([*rows, {"text": "c", "id": "x"}]).units] == ["0", "1", "2"]
    assert [unit.records[0].id for unit in read_corpus([*rows, {"text": "c"}]).units] == ["0", "1", "2"]


def test_other_columns_are_kept_as_text_and_nulls_are_absent():
    row = {"text": "t", "whole": 3.0, "part": 0.5, "yes": True, "none": None, "blank": "", "list": ["é", 1]}
    fields = read_corpus([row]).units[0].records[0].fields
    assert fields == {"whole": "3", "part": "0.5", "yes": "true", "list": '["é", 1]'}


def test_whole_numbers_name_the_same_unit_as_floats():
    corpus = read_corpus([{"text": "a", "user": 7}, {"text": "b", "user": 7.0}], unit_field="user")
    assert [unit.id for unit in corpus.units] == ["7"]


def test_another_column_can_hold_the_text(tmp_path):
    write_delimited(tmp_path / "r.csv", [{"review": "good", "text": "7"}])
    corpus = read_corpus(tmp_path / "r.csv", text_field="review")
    assert texts(corpus) == ["good"]
    assert corpus.units[0].records[0].fields == {"text": "7"}


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_line_endings_and_byte_order_marks_leave_no_trace(tmp_path, ending, mark):
    def write(name, lines):
        path = tmp_path / name
        path.write_bytes((mark + ending.join(lines) + ending).encode())
        return read_corpus(path)

    assert texts(write("a.txt", ["one", "", "two"])) == ["one", "two"]
    assert texts(write("a.csv", ["text,user", "one,x", "two,y"])) == ["one", "two"]
    if ending != "\r":  # a bare carriage return ends no line of JSON
        assert texts(write("a.jsonl", ['{"text": "one"}', '{"text": "two"}'])) == ["one", "two"]


def test_paragraphs_are_records_with_their_lines(tmp_path):
    path = tmp_path / "book.txt"
    path.write_bytes(b"\r\nfirst line\r\nsecond line\r\n \r\n\r\nnext paragraph")
    assert texts(read_corpus(path, records="paragraph")) == ["first line\nsecond line", "next paragraph"]
    assert texts(read_corpus(path)) == ["first line", "second line", "next paragraph"]


def test_line_separators_inside_of_a_text_split_nothing(tmp_path):
    odd = "one\u2028two\x0cthree\x85four"
    (tmp_path / "a.txt").write_text(odd, encoding="utf-8")
    (tmp_path / "a.jsonl").write_text(json.dumps({"text": odd}, ensure_ascii=False), encoding="utf-8")
    assert texts(read_corpus(tmp_path / "a.txt")) == texts(read_corpus(tmp_path / "a.jsonl")) == [odd]


def test_empty_texts_are_left_out_on_request_and_the_others_keep_their_units():
    rows = [{"text": " "}, {"text": "one"}, {"text": None}, {"text": "two"}]
    corpus = read_corpus(rows, drop_empty=True)
    assert [(unit.id, unit.records[0].text) for unit in corpus.units] == [("1", "one"), ("3", "two")]


def test_a_very_long_field_of_a_csv_is_read(tmp_path):
    before = csv.field_size_limit()
    write_delimited(tmp_path / "long.csv", [{"text": "word " * 50_000}])
    assert len(texts(read_corpus(tmp_path / "long.csv"))[0]) == 250_000
    assert csv.field_size_limit() == before


some_text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), min_size=1).filter(str.strip)


@settings(deadline=None, max_examples=60)
@given(st.lists(some_text, min_size=1, max_size=5), st.sampled_from(["jsonl", "json", "csv", "tsv", "parquet"]))
def test_any_text_survives_a_round_trip(tmp_path_factory, values, suffix):
    path = tmp_path_factory.mktemp("trip") / f"corpus.{suffix}"
    rows = [{"text": value, "user": f"u{index}"} for index, value in enumerate(values)]
    if suffix == "jsonl":
        write_json_lines(path, rows)
    elif suffix == "json":
        path.write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")
    elif suffix == "parquet":
        parquet.write_table(pa.Table.from_pylist(rows), path)
    else:
        write_delimited(path, rows, "," if suffix == "csv" else "\t")
    assert texts(read_corpus(path, unit_field="user")) == values


@settings(deadline=None)
@given(st.lists(st.tuples(some_text, st.sampled_from("abc")), min_size=1, max_size=12))
def test_every_record_is_in_exactly_one_unit(pairs):
    corpus = read_corpus([{"text": text, "user": user} for text, user in pairs], unit_field="user")
    found = sorted((record.text, unit.id) for unit in corpus.units for record in unit.records)
    assert found == sorted(pairs)
    assert len({unit.id for unit in corpus.units}) == len(corpus)


def test_the_hub_is_asked_for_the_named_configuration_and_split(monkeypatch):
    asked = []

    def load_dataset(*args, **kwargs):
        asked.append((args, kwargs))
        return datasets.Dataset.from_list(ROWS)

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert texts(read_corpus("hf:owner/name")) == TEXTS
    assert texts(read_corpus("hf:owner/name:test")) == TEXTS
    assert texts(read_corpus("hf:owner/name/en:test[:10%]")) == TEXTS
    assert asked == [
        (("owner/name",), {"split": "train"}),
        (("owner/name",), {"split": "test"}),
        (("owner/name", "en"), {"split": "test[:10%]"}),
    ]
