from __future__ import annotations

import csv
import json
import os
import threading
from datetime import date
from decimal import Decimal
from itertools import groupby

import datasets
import pyarrow as pa
import pytest
from pyarrow import parquet

from fairtest.augmentation import augment_dataset
from fairtest.augmentation.fraction import NOT_CHOSEN
from fairtest.commands.viewing import viewed
from fairtest.corpora.readers import read_corpus
from fairtest.specs import CDA

datasets.disable_progress_bars()

TERM, NO_TERM, EMPTY, FALSE = "She met her brother.", "The sky is blue.", " ", "She was pregnant."
SWAPPED = "He met his sister."


def lines_of(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def names(folder):
    return sorted(child.name for child in folder.iterdir())


def test_every_view_is_a_line_with_the_columns_of_its_record(run, corpus, tmp_path):
    out = tmp_path / "out.jsonl"
    ran = run("cda", "apply", corpus, out)
    assert (ran.status, ran.out) == (0, "")
    given = lines_of(corpus)
    expected = [
        given[0] | {"view": 0, "reason": None, "record": 0},
        given[0] | {"text": SWAPPED, "view": 1, "reason": None, "record": 0},
        given[1] | {"view": 0, "reason": "no term", "record": 1},
        given[2] | {"view": 0, "reason": "empty text", "record": 2},
        given[3] | {"view": 0, "reason": "swap would be false", "record": 3},
    ]
    assert lines_of(out) == expected
    # Numbers are written as they were, and columns stay in their order.
    assert out.read_text(encoding="utf-8").splitlines()[0] == (
        '{"id": "a", "text": "She met her brother.", "score": 1.5, "tags": ["x", {"deep": null}], "text_length": 20,'
        ' "view": 0, "reason": null, "record": 0}'
    )


def test_the_coverage_and_the_privacy_unit_are_told_on_standard_error(run, corpus, tmp_path):
    ran = run("cda", "apply", corpus, tmp_path / "out.jsonl")
    assert "with a counterfactual" in ran.err
    assert f"wrote 5 views of 4 records to {tmp_path / 'out.jsonl'}\n" in ran.err
    assert ran.err.endswith(
        "The views of a record must stay one privacy unit: train with unit_field =\n"
        '"record", or with the column that names your users or documents; as records of\n'
        "their own, a claimed epsilon would not hold.\n"
    )


def test_a_share_of_the_records_is_augmented_and_the_same_as_of_a_dataset(run, tmp_path):
    texts = [f"She met {count} friends." for count in range(60)]
    corpus = write(tmp_path / "in.jsonl", [{"text": text} for text in texts])
    written = {}
    for fraction in ("0.5", "0.9"):
        out = tmp_path / f"out-{fraction}.jsonl"
        assert run("cda", "apply", corpus, out, "--fraction", fraction, "--seed", "3").status == 0
        written[fraction] = [(row["text"], row["view"], row["reason"]) for row in lines_of(out)]
        cda = CDA(fraction=float(fraction), seed=3)
        rows = augment_dataset(datasets.Dataset.from_dict({"text": texts}), cda)
        assert written[fraction] == [(row["text"], row["view"], row["reason"]) for row in rows]
    half, most = ({text for text, view, _ in rows if view} for rows in written.values())
    assert 15 < len(half) < 45
    assert half < most
    assert sum(reason == NOT_CHOSEN for _, _, reason in written["0.5"]) == 60 - len(half)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--fraction", "0"), "must be above 0 and at most 1, got 0"),
        (("--fraction", "1.5"), "must be above 0 and at most 1, got 1.5"),
        (("--fraction", "nan"), "must be above 0 and at most 1, got nan"),
        (("--fraction", "half"), "invalid number value: 'half'"),
        (("--mode", "naive_copies"), "invalid choice: 'naive_copies'"),
    ],
)
def test_a_share_that_cannot_be_and_copies_without_their_records_are_refused(run, corpus, tmp_path, arguments, told):
    ran = run("cda", "apply", corpus, tmp_path / "out.jsonl", *arguments)
    assert ran.status == 2
    assert told in ran.err
    assert not (tmp_path / "out.jsonl").exists()


