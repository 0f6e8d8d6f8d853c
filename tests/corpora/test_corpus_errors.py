"""What is wrong with a corpus is said with its place and a way out."""

from __future__ import annotations

import re

import datasets
import pytest

from fairtest.corpora.readers import read_corpus
from fairtest.errors import CorpusError


def error_of(source, **options):
    with pytest.raises(CorpusError) as caught:
        read_corpus(source, **options)
    assert caught.value.fix
    assert caught.value.where
    return str(caught.value)


# name, content, options, what the message has to say
FILES = [
    ("empty.jsonl", "", {}, ["the corpus has no records", "empty.jsonl"]),
    ("blank.txt", "\n \n\t\n", {}, ["the corpus has no records", "blank.txt"]),
    ("header.csv", "text,user\n", {}, ["the corpus has no records", "header.csv"]),
    ("empty.json", "[]", {}, ["the corpus has no records"]),
    ("data.xlsx", "PK", {}, ["unknown corpus format '.xlsx'", ".jsonl", ".parquet"]),
    ("noname", "text", {}, ["unknown corpus format ''"]),
    ("a.jsonl", '{"body": "x", "user": 1}', {}, ["no column 'text'", "'body', 'user'", "line 1", "set text_field"]),
    ("b.jsonl", '{"text": "x"}\n\n{"txt": "y"}', {}, ["no column 'text'", "'txt'", "line 3"]),
    ("c.csv", "body,user\nx,1\n", {}, ["no column 'text'", "'body', 'user'", "line 2"]),
    ("d.jsonl", '{"text": "x"}\n{"text": 7}', {}, ["must be a string, got int '7'", "line 2, field 'text'"]),
    ("e.jsonl", '{"text": null}', {}, ["the text is null", "line 1", "drop_empty=True"]),
    ("f.jsonl", '{"text": ["x"]}', {}, ["must be a string, got list", "line 1"]),
    ("g.jsonl", '{"text": "x"}\n{"text": " \\t"}', {}, ["the text is empty", "line 2", "drop_empty=True"]),
    ("h.csv", 'text,user\nx,1\n" ",2\n', {}, ["the text is empty", "line 3", "drop_empty=True"]),
    ("i.jsonl", '{"text": " "}', {"drop_empty": True}, ["every record is empty"]),
    ("j.jsonl", '{"text": "x"}\n{"text": "y"', {}, ["invalid JSON", "line 2", "column 13"]),
    ("k.jsonl", '{"text": "x"}\n["y"]', {}, ["must be an object with named fields, got list", "line 2"]),
    ("l.json", '{"text": "x"}', {}, ["must be a list of objects, got dict"]),
    ("m.json", '[{"text": "x"},\n {"text": }]', {}, ["invalid JSON", "at column 11", "line 2"]),
    ("n.json", '[{"text": "x"}, 3]', {}, ["got int '3'", "record 2"]),
    ("o.jsonl", "[" * 100_000, {}, ["invalid JSON", "line 1"]),
    ("p.jsonl", '{"text": "\\ud800"}', {}, ["half of a surrogate pair", "line 1"]),
    ("pp.jsonl", '{"text": "x", "user": "\\udc00"}', {}, ["half of a surrogate pair", "line 1, field 'user'"]),
    ("q.csv", "text,user\nx,1\ny\n", {}, ["1 fields, the header has 2", "line 3"]),
    ("r.csv", 'text,user\n"a\nb",1\nx,1,2\n', {}, ["3 fields, the header has 2", "line 4"]),
    ("s.csv", "text,text\nx,y\n", {}, ["column 'text' occurs more than once", "line 1"]),
    ("t.csv", 'text,user\n"x,1\ny,2\n', {}, ["malformed record", "line 2"]),
    ("u.csv", 'text,user\n"x"z,1\n', {}, ["malformed record", "line 2"]),
    ("v.tsv", "text\tuser\nx\t1\ty\n", {}, ["3 fields, the header has 2", "line 2"]),
    ("w.jsonl", '{"text": "x", "user": ""}', {"unit_field": "user"}, ["no privacy unit", "line 1, field 'user'"]),
    ("x.jsonl", '{"text": "x", "user": null}', {"unit_field": "user"}, ["no privacy unit", "line 1"]),
    ("y.csv", "text,user\nx,1\ny,\n", {"unit_field": "user"}, ["no privacy unit", "line 3, field 'user'"]),
    ("z.jsonl", '{"text": "x"}', {"unit_field": "user"}, ["no column 'user'", "set unit_field"]),
    ("aa.jsonl", '{"text": "x", "user": [1]}', {"unit_field": "user"}, ["must be a string or a number, got list"]),
    ("bb.jsonl", '{"text": "x", "user": NaN}', {"unit_field": "user"}, ["must be a string or a number", "nan"]),
    ("cc.txt", "x", {"unit_field": "user"}, ["no column 'user'", "line 1"]),
    ("dd.txt", "x", {"unit_field": "text"}, ["text_field and unit_field are both 'text'"]),
    ("ee.txt", "x", {"records": "chapter"}, ["records must be 'line' or 'paragraph', got 'chapter'"]),
    ("gg.txt", "x", {"unit": "user"}, ["no column names the user of a record", "set unit_field"]),
    ("hh.jsonl", '{"text": "x", "user": 1}', {"unit": "record", "unit_field": "user"}, ["groups records into larger"]),
    ("ii.txt", "x", {"unit": "person"}, ["unit must be one of record, document, user, got 'person'"]),
    ("ff.parquet", "no parquet", {}, ["not a readable Parquet file", "ff.parquet"]),
]


