"""Rows are read one at a time, and a corpus may be larger than memory."""

from __future__ import annotations

import csv
import json
import os
import threading
import tracemalloc
from itertools import islice

import datasets
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from fairtest.corpora.formats import Meter, open_text
from fairtest.corpora.readers import row_text, stream_rows
from fairtest.errors import CorpusError

TEXT = "She said that he was late, and her brother laughed. " * 4


def write(path, rows):
    suffix = path.suffix
    texts = [f"{index} {TEXT}" for index in range(rows)]
    if suffix == ".parquet":
        parquet.write_table(pa.table({"text": texts, "user": list(range(rows))}), path, compression="none")
    elif suffix in (".csv", ".tsv"):
        with path.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file, delimiter="," if suffix == ".csv" else "\t").writerows(
                [("text", "user"), *((text, index) for index, text in enumerate(texts))]
            )
    elif suffix == ".txt":
        path.write_text("\n\n".join(texts), encoding="utf-8")
    else:
        path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
    return path


def peak(path, **options):
    """Bytes of Python's memory at the highest, while every row of the file passes."""
    label, rows = stream_rows(path, **options)
    tracemalloc.start()
    try:
        for row in rows:
            assert row.where.startswith(label)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("suffix", ["txt", "jsonl", "ndjson", "csv", "tsv", "parquet"])
@pytest.mark.parametrize("records", ["line", "paragraph"])
def test_memory_does_not_grow_with_the_corpus(tmp_path, suffix, records):
    if records == "paragraph" and suffix != "txt":
        pytest.skip("only text files have paragraphs")
    small = write(tmp_path / f"small.{suffix}", 1_000)
    large = write(tmp_path / f"large.{suffix}", 20_000)
    assert large.stat().st_size > 4_000_000
    peak(small, records=records)  # what is imported and cached on first use
    assert peak(large, records=records) < 1.2 * peak(small, records=records) + 50_000