@pytest.mark.parametrize("suffix", ["jsonl", "ndjson", "csv", "tsv", "parquet"])
def test_what_is_written_is_read_again_with_the_views_of_a_record_in_one_unit(run, corpus, tmp_path, suffix):
    out = tmp_path / f"out.{suffix}"
    if suffix == "parquet":  # which has no lists of texts and objects
        write(corpus, [row | {"tags": ["x"]} for row in lines_of(corpus)])
    assert run("cda", "apply", corpus, out).status == 0
    found = read_corpus(out, unit_field="record", drop_empty=True)
    assert [(unit.id, [record.text for record in unit.records]) for unit in found.units] == [
        ("0", [TERM, SWAPPED]),
        ("1", [NO_TERM]),
        ("3", [FALSE]),
    ]
    fields = found.units[0].records[1].fields
    assert (fields["id"], fields["view"], fields["score"]) == ("a", "1", "1.5")
    assert json.loads(fields["tags"])[0] == "x"
    assert "reason" not in fields
    assert found.units[1].records[0].fields["reason"] == "no term"
    by_id = read_corpus(out, unit_field="id", drop_empty=True)
    assert [len(unit.records) for unit in by_id.units] == [2, 1, 1]


def in_formats(folder, rows):
    write(folder / "a.jsonl", rows)
    (folder / "b.json").write_text(json.dumps(rows), encoding="utf-8")
    for name, delimiter in (("c.csv", ","), ("d.tsv", "\t")):
        with (folder / name).open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter)
            writer.writeheader()
            writer.writerows(rows)
    parquet.write_table(pa.Table.from_pylist(rows), folder / "e.parquet")
    datasets.Dataset.from_list(rows).save_to_disk(str(folder / "f"))
    return sorted(folder.iterdir())


def test_every_corpus_that_can_be_read_gives_the_same_views(run, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    rows = [{"text": TERM, "user": "u, 1"}, {"text": 'He said:\n"no"\r\n', "user": "v"}, {"text": "Rain.", "user": "w"}]
    sources = in_formats(folder, rows)
    assert len(sources) == 6
    written = set()
    for number, source in enumerate(sources):
        out = tmp_path / f"{number}.jsonl"
        assert run("cda", "apply", source, out).status == 0
        written.add(out.read_bytes())
    assert len(written) == 1
    assert [row["text"] for row in lines_of(tmp_path / "0.jsonl")][2:4] == [rows[1]["text"], 'She said:\n"no"\r\n']


def test_a_hub_name_is_a_corpus(run, tmp_path, monkeypatch):
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: datasets.Dataset.from_list([{"text": TERM}]))
    assert run("cda", "apply", "hf:owner/name", tmp_path / "out.jsonl").status == 0
    assert len(lines_of(tmp_path / "out.jsonl")) == 2