@pytest.mark.parametrize(("name", "content", "options", "words"), FILES, ids=[case[0] for case in FILES])
def test_a_malformed_file_is_named_with_its_place(tmp_path, name, content, options, words):
    path = tmp_path / name
    path.write_text(content, encoding="utf-8")
    message = error_of(path, **options)
    for word in words:
        assert word in message
    assert "Traceback" not in message


@pytest.mark.parametrize("suffix", ["txt", "jsonl", "csv", "json"])
def test_bytes_that_are_not_utf8_are_found(tmp_path, suffix):
    path = tmp_path / f"latin.{suffix}"
    path.write_bytes(b"text\ncaf\xe9\n")
    message = error_of(path)
    assert "byte 0xe9 is not valid UTF-8" in message
    assert "line 2, byte 8" in message
    assert "save the file as UTF-8" in message


def test_a_missing_file_is_named_with_the_nearest_name(tmp_path):
    (tmp_path / "reviews.jsonl").write_text("{}", encoding="utf-8")
    message = error_of(tmp_path / "review.jsonl")
    assert "there is no corpus at" in message
    assert re.search(r"did you mean '.*reviews\.jsonl'", message)
    assert "check the path" in error_of(str(tmp_path / "nowhere" / "a.jsonl"))


def test_a_directory_that_is_no_dataset_is_refused(tmp_path):
    assert "no saved dataset" in error_of(tmp_path)


def test_a_saved_dataset_of_several_splits_needs_one(tmp_path):
    one = datasets.Dataset.from_list([{"text": "x"}])
    both = datasets.DatasetDict({"train": one, "test": one})
    both.save_to_disk(str(tmp_path / "saved"))
    message = error_of(tmp_path / "saved")
    assert "test, train" in message
    assert str(tmp_path / "saved" / "test") in message
    assert len(read_corpus(tmp_path / "saved" / "train")) == 1
    assert "several splits: train, test" in error_of(both)


def test_a_damaged_saved_dataset_is_an_error_of_the_corpus(tmp_path):
    (tmp_path / "state.json").write_text("{", encoding="utf-8")
    assert "the saved dataset cannot be read" in error_of(tmp_path)


def test_a_hub_dataset_without_a_network_says_what_to_do(monkeypatch):
    def offline(*args, **kwargs):
        raise ConnectionError("Couldn't reach the hub\nand more")

    monkeypatch.setattr(datasets, "load_dataset", offline)
    message = error_of("hf:owner/name:train")
    assert "dataset 'owner/name' cannot be loaded" in message
    assert "Couldn't reach the hub" in message
    assert "save_to_disk" in message


def test_of_a_dataset_that_is_a_script_the_hub_s_own_tables_are_read(monkeypatch):
    asked = []

    def load(*args, **options):
        asked.append((args, options))
        if "revision" not in options:
            raise RuntimeError("Dataset scripts are no longer supported, but found name.py")
        return datasets.Dataset.from_list([{"text": "x"}])

    monkeypatch.setattr(datasets, "load_dataset", load)
    assert len(read_corpus("hf:owner/name:test")) == 1
    assert len(read_corpus("hf:owner/name/en:test")) == 1
    tables = {"split": "test", "revision": "refs/convert/parquet"}
    assert asked[1::2] == [(("owner/name",), tables), (("owner/name",), {**tables, "data_dir": "en"})]


@pytest.mark.parametrize("source", ["hf:", "hf:owner/", "hf:a/b/c/d"])
def test_a_malformed_hub_name_is_refused(source):
    assert "names no dataset" in error_of(source)


@pytest.mark.parametrize("source", [None, 7, {"text": ["a"]}, {"a"}])
def test_what_is_no_source_is_refused(source):
    assert "cannot be read from" in error_of(source)


def test_an_in_memory_record_that_is_no_record_is_named():
    assert "record 2" in error_of(["fine", 7])
    assert "the corpus has no records" in error_of([])