def test_a_row_group_of_parquet_is_not_read_as_a_whole(tmp_path):
    path = write(tmp_path / "one_group.parquet", 40_000)
    assert parquet.ParquetFile(path).num_row_groups == 1
    before = highest = pa.total_allocated_bytes()
    for _ in stream_rows(path)[1]:
        highest = max(highest, pa.total_allocated_bytes())
    assert highest - before < path.stat().st_size / 2
    assert pa.total_allocated_bytes() <= highest


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
@pytest.mark.parametrize("suffix", ["txt", "jsonl", "csv"])
def test_rows_come_before_their_source_has_ended(tmp_path, suffix):
    pipe = tmp_path / f"pipe.{suffix}"
    os.mkfifo(pipe)
    first_was_read = threading.Event()
    waited = []
    lines = {
        "txt": ["first", "second"],
        "jsonl": ['{"text": "first"}', '{"text": "second"}'],
        "csv": ["text\nfirst", "second"],
    }

    def feed():
        with pipe.open("w", encoding="utf-8", buffering=1) as file:
            file.write(lines[suffix][0] + "\n")
            waited.append(first_was_read.wait(20))
            file.write(lines[suffix][1] + "\n")

    writer = threading.Thread(target=feed)
    writer.start()
    meter = Meter()
    _, rows = stream_rows(pipe, meter=meter)
    assert next(rows).values["text"] == "first"
    assert meter.total is None
    first_was_read.set()
    assert [row.values["text"] for row in rows] == ["second"]
    writer.join()
    assert waited == [True]


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("before", [0, 1, 8_188, 8_189, 8_190, 8_191, 8_192, 20_000, 131_071, 131_072])
def test_a_byte_that_is_not_utf8_is_found_wherever_a_read_ends(tmp_path, before, mark):
    path = tmp_path / "latin.txt"
    good = mark + b"ab\n" * (before // 3) + b"a" * (before % 3)
    for bad, last in [(b"\xe9\n", 0xE9), (b"\xe2\x82", 0xE2), (b"\xe2\x82x", 0xE2), (b"\xe2\x82\n", 0xE2)]:
        path.write_bytes(good + bad)
        with pytest.raises(CorpusError) as caught:
            list(stream_rows(path)[1])
        assert caught.value.what == f"byte 0x{last:02x} is not valid UTF-8"
        assert caught.value.where == f"{path}, line {before // 3 + 1}, byte {len(good)}"


newlines = st.lists(st.sampled_from(["a", "é", " ", "\n", "\r", "\r\n", "\u2028", "x" * 8_000]), max_size=30)


@given(newlines.map("".join))
def test_mixed_line_ends_are_those_of_the_whole_file(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("mixed") / "mixed.txt"
    path.write_bytes(content.encode())
    lines = content.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    expected = [(f"{path}, line {number}", line) for number, line in enumerate(lines, start=1) if line.strip()]
    assert [(row.where, row.values["text"]) for row in stream_rows(path)[1]] == expected
    paragraphs = [row.values["text"] for row in stream_rows(path, records="paragraph")[1]]
    assert [line for paragraph in paragraphs for line in paragraph.split("\n")] == [line for _, line in expected]


def test_a_line_of_a_megabyte_is_one_row(tmp_path):
    long = "é" * 1_000_000
    (tmp_path / "long.txt").write_text(f"short\n{long}\nshort", encoding="utf-8")
    (tmp_path / "long.jsonl").write_text(json.dumps({"text": long}, ensure_ascii=False), encoding="utf-8")
    assert [len(row.values["text"]) for row in stream_rows(tmp_path / "long.txt")[1]] == [5, 1_000_000, 5]
    assert next(stream_rows(tmp_path / "long.jsonl")[1]).values["text"] == long


def test_two_delimited_files_can_be_read_in_turns(tmp_path):
    long = "word " * 50_000
    for name in ("a.csv", "b.csv"):
        with (tmp_path / name).open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([["text"], ["x"], [long], [long]])
    limit = csv.field_size_limit()
    one, other = stream_rows(tmp_path / "a.csv")[1], stream_rows(tmp_path / "b.csv")[1]
    for row, same in zip(one, other, strict=True):
        assert row.values == same.values
        assert csv.field_size_limit() == limit


def test_a_file_is_closed_when_its_rows_are_no_longer_wanted(tmp_path):
    rows = stream_rows(write(tmp_path / "a.txt", 1_000))[1]
    assert len(list(islice(rows, 2))) == 2
    rows.close()  # a file left open would be a ResourceWarning, which is an error here


def test_a_meter_follows_bytes_of_files_and_records_of_the_rest(tmp_path):
    def metered(source):
        meter = Meter()
        seen = [meter.done for _ in stream_rows(source, meter=meter)[1]]
        assert seen == sorted(seen)
        return meter, seen

    for suffix in ("txt", "jsonl", "csv"):
        path = write(tmp_path / f"a.{suffix}", 1_000)
        meter, seen = metered(path)
        size = path.stat().st_size
        assert (meter.done, meter.total, meter.unit) == (size, size, "bytes")
        assert seen[0] < size / 10
    rows = [{"text": "one"}, {"text": "two"}]
    (tmp_path / "a.json").write_text(json.dumps(rows), encoding="utf-8")
    dataset = datasets.Dataset.from_list(rows)
    dataset.save_to_disk(str(tmp_path / "saved"))
    parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    for source in (tmp_path / "a.json", dataset, tmp_path / "saved", tmp_path / "a.parquet", rows):
        meter, seen = metered(source)
        assert (seen, meter.total, meter.unit) == ([1, 2], 2, "records")


def test_a_text_is_looked_at_one_row_at_a_time():
    rows = list(stream_rows([{"text": "x"}, {"text": " "}, {"text": 3}, {"text": "\ud800"}, {"body": "x"}])[1])
    assert row_text(rows[0], "text") == "x"
    assert row_text(rows[1], "text", drop_empty=True) is None
    for row, words in zip(rows[1:], ["is empty", "must be a string", "surrogate", "no column 'text'"], strict=True):
        with pytest.raises(CorpusError, match=words):
            row_text(row, "text")


def test_a_file_that_cannot_be_opened_is_named(tmp_path, monkeypatch):
    path = write(tmp_path / "a.txt", 1)

    def refused(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(type(path), "open", refused)
    with pytest.raises(CorpusError, match="cannot read the corpus: Permission denied"):
        open_text(path, None)