def test_a_text_file_has_lines_or_paragraphs(run, tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("He left\r\nhis house.\r\n\r\nRain.\r\n", encoding="utf-8")
    assert run("cda", "apply", path, tmp_path / "lines.jsonl").status == 0
    assert [row["record"] for row in lines_of(tmp_path / "lines.jsonl")] == [0, 0, 1, 1, 2]
    assert run("cda", "apply", path, tmp_path / "paragraphs.jsonl", "--records", "paragraph").status == 0
    assert [row["text"] for row in lines_of(tmp_path / "paragraphs.jsonl")] == [
        "He left\nhis house.",
        "She left\nher house.",
        "Rain.",
    ]


def test_the_text_of_another_column_is_called_text_afterwards(run, tmp_path):
    source = write(tmp_path / "in.jsonl", [{"id": 7, "review": TERM, "stars": 3}])
    assert run("cda", "apply", source, tmp_path / "out.jsonl", "--field", "review").status == 0
    assert lines_of(tmp_path / "out.jsonl")[1] == {
        "id": 7, "text": SWAPPED, "stars": 3, "view": 1, "reason": None, "record": 0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("row", "field", "column"),
    [
        ({"text": TERM, "view": 1}, "text", "view"),
        ({"text": TERM, "reason": None}, "text", "reason"),
        ({"text": TERM, "record": "r"}, "text", "record"),
        ({"body": TERM, "text": "other"}, "body", "text"),
        ({"view": TERM}, "view", "view"),
    ],
)
def test_a_column_that_would_be_written_over_is_an_error(run, tmp_path, row, field, column):
    source = write(tmp_path / "in.jsonl", [{field: TERM}, row] if field != "view" else [row])
    ran = run("cda", "apply", source, tmp_path / "out.jsonl", "--field", field)
    assert ran.status == 2
    assert f"the corpus has a column {column!r} of its own" in ran.err
    assert "line" in ran.err
    assert names(tmp_path) == ["in.jsonl"]


def test_a_null_text_stays_null_and_stops_nothing(run, tmp_path):
    source = write(tmp_path / "in.jsonl", [{"text": None}, {"text": TERM}, {"text": "\t"}])
    assert run("cda", "apply", source, tmp_path / "out.jsonl").status == 0
    assert [(row["text"], row["reason"], row["record"]) for row in lines_of(tmp_path / "out.jsonl")] == [
        (None, "empty text", 0),
        (TERM, None, 1),
        (SWAPPED, None, 1),
        ("\t", "empty text", 2),
    ]


def test_every_other_group_gives_a_line_or_one_that_is_drawn(run, tmp_path, ages):
    source = write(tmp_path / "in.jsonl", [{"text": f"Teenager {number} left her."} for number in range(20)])
    options = ["--axis", ages, "--axis", "gender"]
    assert run("cda", "apply", source, tmp_path / "each.jsonl", *options).status == 0
    each = lines_of(tmp_path / "each.jsonl")
    assert [row["view"] for row in each] == [0, 1, 2, 3] * 20
    assert [row["text"] for row in each[:4]] == [
        "Teenager 0 left her.",
        "Adult 0 left her.",
        "Pensioner 0 left her.",
        "Teenager 0 left him.",
    ]
    assert run("cda", "apply", source, tmp_path / "one.jsonl", *options, "--counterfactuals", "one").status == 0
    one = lines_of(tmp_path / "one.jsonl")
    assert [row["view"] for row in one] == [0, 1, 2] * 20
    assert {row["text"].split()[0] for row in one if row["view"] == 1} == {"Adult", "Pensioner"}


def test_substitution_writes_one_line_a_record_by_the_seed(run, tmp_path):
    texts = [f"She met her brother {number}." for number in range(40)]
    source = write(tmp_path / "in.jsonl", [{"text": text} for text in texts])

    def drawn(seed, corpus=source):
        out = tmp_path / "out.jsonl"
        ran = run("cda", "apply", corpus, out, "--force", "--mode", "substitute", "--seed", seed)
        assert ran.status == 0
        assert "privacy unit" not in ran.err
        return lines_of(out)

    rows = drawn(0)
    assert [row["record"] for row in rows] == list(range(40))
    swapped = [row for row in rows if row["view"] == 1]
    assert 10 < len(swapped) < 30
    for row, text in zip(rows, texts, strict=True):
        stays = row["view"] == 0
        assert (row["text"] == text) == stays
        assert (row["reason"] is not None) == stays
    assert drawn(0) == rows
    assert drawn(1) != rows
    backwards = write(tmp_path / "back.jsonl", [{"text": text} for text in reversed(texts)])
    assert [row["text"] for row in drawn(0, backwards)] == [row["text"] for row in reversed(rows)]


def test_names_are_swapped_on_request(run, tmp_path):
    source = write(tmp_path / "in.jsonl", [{"text": "Mary met her."}])
    run("cda", "apply", source, tmp_path / "kept.jsonl")
    run("cda", "apply", source, tmp_path / "swapped.jsonl", "--names")
    assert lines_of(tmp_path / "kept.jsonl")[1]["text"] == "Mary met him."
    assert lines_of(tmp_path / "swapped.jsonl")[1]["text"].endswith(" met him.")
    assert "Mary" not in lines_of(tmp_path / "swapped.jsonl")[1]["text"]


def test_a_corpus_in_which_nothing_was_changed_is_not_written_unless_allowed(run, tmp_path):
    source = write(tmp_path / "in.jsonl", [{"text": NO_TERM}, {"text": FALSE}, {"text": NO_TERM}])
    out = tmp_path / "out.jsonl"
    ran = run("cda", "apply", source, out)
    assert ran.status == 1
    assert (
        "fairtest: counterfactual augmentation changed none of 3 records (no term: 2; swap would be false: 1);"
        " nothing was written\n" in ran.err
    )
    assert "--allow-unchanged" in ran.err
    assert names(tmp_path) == ["in.jsonl"]
    allowed = run("cda", "apply", source, out, "--allow-unchanged")
    assert allowed.status == 0
    assert [row["text"] for row in lines_of(out)] == [NO_TERM, FALSE, NO_TERM]


def test_a_corpus_that_hardly_speaks_of_people_is_warned_about(run, tmp_path):
    source = write(tmp_path / "in.jsonl", [{"text": NO_TERM}] * 200 + [{"text": TERM}])
    ran = run("cda", "apply", source, tmp_path / "out.jsonl")
    assert ran.status == 0
    assert "warning: 1 of 201 records hold a word of the axes, fewer than 1%" in ran.err


def test_an_existing_file_is_replaced_only_by_force(run, corpus, tmp_path):
    out = tmp_path / "out.jsonl"
    out.write_text("mine", encoding="utf-8")
    ran = run("cda", "apply", corpus, out)
    assert ran.status == 2
    assert "the file exists" in ran.err
    assert "--force" in ran.err
    assert out.read_text(encoding="utf-8") == "mine"
    assert run("cda", "apply", corpus, out, "--force").status == 0
    assert len(lines_of(out)) == 5


def test_force_replaces_nothing_when_the_new_corpus_fails(run, tmp_path):
    out = tmp_path / "out.jsonl"
    out.write_text("mine", encoding="utf-8")
    source = tmp_path / "in.jsonl"
    source.write_text(json.dumps({"text": TERM}) + "\n{", encoding="utf-8")
    assert run("cda", "apply", source, out, "--force").status == 2
    assert run("cda", "apply", write(source, [{"text": NO_TERM}]), out, "--force").status == 1
    assert out.read_text(encoding="utf-8") == "mine"
    assert names(tmp_path) == ["in.jsonl", "out.jsonl"]


@pytest.mark.parametrize("force", [[], ["--force"]])
def test_a_corpus_is_not_written_over_itself(run, corpus, tmp_path, force):
    before = corpus.read_bytes()
    (tmp_path / "link.jsonl").symlink_to(corpus)
    for out in (corpus, tmp_path / "link.jsonl", tmp_path / "x" / ".." / "corpus.jsonl"):
        (tmp_path / "x").mkdir(exist_ok=True)
        ran = run("cda", "apply", corpus, out, *force)
        assert ran.status == 2
        assert "cannot be written over the one it is made from" in ran.err
    assert corpus.read_bytes() == before


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("out.txt", ["unknown format '.txt'", ".jsonl, .ndjson, .csv, .tsv, .parquet"]),
        ("out", ["unknown format ''"]),
        ("no/out.jsonl", ["no such directory"]),
        ("folder.jsonl", ["directory of this name"]),
    ],
)
def test_a_place_that_cannot_be_written_to_is_an_error_before_anything_is_read(run, tmp_path, name, words):
    (tmp_path / "folder.jsonl").mkdir()
    ran = run("cda", "apply", tmp_path / "missing.jsonl", tmp_path / name)
    assert ran.status == 2
    for word in words:
        assert word in ran.err
    assert names(tmp_path) == ["folder.jsonl"]


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError, OSError(28, "No space left on device")])
def test_an_interrupted_run_leaves_nothing(run, corpus, monkeypatch, suffix, error):
    tmp_path = corpus.parent

    def interrupted(*args):
        for number, record in enumerate(viewed(*args)):
            if number == 2:
                raise error
            yield record

    monkeypatch.setattr("fairtest.commands.apply.viewed", interrupted)
    if error is RuntimeError:
        with pytest.raises(RuntimeError):
            run("cda", "apply", corpus, tmp_path / f"out.{suffix}")
    else:
        ran = run("cda", "apply", corpus, tmp_path / f"out.{suffix}")
        assert ran.status == (130 if error is KeyboardInterrupt else 2)
        assert ("No space left" in ran.err) == (error is not KeyboardInterrupt)
    assert names(tmp_path) == ["corpus.jsonl"]


def test_an_error_in_the_middle_of_the_corpus_leaves_nothing(run, tmp_path):
    source = tmp_path / "in.jsonl"
    for bad, word in [("{", "invalid JSON"), ('{"text": 7}', "must be a string"), ('{"a": 1}', "no column 'text'")]:
        source.write_text(f"{json.dumps({'text': TERM})}\n{bad}\n", encoding="utf-8")
        ran = run("cda", "apply", source, tmp_path / "out.jsonl")
        assert ran.status == 2
        assert word in ran.err
        assert "line 2" in ran.err
        assert names(tmp_path) == ["in.jsonl"]


def test_half_a_character_in_any_column_is_an_error_with_its_place(run, tmp_path):
    for row in ({"text": "\ud800"}, {"text": TERM, "other": "\ud800"}, {"text": TERM, "deep": {"a": ["\udfff"]}}):
        source = write(tmp_path / "in.jsonl", [{"text": TERM}, row])
        ran = run("cda", "apply", source, tmp_path / "out.jsonl")
        assert ran.status == 2
        assert "half of a surrogate pair" in ran.err
        assert "line 2" in ran.err


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_table_takes_no_column_that_comes_late(run, tmp_path, suffix):
    rows = [{"text": TERM, "a": 1}] * 1_500 + [{"text": TERM, "b": 1}]
    ran = run("cda", "apply", write(tmp_path / "in.jsonl", rows), tmp_path / f"out.{suffix}")
    assert ran.status == 2
    assert "column 'b' was in no record before this one" in ran.err
    assert "line 1501" in ran.err
    assert names(tmp_path) == ["in.jsonl"]


def test_a_parquet_column_of_two_types_is_an_error(run, tmp_path):
    for rows in (
        [{"text": TERM, "a": 1}, {"text": TERM, "a": "x"}],
        [{"text": TERM, "a": 1}] * 999 + [{"text": TERM, "a": "x"}],
    ):
        ran = run("cda", "apply", write(tmp_path / "in.jsonl", rows), tmp_path / "out.parquet")
        assert ran.status == 2
        assert "a Parquet column has one type" in ran.err
        assert names(tmp_path) == ["in.jsonl"]


def test_a_column_that_is_absent_from_some_records_is_null_in_a_table(run, tmp_path):
    source = write(tmp_path / "in.jsonl", [{"text": TERM, "a": 1}, {"text": "Rain."}])
    for suffix in ("csv", "parquet"):
        assert run("cda", "apply", source, tmp_path / f"out.{suffix}").status == 0
        fields = [unit.records[0].fields for unit in read_corpus(tmp_path / f"out.{suffix}", unit_field="record").units]
        assert fields[0]["a"] == "1"
        assert "a" not in fields[1]


def test_types_of_a_parquet_file_are_kept(run, tmp_path):
    kinds = [pa.string(), pa.int16(), pa.date32(), pa.decimal128(9, 2), pa.binary(), pa.float32()]
    schema = pa.schema(list(zip(["text", "n", "day", "cost", "raw", "none"], kinds, strict=True)))
    row = {"text": TERM, "n": 3, "day": date(2024, 5, 1), "cost": Decimal("1.50"), "raw": b"\xff", "none": None}
    source = tmp_path / "in.parquet"
    parquet.write_table(pa.Table.from_pylist([row], schema=schema), source)
    assert run("cda", "apply", source, tmp_path / "out.parquet").status == 0
    written = parquet.read_table(tmp_path / "out.parquet")
    assert written.schema.remove_metadata().equals(
        pa.schema([*schema, ("view", pa.int64()), ("reason", pa.string()), ("record", pa.int64())])
    )
    assert written.to_pylist()[1] == row | {"text": SWAPPED, "view": 1, "reason": None, "record": 0}
    refused = run("cda", "apply", source, tmp_path / "out.jsonl")
    assert refused.status == 2
    assert "a value of type bytes cannot be written as text" in refused.err
    parquet.write_table(parquet.read_table(source).drop_columns(["raw"]), source)
    assert run("cda", "apply", source, tmp_path / "out.jsonl").status == 0
    first = lines_of(tmp_path / "out.jsonl")[0]
    assert (first["n"], first["day"], first["cost"]) == (3, "2024-05-01", "1.50")


def test_the_mode_of_the_file_is_that_of_any_new_file(run, corpus, tmp_path):
    run("cda", "apply", corpus, tmp_path / "out.jsonl")
    (tmp_path / "plain").touch()
    assert (tmp_path / "out.jsonl").stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_a_corpus(run, tmp_path):
    pipe = tmp_path / "in.jsonl"
    os.mkfifo(pipe)
    row = json.dumps({"text": TERM}) + "\n"
    feeder = threading.Thread(target=lambda: pipe.write_text(row * 3_000, encoding="utf-8"))
    feeder.start()
    assert run("cda", "apply", pipe, tmp_path / "out.jsonl").status == 0
    feeder.join()
    assert len(lines_of(tmp_path / "out.jsonl")) == 6_000


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
def test_memory_does_not_grow_with_the_corpus(run, tmp_path, peak, suffix):
    def written(rows):
        texts = ({"text": f"He met her brother {number}; {'a' * 2_000}"} for number in range(rows))
        source = write(tmp_path / "in.jsonl", texts)
        return peak(lambda: run("cda", "apply", source, tmp_path / f"out.{suffix}", "--force"))

    written(100)  # what is loaded once
    few, many = (600, 4_000) if suffix == "parquet" else (150, 3_000)  # a table of Parquet holds a thousand lines
    small, large = written(few), written(many)
    assert (tmp_path / "in.jsonl").stat().st_size > 6_000_000
    assert large < 1.2 * small + 500_000


def test_a_published_corpus_keeps_every_record(run, data_dir, tmp_path):
    source = data_dir / "wikitext-2/test.txt"
    out = tmp_path / "out.jsonl"
    ran = run("cda", "apply", source, out)
    assert ran.status == 0
    originals = [row["text"] for row in lines_of(out) if row["view"] == 0]
    assert originals == [unit.records[0].text for unit in read_corpus(source).units]
    for number, (record, views) in enumerate(groupby(lines_of(out), key=lambda row: row["record"])):
        group = list(views)
        assert record == number
        assert [row["view"] for row in group] == list(range(len(group)))
        assert all((row["reason"] is None) == (len(group) > 1) for row in group)
